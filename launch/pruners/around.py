"""Schedulers around another one, which knows nothing of what they add."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from launch.machines.ray_internals import ask_again, end_pending
from launch.trial_notes import TrialNotes


class SchedulerAround(TrialScheduler):  # type: ignore[misc]
    """A Ray Tune scheduler that passes everything on to `base`."""

    def __init__(self, base: TrialScheduler) -> None:
        super().__init__()
        self.base = base

    def __getstate__(self) -> dict[str, object]:
        return {}  # Ray pickles schedulers for its own restore; a run is resumed from its records instead

    @property
    def metric(self) -> Any:
        return self.base.metric

    def set_search_properties(self, metric: str | None, mode: str | None, **spec: Any) -> bool:
        return bool(self.base.set_search_properties(metric, mode, **spec))

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        self.base.on_trial_add(tune_controller, trial)

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        self.base.on_trial_error(tune_controller, trial)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> Any:
        return self.base.on_trial_result(tune_controller, trial, result)

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        self.base.on_trial_complete(tune_controller, trial, result)

    def on_trial_remove(self, tune_controller: Any, trial: Any) -> None:
        self.base.on_trial_remove(tune_controller, trial)

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        """Choose as `base` does, or leave it to Tune where `base` has Ray's first-come rule.

        That rule names the first pending trial at every step. Tune then gives that trial the next free process, and
        drops the process that it was starting for it. If trials end sooner than a process starts, none ever starts on a
        machine that has just joined. Without a name, Tune keeps both.
        """
        if type(self.base).choose_trial_to_run is FIFOScheduler.choose_trial_to_run:
            return None
        return self.base.choose_trial_to_run(tune_controller)

    def debug_string(self) -> str:
        return str(self.base.debug_string())


class StartingTrials(SchedulerAround):
    """The scheduler of a search, which mends what Ray Tune 2.60 does with trials whose process has not begun.

        over       returns why the search is over, None while it is not
        when_over  called once, with the reason; trials on machines with other clocks may not have noticed
        notes      `not_begun` and `cut` are written
        max_times  that a trial is proposed again whose process died before it began

    A death before the beginning is handled twice by Tune. It puts the trial back to be started again. Then it ends it,
    as it is still pending. Nothing of it has run, so it has not failed: the searcher proposes it again.

    Once the search is over, trials that wait for their process are ended without running. A process takes from seconds
    to most of a minute to start, and Tune would wait for each.
    """

    def __init__(
        self,
        base: TrialScheduler,
        over: Callable[[], str | None],
        when_over: Callable[[str], object],
        notes: TrialNotes,
        max_times: int,
    ) -> None:
        super().__init__(base)
        self.over = over
        self.when_over = when_over
        self.notes = notes
        self.max_times = max_times
        self.times = Counter[str]()  # by trial, how often its process died before it began
        self.is_over = False

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        name = trial.config["trial_id"]
        if trial.status == "PENDING" and self.times[name] < self.max_times:
            self.times[name] += 1
            self.notes.not_begun.add(trial.trial_id)
            # The searcher may have been finished. It now has a trial to propose, and Tune would not ask again.
            ask_again(tune_controller)
        self.base.on_trial_error(tune_controller, trial)

    def choose_trial_to_run(self, tune_controller: Any) -> Any:  # called at every step
        reason = self.over()
        if reason is not None and not self.is_over:
            self.is_over = True
            with suppress(OSError):  # if the disk is full, those trials still look at their own clocks
                self.when_over(reason)
        if reason is not None:
            for trial in end_pending(tune_controller):
                self.notes.cut[trial.config["trial_id"]] = reason
        return super().choose_trial_to_run(tune_controller)
