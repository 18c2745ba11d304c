"""Ray Tune's run with our searcher and a scheduler. Nothing is printed or kept that is not ours."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ray import tune
from ray.tune import TuneError
from ray.tune.progress_reporter import TrialProgressCallback

from launch.machines.cluster import MAX_TRIALS, started_here
from launch.machines.memory_kills import halving_on_memory_kills
from launch.machines.own_folder import ANY_LENGTH, own_folder
from launch.machines.packing import PackedTrials
from launch.machines.ray_settings import trials_environment
from launch.pruners.population import SIZE, Population
from launch.pruners.pruning import FairAsha, build_scheduler
from launch.search.callback import RunCallback
from launch.search.searcher import StudySearcher
from launch.search.starting import leave_starting_to_tune, spare_what_never_began, wait_for_none
from launch.search.watch import Watch
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
    # Build the scheduler, and connect it with the searcher and the callback.
    trials_environment(local=started_here())
    scheduler = build_scheduler(search, list(searcher.records.trials.values()))
    most = MAX_TRIALS  # the searcher proposes nothing that has no room
    if isinstance(scheduler, Population):
        searcher.heirs = scheduler.heirs
        scheduler.running = concurrent
        most = max(concurrent, SIZE)  # alive at a time
    if isinstance(scheduler, FairAsha):
        scheduler.reasons = callback.pruned
    if searcher.packer is not None:
        scheduler = PackedTrials(scheduler, searcher.packer)
    # Mend what Ray Tune does with trials whose process has not begun.
    searcher.not_begun = callback.not_begun
    leave_starting_to_tune(scheduler)
    spare_what_never_began(scheduler, callback.not_begun, MAX_RETRIES)
    wait_for_none(scheduler, searcher.over, callback.cut, searcher.when_over)
    # Run. Ray's own state goes to a folder that is deleted.
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
                callbacks=[callback, watch, _Silent()],
                # A process that dies (killed, or by its configuration) is replaced, and the trial resumed from its last
                # epoch. One that dies every time is `failed`.
                failure_config=tune.FailureConfig(max_failures=MAX_RETRIES),
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),  # the trainable keeps its own files
            ),
        )
        try:
            with halving_on_memory_kills(callback.out_of_memory, MAX_RETRIES):
                tuner.fit()
        except TuneError:
            if callback.error is not None:  # Ray wraps what a callback raises
                raise callback.error from None
            raise


class _Silent(TrialProgressCallback):  # type: ignore[misc]
    """A replacement for Ray's own, which names each trial that ended before it began, whatever `verbose` says."""

    def _print(self, msg: str) -> None:
        pass


@contextmanager
def _scratch() -> Iterator[str]:
    """Yield a folder for Ray Tune's own state. Nothing of ours depends on it."""
    quiet = {
        "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
        "TUNE_DISABLE_SIGINT_HANDLER": "1",
        "RAY_AIR_NEW_OUTPUT": "0",  # of Ray's two printers the one that can be silenced
        "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # a trial that ends without an epoch has no metric to show
        "TUNE_GLOBAL_CHECKPOINT_S": str(10**6),
        "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    }
    before = {key: os.environ.get(key) for key in quiet}
    os.environ.update(quiet)
    try:
        with own_folder(ANY_LENGTH) as folder:
            yield str(folder)
    finally:
        for key, value in before.items():
            if value is None:
                os.environ.pop(key, None)
            else:
                os.environ[key] = value
