"""Ray Tune's own run: our searcher, a scheduler, and nothing printed or kept that is not ours."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from ray import tune
from ray.tune import Callback, TuneError

from launch.machines.packing import PackedTrials
from launch.population import SIZE, Population
from launch.pruning import FairAsha, build_scheduler
from launch.searcher import StudySearcher
from search_spaces.search import Search

MAX_RETRIES = 2


def tune_until_done(
    trainable: Any,
    searcher: StudySearcher,
    search: Search,
    callbacks: Sequence[Callback],
    concurrent: int,
    pruned: dict[str, str],
) -> None:
    """Run trials until the searcher says that it is finished and the last one has ended. pruned: is told by trial why
    the scheduler ended it, where it says so."""
    scheduler = build_scheduler(search, list(searcher.records.trials.values()))
    if isinstance(scheduler, Population):
        searcher.heirs, scheduler.running = scheduler.heirs, concurrent
        concurrent = max(concurrent, SIZE)  # alive at a time
    if isinstance(scheduler, FairAsha):
        scheduler.reasons = pruned
    if searcher.packer is not None:
        scheduler = PackedTrials(scheduler, searcher.packer)
    with _scratch() as scratch:
        tuner = tune.Tuner(
            trainable,
            tune_config=tune.TuneConfig(
                search_alg=searcher,
                scheduler=scheduler,
                num_samples=-1,  # the searcher says when it is finished
                max_concurrent_trials=concurrent,
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(
                name="tune",
                storage_path=scratch,
                verbose=0,
                callbacks=list(callbacks),
                # A process that dies (killed, or by its configuration) is replaced, and the trial goes on from its last
                # epoch; one that dies every time is `failed`.
                failure_config=tune.FailureConfig(max_failures=MAX_RETRIES),
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),  # the trainable keeps its own files
            ),
        )
        try:
            tuner.fit()
        except TuneError:
            for callback in callbacks:  # Ray wraps what a callback raises
                if (error := getattr(callback, "error", None)) is not None:
                    raise error from None
            raise


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
