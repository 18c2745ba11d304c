"""Folds as rungs: what the pruner, the engine's model and the ranking make of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scripted_scheduler import ACCURACY, Driver, search
from support import Outcome

from launch.pruners.pruning import FairAsha, build_scheduler
from launch.samplers.encoding import Encoder
from launch.samplers.history import FOLDS_FROM, History, Ladder, score_of
from launch.samplers.replay import Replay
from launch.search.estimate import times_folds
from launch.search.hang_detection import HangDetector
from launch.search.preflight import check_folds
from search_spaces import Float, Search
from visionsweep.core.errors import ConfigError
from visionsweep.core.objectives import Objective
from visionsweep.run_dir.rank import ranked
from visionsweep.run_dir.trials import Trial

EPOCHS = 2


def trial(trial_id: str, curve: list[float], folds: list[float], status: str = "complete") -> Trial:
    """Return a trial of a first fold with this curve, and further folds with these values of their own."""
    rows: list[dict[str, Any]] = [
        {"epoch": epoch, "metrics": {ACCURACY: value}, "seconds": 1.0} for epoch, value in enumerate(curve, start=1)
    ]
    values = [max(curve)]
    rows[-1] |= {"fold": 1, "fold_values": values[:]}
    for fold, value in enumerate(folds, start=2):
        values.append(value)
        means = {ACCURACY: float(np.mean(values))}
        row = {"epoch": len(rows) + 1, "metrics": means, "seconds": 2.0, "fold": fold, "fold_values": values[:]}
        rows.append(row)
    return Trial(trial_id, {"optimizer/lr": 0.01}, {"epochs": len(curve)}, rows, status)


def test_a_score_is_the_mean_over_folds_and_fewer_folds_rank_below() -> None:
    steady = trial("0000", [0.6, 0.8], [0.8, 0.8])
    lucky = trial("0001", [0.5, 0.99], [0.6, 0.6])
    ended = [trial("0002", [0.9, 0.9], [], "pruned"), trial("0003", [0.2, 0.7], [0.7], "pruned")]
    order = [one.trial_id for one in ranked([*ended, lucky, steady], [Objective(ACCURACY, "max")])]
    assert order == ["0000", "0001", "0003", "0002"]
    assert lucky.best(ACCURACY, "max") == (pytest.approx(0.73), 2)
    assert lucky.deviation == pytest.approx(np.std([0.99, 0.6, 0.6], ddof=1))
    row = lucky.best_row(Objective(ACCURACY, "max"))
    assert row is not None
    assert (row["epoch"], row["metrics"][ACCURACY]) == (2, pytest.approx(0.73))
    assert lucky.values(ACCURACY) == {1: 0.5, 2: 0.99}, "the epochs whose models can be kept"
    assert (ended[0].num_folds, ended[0].deviation) == (1, None)


class Folded(Driver):
    """A driver whose trials have five folds."""

    def __init__(self, past: list[Trial] | None = None, **values: Any) -> None:
        self.chosen = search(epochs=EPOCHS, grace_epochs=EPOCHS, **values)
        super().__init__(self.chosen)
        self.scheduler = build_scheduler(self.chosen, past or (), folds=5)

    def after(self, name: str, fold: int, value: float) -> bool:
        """Report the end of a fold. Return whether the trial continues."""
        made = self.trials.get(name) or self.add(name, EPOCHS)
        result = {"epoch": EPOCHS + fold - 1, ACCURACY: value, "seconds": 1.0, "fold": fold, "status": "running"}
        return bool(self.scheduler.on_trial_result(None, made, result) == "CONTINUE")


def test_a_bad_trial_ends_after_its_first_fold_and_is_told_so() -> None:
    driver = Folded()
    assert driver.after("0000", 1, 0.8)
    assert driver.after("0001", 1, 0.9)
    assert not driver.after("0002", 1, 0.5)
    scheduler = driver.scheduler
    assert isinstance(scheduler, FairAsha)
    assert scheduler.notes.pruned == {"0002": "val/accuracy 0.5 after fold 1 of 5 is not in the best 1/3"}
    # Of the next ones nothing is asked before the third fold, where trials of three folds are compared.
    assert driver.after("0000", 2, 0.1)
    assert driver.after("0001", 2, 0.9)
    assert driver.after("0001", 3, 0.9)
    assert not driver.after("0000", 3, 0.85)
    assert driver.after("0001", 4, 0.1)


def test_a_resumed_search_compares_with_the_folds_of_the_trials_before() -> None:
    past = [trial("0000", [0.6, 0.9], [0.9, 0.9]), trial("0001", [0.3, 0.4], [], "pruned")]
    driver = Folded(past)
    assert not driver.after("0002", 1, 0.8)
    assert driver.after("0003", 1, 0.95)
    assert driver.after("0003", 2, 0.1)
    assert not driver.after("0003", 3, 0.8)


def test_the_engine_sees_the_mean_of_folds_at_full_training() -> None:
    chosen = Search(
        task="multiclass", space={"optimizer": {"lr": Float(0.001, 0.1, log=True)}}, metric=ACCURACY, epochs=9,
        grace_epochs=3,
    ).for_task("multiclass")  # fmt: skip
    record = trial("0000", [0.1, 0.2, 0.5, 0.4, 0.6, 0.6, 0.7, 0.8, 0.7], [0.5, 0.5])
    frozen = Replay(chosen).frozen(record)
    assert frozen.value == pytest.approx(0.6)
    assert frozen.user_attrs[FOLDS_FROM] == 9
    assert score_of(frozen, 1) == (pytest.approx(0.6),)
    history = History(Encoder(chosen.full_space), Ladder(3, 9), chosen.compared)
    history.update([frozen], proposing=1)
    _, fidelity, values = history.observations(10, np.random.default_rng(0), lambda found: found[:, 0])
    assert fidelity.tolist() == [0.0, 1.0]
    assert values[:, 0].tolist() == pytest.approx([0.5, 0.6])


def test_other_folds_for_a_resumed_run_are_refused(visionsweep: Callable[..., Outcome]) -> None:
    refused = visionsweep("resume", "runs/mine", "--folds", 3)
    assert refused.code == 2
    words = " ".join(refused.err.replace("│", " ").split())
    assert "No such option: --folds. A resumed run keeps what it began with: `run` starts one with others." in words


def test_an_epoch_of_a_later_fold_is_a_sign_of_life(tmp_path: Path) -> None:
    watch = HangDetector(tmp_path, retries=2)
    one = SimpleNamespace(config={"trial_id": "0000"}, status="RUNNING", run_metadata=SimpleNamespace(num_failures=1))
    watch.on_trial_start(1, [], one)
    watch.on_trial_result(1, [], one, {"epoch": 2, "fold": 1, "seconds": 1.0})
    one.run_metadata.num_failures = 1
    watch.on_trial_result(1, [], one, {"fold_epoch": 1, "seconds": 2.0})
    assert one.run_metadata.num_failures == 0
    watch.on_trial_result(1, [], one, {"epoch": 3, "fold": 2, "seconds": 100.0})
    assert watch.silences["0000"].longest_s == 2.0, "a fold's seconds are not those of an epoch"


def test_folds_cost_a_probe_on_kept_features_little_and_any_other_trial_as_often() -> None:
    assert times_folds({"views": 2}, 5) == 1
    assert times_folds({"epochs": 12}, 5) == 5


def test_folds_that_a_search_cannot_have_are_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"asha or none, got hyperband\. Leave out --folds, or choose another --pruner"
    ):
        check_folds(search(pruner="hyperband"), 5)
    with pytest.raises(ConfigError, match="--folds 5 judges every image, and val_images 100 judges a part of them"):
        check_folds(search(val_images=100), 5)
    check_folds(search(pruner="none"), 5)
