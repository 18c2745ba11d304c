"""What the second process of a training runs in tests. Functions of a module, since another process imports them."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import torch
import torch.distributed as dist

from trainables import loop
from trainables.parallel.ranks import Ranks

follow = loop._follow  # before a test puts another in its place


def wrong(ranks: Ranks, *job: Any) -> None:
    raise ValueError("nothing can be done with this")


def killed(ranks: Ranks, *job: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def asleep(ranks: Ranks, *job: Any) -> None:
    time.sleep(3600)


def adding(ranks: Ranks, *job: Any) -> None:
    while True:
        dist.all_reduce(torch.ones(1))


def without_memory(ranks: Ranks, config: Any, *job: Any) -> None:
    if config.batch_size > 8:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
    follow(ranks, config, *job)
