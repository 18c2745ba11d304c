"""What to expect of a chosen trial on new photos, and which trials cannot be told from it."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kept_run import kept_run, opened, truths
from rich.console import Console
from scipy.stats import binomtest
from support import make_photos

import visionsweep as vs
from analysis.expect.candidates import Candidates, candidates
from analysis.expect.expected import expected_of, expected_score, in_short, in_words
from analysis.expect.ties import as_good, as_good_of, mcnemar, p_values
from analysis.figures.best_trial import Judged
from analysis.figures.resampled import Kept
from analysis.models.card import Facts, limits
from launch.cli.outcome import print_outcome
from trainables.compact import MOST_VALUES, compact, write_compact
from visionsweep.run_dir.files import judged_file, out_of_fold_file
from visionsweep.run_dir.load import load_run
from visionsweep.run_dir.run import Run
from visionsweep.run_dir.trials import Trial


def made(
    shares: list[float], num_images: int, metric: str = "val/accuracy", seed: int = 2, num_classes: int = 2
) -> Candidates:
    """Trials that are right on a share of the images by luck, each for itself, best first."""
    rng = np.random.default_rng(seed)
    truth = np.eye(num_classes, dtype=bool)[rng.integers(0, num_classes, num_images)]
    classes = tuple("abcdefghij"[:num_classes])
    names = tuple(map(str, range(num_images)))
    said: list[Kept] = []
    for number, share in enumerate(shares):
        wrong = np.roll(truth, 1, axis=1)
        decided = np.where(rng.random(num_images)[:, None] < share, truth, wrong)
        sure = np.where(decided, 0.9, 0.1) + rng.normal(scale=0.01, size=decided.shape)
        said.append(Judged(Trial(f"{number:04d}", {}, {}), 1, classes, names, sure, truth, decided))
    task = "binary" if num_classes == 2 else "multiclass"
    found = Candidates(task, metric, "max", [], said, len(said), "", num_images, None)
    order = np.argsort(-found.plain(), kind="stable")
    said = [said[number] for number in order]
    trials = [one.trial for one in said if isinstance(one, Judged)]
    return replace(found, said=said, trials=trials, first=trials[0].trial_id)


def test_the_luck_of_having_been_chosen_is_taken_out_of_the_score() -> None:
    """Fifty trials guess. The best of them is right on two thirds of the photos that chose it."""
    searches = [made([0.5] * 50, 60, seed=seed) for seed in range(20)]
    found = [one for search in searches if (one := expected_of(search, 100)) is not None]
    assert np.mean([one.chosen_by for one in found]) > 0.64
    assert np.mean([one.score for one in found]) == pytest.approx(0.5, abs=0.04)
    assert np.mean([one.low < 0.5 < one.high for one in found]) > 0.9
    worst = [one for search in searches if (one := expected_of(replace(search, mode="min"), 100)) is not None]
    assert np.mean([one.chosen_by for one in worst]) < 0.38
    assert np.mean([one.score for one in worst]) == pytest.approx(0.5, abs=0.04)
    clear = expected_of(made([0.9, 0.5, 0.5], 400))
    assert clear is not None
    assert clear.score == pytest.approx(clear.chosen_by, abs=0.01), "a choice that no luck could change costs nothing"
    assert expected_of(made([0.9], 400)) is None, "nothing was chosen"
    assert in_words(found[0]).startswith("On new photos expect val/accuracy of about 0.")
    assert in_words(found[0]).endswith("these 60 photos chose the best of 50 trials.")


def test_rare_tags_that_the_judging_photos_lack_do_not_raise_what_is_expected() -> None:
    """Trials that rank at random, of a common tag and of rare ones. What they get on average is what to expect."""
    rng = np.random.default_rng(0)
    truth = rng.random((150, 8)) < np.array([0.8, *[0.02] * 7])
    truth[0] = True
    classes, names = tuple("abcdefgh"), tuple(map(str, range(150)))
    said: list[Kept] = []
    for number in range(12):
        scores = rng.random(truth.shape)
        said.append(Judged(Trial(f"{number:04d}", {}, {}), 1, classes, names, scores, truth, scores > 0.5))
    trials = [one.trial for one in said if isinstance(one, Judged)]
    found = Candidates("multilabel", "val/map", "max", trials, said, 12, "0000", 150, None)
    expected = expected_of(found, 200)
    assert expected is not None
    assert expected.score == pytest.approx(found.plain().mean(), abs=0.015)
    assert expected.score < expected.chosen_by


def test_the_order_by_rank_which_knows_the_photos_that_judge_decides_no_ties() -> None:
    """Two trials that differ on one photo. Where it is not drawn they tie, and the earlier one wins."""
    truth = np.eye(2, dtype=bool)[np.zeros(40, int)]
    worse = truth.copy()
    worse[0] = ~worse[0]
    names = tuple(map(str, range(40)))
    said = [
        Judged(Trial(trial_id, {}, {}), 1, ("a", "b"), names, decided.astype(float), truth, decided)
        for trial_id, decided in (("0007", truth), ("0003", worse))
    ]
    trials = [one.trial for one in said]
    found = Candidates("binary", "val/accuracy", "max", trials, [*said], 2, "0007", 40, None)
    expected = expected_of(found)
    assert expected is not None
    assert expected.chosen_by == 1
    assert expected.score == pytest.approx(1 - 0.36 / (0.36 * 40), abs=0.005), (
        "the earlier one misses it where it judges"
    )


def test_photos_that_belong_together_are_drawn_together() -> None:
    """Ten objects of 20 photos each, all right or all wrong: the interval is that of ten objects."""
    truth = np.eye(2, dtype=bool)[np.zeros(200, int)]
    groups = np.repeat(np.arange(10), 20)
    decided = np.where((groups < 7)[:, None], truth, ~truth)
    one = Judged(
        Trial("0000", {}, {}), 1, ("a", "b"), tuple(map(str, range(200))), decided.astype(float), truth, decided
    )
    found = Candidates("binary", "val/accuracy", "max", [one.trial] * 2, [one, one], 2, "0000", 200, None)
    alone, together = expected_of(found), expected_of(replace(found, groups=groups))
    assert alone is not None
    assert together is not None
    assert together.high - together.low > 2.5 * (alone.high - alone.low)


def test_rankings_of_many_trials_are_resampled_less_often() -> None:
    many = made([0.8] * 100, 400, "val/map")
    assert replace(many, said=many.said * 100).replicates == 125
    assert (many.replicates, replace(many, metric="val/f1").replicates) == (500, 500)


@pytest.mark.parametrize(("metric", "seconds"), [("val/accuracy", 20), ("val/f1", 60)])
def test_hundreds_of_trials_take_seconds(metric: str, seconds: float) -> None:
    found = made([0.8] * 200, 2000, metric, num_classes=5)
    began = time.process_time()
    assert expected_of(found) is not None
    assert time.process_time() - began < seconds


def test_trials_that_may_be_as_good_as_the_best_are_told_from_those_that_are_worse() -> None:
    found = made([0.9, 0.9, 0.9, 0.6, 0.5], 300, seed=0)
    alike = as_good_of(found)
    assert [alike[trial.trial_id] for trial in found.trials] == [True, True, True, False, False]
    by_f1 = as_good_of(replace(found, metric="val/f1"))
    assert by_f1 == alike
    assert as_good_of(replace(found, first="9999")) == {}, "the best trial's own predictions are gone"


def test_tests_are_corrected_for_their_number() -> None:
    """One in twenty equal trials would be called worse by chance, and the best of many is above all of them."""
    found = made([0.8] * 60, 150)
    assert min(p_values(found)) < 0.05
    assert all(as_good_of(found).values())


def test_the_exact_test_is_mcnemars() -> None:
    for first, second in ((0, 0), (5, 0), (6, 2), (30, 18), (700, 640)):
        p = binomtest(first, first + second).pvalue if first + second else 1.0
        assert mcnemar(first, second) == pytest.approx(p, rel=1e-6)
    assert mcnemar(2000, 1800) == pytest.approx(binomtest(2000, 3800).pvalue, rel=0.02)


def test_compact_predictions_say_what_the_whole_ones_say_and_are_small() -> None:
    rng = np.random.default_rng(0)
    logits = (20 * rng.normal(size=(500, 6))).astype(np.float32)
    small = compact({"logits": logits}, "multiclass")
    assert small is not None
    assert small["logits"].dtype == np.float16
    assert (small["logits"].argmax(1) == logits.argmax(1)).all()
    exact = np.exp(logits - logits.max(1, keepdims=True).astype(float))
    assert np.exp(small["logits"].astype(float)) == pytest.approx(
        exact / exact.sum(1, keepdims=True), rel=0.03, abs=1e-9
    )
    sides = compact({"logits": np.array([[1e6], [-1e6]], np.float32)}, "binary")
    assert sides is not None
    assert np.isfinite(sides["logits"]).all()
    assert compact({"logits": np.zeros((MOST_VALUES, 2), np.float32)}, "multiclass") is None


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Three trials of 40 photos that are wrong on 2, 4 and 20 of them. Only the first keeps its weights."""
    photos = make_photos(tmp_path / "photos", {"train/ants": 4, "train/bees": 4, "val/ants": 25, "val/bees": 15})
    sure = np.where(truths(opened(photos)) == 1, 3.0, -3.0).astype(np.float32)[:, None]  # (N, 1)
    logits = []
    for num_wrong in (2, 4, 20):
        logits.append(sure.copy())
        logits[-1][:num_wrong] *= -1
    kept_run(tmp_path / "run", photos, logits)
    loaded = load_run(tmp_path / "run")
    for trial, one in zip(loaded.trials, logits, strict=True):
        arrays = compact({"logits": one}, "binary")
        assert arrays is not None
        write_compact(judged_file(loaded.run_dir, trial.trial_id), arrays, 1, trial.epochs[0]["metrics"])
    for trial_id in ("0001", "0002"):
        (loaded.run_dir / "predictions" / trial_id / "epoch-0001.npz").unlink()
    return loaded


