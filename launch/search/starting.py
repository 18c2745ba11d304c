"""Trials whose process has not begun yet, where Ray Tune 2.60 does less than a search needs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from launch.machines.packing import PackedTrials


def leave_starting_to_tune(scheduler: TrialScheduler) -> None:
    """Let Tune start pending trials by itself.

    Ray's first-come rule names the first pending trial at every step. Tune then gives that trial the next free process,
    and drops the process that it was starting for it. If trials end sooner than a process starts, none ever starts on a
    machine that has just joined. Without a name, Tune keeps both.
    """
    base = scheduler.base if isinstance(scheduler, PackedTrials) else scheduler
    if type(base).choose_trial_to_run is FIFOScheduler.choose_trial_to_run:
        base.choose_trial_to_run = lambda tune_controller: None


def spare_what_never_began(scheduler: TrialScheduler, not_begun: set[str], max_times: int) -> None:
    """Have the searcher propose a trial again if its process died before the trial began, at most `max_times`.

    Ray Tune 2.60 handles such a death twice. It puts the trial back to be started again. Then it ends it, as it is
    still pending. Nothing of it has run, so it has not failed. Ray's id of it goes to `not_begun`, which the searcher
    reads.
    """
    before = scheduler.on_trial_error
    times = Counter[str]()

    def on_trial_error(tune_controller: Any, trial: Any) -> None:
        name = trial.config["trial_id"]
        if trial.status == "PENDING" and times[name] < max_times:
            times[name] += 1
            not_begun.add(trial.trial_id)
            # The searcher may have been finished. It now has a trial to propose, and Tune would not ask again.
            tune_controller.search_alg._finished = False
        before(tune_controller, trial)

    scheduler.on_trial_error = on_trial_error  # holds for Ray's own schedulers too


def wait_for_none(
    scheduler: TrialScheduler,
    over: Callable[[], str | None],
    cut: dict[str, str],
    when_over: Callable[[str], object] = lambda reason: None,
) -> None:
    """End trials that wait for their process once the search is over, without running them.

    A process takes from seconds to most of a minute to start, and Tune waits for each.

        over       returns why the search is over, None while it is not
        cut        gets the id of each ended trial, with the reason
        when_over  called once, with the reason; trials on machines with other clocks may not have noticed
    """
    before = scheduler.choose_trial_to_run
    told = False

    def choose_trial_to_run(tune_controller: Any) -> Any:  # called at every step
        nonlocal told
        reason = over()
        if reason is not None and not told:
            told = True
            with suppress(OSError):  # if the disk is full, those trials still look at their own clocks
                when_over(reason)
        if reason is not None:
            _end_pending(getattr(tune_controller, "_tune_controller", tune_controller), reason, cut)
        return before(tune_controller)

    scheduler.choose_trial_to_run = choose_trial_to_run


def _end_pending(controller: Any, reason: str, cut: dict[str, str]) -> None:
    for trial in [trial for trial in controller.get_live_trials() if trial.status == "PENDING"]:
        if trial in controller._resetting_trials:
            continue  # a process that runs takes it over, and ends it at once
        starting = controller._trial_to_actor.get(trial)
        cut[trial.config["trial_id"]] = reason
        trial.init_local_path()  # Tune's last message names each trial's folder, and fails without one
        controller.stop_trial(trial)
        if starting is not None and controller._actor_manager.is_actor_started(starting):  # which means asked for
            controller._actor_manager.remove_actor(starting, kill=True)
