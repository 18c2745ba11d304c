"""The loader processes of one training, started once, and the validation batches that a training on a GPU holds."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
import torch.multiprocessing
from torch import Tensor
from torch.utils.data import DataLoader

FEW_BATCHES = 20  # with fewer in an epoch, processes take longer to start than they save
LOOK_S = 2.0  # between two looks at whether a loader process that owes a batch still lives
HELD_ON = ("cuda", "mps")  # devices whose trainings hold their validation batches
HELD_BYTES = 2**30
HELD_SHARE = 0.05  # of the GPU memory that this process may take
END_S = 5.0  # to wait for a killed process

Batch = tuple[Tensor, Tensor]


class Loaders:
    """The loader processes of a training: `num_workers` for each split that has many batches.

    They are not forked from this process, which may have threads of Ray and CUDA, but from a server that has imported
    what they need. They get batches by their rows, so that one epoch or many makes no difference to them.
    """

    def __init__(self, num_workers: int, device: torch.device, *, holds: bool = False, draws: bool = True) -> None:
        """Start nothing yet.

        holds  whether a GPU's validation batches are held, for a training that asks for them in each epoch
        draws  whether a pass takes one of torch's random numbers, as that of any DataLoader does
        """
        self.num_workers = num_workers
        self.device = device
        self.holds = holds and device.type in HELD_ON
        self.draws = draws
        self._loaders: dict[str, DataLoader[Any]] = {}
        self._orders: dict[str, list[Any]] = {}
        self._held: dict[str, list[Batch]] = {}

    def __enter__(self) -> Loaders:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.close(kill=kind not in (None, GeneratorExit))

    def load(
        self, name: str, samples: Any, chunks: Sequence[Any], collate: Callable[[Any], Any], timeout_s: float
    ) -> Iterator[Any]:
        """Yield the collated batches of a pass through a split.

        name       of the split and what is done with it; `samples` must be equal in every pass of one name
        chunks     what `samples.__getitems__` gets for each batch
        timeout_s  for a batch, after which its process counts as hanging

        Raises RuntimeError if a process died or hangs (`failures.is_loader_failure`).
        """
        pin = self.device.type == "cuda"
        if not self.num_workers or len(chunks) < FEW_BATCHES:
            own = None if self.draws else torch.Generator()
            yield from DataLoader(samples, batch_sampler=chunks, collate_fn=collate, pin_memory=pin, generator=own)
            return
        # A DataLoader draws a number in each pass, and one that is kept would not. Training uses the numbers after it.
        if self.draws:
            torch.empty((), dtype=torch.int64).random_()
        if name not in self._loaders:
            self._orders[name] = []
            self._loaders[name] = DataLoader(
                samples,
                batch_sampler=self._orders[name],
                num_workers=self.num_workers,
                collate_fn=collate,
                pin_memory=pin,
                timeout=min(LOOK_S, timeout_s),
                persistent_workers=True,
                multiprocessing_context=_server(),
                generator=torch.Generator(),
            )
        self._orders[name][:] = chunks
        with main_left_alone():
            iterator = iter(self._loaders[name])
        asked = time.monotonic()
        for _ in range(len(chunks)):
            while True:
                try:
                    batch = next(iterator)
                    break
                except RuntimeError as error:
                    if "DataLoader timed out" not in str(error) or time.monotonic() - asked > timeout_s:
                        raise
            yield batch
            asked = time.monotonic()

    def held(self, name: str, batches: Callable[[], Iterator[Batch]]) -> Iterator[Batch]:
        """Yield a split's batches, which never change. On a GPU later passes take them from memory, if they fit.

        They stay on the GPU if they take at most HELD_SHARE of it, else in the host's memory up to HELD_BYTES.
        """
        if name in self._held:
            yield from self._held[name]
            return
        kept: list[Batch] | None = [] if self.holds else None
        size = 0
        for batch in batches():
            yield batch
            if kept is not None:
                kept.append(batch)
                size += sum(one.numel() * one.element_size() for one in batch)
                kept = kept if size <= HELD_BYTES else None
        if kept is not None:
            place = self.device if size <= most_on(self.device) else torch.device("cpu")
            self._held[name] = [(images.to(place), targets.to(place)) for images, targets in kept]
            self._end(name, kill=False)

    def close(self, *, kill: bool = False) -> None:
        """End the processes. kill: at once, because one may hang."""
        for name in list(self._loaders):
            self._end(name, kill=kill)
        self._held.clear()

    def _end(self, name: str, *, kill: bool) -> None:
        loader = self._loaders.pop(name, None)
        iterator: Any = getattr(loader, "_iterator", None)
        if iterator is None:
            return
        if kill:
            for process in iterator._workers:
                process.kill()
                process.join(END_S)
        iterator._shutdown_workers()


def most_on(device: torch.device) -> float:
    """Return the bytes of batches that may stay on a device."""
    if device.type != "cuda":
        return HELD_BYTES
    _, total = torch.cuda.mem_get_info(device)
    return min(HELD_BYTES, HELD_SHARE * torch.cuda.get_per_process_memory_fraction(device) * total)


def _server() -> Any:
    context = torch.multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["trainables.data.loader", "trainables.data.on_device.drawn"])
    return context


@contextlib.contextmanager
def main_left_alone() -> Iterator[None]:
    """Keep processes that start within the body from running this program's main file again.

    It is Ray's, or a user's without `if __name__ == "__main__"`. A loader process needs nothing of it.
    """
    main = sys.modules["__main__"]
    spec = main.__spec__
    file = main.__dict__.pop("__file__", None)
    main.__spec__ = None
    try:
        yield
    finally:
        main.__spec__ = spec
        if file is not None:
            main.__file__ = file
