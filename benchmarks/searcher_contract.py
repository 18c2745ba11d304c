"""What a searcher behind Ray Tune owes its study: one suite, for visionsweep's searcher and for Ray's OptunaSearch.

    python -m benchmarks.searcher_contract

Every scenario calls searcher and scheduler as `ray.tune.execution.tune_controller.TuneController` does (Ray 2.60), with
scripted results. Then it inspects the Optuna study. Stock is `OptunaSearch` with `AsyncHyperBandScheduler`, with its
study in memory or in a journal file. Ray restores it from its last snapshot.
"""

from __future__ import annotations

import argparse
import math
import tempfile
from collections.abc import Callable
from pathlib import Path

from optuna.trial import TrialState

from benchmarks.contract_adapters import EPOCHS, Adapter, Ours
from benchmarks.contract_stock import Stock, StoredStock

Values = dict[int, float]

ADAPTERS: dict[str, Callable[[Path], Adapter]] = {"visionsweep": Ours, "stock": Stock, "stock, stored": StoredStock}
RISING = [0.5, 0.6, 0.9, 0.8, 0.7, 0.6, 0.6, 0.6, 0.6]


def trained(adapter: Adapter, name: str, values: list[float]) -> Values:
    """Run a trial until its values are through or the scheduler stops it. Return its values by epoch."""
    adapter.start(name)
    return went_on(adapter, name, values)


def went_on(adapter: Adapter, name: str, values: list[float], done: int = 0) -> Values:
    shown: Values = {}
    for epoch, value in enumerate(values[done:], start=done + 1):
        shown[epoch] = value
        if not adapter.epoch(name, epoch, value):
            break
    adapter.end(name)
    return shown


def stopped(adapter: Adapter) -> Values:
    """A trial named `bad` that the scheduler ends after several good ones: what it showed."""
    for number in range(6):
        trained(adapter, f"good-{number}", [0.9] * EPOCHS)
    shown = trained(adapter, "bad", [0.2, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1])
    assert len(shown) < EPOCHS, "the scheduler stopped nothing"
    return shown


def complete_is_complete_with_its_best_value(adapter: Adapter) -> None:
    trained(adapter, "a", RISING)
    trial = adapter.trial("a")
    assert trial.state == TrialState.COMPLETE, trial.state
    assert trial.value == max(RISING), f"its value is {trial.value}, not {max(RISING)}"


def stopped_is_pruned(adapter: Adapter) -> None:
    stopped(adapter)
    assert adapter.trial("bad").state == TrialState.PRUNED, f"it is {adapter.trial('bad').state.name}"


def stopped_has_every_value(adapter: Adapter) -> None:
    shown = stopped(adapter)
    found = adapter.trial("bad").intermediate_values
    assert found == shown, f"it has {found} of {shown}"


def complete_has_every_value(adapter: Adapter) -> None:
    shown = trained(adapter, "a", RISING)
    found = adapter.trial("a").intermediate_values
    assert found == shown, f"{sorted(shown.keys() - found.keys())} are missing"


def nan_is_closed(adapter: Adapter) -> None:
    trained(adapter, "a", [0.5, math.nan])
    assert adapter.trial("a").state.is_finished(), f"it is {adapter.trial('a').state.name}"


def nan_at_once_is_closed(adapter: Adapter) -> None:
    trained(adapter, "a", [math.nan])
    assert adapter.trial("a").state.is_finished(), f"it is {adapter.trial('a').state.name}"


def nan_ends_the_training(adapter: Adapter) -> None:
    for number in range(3):
        trained(adapter, f"good-{number}", [0.9] * EPOCHS)
    adapter.start("a")
    assert not adapter.epoch("a", 1, math.nan), "it goes on"
    adapter.end("a")


def nan_is_known_as_infeasible(adapter: Adapter) -> None:
    trained(adapter, "a", [0.5, math.nan])
    assert adapter.infeasible("a"), "nothing in the study says that it diverged"


def error_is_fail(adapter: Adapter) -> None:
    adapter.start("a")
    adapter.epoch("a", 1, 0.5)
    adapter.fail("a")
    assert adapter.trial("a").state == TrialState.FAIL, adapter.trial("a").state
    adapter.start("b")  # and the search goes on


def out_of_memory_is_fail(adapter: Adapter) -> None:
    adapter.start("a")
    adapter.out_of_memory("a")
    assert adapter.trial("a").state == TrialState.FAIL, adapter.trial("a").state


def out_of_memory_is_known_as_infeasible(adapter: Adapter) -> None:
    adapter.start("a")
    adapter.out_of_memory("a")
    assert adapter.infeasible("a"), "nothing in the study tells it from any other error"


