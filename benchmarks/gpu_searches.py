"""Sections G and H of `gpu.py`: forty trials in quarters of a GPU and one by one, and two data sets to their best."""

from __future__ import annotations

import itertools
import math
import time
from typing import Any

from benchmarks.gpu_ground import Ground, Wrong, classifier, segmenter
from benchmarks.gpu_memory import share
from benchmarks.gpu_process import Apart, all_results
from trainables.config.trial import TrialConfig
from trainables.device import less_fragmented
from trainables.loop import fit
from trainables.worker.threads import limit_threads
from visionsweep.core.errors import Interrupted

TRIALS = 40
PACKED = 4  # trials at once
SPARED = 0.8  # of the time left, which a training is planned for


def forty_trials(ground: Ground, left_s: float) -> dict[str, object]:
    """Train the same trials one by one on the whole GPU, then in quarters of it, without Ray and without pruning."""
    trials = mixed_trials(ground)
    ground.data(trials[-1], ground.photos())
    began = time.perf_counter()
    alone = Apart(in_turn, ground, trials, 1.0).result(2 * left_s)
    alone_s = time.perf_counter() - began
    slots = ground.size(PACKED, 2)
    began = time.perf_counter()
    calls = [Apart(in_turn, ground, trials[slot::slots], 1 / slots) for slot in range(slots)]
    packed = list(itertools.chain(*all_results(calls, 2 * left_s)))
    packed_s = time.perf_counter() - began
    if len(packed) != len(alone):
        raise Wrong(f"{len(alone)} trials ended one by one, {len(packed)} packed")
    broken = [loss for loss in (*alone, *packed) if not math.isfinite(loss)]
    if broken:
        raise Wrong(f"{len(broken)} trials ended with a loss that is not finite")
    said = f"{len(trials)} trials, {slots} at once: {packed_s / alone_s:.2f} of the time one by one"
    if not ground.fake and packed_s >= alone_s:
        raise Wrong(said)
    return {"said": said, "one by one s": alone_s, "packed s": packed_s}


def mixed_trials(ground: Ground) -> list[TrialConfig]:
    """Return trials of mixed sizes, the largest image size last."""
    backbones = ("test_resnet",) if ground.fake else ("resnet18", "tf_efficientnet_lite0", "mobilenetv3_small_100")
    kinds = list(itertools.product(backbones, (16, 32)))
    count = ground.size(TRIALS, 4)
    return [
        classifier(
            backbone, batch_size=ground.size(batch_size, 8), image_size=ground.size(64, 32), epochs=ground.size(3, 1),
            precision="fp32" if ground.fake else "bf16", seed=number,
        )
        for number, (backbone, batch_size) in enumerate(itertools.islice(itertools.cycle(kinds), count))
    ]  # fmt: skip


def in_turn(ground: Ground, trials: list[TrialConfig], of_one: float) -> list[float]:
    """Train trials one after the other in a share of the GPU, as a process of Ray does, and return their losses."""
    less_fragmented()
    limit_threads(1)
    share(of_one).limit(ground.device)
    photos = ground.photos()
    return [list(fit(one, ground.data(one, photos), ground.device))[-1].metrics["val/loss"] for one in trials]


def to_their_best(ground: Ground, left_s: float) -> dict[str, object]:
    """Train a classifier of the photos and a segmenter of the masks for half of the time left each."""
    lite = "test_resnet" if ground.fake else "tf_efficientnet_lite0"
    common: dict[str, Any] = {
        "model": {"weights": ground.weights(lite)},
        "precision": "fp32" if ground.fake else "bf16",
        "optimizer": {"name": "adamw", "lr": 1e-3},
        "batch_size": ground.size(32, 8),
        "ema_decay": 0.99,
    }
    photos = classifier(lite, image_size=ground.size(160, 32), **common)
    masks = segmenter("fpn", lite, image_size=ground.size(240, 32), **common)
    jobs = (("val/accuracy", photos, ground.photos()), ("val/miou", masks, ground.masks()))
    found: dict[str, object] = {}
    said = []
    for metric, config, folder in jobs:
        best, epochs = best_within(ground, config, folder, metric, left_s / 2)
        found[metric] = {"best": best, "epochs": epochs, "data": str(folder), "weights": config.model.weights}
        said.append(f"{metric} {best:.3f} of {folder.name} after {epochs} epochs")
        if not 0 <= best <= 1 or (not ground.fake and best < 0.5):
            raise Wrong(f"{metric} of {folder} is {best:.3f} after {epochs} epochs")
    return {"said": "; ".join(said), **found}


def best_within(ground: Ground, config: TrialConfig, folder: Any, metric: str, seconds: float) -> tuple[float, int]:
    """Return the best value of a training that fills the time, and its epochs. One epoch says what one takes."""
    ends = time.monotonic() + seconds
    data = ground.data(config, folder)

    def stop() -> str | None:
        return "the time is spent" if time.monotonic() > ends else None

    values = []
    try:
        for probe in fit(config, data, ground.device, num_workers=ground.num_workers, should_stop=stop):
            values.append(probe.metrics[metric])
        epoch_s = probe.seconds  # of the second epoch, as the first one also warms up
        planned = max(1, min(ground.size(60, 1), int(SPARED * (ends - time.monotonic()) / epoch_s)))
        planning = config.model_copy(update={"epochs": planned})
        for result in fit(planning, data, ground.device, num_workers=ground.num_workers, should_stop=stop):
            values.append(result.metrics[metric])
    except Interrupted:
        pass
    if not values:
        raise Wrong(f"no epoch of {folder} fitted into {seconds:.0f} s")
    return max(values), len(values)
