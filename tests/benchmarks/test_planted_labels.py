"""The benchmark of planted labels: on drawn features that tell the classes apart, nearly all are found."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from running import main_of
from support import make_photos

from benchmarks.planted_labels import SEEN, plant


def test_planted_labels_are_found_where_features_tell_the_classes_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_photos(tmp_path / "many" / "drawn", dict.fromkeys("abc", 40))
    files = sorted(folder.glob("*/*"))
    with (folder / "split.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["image", "label", "split"])
        for number, path in enumerate(files):
            side = "test" if number % 4 == 3 else "train"
            table.writerow([path.relative_to(folder), path.parent.name, side])
    rng = np.random.default_rng(0)
    classes = np.array([number // 40 for number in range(120) if number % 4 != 3])
    (tmp_path / "features").mkdir()
    for number, px in SEEN:
        train = 3 * np.eye(3)[classes] + rng.normal(scale=0.5, size=(90, 3))
        np.savez(tmp_path / "features" / f"drawn-lite{number}-{px}.npz", train=train, test=train[:30])
    main_of("planted_labels", monkeypatch)(
        "--data", tmp_path, "--sets", "drawn", "--draws", 2, "--share", 0.1, "--keep", tmp_path / "features"
    )
    (row,) = (line.split("|") for line in capsys.readouterr().out.splitlines() if line.startswith("| drawn"))
    assert [cell.strip() for cell in row[2:4]] == ["90", "9"]
    assert int(row[4].strip().rstrip("%")) >= 90
    assert int(row[9].strip().rstrip("%")) <= 10


def test_a_planted_label_is_never_the_true_one() -> None:
    targets = np.arange(200) % 3
    planted = plant(targets, 3, 0.1, seed=1)
    assert (planted != targets).sum() == 20
    assert set(planted[planted != targets]) == {0, 1, 2}
