"""Ray Tune's run with our searcher and a scheduler. Nothing is printed or kept that is not ours."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ray import tune
from ray.tune import TuneError
from ray.tune.progress_reporter import TrialProgressCallback

from launch.machines.cluster import MAX_TRIALS, started_here
from launch.machines.memory_kills import halving_on_memory_kills
from launch.machines.own_folder import ANY_LENGTH, own_folder
from launch.machines.packing import PackedTrials
from launch.machines.ray_settings import trials_environment
from launch.pruners.around import StartingTrials
from launch.pruners.pbt import SIZE, PbtScheduler
from launch.pruners.pruning import build_scheduler
from launch.search.callback import RunCallback
from launch.search.hang_detection import HangDetector
from launch.search.searcher import StudySearcher

if TYPE_CHECKING:
    from launch.search.settled import SettledSearch

MAX_RETRIES = 2


def tune_until_done(
    trainable: Any,
    searcher: StudySearcher,
    search: SettledSearch,
    callback: RunCallback,
    hang_detector: HangDetector,
    concurrent: int,
    stop: Callable[[str], object] = lambda reason: None,
    folds: int = 1,
) -> None:
    """Run trials until the searcher says that it is finished and the last one has ended.

    The searcher, the callback and the watch have the same notes.

        concurrent  trials of a population that train at once
        stop        ends the trials that run, called once when the search is over, with the reason
        folds       that a complete trial is judged on, 1 without any
    """
    trials_environment(local=started_here())
    notes = searcher.notes
    scheduler = build_scheduler(search, list(searcher.records.trials.values()), notes, concurrent, folds)
    # The searcher proposes nothing that has no room. Of a population so many are alive at a time.
    most = max(concurrent, SIZE) if isinstance(scheduler, PbtScheduler) else MAX_TRIALS
    if searcher.packer is not None:
        scheduler = PackedTrials(scheduler, searcher.packer)
    scheduler = StartingTrials(scheduler, searcher.over, stop, notes, MAX_RETRIES)
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
                callbacks=[callback, hang_detector, _Silent()],
                # A process that dies (killed, or by its configuration) is replaced, and the trial resumed from its last
                # epoch. One that dies every time is `failed`.
                failure_config=tune.FailureConfig(max_failures=MAX_RETRIES),
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),  # the trainable keeps its own files
            ),
        )
        try:
            with halving_on_memory_kills(notes.out_of_memory, MAX_RETRIES):
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
