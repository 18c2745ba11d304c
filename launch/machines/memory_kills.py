"""Trials whose process Ray killed because their machine ran low on memory.

They are resumed once, at half the batch. After that they end as `oom`.

Ray Tune gives its callbacks no reason for the death of a process, so `ray_internals.py` asks its controller.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ray.exceptions import OutOfMemoryError

from launch.machines.ray_internals import before_failures, count_failures
from trainables.worker.settings import HALVED

IN_RAYS_WORDS = ("OutOfMemory", "running low on memory")  # of a running task, or of a process that was about to start
REASON = "its machine ran low on memory, and Ray ended its process"


@contextmanager
def halving_on_memory_kills(out_of_memory: dict[str, str], max_failures: int) -> Iterator[None]:
    """While the body runs, resume such a trial from its last epoch at half the batch.

    The second time it is given up: its id goes to `out_of_memory`, with the reason.

    max_failures: the number of failures after which Ray gives a trial up.
    """

    def look(trial: Any, exception: BaseException) -> None:
        if not _is_memory_kill(exception):
            return
        if trial.config.get(HALVED):
            out_of_memory[trial.config["trial_id"]] = f"{REASON}, at half the batch too"
            count_failures(trial, max_failures)  # this one is its last
        trial.config[HALVED] = True

    with before_failures(look):
        yield


def _is_memory_kill(exception: BaseException | None) -> bool:
    return isinstance(exception, OutOfMemoryError) or any(words in str(exception) for words in IN_RAYS_WORDS)
