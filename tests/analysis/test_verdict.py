"""What the validation images say of the best trial: an interval, a baseline, and whether its lead is more than luck."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from kept_run import kept_run, opened, truths
from support import make_photos

from analysis.figures.best_trial import Judged
from analysis.figures.ranking import log_odds
from analysis.figures.resampled import scores
from analysis.figures.verdict import in_lines, percent, verdict
from analysis.models.bootstrap import label_scores
from trainables.ranking import log_odds as of_torch
from visionsweep.run_dir.load import load_run
from visionsweep.run_dir.run import Run
from visionsweep.run_dir.trials import Trial

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
    assert found.constant == ("ants", 25 / 40)
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


def test_a_lead_of_nothing_is_called_so(tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "photos", {"train/ants": 4, "train/bees": 4, "val/ants": 25, "val/bees": 15})
    sure = np.where(truths(opened(photos)) == 1, 3.0, -3.0).astype(np.float32)[:, None]
    other = sure.copy()
    sure[0] *= -1
    other[1] *= -1
    for name, second, words in (("same", sure, "the same images are right."),
                                ("other", other, "1 image only it gets right, and as many only the other.")):  # fmt: skip
        kept_run(tmp_path / name, photos, [sure, second])
        found = verdict(load_run(tmp_path / name))
        assert found is not None
        assert in_lines(found)[1] == f"It leads trial 0001 by nothing: {words}"


def test_all_but_one_is_not_all() -> None:
    assert percent(358 / 359, 359) == "99.7%"
    assert (percent(1.0, 359), percent(0.0, 359)) == ("100%", "0%")
    assert percent(0.001, 500) == "0.1%"
    assert percent(0.9996, 359) == "100%", "an upper bound, for which one digit more is not enough"
    assert (percent(0.8693, 505), percent(0.8693, 5000)) == ("87%", "86.9%")


def test_both_ends_of_an_interval_have_the_same_digits(run: Run) -> None:
    found = verdict(run)
    assert found is not None
    narrow = replace(found, num_right=357, num_images=359, score=357 / 359, low=0.9799, high=0.998)
    assert in_lines(narrow)[0].startswith("357 of 359 validation images are right: 99% (95% interval 98.0% to 99.8%).")


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


def test_without_predictions_an_accuracy_still_has_its_interval_but_no_lead(run: Run) -> None:
    for path in run.run_dir.glob("predictions/*/*.npz"):
        path.unlink()
    found = verdict(run)
    assert found is not None
    assert (found.num_right, found.lead, found.tied) == (38, None, ())
    assert in_lines(found) == [
        "38 of 40 validation images are right: 95% (95% interval 83% to 99%). Always 'ants' would be 62%."
    ]


def by_metric(run: Run, metric: str, mode: str = "max") -> Run:
    return replace(run, search={**run.search, "search": {**run.search["search"], "metric": metric, "mode": mode}})


def test_another_metric_has_an_interval_and_a_lead_from_resampled_images(run: Run) -> None:
    found = verdict(by_metric(run, "val/f1"))
    assert found is not None
    assert found.num_right is None
    assert found.score == pytest.approx(2 * 15 / (2 * 15 + 2), abs=1e-6)  # two ants are called bees
    assert found.low is not None
    assert found.high is not None
    assert found.low < found.score < found.high
    assert found.constant == ("bees", pytest.approx(2 * 15 / (15 + 40)))
    assert found.lead is not None
    assert not found.lead.is_clear
    assert in_lines(found)[0].startswith("val/f1 is 0.94 on 40 validation images (95% interval 0.8")
    loss = verdict(by_metric(run, "val/loss", "min"))
    assert loss is not None
    assert loss.constant is None
    assert loss.lead is not None
    assert loss.lead.gain < 0


def test_a_metric_of_the_ranking_is_held_against_guessing(run: Run) -> None:
    found = verdict(by_metric(run, "val/map"))
    assert found is not None
    assert found.low is not None
    assert found.high is not None
    assert found.low <= found.score <= found.high
    assert found.constant == ("", pytest.approx(15 / 40)), "the share of the bees"
    assert in_lines(found)[0].endswith("Guessing would be 0.38.")
    area = verdict(by_metric(run, "val/auroc"))
    assert area is not None
    assert area.constant == ("", 0.5)


def test_an_unknown_metric_and_several_objectives_have_no_verdict(run: Run) -> None:
    assert verdict(by_metric(run, "val/unknown")) is None
    two = {**run.search["search"], "objectives": ["val/accuracy", "-latency_ms"]}
    assert verdict(replace(run, search={**run.search, "search": two})) is None


@pytest.mark.parametrize("task", ["binary", "multiclass", "multilabel"])
def test_resampled_scores_are_those_of_the_tasks_own_metrics(task: str) -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(60, 1 if task == "binary" else 4)).astype(np.float32)
    if task == "multiclass":
        labels = rng.integers(0, 3, 60)  # nobody has the fourth class
        targets = np.eye(4)[labels]
        truth = targets.astype(bool)
        shifted = np.exp(logits.astype(float))
        probabilities = shifted / shifted.sum(axis=1, keepdims=True)
        decided = np.eye(4, dtype=bool)[logits.argmax(axis=1)]
    else:
        targets = (rng.random(logits.shape) < 0.4).astype(float)
        probabilities = 1 / (1 + np.exp(-logits.astype(float)))
        decided = probabilities > 0.5
        truth = targets.astype(bool)
        if task == "binary":
            probabilities = np.concatenate([1 - probabilities, probabilities], axis=1)
            decided = np.concatenate([~decided, decided], axis=1)
            truth = np.concatenate([~truth, truth], axis=1)
    names = tuple(map(str, range(60)))
    one = Judged(Trial("0000", {}, {}), 1, ("a", "b", "c", "d")[: truth.shape[1]], names, probabilities, truth, decided)
    counts = rng.multinomial(60, np.full(60, 1 / 60), size=5).astype(float)
    expected, _ = label_scores(task, torch.from_numpy(logits), torch.from_numpy(targets), 0.5, counts)
    assert {"accuracy", "f1", "precision", "recall", "loss", "map", "auroc"} <= set(expected)
    for name, values in expected.items():
        assert scores(one, task, f"val/{name}", counts) == pytest.approx(values, abs=1e-5), name
    assert scores(one, task, "val/iou/a", counts) is None
    sure = 40 * logits.astype(float)  # probabilities that are one
    odds = of_torch(task, torch.from_numpy(sure)).numpy()
    assert log_odds(sure, task)[:, -odds.shape[1] :] == pytest.approx(odds)


def test_equal_scores_are_ranked_at_once_and_a_class_without_positives_is_left_out() -> None:
    truth = np.array([[1, 0], [0, 0], [1, 0], [0, 0]], bool)
    said = np.array([[0.9, 0.1], [0.9, 0.2], [0.4, 0.3], [0.1, 0.4]])
    one = Judged(Trial("0000", {}, {}), 1, ("a", "b"), tuple("wxyz"), said, truth, said > 0.5)
    counts = np.array([[1.0, 1.0, 1.0, 1.0], [0.0, 2.0, 0.0, 2.0]])
    found = scores(one, "multilabel", "val/map", counts)
    assert found is not None
    assert found[0] == pytest.approx((1 / 2 + 2 / 3) / 2)  # the first two are one step
    assert np.isnan(found[1])
    area = scores(one, "multilabel", "val/auroc", counts)
    assert area is not None
    assert area[0] == pytest.approx((0.5 + 1 + 0 + 1) / 4)


def test_trials_that_are_not_clearly_behind_are_tied_and_the_weakest_class_is_named(run: Run) -> None:
    found = verdict(run)
    assert found is not None
    assert found.tied == ("0001",)
    assert found.weakest is not None
    assert (found.weakest.name, found.weakest.num_found, found.weakest.num_images) == ("ants", 23, 25)