def nothing_is_left_running(adapter: Adapter) -> None:
    trained(adapter, "a", RISING)
    adapter.start("b")
    adapter.epoch("b", 1, 0.5)
    adapter.start("c")
    adapter.spend_budget()
    left = [trial.number for trial in adapter.study.trials if not trial.state.is_finished()]
    assert left == [], f"trials {left} are"


def restored(adapter: Adapter, lost: bool) -> None:
    """Kill the driver when one trial has ended and one is in its second epoch.

    lost: both happened after the last snapshot, which has both in their first epoch.
    """
    adapter.start("a")
    adapter.start("b")
    for name in ("a", "b"):
        adapter.epoch(name, 1, 0.5)
    if lost:
        adapter.snapshot()
    went_on(adapter, "a", RISING, done=1)
    adapter.epoch("b", 2, 0.6)
    if not lost:
        adapter.snapshot()
    again = adapter.killed()
    # No trial reports the values of another one, which would end it.
    for name, done in again.unfinished().items():
        went_on(again, name, [*RISING[:2], *(value + 0.01 for value in RISING[2:])], done)
    trained(again, "c", [value + 0.02 for value in RISING])
    trials = again.study.trials
    assert [trial.state.name for trial in trials] == ["COMPLETE"] * 3, [trial.state.name for trial in trials]
    for name in ("a", "b"):
        kept = again.trial(name).intermediate_values
        assert [kept.get(1), kept.get(2)] == RISING[:2], f"of trial {name} it has {kept}"


def restored_from_its_last_word(adapter: Adapter) -> None:
    restored(adapter, lost=False)


def restored_from_earlier(adapter: Adapter) -> None:
    restored(adapter, lost=True)


def same_proposals_after_a_restore(adapter: Adapter) -> None:
    """Kill the search of one worker two trials after the last snapshot, and train those two again as before."""
    expected = [proposed(adapter, number) for number in range(16)]
    cut = adapter.another()
    for number in range(12):
        proposed(cut, number)
        if number == 9:
            cut.snapshot()
    again = cut.killed()
    found = [proposed(again, number) for number in range(again.num_known(), 16)]
    assert found == expected[-len(found) :], "they differ"


def proposed(adapter: Adapter, number: int) -> dict[str, float]:
    params = adapter.start(f"t{number}")
    values = [1 - abs(math.log10(params["lr"]) + 2) / 4 - 1 / (4 + epoch) for epoch in range(EPOCHS)]
    went_on(adapter, f"t{number}", values)
    return params


SCENARIOS: dict[str, Callable[[Adapter], None]] = {
    "a complete trial is COMPLETE with its best value": complete_is_complete_with_its_best_value,
    "a complete trial has every intermediate value": complete_has_every_value,
    "a trial that the scheduler stopped is PRUNED": stopped_is_pruned,
    "a stopped trial has every intermediate value": stopped_has_every_value,
    "a trial that came to NaN is closed": nan_is_closed,
    "a trial that began with NaN is closed": nan_at_once_is_closed,
    "the scheduler ends a trial at NaN": nan_ends_the_training,
    "a trial that came to NaN is known as infeasible": nan_is_known_as_infeasible,
    "a trial with an error is FAIL": error_is_fail,
    "a trial out of memory is FAIL": out_of_memory_is_fail,
    "a trial out of memory is known as infeasible": out_of_memory_is_known_as_infeasible,
    "no trial is left RUNNING when the budget is spent": nothing_is_left_running,
    "a killed driver is restored from its last word": restored_from_its_last_word,
    "a killed driver is restored from an earlier snapshot": restored_from_earlier,
    "proposals after a restore are those without it": same_proposals_after_a_restore,
}


def outcome(scenario: Callable[[Adapter], None], make: Callable[[Path], Adapter]) -> str:
    """Empty where the scenario passes, else why not."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            scenario(make(Path(folder)))
        except AssertionError as error:
            return str(error) or "does not hold"
        except Exception as error:  # what would end a search
            return f"{type(error).__name__}: {error}".splitlines()[0]
    return ""


def table() -> str:
    """Return one row for each scenario and one column for each searcher, then the reasons of each failure."""
    width = max(map(len, SCENARIOS))
    reasons = list[str]()
    rows = [f"{'':{width}}" + "".join(f"{name:>16}" for name in ADAPTERS)]
    for sentence, scenario in SCENARIOS.items():
        found = {name: outcome(scenario, make) for name, make in ADAPTERS.items()}
        rows.append(f"{sentence:{width}}" + "".join(f"{'no' if why else 'yes':>16}" for why in found.values()))
        reasons += [f"  {name}: {sentence}: {why}" for name, why in found.items() if why]
    return "\n".join([*rows, "", "why not:", *reasons])


def main() -> None:
    argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0]).parse_args()
    print(table())


if __name__ == "__main__":
    main()
