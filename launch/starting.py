"""Trials whose process has not begun yet, where Ray Tune 2.60 does less than a search needs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from launch.machines.packing import PackedTrials


def leave_starting_to_tune(scheduler: TrialScheduler) -> None:
    """Ray's first-come rule names the first pending trial at every step. Tune then gives it the next process that is
    free, and drops the one that it has begun to start for it: where trials take less time than that, none ever starts
    on a machine that has just joined. Without a name Tune starts pending trials by itself, and keeps both."""
    base = scheduler.base if isinstance(scheduler, PackedTrials) else scheduler
    if type(base).choose_trial_to_run is FIFOScheduler.choose_trial_to_run:
        base.choose_trial_to_run = lambda tune_controller: None


def spare_what_never_began(scheduler: TrialScheduler, not_begun: set[str], max_times: int) -> None:
    """The death of a process that was about to take a trial over is handled twice by Ray Tune 2.60: first the trial is
    put back to be started again, then, as it is still pending, it is ended. Nothing of it has run, so it has not
    failed: Ray's id of it goes to `not_begun`, and the searcher proposes it again, at most `max_times`."""
    before, times = scheduler.on_trial_error, Counter[str]()

    def on_trial_error(tune_controller: Any, trial: Any) -> None:
        name = trial.config["trial_id"]
        if trial.status == "PENDING" and times[name] < max_times:
            times[name] += 1
            not_begun.add(trial.trial_id)
            # The searcher may have had no more to propose; now it has, and Tune would not ask again.
            tune_controller.search_alg._finished = False
        before(tune_controller, trial)

    scheduler.on_trial_error = on_trial_error  # all schedulers alike, Ray's own too


def wait_for_none(
    scheduler: TrialScheduler,
    over: Callable[[], str | None],
    cut: dict[str, str],
    when_over: Callable[[str], object] = lambda reason: None,
) -> None:
    """A process takes from seconds to most of a minute to start, and Tune waits for each. Once the search is over
    (over() says why), a trial that waits for one ends, without having run; its id goes to `cut`, with the reason.

    when_over: called once, with the reason; trials on machines with other clocks may not have noticed.
    """
    before, told = scheduler.choose_trial_to_run, False

    def choose_trial_to_run(tune_controller: Any) -> Any:  # called at every step
        nonlocal told
        reason = over()
        if reason is not None and not told:
            told = True
            with suppress(OSError):  # a full disk: those trials look at their own clocks
                when_over(reason)
        if reason is not None:
            _end_pending(getattr(tune_controller, "_tune_controller", tune_controller), reason, cut)
        return before(tune_controller)

    scheduler.choose_trial_to_run = choose_trial_to_run


def _end_pending(controller: Any, reason: str, cut: dict[str, str]) -> None:
    for trial in [trial for trial in controller.get_live_trials() if trial.status == "PENDING"]:
        if trial in controller._resetting_trials:
            continue  # a process that is there takes it over, and ends it at once
        starting = controller._trial_to_actor.get(trial)
        cut[trial.config["trial_id"]] = reason
        trial.init_local_path()  # Tune's last word on a run names each trial's folder, and fails without one
        controller.stop_trial(trial)
        if starting is not None and controller._actor_manager.is_actor_started(starting):  # asked for, that is
            controller._actor_manager.remove_actor(starting, kill=True)
