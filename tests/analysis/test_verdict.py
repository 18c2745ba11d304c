"""What the validation images say of the best trial: an interval, a baseline, and whether its lead is more than luck."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from kept_run import kept_run, opened, truths
from support import make_photos

from analysis.figures.verdict import in_lines, verdict
from visionsweep.run_dir.load import Run, load_run

NUM_WRONG = {"0000": 2, "0001": 6}  # of 40


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Two trials: the first is wrong on the first two images, the second on the last six."""
    photos = make_photos(tmp_path / "photos", {"train/ants": 4, "train/bees": 4, "val/ants": 25, "val/bees": 15})
    sure = np.where(truths(opened(photos)) == 1, 3.0, -3.0).astype(np.float32)[:, None]  # (N, 1)
    first = sure.copy()
    second = sure.copy()
    first[: NUM_WRONG["0000"]] *= -1
    second[-NUM_WRONG["0001"] :] *= -1
    kept_run(tmp_path / "run", photos, [first, second])
    return load_run(tmp_path / "run")


def test_the_best_trial_has_an_interval_a_baseline_and_a_lead_that_is_tested_image_by_image(run: Run) -> None:
    found = verdict(run)
    assert found is not None
    assert (found.trial_id, found.num_images, found.num_right) == ("0000", 40, 38)
    assert (found.commonest, found.base) == ("ants", 25 / 40)
    # Wilson (1927): the p for which |p - 38/40| = 1.96 * sqrt(p (1 - p) / 40).
    for bound in (found.low, found.high):
        assert abs(bound - 38 / 40) == pytest.approx(1.959964 * math.sqrt(bound * (1 - bound) / 40), rel=1e-5)
    assert found.low < 38 / 40 < found.high
    lead = found.lead
    assert lead is not None
    assert (lead.over, lead.only_first, lead.only_second) == ("0001", 6, 2)
    tails = sum(math.comb(8, k) for k in (0, 1, 2)) / 2**8
    assert lead.p_value == pytest.approx(2 * tails)
    assert not lead.is_clear
    assert in_lines(found) == [
        "38 of 40 validation images are right: 95% (95% interval 83% to 99%). Always 'ants' would be 62%.",
        "Its lead over trial 0001 is not clear: 6 images only it gets right, 2 only the other (exact McNemar test, p = "
        "0.29).",
    ]


def test_a_lead_that_is_more_than_luck_is_called_clear(tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "photos", {"train/ants": 4, "train/bees": 4, "val/ants": 25, "val/bees": 15})
    sure = np.where(truths(opened(photos)) == 1, 3.0, -3.0).astype(np.float32)[:, None]
    worse = sure.copy()
    worse[10:22] *= -1
    kept_run(tmp_path / "run", photos, [sure, worse])
    found = verdict(load_run(tmp_path / "run"))
    assert found is not None
    assert found.lead is not None
    assert found.lead.is_clear
    assert "is clear: 12 images only it gets right, 0 only the other" in in_lines(found)[1]


def test_without_predictions_or_by_another_metric_nothing_is_said(run: Run) -> None:
    by_loss = {**run.search, "search": {**run.search["search"], "metric": "val/loss", "mode": "min"}}
    assert verdict(replace(run, search=by_loss)) is None
    for path in run.run_dir.glob("predictions/*/*.npz"):
        path.unlink()
    assert verdict(run) is None
