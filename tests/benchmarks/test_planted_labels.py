"""The benchmark of planted labels: on drawn features that tell the classes apart, nearly all are found."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from running import drawn_set, main_of

from benchmarks.planted_labels import SEEN, plant


def test_planted_labels_are_found_where_features_tell_the_classes_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)

    def apart(classes: np.ndarray) -> np.ndarray:
        return 3 * np.eye(3)[classes] + rng.normal(scale=0.5, size=(len(classes), 3))

    drawn_set(tmp_path, SEEN, lambda number: number % 4 == 3, lambda classes: (apart(classes[0]), apart(classes[1])))
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
