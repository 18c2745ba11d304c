"""Ray Tune's own run: our searcher, a scheduler, and nothing printed or kept that is not ours."""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ray import tune
from ray.tune import TuneError
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from launch.callback import RunCallback
from launch.machines.cluster import MAX_TRIALS
from launch.machines.packing import PackedTrials
from launch.population import SIZE, Population
from launch.pruning import FairAsha, build_scheduler
from launch.searcher import StudySearcher
from launch.watch import Watch
from search_spaces.search import Search

MAX_RETRIES = 2


def tune_until_done(
    trainable: Any,
    searcher: StudySearcher,
    search: Search,
    callback: RunCallback,
    watch: Watch,
    concurrent: int,
) -> None:
    """Run trials until the searcher says that it is finished and the last one has ended.

    concurrent: trials of a population that train at once.
    """
    scheduler = build_scheduler(search, list(searcher.records.trials.values()))
    most = MAX_TRIALS  # the searcher proposes nothing that has no room
    if isinstance(scheduler, Population):
        searcher.heirs, scheduler.running = scheduler.heirs, concurrent
        most = max(concurrent, SIZE)  # alive at a time
    if isinstance(scheduler, FairAsha):
        scheduler.reasons = callback.pruned
    if searcher.packer is not None:
        scheduler = PackedTrials(scheduler, searcher.packer)
    searcher.not_begun = callback.not_begun
    leave_starting_to_tune(scheduler)
    spare_what_never_began(scheduler, callback.not_begun)
    with _scratch() as scratch:
        tuner = tune.Tuner(
            trainable,
            tune_config=tune.TuneConfig(
                search_alg=searcher,
                scheduler=scheduler,
                num_samples=-1,  # the searcher says when it is finished
                max_concurrent_trials=most,
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(
                name="tune",
                storage_path=scratch,
                verbose=0,
                callbacks=[callback, watch],
                # A process that dies (killed, or by its configuration) is replaced, and the trial goes on from its last
                # epoch; one that dies every time is `failed`.
                failure_config=tune.FailureConfig(max_failures=MAX_RETRIES),
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),  # the trainable keeps its own files
            ),
        )
        try:
            tuner.fit()
        except TuneError:
            if callback.error is not None:  # Ray wraps what a callback raises
                raise callback.error from None
            raise


def leave_starting_to_tune(scheduler: TrialScheduler) -> None:
    """Ray's first-come rule names the first pending trial at every step. Tune then gives it the next process that is
    free, and drops the one that it has begun to start for it: where trials take less time than that, none ever starts
    on a machine that has just joined. Without a name Tune starts pending trials by itself, and keeps both."""
    base = scheduler.base if isinstance(scheduler, PackedTrials) else scheduler
    if type(base).choose_trial_to_run is FIFOScheduler.choose_trial_to_run:
        base.choose_trial_to_run = lambda tune_controller: None


def spare_what_never_began(scheduler: TrialScheduler, not_begun: set[str]) -> None:
    """The death of a process that was about to take a trial over is handled twice by Ray Tune 2.60: first the trial is
    put back to be started again, then, as it is still pending, it is ended. Nothing of it has run, so it has not
    failed: Ray's id of it goes to `not_begun`, and the searcher proposes it again, at most MAX_RETRIES times."""
    before, times = scheduler.on_trial_error, Counter[str]()

    def on_trial_error(tune_controller: Any, trial: Any) -> None:
        name = trial.config["trial_id"]
        if trial.status == "PENDING" and times[name] < MAX_RETRIES:
            times[name] += 1
            not_begun.add(trial.trial_id)
        before(tune_controller, trial)

    scheduler.on_trial_error = on_trial_error  # all schedulers alike, Ray's own too


@contextmanager
def _scratch() -> Iterator[str]:
    """Where Ray Tune may keep its own state: nothing of ours depends on it."""
    quiet = {
        "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
        "TUNE_DISABLE_SIGINT_HANDLER": "1",
        "RAY_AIR_NEW_OUTPUT": "0",  # the other of Ray's two printers prints nothing when told so
        "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # a trial that ends without an epoch has no metric to show
        "TUNE_GLOBAL_CHECKPOINT_S": str(10**6),
        "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    }
    before = {key: os.environ.get(key) for key in quiet}
    os.environ.update(quiet)
    try:
        with tempfile.TemporaryDirectory(prefix="visionsweep-") as folder:
            yield folder
    finally:
        for key, value in before.items():
            if value is None:
                os.environ.pop(key, None)
            else:
                os.environ[key] = value
