"""The processes of the ranks after the first: how they start, how an error of one ends all, and how they end.

Rank 0 runs in the trial's own process and starts the others. They wait for it between epochs, however long it judges.
Each ends by itself when the trial's process is gone, and the trial ends with the first error of any rank.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing

from trainables.config.solved import Lbfgs
from trainables.config.trial import TrialConfig
from trainables.data.loader_processes import main_left_alone
from trainables.parallel.follower import END, EPOCH, READY, Place, Target, follow, join
from trainables.parallel.ranks import Alone, Group, Ranks
from visionsweep.core.errors import ConfigError, VisionsweepError

ASKED = "VISIONSWEEP_RANKS"  # a number of processes, in place of one for each GPU; without GPUs for tests alone
START_S = 900.0  # for a process to import its libraries
LATE_S = 5.0  # in which another rank's error may follow that of a broken connection
END_S = 15.0  # for a process to end by itself


def num_ranks(gpus: float) -> int:
    """Return the processes of a trial with so many GPUs: one for each. A share of a GPU is trained by one.

    Raises ConfigError for a wrong value of ASKED.
    """
    asked = os.environ.get(ASKED, "")
    if asked and not (asked.isdecimal() and int(asked)):
        raise ConfigError(f"{ASKED} takes a number from 1, got '{asked}'. Unset it for one process on each GPU.")
    return int(asked) if asked else max(1, int(gpus))


def ranks_used(config: TrialConfig, ranks: int) -> int:
    """Return how many ranks a configuration can use: one where the head alone is trained, on kept features."""
    return 1 if isinstance(config.optimizer, Lbfgs) or config.views is not None else ranks


@contextlib.contextmanager
def together(size: int, device: torch.device, target: Target, job: tuple[Any, ...]) -> Iterator[Ranks]:
    """Start the other ranks of a training, yield this one's part, and end them, however the body ends.

    target, job  a function of a module, and what it gets after its rank; all of it is pickled

    Raises the first error of any rank, and ConfigError if there are fewer GPUs than ranks.
    """
    if size == 1:
        yield Alone()
        return
    seen = {"cpu": size, "mps": 1}.get(device.type, torch.cuda.device_count())
    if seen < size:
        raise ConfigError(f"a training on {size} GPUs sees {seen} here. Ask for {max(1, seen)}, or give it {size}.")
    if dist.is_initialized():
        raise ConfigError("a training on several GPUs joins its own processes, and this one is joined to others.")
    processes = Processes(size, device)
    atexit.register(processes.end)  # before this process waits for them at its end
    try:
        processes.start(target, job)
        yield Group(0, size, device, processes)
        processes.finish()
    except GeneratorExit:  # between two epochs
        processes.finish()
        raise
    except Exception as error:
        raise processes.cause(error) from None
    finally:
        processes.end()
        atexit.unregister(processes.end)


class Processes:
    """The processes of the other ranks, as rank 0 sees them (see `ranks.Link`).

    failure  the first error of any of them
    """

    def __init__(self, size: int, device: torch.device) -> None:
        self.size = size
        self.device = device
        self.failure: Exception | None = None
        self.failed = threading.Event()
        self.ready = threading.Semaphore(0)
        self.processes: list[Any] = []
        self.connections: list[Connection] = []
        self.listeners: list[threading.Thread] = []
        self.ending = False
        self.folder = Path(tempfile.mkdtemp(prefix="visionsweep-ranks-"))

    def start(self, target: Target, job: tuple[Any, ...]) -> None:
        """Start the processes and join them. Raises the error of one that cannot start."""
        context = torch.multiprocessing.get_context("spawn")
        threads = max(1, torch.get_num_threads() // self.size)
        for rank in range(1, self.size):
            ours, theirs = context.Pipe()
            place = Place(rank, self.size, self.device, self.folder, threads)
            process = context.Process(target=follow, args=(theirs, place, target, job))
            with main_left_alone():
                process.start()
            theirs.close()
            listener = threading.Thread(target=self._listen, args=(rank, process, ours), daemon=True)
            self.processes.append(process)
            self.connections.append(ours)
            self.listeners.append(listener)
            listener.start()
        ends = time.monotonic() + START_S
        for _ in self.processes:
            while not self.ready.acquire(timeout=0.1):
                self.check()
                if time.monotonic() > ends:
                    raise RuntimeError(f"the processes of its {self.size} ranks did not start within {START_S:.0f} s")
        join(Place(0, self.size, self.device, self.folder, threads))

    def epoch(self, epoch: int) -> int:
        for connection in self.connections:
            with contextlib.suppress(OSError):  # of a process that died, which its listener tells
                connection.send((EPOCH, epoch))
        self.check()
        return epoch

    def check(self) -> None:
        if self.failure is not None:
            raise self.failure

    def cause(self, error: Exception) -> Exception:
        """Return the first error of any rank. error: of this one, which the loss of another may have caused."""
        own = isinstance(error, (VisionsweepError, torch.OutOfMemoryError)) or not isinstance(error, RuntimeError)
        if self.failure is None and not own:
            self.failed.wait(LATE_S)
        return self.failure or error

    def finish(self) -> None:
        """Let the processes end by themselves. They wait for an epoch."""
        self.ending = True
        for connection in self.connections:
            with contextlib.suppress(OSError):
                connection.send((END, None))
        with contextlib.suppress(Exception):
            dist.destroy_process_group()
        for listener in self.listeners:
            listener.join(END_S)

    def end(self) -> None:
        """Kill the processes that are left, and leave the group."""
        self.ending = True
        for process in self.processes:
            process.kill()
        for listener in self.listeners:
            listener.join(END_S)
        if dist.is_initialized():
            self._abort()
            with contextlib.suppress(Exception):
                dist.destroy_process_group()
        for connection in self.connections:
            connection.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _listen(self, rank: int, process: Any, connection: Connection) -> None:
        """Read what a process sends until it ends. Nothing else waits for the process."""
        with contextlib.suppress(EOFError, OSError):
            while True:
                kind, error = connection.recv()
                if kind == READY:
                    self.ready.release()
                else:
                    self._fail(error)
        process.join()
        if not self.ending and process.exitcode != 0:  # 0 after the last epoch
            self._fail(lost(rank, self.size, process.exitcode))

    def _fail(self, error: Exception) -> None:
        if self.failure is None:
            self.failure = error
            self.failed.set()
            self._abort()

    def _abort(self) -> None:
        """Free this process from an exchange on its GPU, which would wait for a rank that is gone."""
        if self.device.type == "cuda" and dist.is_initialized() and dist.group.WORLD is not None:
            with contextlib.suppress(Exception):
                dist.group.WORLD.abort()


def lost(rank: int, size: int, code: int | None) -> Exception:
    """Return the error about a process that ended without one."""
    if code == -signal.SIGKILL:  # as Linux does when the machine's memory is full
        return MemoryError(f"rank {rank} of {size} was killed, as a machine does that is out of memory")
    return RuntimeError(f"rank {rank} of {size} ended with exit code {code}. Its output is above, or in Ray's logs.")