def test_trials_that_keep_nothing_else_count_as_candidates(run: Run) -> None:
    expected = expected_score(run)
    assert expected is not None
    assert (expected.num_trials, expected.competing, expected.num_images) == (3, 3, 40)
    assert expected == vs.expected(run.run_dir)
    assert expected.chosen_by == 38 / 40
    assert as_good(run) == {"0000": True, "0001": True, "0002": False}
    ranking = vs.ranking(run.run_dir)
    assert dict(zip(ranking["trial_id"], ranking["as_good"], strict=True)) == as_good(run)


def test_rank_the_last_lines_and_the_report_say_how_far_the_choice_is_luck(
    run: Run, visionsweep: Callable[..., Any]
) -> None:
    done = visionsweep("rank", run.run_dir)
    marked = [line.split()[1] for line in done.out.splitlines() if line.strip()[:1].isdigit() and "≈" in line]
    assert marked == ["0000", "0001"]
    assert "≈ 1 other trial cannot be told from the first" in done.out
    rows = json.loads(visionsweep("rank", run.run_dir, "--json").out)
    assert [row["as_good"] for row in rows] == [True, True, False]
    console = Console(width=200, record=True, file=io.StringIO())
    print_outcome(run.run_dir, console)
    expected = expected_score(run)
    assert expected is not None
    assert in_words(expected) in done.out
    short = in_short(expected)
    assert in_words(expected).startswith(short.rstrip("."))
    assert short in console.export_text()
    page = vs.report(run.run_dir, with_model=False).read_text()
    assert "So much the best gets where resampled photos choose and the others judge." in page
    assert '"tied":[true,true,false]' in page


