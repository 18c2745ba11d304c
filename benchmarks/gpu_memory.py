"""Sections B, C and D of `gpu.py`: shares of a GPU, a training that does not fit, and a broken CUDA context."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

import torch

from benchmarks.gpu_ground import Ground, Wrong, classifier
from benchmarks.gpu_process import Apart, all_results, first_line
from trainables import loop
from trainables.config.trial import TrialConfig
from trainables.costs import peak_memory_mb
from trainables.device import less_fragmented
from trainables.loop import fit
from trainables.worker.failures import halved, is_out_of_memory, poisons_the_process
from trainables.worker.resources import GPU_CONTEXT_MB, TrialResources
from trainables.worker.threads import limit_threads

BLOCK_MB = 64
PRETENDED_MB = 256.0  # the share of a --fake process: a CPU limits nobody
SLACK = 1.02  # of a limit, which torch keeps in blocks
SAME_TRAINING = 0.05  # relative difference of a training's last loss in a share and alone


def packing(ground: Ground, left_s: float) -> dict[str, object]:
    """Train in halves and in quarters of the GPU at once, while one neighbour asks for more than its share."""
    found: dict[str, object] = {}
    config = small_training(ground)
    ground.data(config, ground.photos())  # decoded once, before several processes ask for it
    alone = Apart(in_share, ground, config, 1.0, False).result(left_s)["val/loss"]
    for of_one in (0.5, 0.25):
        others = 1 if ground.fake else round(1 / of_one) - 1
        calls = [Apart(in_share, ground, config, of_one, True)]
        calls += [Apart(in_share, ground, config, of_one, False) for _ in range(others)]
        greedy, *rest = all_results(calls, left_s)
        found[f"share {of_one:g}"] = {"limit MB": greedy["limit_mb"], "reserved MB": greedy["reserved_mb"]}
        if greedy["reserved_mb"] > SLACK * greedy["limit_mb"]:
            raise Wrong(
                f"a process with {of_one:g} of the GPU reserved {greedy['reserved_mb']:.0f} MB, "
                f"its share is {greedy['limit_mb']:.0f}"
            )
        if greedy["reserved_mb"] < 0.8 * greedy["limit_mb"]:
            raise Wrong(f"a process with {of_one:g} of the GPU was refused memory at {greedy['reserved_mb']:.0f} MB")
        for one in (greedy, *rest):
            if not abs(one["val/loss"] - alone) <= SAME_TRAINING * alone:
                raise Wrong(f"in {of_one:g} of the GPU val/loss ends at {one['val/loss']:.4f}, alone at {alone:.4f}")
    return {"said": "shares of 1/2 and 1/4 are kept, and neighbours train on", **found}


def small_training(ground: Ground) -> TrialConfig:
    backbone = "test_resnet" if ground.fake else "resnet18"
    return classifier(backbone, image_size=ground.size(96, 32), epochs=ground.size(4, 1))


def in_share(ground: Ground, config: TrialConfig, of_one: float, greedy: bool) -> dict[str, float]:
    """Train in a share of the GPU. A greedy process first takes memory until it is refused, and returns how much."""
    less_fragmented()
    limit_threads(1)
    share(of_one).limit(ground.device)
    found = {"limit_mb": 0.0, "reserved_mb": 0.0}
    if greedy:
        total_mb = PRETENDED_MB if ground.fake else torch.cuda.get_device_properties(ground.device).total_memory / 2**20
        found["limit_mb"] = total_mb * of_one if ground.fake else total_mb * of_one - GPU_CONTEXT_MB
        found["reserved_mb"] = filled_mb(ground.device, found["limit_mb"])
    found["val/loss"] = list(fit(config, ground.data(config, ground.photos()), ground.device))[-1].metrics["val/loss"]
    return found


def share(of_one: float) -> TrialResources:
    return TrialResources(of_one, 0.0, cpus=1.0, gpus=of_one, num_workers=0)


def filled_mb(device: torch.device, pretended_mb: float) -> float:
    """Take memory until torch refuses more, free it, and return what was reserved then. Raises another error as is."""
    held = []
    try:
        while True:
            if device.type == "cpu" and (len(held) + 1) * BLOCK_MB > pretended_mb:
                raise torch.OutOfMemoryError("out of memory, as a CPU pretends")
            held.append(torch.empty(BLOCK_MB * 2**20, dtype=torch.uint8, device=device))
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        if device.type == "cpu":
            return float(len(held) * BLOCK_MB)
        reserved_mb = torch.cuda.memory_reserved(device) / 2**20
        held.clear()
        torch.cuda.empty_cache()
        return reserved_mb


def out_of_memory(ground: Ground, left_s: float) -> dict[str, object]:
    """Train with a batch that does not fit into the memory that is allowed, and go on at half of it."""
    config = classifier(
        "test_resnet" if ground.fake else "resnet50", image_size=ground.size(160, 32), epochs=1,
        batch_size=ground.size(128, 16), precision="fp32" if ground.fake else "bf16",
    )  # fmt: skip
    ground.data(config, ground.photos())
    needs = [Apart(needed_mb, ground, one).result(left_s) for one in (config, smaller(config))]
    if not ground.fake and not needs[1] < 0.8 * needs[0]:
        raise Wrong(f"half the batch needs {needs[1]:.0f} MB of {needs[0]:.0f}, so nothing can be shown")
    ended = Apart(with_less, ground, config, sum(needs) / 2).result(left_s)
    return {"said": f"{config.batch_size} images did not fit, {ended['batch_size']} did", **ended}


def smaller(config: TrialConfig) -> TrialConfig:
    return halved(config, {"trial_id": "gpu", "config": config.model_dump()})


def needed_mb(ground: Ground, config: TrialConfig) -> float:
    less_fragmented()
    list(fit(config, ground.data(config, ground.photos()), ground.device))
    return peak_memory_mb(ground.device)


def with_less(ground: Ground, config: TrialConfig, allowed_mb: float) -> dict[str, Any]:
    """Train within `allowed_mb` as a trial does: if memory is out, again at half the batch."""
    less_fragmented()
    if not ground.fake:
        total_mb = torch.cuda.get_device_properties(ground.device).total_memory / 2**20
        torch.cuda.set_per_process_memory_fraction(allowed_mb / total_mb, ground.device)
    data = ground.data(config, ground.photos())
    with refuses(config.batch_size) if ground.fake else contextlib.nullcontext():
        try:
            list(fit(config, data, ground.device))
        except Exception as error:
            if not is_out_of_memory(error):
                raise Wrong(f"not taken for a lack of memory: {first_line(error)}") from error
            words = first_line(error)
            error.__traceback__ = None  # its frames hold the tensors that did not fit
        else:
            raise Wrong(f"{config.batch_size} images fitted into {allowed_mb:.0f} MB")
        if not ground.fake:
            torch.cuda.empty_cache()
        config = smaller(config)
        loss = list(fit(config, data, ground.device))[-1].metrics["val/loss"]
    if not math.isfinite(loss):
        raise Wrong(f"at half the batch val/loss is {loss}")
    return {"batch_size": config.batch_size, "refused with": words, "val/loss": loss}


@contextlib.contextmanager
def refuses(batch_size: int) -> Iterator[None]:
    """Pretend within the body that a training batch of this size does not fit."""
    real = loop.to_input

    def to_input(images: torch.Tensor, *rest: Any) -> torch.Tensor:
        if len(images) >= batch_size:
            raise torch.OutOfMemoryError("out of memory, as a CPU pretends")
        return real(images, *rest)

    with patch.object(loop, "to_input", to_input):
        yield


def poisoned(ground: Ground, left_s: float) -> dict[str, object]:
    """Break a process's CUDA context. It must be known as broken, and a new process must train."""
    broken = Apart(break_context, ground).result(left_s)
    if not broken["known"]:
        raise Wrong(f"a broken context is not known as one: {broken['words']}")
    if not ground.fake and not broken["fails_later"]:
        raise Wrong("the process still computes after a device-side assert, so nothing was shown")
    trained = Apart(in_share, ground, small_training(ground), 1.0, False).result(left_s)
    return {"said": "a broken process is known, and the next one trains", **broken, **trained}


def break_context(ground: Ground) -> dict[str, Any]:
    """Read beyond a tensor on the GPU, and return what the error is taken for."""
    try:
        if ground.fake:
            raise torch.AcceleratorError("CUDA error: device-side assert triggered")
        values = torch.zeros(2, device=ground.device)
        print(values[torch.tensor([5], device=ground.device)].sum().item())
    except Exception as error:
        known = poisons_the_process(error) and not is_out_of_memory(error)
        words = first_line(error)
    else:
        raise Wrong("reading beyond a tensor raised nothing")
    try:
        torch.ones(2, device=ground.device).sum().item()
    except Exception:
        return {"known": known, "words": words, "fails_later": True}
    return {"known": known, "words": words, "fails_later": False}
