"""Our real searcher and scheduler behind the simulator's virtual clock, called as Ray Tune calls them.

The order of calls is that of `ray.tune.execution.tune_controller.TuneController` (`_process_trial_result` and
`stop_trial`, Ray 2.60). The scheduler gets a result first, then the searcher, then the callback. If the scheduler stops
the trial, the searcher gets that result only in `on_trial_complete`. If the result says `done`, scheduler and searcher
both get it only there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ray.tune import Callback
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher

from visionsweep.core.names import COSTS


class RayMethod:
    """A `benchmarks.simulate.Method` made of Ray Tune's parts, without Ray's runtime.

        searcher   suggests {"trial_id", "config", "resume"} as `StudySearcher` does
        scheduler  any of Ray's, or ours
        metric     the objective's name, such as `val/accuracy`
        epochs     of a full training whose configuration says no other; its last result says `done`
        callback   gets starts, results and ends, as in a real run; it writes the records

    Raises ValueError if the searcher resumes a trial or the scheduler pauses one, as neither is simulated.
    """

    def __init__(
        self,
        searcher: Searcher,
        scheduler: TrialScheduler,
        metric: str,
        epochs: int,
        callback: Callback | None = None,
    ) -> None:
        self.searcher = searcher
        self.scheduler = scheduler
        self.callback = callback
        self.metric = metric
        self.epochs = epochs
        self.trials: dict[str, RayTrial] = {}
        self.finished = False  # Ray does not ask again after FINISHED

    def suggest(self, trial_id: str) -> Mapping[str, Any] | None:
        if self.finished:
            return None
        ray_id = f"ray-{trial_id}"  # Ray's ids are never ours
        suggestion = self.searcher.suggest(ray_id)
        self.finished = suggestion == Searcher.FINISHED
        if suggestion is None or self.finished:
            return None
        if suggestion["resume"]:
            raise ValueError(f"trial {suggestion['trial_id']} would be resumed, and only fresh searches are simulated")
        trial = self.trials[trial_id] = RayTrial(ray_id, suggestion)
        self.scheduler.on_trial_add(None, trial)
        self._call_back("on_trial_start", trial)
        config: Mapping[str, Any] = suggestion["config"]
        return config

    def on_epoch(self, trial_id: str, epoch: int, value: float, seconds: float) -> bool:
        trial = self.trials[trial_id]
        lasted_s = seconds - trial.seconds
        trial.seconds = seconds
        trial.epoch = epoch
        if not math.isfinite(value):
            return False  # our trainable reports no such epoch, only the end of the trial
        is_last = epoch == trial.config["config"].get("epochs", self.epochs)
        result = {
            **self._filled_in(trial),
            "status": "complete" if is_last else "running",
            "reason": "",
            "epoch": epoch,
            "seconds": lasted_s,
            f"metrics/{self.metric}": value,  # as Ray flattens {"metrics": {metric: value}}
            self.metric: value,
            "done": is_last,
        }
        decision = TrialScheduler.STOP if result["done"] else self.scheduler.on_trial_result(None, trial, result)
        if decision == TrialScheduler.PAUSE:
            raise ValueError(f"{type(self.scheduler).__name__} paused a trial, which is not simulated")
        if decision == TrialScheduler.STOP:
            result["done"] = True
        else:
            self.searcher.on_trial_result(trial.trial_id, result)
        trial.last_result = result
        self._call_back("on_trial_result", trial, result=_nested(result, self.metric))
        return bool(decision == TrialScheduler.CONTINUE)

    def on_end(self, trial_id: str, status: str) -> None:
        trial = self.trials.pop(trial_id)
        if status == "failed":  # the worker's process died
            self.scheduler.on_trial_error(None, trial)
            self.searcher.on_trial_complete(trial.trial_id, error=True)
            self._call_back("on_trial_error", trial)
            return
        # as the trainable's last step says it (`trainables/worker/trainable.py`, _ended)
        if status in ("diverged", "interrupted"):
            reason = {"diverged": "the loss is not finite", "interrupted": "the budget is spent"}[status]
            trial.last_result = {**self._filled_in(trial), "status": status, "reason": reason, "done": True}
            self._call_back("on_trial_result", trial, result=dict(trial.last_result))
        self.scheduler.on_trial_complete(None, trial, trial.last_result)
        self.searcher.on_trial_complete(trial.trial_id, result=trial.last_result)
        self._call_back("on_trial_complete", trial)

    def _filled_in(self, trial: RayTrial) -> dict[str, Any]:
        """Return what Ray itself adds to a result. Its own id takes the place of ours."""
        return {"trial_id": trial.trial_id, "training_iteration": trial.epoch, "time_total_s": trial.seconds}

    def _call_back(self, name: str, trial: RayTrial, **more: Any) -> None:
        if self.callback is not None:
            getattr(self.callback, name)(iteration=0, trials=[], trial=trial, **more)


@dataclass
class RayTrial:
    """What searchers, schedulers and callbacks look at in a `ray.tune.experiment.Trial`.

    trial_id: Ray's; ours is in the config. seconds, epoch: so far.
    """

    trial_id: str
    config: Mapping[str, Any]
    status: str = "RUNNING"
    evaluated_params: dict[str, Any] = field(default_factory=dict)
    last_result: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    epoch: int = 0

    def get_error(self) -> str:
        return "the worker process died"


def _nested(result: Mapping[str, Any], metric: str) -> dict[str, Any]:
    """Return a result as callbacks see it. What only real training has is None."""
    flat = {key: value for key, value in result.items() if not key.startswith("metrics/")}
    return {**flat, "metrics": {metric: result[metric]}, "images_per_s": None, "lr": None, **dict.fromkeys(COSTS)}