def test_the_card_says_what_to_expect_beside_the_score_that_chose(run: Run) -> None:
    expected = expected_score(run)
    facts = Facts(
        name="x", classes=("ants", "bees"), config={"task": "binary"}, metrics={"trial_id": "0000"}, data={},
        preprocessing={}, graphs=(), checked_on="", python="", version="", run=run, expected=expected,
    )  # fmt: skip
    assert expected is not None
    words = in_words(expected).removeprefix("On new photos ")
    assert f"- It, corrected for that choice: {words}" in list(limits(facts))
    several = replace(facts, metrics={"members": ["0000", "0001"]})
    assert f"- The best trial alone, corrected for that choice: {words}" in list(limits(several))


def test_an_older_run_counts_those_that_kept_their_predictions_and_says_so(run: Run) -> None:
    for path in (run.run_dir / "judged").glob("*/best.npz"):
        path.unlink()
    found = candidates(run)
    assert found is not None
    assert [trial.trial_id for trial in found.trials] == ["0000"]
    (run.run_dir / "judged" / "0001").rmdir()
    write_compact(
        run.run_dir / "judged" / "0001" / "best.npz",
        {"logits": np.zeros((40, 1), np.float16)},
        1,
        {"val/accuracy": 0.6},
    )
    expected = expected_score(run)
    assert expected is not None
    assert (expected.num_trials, expected.competing) == (2, 3)
    assert in_words(expected).endswith("chose the best of 2 of 3 trials that kept their predictions.")


