"""The benchmark of what the means of stages are worth, on photos whose colour is their class."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from running import main_of
from support import make_photos


def test_it_prints_each_set_and_the_mean_ratios(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_photos(tmp_path / "many" / "made", dict.fromkeys("abc", 12))
    with (folder / "split.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["image", "label", "split"])
        for number, path in enumerate(sorted(folder.glob("*/*"))):
            table.writerow([path.relative_to(folder), path.parent.name, "test" if number % 3 == 0 else "train"])
    main_of("stage_features", monkeypatch)(
        "--data", tmp_path, "--backbones", "test_resnet", "test_efficientnet", "--px", 32, "--weights", "none"
    )
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "| error (loss) | test_resnet, last | test_resnet, with stages | all, last | all, with stages |"
    assert lines[2].startswith("| made, 24 | ")
    assert [line.split(":")[0] for line in lines[3:]] == ["test_resnet", "all"]
