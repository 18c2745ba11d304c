"""The benchmark of expected scores: many trials on drawn features, where the truth is known to be chance."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from running import main_of
from support import make_photos

from benchmarks.many_features import SEEN, ridge


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A set of 120 photos of three classes whose kept features tell nothing of the class."""
    folder = make_photos(tmp_path / "many" / "drawn", dict.fromkeys("abc", 40))
    files = sorted(folder.glob("*/*"))
    with (folder / "split.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["image", "label", "split"])
        for number, path in enumerate(files):
            table.writerow([path.relative_to(folder), path.parent.name, "test" if number % 3 == 0 else "train"])
    rng = np.random.default_rng(0)
    (tmp_path / "features").mkdir()
    for number, px in SEEN:
        np.savez(
            tmp_path / "features" / f"drawn-lite{number}-{px}.npz",
            train=rng.normal(size=(80, 12)), test=rng.normal(size=(40, 12)),
        )  # fmt: skip
    return tmp_path


def test_the_corrected_score_of_trials_that_guess_is_nearer_to_the_truth(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    main_of("expected", monkeypatch)("--data", data, "--splits", 2, "--keep", data / "features")
    rows = [line.split("|") for line in capsys.readouterr().out.splitlines() if line.startswith("| **all**")]
    assert [row[2].strip() for row in rows] == ["val/accuracy", "val/f1"]
    naive, expected = (float(rows[0][place]) for place in (5, 6))
    assert naive > 10
    assert abs(expected) < naive / 2


def test_a_ridge_head_is_the_closed_form() -> None:
    rng = np.random.default_rng(0)
    train, others = rng.normal(size=(30, 5)), rng.normal(size=(7, 5))
    targets = np.eye(3)[rng.integers(0, 3, 30)]
    (found,) = ridge(train, targets, others, [0.1])
    rows = train - train.mean(0)
    scale = np.sqrt((rows**2).sum(1).mean())
    rows = rows / scale
    weight = np.linalg.solve(rows.T @ rows + 30 * 0.1 * np.eye(5), rows.T @ (targets - targets.mean(0)))
    assert found == pytest.approx((others - train.mean(0)) / scale @ weight + targets.mean(0))
