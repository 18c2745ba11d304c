"""torch.compile for the training step of a model (`compile: true`).

Only the forward and backward pass of training batches is compiled. The module stays what it is, with plain names, and
its compiled form shares its weights. Evaluation runs the module itself. So scores are what `evaluate` and `predict`
compute later, and images of many sizes need no graphs.

A batch that is smaller than `batch_size`, the last of an epoch, runs uncompiled. To compile once more for its size
takes longer than a training spends on such batches. A graph for any size would be slower in all other batches.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from trainables.averaging import names_that_move
from trainables.config.trial import TrialConfig
from trainables.inference import autocast, to_input
from trainables.models.build import Model
from trainables.state import TrainState
from visionsweep.core.files import one_line

BACKEND = "inductor"
# torch's setting of how many processes compile at once. It would take one for each core of the machine.
PROCESSES = "TORCHINDUCTOR_COMPILE_THREADS"
ON_SEVERAL = "compile is true, but a training on several GPUs runs uncompiled."
NOT_THE_COMPILERS = (torch.OutOfMemoryError, MemoryError, torch.AcceleratorError)


@dataclass
class TrainedForward:
    """What a training calls on its batches.

    module   inputs -> outputs, in training mode
    start_s  seconds that compilation took
    note     a sentence for the user, '' without one
    """

    module: Callable[[Tensor], Any]
    start_s: float = 0.0
    note: str = ""

    def taken(self) -> tuple[float, str]:
        """Return the seconds of the start and the note once, and 0 and '' afterwards."""
        taken = self.start_s, self.note
        self.start_s, self.note = 0.0, ""
        return taken


def trained_forward(config: TrialConfig, state: TrainState, device: torch.device, ranks: int = 1) -> TrainedForward:
    """Return what the training calls: the model, its compiled form, or its head if it trains on kept features.

    It compiles on a batch of black images, before the first epoch. Weights, statistics and random numbers are then
    what they were. A compiler that fails costs the training nothing but the time. It runs uncompiled and says so.

    ranks: processes that train together. Their parts of a batch have sizes of their own, so they run uncompiled
    """
    model = state.model
    if config.views is not None:
        return TrainedForward(model.get_submodule("head"))  # whose steps are too short to gain anything
    if not config.compile or state.epoch >= config.epochs:
        return TrainedForward(model)
    if ranks > 1:
        return TrainedForward(model, note=ON_SEVERAL)
    began = time.perf_counter()
    compiled = _Compiled(config, model)
    try:
        with _as_before(model, device):
            for rests in _phases(config):
                model.let_rest(rests)
                _first_step(config, model, compiled.prepare, device)
    except NOT_THE_COMPILERS:
        raise
    except Exception as error:  # of the model's own the uncompiled training will tell
        return TrainedForward(model, time.perf_counter() - began, failed(error))
    return TrainedForward(compiled, time.perf_counter() - began)


def failed(error: Exception) -> str:
    """Return the sentence about a compiler that failed."""
    return (
        f"compile is true, but torch.compile failed, so that it trains uncompiled ({type(error).__name__}: "
        f"{one_line(error)}). Install what is missing, such as a C++ compiler (g++), or set compile=false."
    )


@contextmanager
def forgotten_graphs(config: TrialConfig) -> Iterator[None]:
    """Drop the process's compiled graphs before and after a training.

    torch compiles a function at most eight times, and a process of a search trains many models.
    """
    if not config.compile:
        yield
        return
    os.environ.setdefault(PROCESSES, str(torch.get_num_threads()))
    torch.compiler.reset()
    try:
        yield
    finally:
        torch.compiler.reset()


class _Compiled:
    """The compiled form of a model, for batches of the configuration's size."""

    def __init__(self, config: TrialConfig, model: nn.Module) -> None:
        self.layout = torch.channels_last if config.channels_last else torch.contiguous_format
        # Of this batch size only. Another one would be compiled for any size from then on.
        self.prepare: Callable[[Tensor], Any] = torch.compile(model, dynamic=False, backend=BACKEND)

    def __call__(self, images: Tensor) -> Any:
        # Nothing compiles within an epoch: what no graph fits runs uncompiled.
        with torch.compiler.set_stance("eager_on_recompile"):
            return self.prepare(images.contiguous(memory_format=self.layout))


def _phases(config: TrialConfig) -> tuple[bool, ...]:
    """Return whether the backbone rests, for each phase of the training. The last one is that of a new model."""
    return (True, False) if getattr(config.model, "decoder_first", 0.0) > 0 else (False,)


def _first_step(config: TrialConfig, model: Model, run: Callable[[Tensor], Any], device: torch.device) -> None:
    """Run a forward and a backward pass, which torch compiles when they are first needed."""
    model.train()
    side = config.image_size
    channels = 3 if config.model.bands is None else config.model.bands.channels
    black = torch.zeros(config.batch_size, side, side, channels, dtype=torch.uint8)
    images = to_input(black, model, config, device)
    with autocast(config, device):
        outputs = run(images)
    several = outputs if isinstance(outputs, tuple) else (outputs,)
    torch.stack([one.float().sum() for one in several]).sum().backward()  # type: ignore[no-untyped-call]


@contextmanager
def _as_before(model: Model, device: torch.device) -> Iterator[None]:
    """Restore batch statistics, gradients, the mode and the random numbers after the body."""
    training = model.training
    model.train()
    moving = set(names_that_move(model))
    before = {name: one.clone() for name, one in model.named_buffers() if name in moving}
    gpus = [device] if device.type == "cuda" else []
    try:
        with torch.random.fork_rng(gpus):
            yield
    finally:
        model.let_rest(False)
        model.train(training)
        model.zero_grad(set_to_none=True)
        with torch.no_grad():
            for name, one in model.named_buffers():
                if name in before:
                    one.copy_(before[name])
