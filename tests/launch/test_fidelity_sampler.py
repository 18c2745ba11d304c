"""visionsweep's own sampler through the searcher, on functions whose best is known."""

from __future__ import annotations

import math
import time
from pathlib import Path
from statistics import mean, median
from typing import Any

import numpy as np
import pytest
from scripted_search import CONDITIONAL, EPOCHS, METRIC, SQUARE, Searching, bumpy, quadratic, rising, search
from threadpoolctl import threadpool_info, threadpool_limits

from launch.search.records import Records
from launch.search.searcher import StudySearcher
from search_spaces.grammar import Float, Pick
from search_spaces.search import Search
from visionsweep.run_dir.trials import Trial


@pytest.mark.parametrize("at_once", [True, False], ids=["in the first epoch", "later"])
def test_proposals_stay_out_of_where_trials_diverge(tmp_path: Path, at_once: bool) -> None:
    def half_diverges(config: dict[str, Any]) -> list[float]:
        if config["a"] > 0.5:
            return [math.nan] if at_once else [0.3, 0.5, math.nan]
        return rising(1 - 4 * (config["a"] - 0.2) ** 2 - 4 * (config["b"] - 0.3) ** 2)

    inside: list[bool] = []
    for seed in range(2):
        running = Searching(tmp_path / str(seed), search(SQUARE), half_diverges, seed=seed)
        assert any(config["a"] > 0.5 for config in [running.step() for _ in range(10)])
        for _ in range(30):
            running.step()
        inside += [running.step()["a"] > 0.5 for _ in range(40)]
    by_chance = 0.5 * 0.1  # of proposals that no model makes, half fall in there: a tenth are such
    assert np.mean(inside) < by_chance + 0.15


def test_out_of_memory_counts_as_divergence_does_and_a_plain_failure_does_not(tmp_path: Path) -> None:
    def share_inside(status: str) -> float:
        running = Searching(tmp_path / status, search(SQUARE), quadratic)
        inside = []
        for number in range(60):
            name = str(number)
            config = running.propose(name)["config"]
            if config["a"] > 0.5:
                running.searcher.on_trial_complete(name, {"status": status, "reason": "", "done": True})
            else:
                for epoch, value in enumerate(quadratic(config), start=1):
                    row = {"epoch": epoch, METRIC: value, "seconds": 1.0}
                    running.searcher.on_trial_result(name, {**row, "status": "running"})
                running.searcher.on_trial_complete(name, {**row, "status": "complete"})
            inside.append(config["a"] > 0.5)
        return float(np.mean(inside[30:]))

    assert share_inside("oom") < 0.4
    assert share_inside("failed") > 0.4  # the best is in there, and a failure for another reason is no evidence


def test_with_biased_early_values_it_still_beats_chance(tmp_path: Path) -> None:
    def biased(config: dict[str, Any]) -> list[float]:
        final = quadratic(config)[-1]
        return rising(final, bias=0.3 * config["a"])  # early epochs flatter a large `a`

    def bests(sampler: str) -> list[float]:
        found = []
        for seed in range(4):
            running = Searching(tmp_path / f"{sampler}{seed}", search(SQUARE, sampler=sampler), biased, seed=seed)
            for _ in range(40):
                running.step()
            found.append(running.best())
        return found

    own = bests("fidelity")
    chance = bests("random")
    assert min(own) > mean(chance)
    assert 1 - mean(own) < 0.5 * (1 - mean(chance))


def test_what_many_running_trials_show_before_the_first_rung_is_learned_from(tmp_path: Path) -> None:
    running = Searching(tmp_path / "run", search(SQUARE, grace_epochs=4), quadratic)
    for number in range(32):
        config = running.propose(str(number))["config"]
        row = {"epoch": 1, METRIC: quadratic(config)[0], "seconds": 1.0, "status": "running"}
        running.searcher.on_trial_result(str(number), row)  # none of them has ended, or come to a rung
    finals = [quadratic(running.propose(f"then-{number}")["config"])[-1] for number in range(8)]
    by_chance = [quadratic({"a": a, "b": b})[-1] for a, b in np.random.default_rng(0).random((200, 2))]
    assert median(finals) > np.quantile(by_chance, 0.75)


@pytest.mark.parametrize("num_before", [0, 40])
def test_eight_proposals_in_a_row_without_results_differ(tmp_path: Path, num_before: int) -> None:
    running = Searching(tmp_path / "run", search(SQUARE), quadratic)
    for _ in range(num_before):
        running.step()
    points = [running.propose(f"open-{number}")["config"] for number in range(8)]
    apart = [
        math.dist((one["a"], one["b"]), (other["a"], other["b"]))
        for number, one in enumerate(points)
        for other in points[:number]
    ]
    assert min(apart) > 1e-3


def test_a_warm_start_that_fixes_an_arm_gets_the_rest_of_it(tmp_path: Path) -> None:
    warm = ({"optimizer": {"name": "sgd"}}, {"optimizer": {"name": "adam"}, "depth": 2})
    running = Searching(tmp_path / "run", search(CONDITIONAL, warm_start=warm), bumpy)
    first = running.step()
    second = running.step()
    assert first["optimizer"].keys() == {"name", "lr", "nesterov"}
    assert first["optimizer"]["name"] == "sgd"
    assert (second["optimizer"]["name"], second["depth"]) == ("adam", 2)
    again = Searching(tmp_path / "again", search(CONDITIONAL, warm_start=warm), bumpy)
    assert [again.step(), again.step()] == [first, second]


