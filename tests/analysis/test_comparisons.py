"""Values held against each other by the order of the trials: who beats whom, and how sure that is."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_runs import write_run

from analysis.figures.chances import chance, holm, interval, p_value_of_groups, p_values
from analysis.figures.compare import compare, compared, effects_figure
from analysis.figures.fixed_epoch import LEAST_TRIALS, scores_at_epoch
from analysis.figures.order import comparable, pairs
from analysis.report.comparisons import AUGMENTATION, comparisons
from analysis.report.plots import Plots
from search_spaces import Maybe, Pick, Search
from search_spaces.serial import search_to_json
from visionsweep.run_dir.load import load_run
from visionsweep.run_dir.run import Run
from visionsweep.run_dir.trials import Trial

SEARCH = Search(
    task="multiclass",
    space={
        "model": {"backbone": Pick("slow", "quick")},
        "augment": {"blur": Maybe({"p": 0.5}), "mix": Maybe({"p": 0.5})},
    },
    metric="val/accuracy",
    mode="max",
    epochs=18,
    grace_epochs=6,
)


def trial(number: int, curve: Sequence[float], status: str, reason: str = "", epochs: int = 18, **params: Any) -> Trial:
    rows = [
        {"epoch": epoch, "metrics": {"val/accuracy": value}, "seconds": 1.0}
        for epoch, value in enumerate(curve, start=1)
    ]
    named = {{"backbone": "model/backbone"}.get(name, f"augment/{name}"): value for name, value in params.items()}
    return Trial(f"{number:04d}", named, {"epochs": epochs}, rows, status, reason)


def run_of(trials: Sequence[Trial]) -> Run:
    return Run(Path("made"), {"search": search_to_json(SEARCH), "data": {}, "options": {}}, list(trials))


def better(one: Trial, other: Trial) -> int:
    return int(pairs(run_of([one, other]), [one, other])[0, 1])


def test_a_trial_that_was_ended_early_is_below_those_that_passed_its_rung_whatever_its_score() -> None:
    ended = trial(0, [0.9] * 6, "pruned")
    before = trial(1, [0.95] * 2, "pruned")
    passed = trial(2, [0.5] * 18, "complete")
    assert better(passed, ended) == 1
    assert better(ended, before) == 1
    assert better(before, passed) == -1
    assert better(ended, trial(3, [0.8] * 6, "pruned")) == 1, "at one rung the score decides"
    assert better(passed, trial(4, [0.5] * 18, "complete")) == 0
    diverged = trial(5, [0.99], "diverged")
    assert better(before, diverged) == 1
    assert better(diverged, trial(6, [], "diverged")) == 0


def test_a_rung_is_at_the_same_share_of_a_short_trial() -> None:
    long = trial(0, [0.7] * 6, "pruned")
    short = trial(1, [0.6] * 2, "pruned", epochs=6)
    assert better(long, short) == 1, "both were ended at a third of their epochs"


def test_a_training_of_one_epoch_was_compared_at_no_rung_and_loses_only_to_a_higher_score() -> None:
    probe = trial(0, [0.8], "complete", epochs=1)
    assert better(probe, trial(1, [0.85] * 6, "pruned")) == -1
    assert better(trial(1, [0.85] * 6, "pruned"), probe) == 1
    assert better(probe, trial(1, [0.7] * 6, "pruned")) == 0, "what it would have become is unknown"
    assert better(trial(1, [0.7] * 6, "pruned"), probe) == 0
    assert better(probe, trial(1, [0.7] * 18, "complete")) == 1


def test_with_tiers_trials_of_another_cost_are_no_measure() -> None:
    costly = trial(0, [0.7] * 6, "pruned")
    costly.epochs[:] = [{**row, "seconds": 100.0} for row in costly.epochs]
    whole = trial(1, [0.8] * 18, "complete")
    tiers = {"search": {**search_to_json(SEARCH), "rungs": "tiers"}, "data": {}, "options": {}}
    assert pairs(Run(Path("made"), tiers, [costly, whole]), [costly, whole])[0, 1] == 0
    assert better(costly, whole) == -1, "without them it lost to all that passed its rung"


def test_what_has_not_come_to_an_end_and_what_repeats_another_trial_is_not_compared() -> None:
    ends = ("running", "interrupted", "failed", "oom")
    trials = [trial(number, [0.5] * 3, status) for number, status in enumerate(ends)]
    repeated = trial(8, [0.5] * 3, "pruned", "its first 3 epochs are trial 0000's to the last digit")
    whole = trial(9, [0.5] * 18, "complete")
    assert comparable(run_of([*trials, repeated, whole])) == [whole]


def late_bloomers() -> Run:
    """Trials of a backbone that is behind at epoch 1 and wins at the end, most of the others ended early."""
    trials = []
    for number in range(24):
        slow = number % 2 == 0
        start = (0.2 if slow else 0.6) + 0.001 * number
        if slow and number < 12:
            trials.append(trial(number, np.linspace(start, 0.9 + 0.001 * number, 18), "complete", backbone="slow"))
        elif slow:
            trials.append(trial(number, [start] * 6, "pruned", backbone="slow"))
        elif number < 4:
            trials.append(trial(number, [start] * 18, "complete", backbone="quick"))
        else:
            trials.append(trial(number, [start] * 6 if number < 12 else [start], "pruned", backbone="quick"))
    return run_of(trials)


def test_the_winners_backbone_is_not_called_worse_because_it_starts_slowly() -> None:
    run = late_bloomers()
    assert compare(run, "backbone", epoch=1)["value"].iloc[0] == "quick", "by the scores of epoch 1"
    table = compare(run, "backbone").set_index("value")
    assert table.loc["slow", "chance"] > 0.5
    said = comparisons(scores_at_epoch(run), Plots("r0")).sentences[0]
    assert "quick beats" not in said
    assert "slow loses" not in said


def test_the_permutation_test_agrees_with_all_permutations() -> None:
    rng = np.random.default_rng(3)
    scores = rng.permutation(10).astype(float)
    found = np.sign(scores[:, None] - scores[None, :]).astype(np.int8)
    here = np.array([True] * 4 + [False] * 6)
    wins = found.sum(axis=1)
    sums = np.array([abs(wins[list(four)].sum()) for four in combinations(range(10), 4)])
    exact = (sums >= abs(wins[:4].sum())).mean()
    assert p_values(found, [here]) == [pytest.approx(exact, abs=0.03)]
    assert p_value_of_groups(found, [int(not one) for one in here]) == pytest.approx(exact, abs=0.03)
    by_hand = np.mean([scores[i] > scores[j] for i in range(4) for j in range(4, 10)])
    assert chance(found, here) == pytest.approx(by_hand)


def test_with_many_trials_the_normal_approximation_takes_the_place_of_shuffles() -> None:
    rng = np.random.default_rng(0)
    for shift, sure in ((0.0, False), (1.0, True)):
        scores = np.concatenate([rng.normal(shift, 1, 150), rng.normal(0, 1, 150)])
        found = np.sign(scores[:, None] - scores[None, :]).astype(np.int8)
        here = np.arange(300) < 150
        (p_value,) = p_values(found, [here])
        assert (p_value < 0.001) == sure
        assert p_value_of_groups(found, [int(one) for one in here]) == pytest.approx(p_value, rel=0.05, abs=1e-12)


def test_the_interval_of_a_clean_win_of_few_trials_is_wide_and_that_of_many_is_narrow() -> None:
    low, high = interval(1.0, 3, 3)
    assert high == 1.0
    assert low < 0.6
    assert interval(1.0, 50, 50)[0] > 0.92
    low, high = interval(0.5, 20, 20)
    assert low == pytest.approx(1 - high, abs=0.002)


def test_the_interval_holds_the_true_chance_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    truth = 0.5 * (1 + math.erf(1.0 / 2))  # of a normal variable with mean 1 beating one with mean 0
    held = 0
    for _ in range(400):
        scores = np.concatenate([rng.normal(1, 1, 12), rng.normal(0, 1, 12)])
        found = np.sign(scores[:, None] - scores[None, :]).astype(np.int8)
        low, high = interval(chance(found, np.arange(24) < 12), 12, 12)
        held += low <= truth <= high
    assert 0.91 < held / 400 <= 1


def test_holm_multiplies_the_smallest_by_all_and_never_sinks() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.6, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_below_ten_trials_one_sentence_stands_and_no_figure(tmp_path: Path) -> None:
    plots = Plots("r0")
    section = comparisons(scores_at_epoch(load_run(write_run(tmp_path / "few", LEAST_TRIALS - 1))), plots)
    assert section.sentences == [
        "9 trials can be compared: too few to say that one optimizer, backbone or augmentation is better."
    ]
    assert plots.figures == {}
    one = run_of([trial(0, [0.5] * 18, "complete", backbone="slow")])
    assert comparisons(scores_at_epoch(one), plots).sentences[0].startswith("1 trial can be compared: too few")


def test_a_value_of_few_trials_has_no_marker_and_is_named_with_their_number() -> None:
    trials = [
        trial(number, [0.5 + 0.01 * number] * 18, "complete", backbone="slow" if number < 3 else "quick")
        for number in range(12)
    ]
    values = compare(run_of(trials), "backbone")
    assert values["low"].isna().all()
    assert values["p_value"].isna().all()
    section = comparisons(scores_at_epoch(run_of(trials)), Plots("r0"))
    assert section.sentences == ["No choice has enough trials of two values yet."]


def test_the_number_of_trials_stands_at_the_label_and_clear_points_are_filled(tmp_path: Path) -> None:
    run = load_run(write_run(tmp_path / "run", 36))
    plots = Plots("r0")
    section = comparisons(scores_at_epoch(run), plots)
    assert section.sentences[0].startswith("Clear: optimizer adam beats another value in ")
    assert "(18 against 18 trials, p = 0.00" in section.sentences[0]
    drawn = json.loads(plots.figures["r0-compare-0"])["data"][0]
    assert drawn["y"] == ["adam (18)", "sgd (18)"]
    assert drawn["marker"]["symbol"] == ["circle", "circle"]
    backbones = json.loads(plots.figures["r0-compare-1"])["data"][0]
    assert backbones["marker"]["symbol"] == ["circle-open"] * 3
    errors = backbones["error_x"]
    assert min(np.add(errors["array"], errors["arrayminus"])) > 0.2


def test_augmentations_of_the_very_same_trials_are_one_line() -> None:
    trials = [
        trial(number, [0.5 + 0.01 * number] * 18, "complete", blur=number % 2 == 0, mix=number % 2 == 0)
        for number in range(20)
    ]
    plots = Plots("r0")
    section = comparisons(scores_at_epoch(run_of(trials)), plots)
    assert [plot.title for plot in section.grid] == [AUGMENTATION]
    assert json.loads(plots.figures["r0-augment"])["data"][0]["y"] == ["blur, mix (10)"]


def test_names_of_values_are_text_in_the_figure() -> None:
    trials = [
        trial(number, [0.5] * 18, "complete", backbone="<b>x</b>" if number % 2 else "quick") for number in range(12)
    ]
    labels = effects_figure(compared(scores_at_epoch(run_of(trials)), "model/backbone")).data[0].y
    assert set(labels) == {"&lt;b&gt;x&lt;/b&gt; (6)", "quick (6)"}
