"""Conclusions from a run whose truth is known: adam is 0.1 above sgd, all else is noise."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_runs import EPOCHS, GRACE, STARTED, write_run

from analysis import Run, Trial, load_run
from analysis.figures.compare import compare
from analysis.figures.cost import best_so_far, incumbent, run_cost
from analysis.figures.fixed_epoch import LEAST_TRIALS, scores_at_epoch
from analysis.figures.importance import above_chance, importance, strongest
from analysis.figures.learning import rungs, shown_trials
from analysis.figures.slices import contour_pairs
from analysis.figures.style import PALETTE, STATUS_COLOURS
from analysis.figures.timeline import failures, timeline
from analysis.figures.tradeoff import costs
from visionsweep.core.errors import ConfigError
from visionsweep.run_dir.trials import take_event


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return load_run(str(write_run(tmp_path_factory.mktemp("runs") / "known", 36)))


def test_all_that_came_to_an_end_is_compared_and_an_epoch_alone_if_it_is_asked_for(run: Run) -> None:
    at_epoch = scores_at_epoch(run)
    assert (at_epoch.epoch, len(at_epoch.table), at_epoch.num_trials) == (None, 36, 36)
    assert "36 of 36 trials can be compared" in at_epoch.sentence()
    at_rung = scores_at_epoch(run, GRACE)
    assert len(at_rung.table) == 32
    assert "by their scores at epoch 3" in at_rung.sentence()
    assert scores_at_epoch(run, EPOCHS).table["status"].unique().tolist() == ["complete"]


def test_what_decided_the_score_stands_first_and_above_chance(run: Run) -> None:
    found = importance(run)
    assert found["parameter"].iloc[0] == "optimizer"
    assert "optimizer" in above_chance(found)
    assert found["ped_anova"].sum() == pytest.approx(1)
    assert found["fanova"].sum() == pytest.approx(1)
    by_variance = found.set_index("parameter")["fanova"]
    assert by_variance["optimizer"] > 0.7
    assert np.isnan(by_variance["optimizer/adam/lr"])  # half of the trials have no such rate
    assert strongest(found, 3)[0] == "optimizer"


def test_importance_of_too_few_trials_is_not_made_up(tmp_path: Path) -> None:
    found = importance(load_run(write_run(tmp_path / "few", LEAST_TRIALS - 2)))
    assert found.empty
    assert "parameter" in found.columns


def test_an_arm_that_is_better_wins_most_of_its_pairs_and_noise_wins_half_of_them(run: Run) -> None:
    table = compare(run, "optimizer").set_index("value")
    assert table.index.tolist() == ["adam", "sgd"]
    assert table.loc["adam", "chance"] > 0.85
    assert table.loc["adam", "chance"] + table.loc["sgd", "chance"] == pytest.approx(1)
    assert table.loc["adam", "low"] > 0.5 > table.loc["sgd", "high"]
    assert (table["p_holm"] < 0.001).all()
    assert table["num_trials"].sum() == 36
    assert table["num_complete"].sum() == 12
    for switch in ("augment/rotate", "blur"):  # a name without its room will do
        off_and_on = compare(run, switch)
        assert (off_and_on["low"] < 0.5).all()
        assert (off_and_on["high"] > 0.5).all()
        assert (off_and_on["p_holm"] > 0.05).all()


def test_a_parameter_that_is_no_choice_is_refused_with_the_nearest_one(run: Run) -> None:
    with pytest.raises(ConfigError, match="Did you mean 'optimizer'"):
        compare(run, "optimiser")


def test_a_loss_is_compared_from_below(tmp_path: Path, run: Run) -> None:
    search = {**run.search["search"], "metric": "val/loss", "mode": "min"}
    losses = load_run(write_run(tmp_path / "losses", 36, changes={"search": search}))
    assert compare(losses, "optimizer")["value"].tolist() == ["adam", "sgd"]
    assert compare(losses, "optimizer")["chance"].iloc[0] > 0.85
    assert above_chance(importance(losses))[0] == "optimizer"
    at = incumbent(losses)
    assert at is not None
    assert at.score == min(value for trial in losses.trials for value in trial.values("val/loss").values())


def test_what_was_spent_and_what_pruning_saved(run: Run) -> None:
    cost = run_cost(run)
    num_pruned = sum(trial.status == "pruned" for trial in run.trials)
    assert cost.epochs == sum(len(trial.epochs) for trial in run.trials)
    assert cost.trial_s == 2.0 * cost.epochs
    assert (cost.device, cost.device_hours) == ("cpu", pytest.approx(cost.trial_s / 3600))
    assert cost.num_pruned == num_pruned
    assert cost.saved_s == 2.0 * num_pruned * (EPOCHS - GRACE)
    assert cost.wall_s == 10 + cost.trial_s


def test_gpu_hours_go_by_the_share_of_the_gpu() -> None:
    rows = [
        {"epoch": i, "metrics": {"val/f1": 0.5}, "seconds": 10.0, "gpu_seconds": 5.0 * i, "device": "cuda"}
        for i in (1, 2)
    ]
    about = {"search": {"metric": "val/f1", "mode": "max", "task": "binary", "epochs": 2}, "data": {}, "options": {}}
    cost = run_cost(Run(Path("x"), about, [Trial("0000", {}, {}, rows, "complete")]))
    assert (cost.device, cost.device_hours, cost.trial_s) == ("cuda", 10 / 3600, 20.0)


def test_the_best_is_held_against_the_warm_starts_and_the_median(run: Run) -> None:
    at = incumbent(run)
    assert at is not None
    assert at.best.status == "complete"
    assert at.warm is not None
    assert at.warm[1] == 2
    assert at.warm_trial is not None
    assert at.warm_trial.trial_id == "0000"
    best = best_so_far(run)
    assert best["score"].is_monotonic_increasing
    assert best["hours"].iloc[-1] == pytest.approx(run_cost(run).trial_s / 3600)


def test_the_time_line_has_a_stretch_per_trial_and_process(run: Run) -> None:
    table = timeline(run)
    assert len(table) == 36
    assert set(table["pid"]) == {100, 101}
    assert table["start_s"].min() == STARTED + 10
    moved = [{**row, "pid": 7, "time": row["time"] + 900} for row in run.trials[0].epochs[5:]]
    again = Trial("0000", {}, {}, [*run.trials[0].epochs[:5], *moved], "complete")
    stretches = timeline(Run(run.run_dir, run.search, [again]))
    assert stretches[["pid", "num_epochs"]].to_numpy().tolist() == [[100, 5], [7, 4]]


def test_failures_with_one_reason_stand_together(tmp_path: Path) -> None:
    reasons = [f"the loss became nan at epoch {i}, step {3 * i}." for i in range(1, 9)]
    found = failures(load_run(write_run(tmp_path / "broken", 36, reasons=reasons)))
    assert found[["status", "num_trials"]].to_numpy().tolist() == [["diverged", 4]]
    assert found["trials"].iloc[0] == ["0008", "0017", "0026", "0035"]


def test_only_complete_trials_stand_on_the_front_of_score_and_cost(run: Run) -> None:
    table = costs(run)
    front = table[table["front_latency_ms"]]
    assert set(front["status"]) == {"complete"}
    best = table[table["status"] == "complete"]["score"].max()
    assert front["score"].max() == best
    cheapest = table[table["status"] == "complete"]["latency_ms"].min()
    assert front["latency_ms"].min() == cheapest


def test_rungs_are_those_of_the_pruner(run: Run) -> None:
    assert rungs(run) == ([3], "epochs")
    other = {**run.search, "search": {**run.search["search"], "pruner": "none"}}
    assert rungs(Run(run.run_dir, other, run.trials)) == ([], "epochs")
    seconds = {**run.search, "search": {**run.search["search"], "rungs": "seconds", "grace_seconds": 20.0}}
    at, unit = rungs(Run(run.run_dir, seconds, run.trials))
    assert (at[:2], unit) == ([20.0, 60.0], "seconds")


def test_of_very_many_trials_the_best_and_some_of_the_others_are_drawn(run: Run) -> None:
    drawn = shown_trials(run, 12)
    assert len(drawn) <= 12
    everything = shown_trials(run)
    assert drawn[:4] == everything[:4]
    assert contour_pairs(scores_at_epoch(run), ["optimizer/sgd/lr", "optimizer/sgd/momentum", "batch_size"]) == [
        ("optimizer/sgd/lr", "optimizer/sgd/momentum")
    ]


def luminance(colour: str) -> float:
    """Relative luminance (WCAG 2.2)."""
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in channels]
    return float(np.dot([0.2126, 0.7152, 0.0722], linear))


@pytest.mark.parametrize("colour", sorted({*PALETTE, *STATUS_COLOURS.values()}))
def test_every_colour_can_be_seen_on_a_white_and_on_a_dark_page(colour: str) -> None:
    for page in ("#ffffff", "#14171b"):
        low, high = sorted((luminance(colour), luminance(page)))
        assert (high + 0.05) / (low + 0.05) >= 3


def test_a_pause_between_two_sessions_is_no_work(tmp_path: Path) -> None:
    run_dir = write_run(tmp_path / "run", 6)
    run = load_run(run_dir)
    rows = [row for trial in run.trials for row in trial.epochs]
    whole = run_cost(run).wall_s
    assert whole == max(row["time"] for row in rows) - STARTED
    paused_at = sorted(row["time"] for row in rows)[len(rows) // 2]
    pause_s = 86_400.0
    for row in rows:
        row["time"] += pause_s if row["time"] > paused_at else 0.0
    for trial in run.trials:
        for name in ("started_s", "ended_s"):
            at = getattr(trial, name)
            setattr(trial, name, at + pause_s if at is not None and at > paused_at else at)
    resumed = [{"time": paused_at + pause_s + 1.0, "versions": {}}]
    after = replace(run, search={**run.search, "resumed": resumed})
    assert run_cost(after).wall_s == pytest.approx(whole, abs=2.5)
    assert timeline(after).eval("end_s - start_s").max() < 100
    # In a container a process of the second session may have the first one's number, soon after it.
    soon = replace(run, search={**run.search, "resumed": [{"time": rows[1]["time"] - 1.0}]})
    assert len(timeline(soon)) > len(timeline(run))


def test_a_resumed_trial_has_the_times_of_its_last_session() -> None:
    trials: dict[str, Trial] = {}
    row = {"trial_id": "0000", "time": 1.0}
    take_event(trials, {**row, "event": "proposed", "params": {}, "config": {}})
    take_event(trials, {**row, "time": 2.0, "event": "started"})
    assert (trials["0000"].started_s, trials["0000"].ended_s) == (2.0, None)
    take_event(trials, {**row, "time": 3.0, "event": "ended", "status": "interrupted", "reason": ""})
    assert trials["0000"].ended_s == 3.0
    take_event(trials, {**row, "time": 9.0, "event": "started"})
    assert (trials["0000"].started_s, trials["0000"].ended_s) == (9.0, None)