def test_a_warm_start_shifts_the_first_points_and_counts_among_what_the_model_waits_for(tmp_path: Path) -> None:
    given = [{"a": 0.7, "b": 0.2}, {"a": 0.6, "b": 0.3}]
    plain = Searching(tmp_path / "plain", search(SQUARE), quadratic)
    warm = Searching(tmp_path / "warm", search(SQUARE, warm_start=given), quadratic)
    first = [plain.step() for _ in range(6)]
    tried = [warm.step() for _ in range(7)]
    assert [{"a": config["a"], "b": config["b"]} for config in tried[:2]] == given
    assert tried[2:6] == first[:4]
    assert tried[6] != first[4], "six have shown something, two of them given: the model is asked"


def test_proposals_take_one_core_from_the_trials(tmp_path: Path) -> None:
    seen: list[int] = []

    def look(config: dict[str, Any]) -> None:
        seen.append(max(library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"))

    running = Searching(tmp_path / "run", search(SQUARE), quadratic, valid=look)
    with threadpool_limits(2, user_api="blas"):
        for _ in range(8):
            running.step()
        assert 2 in {library["num_threads"] for library in threadpool_info()}
    assert set(seen) == {1}


def test_cheaper_epochs_are_preferred_among_equals(tmp_path: Path) -> None:
    """Two backbones are equally good, and one costs ten times as much. The cheap one is tried more often."""

    def last_backbones(seed: int) -> list[str]:
        chosen = search({**SQUARE, "backbone": Pick("cheap", "dear")})
        records = Records.create(tmp_path / str(seed), {"search": {}})
        searcher = StudySearcher(chosen, records, seed, num_trials=None, deadline=None, valid=lambda config: None)
        drawn = []
        for number in range(60):
            proposal = searcher.suggest(str(number))
            assert isinstance(proposal, dict)
            config = proposal["config"]
            seconds = 1.0 if config["backbone"] == "cheap" else 10.0
            for epoch, value in enumerate(quadratic(config), start=1):
                row = {"epoch": epoch, METRIC: value, "seconds": seconds}
                searcher.on_trial_result(str(number), {**row, "status": "running"})
            searcher.on_trial_complete(str(number), {**row, "status": "complete"})
            drawn.append(config["backbone"])
        return drawn[30:]

    drawn = [*last_backbones(0), *last_backbones(1)]
    assert drawn.count("cheap") > 1.25 * drawn.count("dear")


def test_every_choice_is_met_with_what_is_known_of_the_rest(tmp_path: Path) -> None:
    """The first of each choice is the best. The others are still tried, with numbers that are good by then."""
    picks = {name: Pick("best", "second", "third") for name in ("backbone", "optimizer", "head", "schedule")}

    def outcome(config: dict[str, Any]) -> list[float]:
        others = sum(config[name] != "best" for name in picks)
        return rising(1 - (config["a"] - 0.7) ** 2 - (config["b"] - 0.3) ** 2 - 0.3 * others)

    others = 0
    distances = []
    for seed in range(2):
        running = Searching(tmp_path / str(seed), search({**SQUARE, **picks}), outcome, seed=seed)
        for config in [running.step() for _ in range(80)][40:]:
            if config["backbone"] != "best":
                others += 1
                distances.append(math.hypot(config["a"] - 0.7, config["b"] - 0.3))
    assert others / 80 > 0.15
    assert median(distances) < 0.18, "by chance 0.45, and 0.25 where the gain says which numbers to look at"


def recorded(num: int, chosen: Search) -> dict[str, Trial]:
    rng = np.random.default_rng(0)
    trials = {}
    for number in range(num):
        params = {name: float(rng.random()) for name in chosen.space}
        config = {**params, "task": chosen.task, "epochs": chosen.epochs}
        values = rising(1 - sum((value - 0.5) ** 2 for value in params.values()))
        epochs = int(rng.choice([1, 3, 9], p=[0.6, 0.3, 0.1]))
        rows = [
            {"epoch": epoch, "metrics": {METRIC: values[epoch - 1]}, "seconds": 1.0} for epoch in range(1, epochs + 1)
        ]
        trial_id = f"{number:04d}"
        trials[trial_id] = Trial(trial_id, params, config, rows, "complete" if epochs == EPOCHS else "pruned")
    return trials


def test_a_proposal_costs_about_the_same_however_long_the_history(tmp_path: Path) -> None:
    chosen = search({f"x{number}": Float(0, 1) for number in range(8)})

    def searcher_after(num: int) -> StudySearcher:
        records = Records.create(tmp_path / str(num), {"search": {}})
        records.trials = recorded(num, chosen)
        return StudySearcher(chosen, records, 0, num_trials=None, deadline=None, valid=lambda config: None)

    short = searcher_after(300)
    long = searcher_after(3000)
    for searcher in (short, long):
        searcher.suggest("first")  # reads the history
    times: dict[StudySearcher, list[float]] = {short: [], long: []}
    for number in range(25):  # in turns: what else the machine does hits both
        for searcher, taken in times.items():
            started = time.process_time()
            searcher.suggest(str(number))
            taken.append(time.process_time() - started)
    assert median(times[long]) < 3 * median(times[short])