def test_damaged_or_outdated_predictions_are_passed_over(run: Run) -> None:
    (run.run_dir / "judged" / "0001" / "best.npz").write_bytes(b"no archive")
    write_compact(
        run.run_dir / "judged" / "0002" / "best.npz",
        {"logits": np.zeros((40, 1), np.float16)},
        7,
        {"val/accuracy": 0.6},
    )
    found = candidates(run)
    assert found is not None
    assert [trial.trial_id for trial in found.trials] == ["0000"]
    assert expected_score(run) is None


def test_with_folds_the_out_of_fold_predictions_of_all_complete_trials_tell_it(run: Run) -> None:
    told = {**run.search, "data": {**run.search["data"], "folds": 2}}
    folded = replace(run, search=told)
    assert candidates(folded) is None, "predictions of the first fold alone do not"
    targets = np.arange(60) % 2
    for trial, num_wrong in zip(run.trials, (3, 5, 30), strict=True):
        logits = np.where(targets == 1, 3.0, -3.0).astype(np.float32)[:, None]
        logits[:num_wrong] *= -1
        names = np.array([f"{number}.png" for number in range(60)])
        path = out_of_fold_file(run.run_dir, trial.trial_id)
        np.savez(path, names=names, fold=np.repeat([1, 2], 30), targets=targets, logits=logits)
    expected = expected_score(folded)
    assert expected is not None
    assert (expected.num_trials, expected.num_images, expected.chosen_by) == (3, 60, 57 / 60)
    assert as_good(folded) == {"0000": True, "0001": True, "0002": False}
    assert expected_score(replace(folded, search={**told, "data": {**told["data"], "group": "(.*)"}})) is None
    path.unlink()
    assert expected_score(folded) is None, "those that kept theirs are the best, which flatters"
    assert as_good(folded) == {"0000": True, "0001": True}


def test_a_trial_of_masks_is_a_candidate_by_its_pixels(run: Run) -> None:
    """Two trials that are right on nine and on four tenths of the pixels of every photo."""
    told = {**run.search["search"], "task": "segmentation", "metric": "val/miou"}
    masks = replace(run, search={**run.search, "search": told}, trials=run.trials[:2])
    rng = np.random.default_rng(0)
    for trial, share in zip(masks.trials, (90, 40), strict=True):
        noise = rng.integers(0, 5, (40, 2))
        hits = share + noise
        whole = np.full((40, 2), 100)
        wrong = whole + (100 - hits[:, ::-1]) - (100 - hits)  # what one class loses, the other gets
        pixels = np.stack([hits, whole, wrong], axis=1)
        arrays = compact({"pixels": pixels, "classes": np.array(["a", "b"])}, "segmentation")
        assert arrays is not None
        assert (arrays["pixels"].shape, arrays["pixels"].dtype) == ((40, 3, 2), np.uint32)
        trial.epochs[0]["metrics"]["val/miou"] = share / 100
        write_compact(judged_file(run.run_dir, trial.trial_id), arrays, 1, trial.epochs[0]["metrics"])
    expected = expected_score(masks)
    assert expected is not None
    hits, whole, said = pixels.sum(axis=0)
    found = candidates(masks)
    assert found is not None
    assert found.plain()[1] == pytest.approx((hits / (whole + said - hits)).mean())
    assert expected.score == pytest.approx(expected.chosen_by, abs=0.01)
    assert as_good(masks) == {"0000": True, "0001": False}
