"""The benchmark of expected scores: many trials on drawn features, where the truth is known to be chance."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from running import drawn_set, main_of

from benchmarks.many_features import SEEN, ridge


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A set of 120 photos of three classes whose kept features tell nothing of the class."""
    rng = np.random.default_rng(0)
    return drawn_set(
        tmp_path, SEEN, lambda number: number % 3 == 0,
        lambda classes: (rng.normal(size=(len(classes[0]), 12)), rng.normal(size=(len(classes[1]), 12))),
    )  # fmt: skip


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
