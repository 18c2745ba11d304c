"""Section I of `gpu.py`: a training on all GPUs of a machine equals that on one, and is faster."""

from __future__ import annotations

import torch

from benchmarks.gpu_ground import Ground, Wrong, classifier, segmenter
from benchmarks.gpu_right import SAME_TRAINING, name_of
from trainables.config.trial import TrialConfig
from trainables.loop import EpochResult, fit


def several_gpus(ground: Ground, left_s: float) -> dict[str, object]:
    """Train a classifier and a segmenter on one GPU and on all of them. With --fake: in one process and in two."""
    size = 2 if ground.fake else torch.cuda.device_count()
    if size < 2:
        return {"said": "one GPU here, so there is nothing to divide", "gpus": size}
    found: dict[str, object] = {"gpus": size}
    wrong = []
    pixels = ground.size(224, 32)
    backbone = str(ground.size("resnet50", "test_resnet"))  # type: ignore[arg-type]
    synced = {"image_size": pixels, "sync_batch_norm": True}
    nets = [
        (classifier(backbone, batch_size=ground.size(16 * size, 8), **synced), ground.photos()),
        (segmenter("fpn", backbone, batch_size=ground.size(4 * size, 3), **synced), ground.masks()),
    ]
    for config, folder in nets:
        data = ground.data(config, folder)
        one, all_ = ([*fit(config, data, ground.device, ranks=ranks)][-1] for ranks in (1, size))
        found[name_of(config)] = compared(config, one, all_)
        losses = one.metrics["train/loss"], all_.metrics["train/loss"]
        if not abs(losses[0] - losses[1]) <= SAME_TRAINING * losses[0]:  # nan is wrong too
            wrong.append(f"{name_of(config)}: train/loss is {losses[1]:.4f} on {size} GPUs and {losses[0]:.4f} on one")
    if wrong:
        raise Wrong("; ".join(wrong), found)
    return {"said": f"{len(nets)} trainings on {size} equal those on one", **found}


def compared(config: TrialConfig, one: EpochResult, all_: EpochResult) -> dict[str, float]:
    return {
        "train/loss on one": one.metrics["train/loss"],
        "train/loss on all": all_.metrics["train/loss"],
        "images/s on all, over one": all_.images_per_s / one.images_per_s,
        "batch": config.batch_size,
    }
