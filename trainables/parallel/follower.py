"""A process of a rank after the first: what it runs, and how it ends with the trial's process."""

from __future__ import annotations

import contextlib
import copy
import os
import queue
import shutil
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from trainables.parallel.ranks import Group
from trainables.worker.threads import limit_threads
from visionsweep.core.errors import VisionsweepError

READY, FAILED = "ready", "failed"  # messages to rank 0, with None or an error
EPOCH, END = "epoch", "end"  # messages of rank 0, with an epoch's number or None
EXCHANGE_S = 600.0  # for an exchange among the ranks, which includes waiting for the slowest
VISIBLE = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES")
LOOPBACK = "GLOO_SOCKET_IFNAME"  # the variable of the network that gloo uses

Target = Callable[..., None]


@dataclass(frozen=True)
class Place:
    """The place of a process among the ranks.

    device   of each of them: the first GPU that it sees, or the CPU
    folder   of the files by which the ranks find each other
    threads  for arithmetic
    """

    rank: int
    size: int
    device: torch.device
    folder: Path
    threads: int


class Finished(Exception):
    """Rank 0 needs no further epoch."""


class Orders:
    """The link to rank 0 (see `ranks.Link`). Without rank 0's process this one ends at once, whatever it does."""

    def __init__(self, connection: Connection, folder: Path) -> None:
        self.connection = connection
        self.folder = folder
        self.orders: queue.Queue[tuple[str, Any]] = queue.Queue()
        threading.Thread(target=self._listen, daemon=True).start()

    def epoch(self, epoch: int) -> int:
        kind, number = self.orders.get()
        if kind == END:
            raise Finished
        return int(number)

    def check(self) -> None:
        """The error of another rank ends rank 0, and with it this process."""

    def _listen(self) -> None:
        with contextlib.suppress(EOFError, OSError):
            while True:
                self.orders.put(self.connection.recv())
        shutil.rmtree(self.folder, ignore_errors=True)
        os._exit(1)


def follow(connection: Connection, place: Place, target: Target, job: tuple[Any, ...]) -> None:
    """Run `target(group, *job)` until rank 0 needs no further epoch. An error is sent to rank 0, and ends the process.

    The body of a process, in which CUDA has not been used yet.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches rank 0, which ends this process
    orders = Orders(connection, place.folder)
    try:
        see_one_device(place)
        limit_threads(place.threads)
        connection.send((READY, None))
        join(place)
        with contextlib.suppress(Finished):
            target(Group(place.rank, place.size, place.device, orders), *job)
        dist.destroy_process_group()
    except BaseException as error:
        try:
            connection.send((FAILED, portable(error, place)))
        finally:
            os._exit(1)  # at once: leaving the group could wait for the others


def see_one_device(place: Place) -> None:
    """Let this process see its own GPU alone, so that it is the first one as in any training."""
    if place.device.type != "cuda":
        return
    lists = {name: os.environ[name].split(",") for name in VISIBLE if os.environ.get(name)}
    for name, devices in (lists or {VISIBLE[0]: [str(number) for number in range(place.size)]}).items():
        os.environ[name] = devices[place.rank].strip()


def join(place: Place) -> None:
    """Join the ranks. They exchange over this machine's own network alone, and GPUs over NCCL."""
    store = dist.FileStore(str(place.folder / "store"), place.size)  # type: ignore[attr-defined]
    backend = "cpu:gloo,cuda:nccl" if place.device.type == "cuda" else "gloo"
    with _loopback():
        dist.init_process_group(
            backend,
            store=store,
            rank=place.rank,
            world_size=place.size,
            timeout=timedelta(seconds=EXCHANGE_S),
        )


@contextlib.contextmanager
def _loopback() -> Any:
    """Let gloo listen on the machine's own network, unless the user has chosen one."""
    chosen = LOOPBACK in os.environ or sys.platform != "linux"
    if not chosen:
        os.environ[LOOPBACK] = "lo"
    try:
        yield
    finally:
        if not chosen:
            del os.environ[LOOPBACK]


def portable(error: BaseException, place: Place) -> Exception:
    """Return an error as rank 0 raises it: ours and a lack of memory as they are, any other one with its place."""
    if isinstance(error, (VisionsweepError, torch.OutOfMemoryError, MemoryError)):
        with contextlib.suppress(Exception):
            same = copy.copy(error)  # by its arguments, as it crosses processes
            if isinstance(same, Exception) and str(same) == str(error):
                return same
    where = traceback.extract_tb(error.__traceback__)[-1]
    line = f"{Path(where.filename).name}:{where.lineno}"
    return RuntimeError(f"rank {place.rank} of {place.size}: {type(error).__name__}: {error} ({line})")
