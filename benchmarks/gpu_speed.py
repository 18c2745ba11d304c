"""Section F of `gpu.py`: images per second through the real data path, from memory, and of timm's own loop."""

from __future__ import annotations

import os
import statistics
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import timm
import timm.data
import timm.optim
import torch
from torch import Tensor, nn

from benchmarks.gpu_ground import Ground, Wrong, classifier
from trainables import loop
from trainables.config.trial import TrialConfig
from trainables.data.loader import TrialData, batches
from trainables.data.on_device.where import loader_transform
from trainables.inference import autocast
from trainables.loop import fit
from trainables.targets import classes_and_labels

BACKBONES = ("resnet50", "convnext_tiny", "vit_small_patch16_224")
OVER_TIMM = 1.3
OF_MEMORY = 0.9
EPOCHS = 4  # the first is not counted: processes start in it, and cuDNN chooses its algorithms
JUDGED = 32  # validation images: the training is timed


def throughput(ground: Ground, left_s: float) -> dict[str, object]:
    """Compare three ways of feeding the same training, one after the other, for each backbone."""
    ends = time.monotonic() + left_s
    found: dict[str, object] = {}
    wrong = []
    ratios = []
    for backbone in ("test_resnet",) if ground.fake else BACKBONES:
        if time.monotonic() > ends:
            wrong.append(f"no time was left for {backbone}")
            break
        config = classifier(
            backbone, image_size=ground.size(224, 32), batch_size=ground.size(128, 16), epochs=ground.size(EPOCHS, 2),
            precision="fp32" if ground.fake else "bf16", repeat=2,
            augment_on="device",  # as `auto` does it on a GPU
        )  # fmt: skip
        data = few_judged(ground.data(config, ground.photos()))
        with Busy(ground) as busy:
            ours, waited = speed(config, data, ground, None)
        memory, _ = speed(config, data, ground, list(prepared(config, data, ground)))
        theirs = timm_speed(config, ground)
        ratios.append(f"{backbone} {ours:.0f} images/s, {ours / theirs:.2f} of timm, {ours / memory:.2f} of memory")
        found[backbone] = {
            "images/s": ours, "from memory": memory, "timm": theirs,
            "waited for batches": waited, "GPU busy": busy.share,
        }  # fmt: skip
        if not ground.fake and ours < OVER_TIMM * theirs:
            wrong.append(f"{backbone}: {ours:.0f} images/s are {ours / theirs:.2f} of timm's, not {OVER_TIMM}")
        if not ground.fake and ours < OF_MEMORY * memory:
            wrong.append(
                f"{backbone}: {ours:.0f} images/s are {ours / memory:.2f} of those from memory, not {OF_MEMORY}"
            )
    if wrong:
        raise Wrong("; ".join(wrong), found)
    return {"said": "; ".join(ratios), **found}


def few_judged(data: TrialData) -> TrialData:
    split = data.dataset.split.copy()
    split[data.dataset.indices("val")[JUDGED:]] = "unused"
    return TrialData(replace(data.dataset, split=split), data.images)


def prepared(config: TrialConfig, data: TrialData, ground: Ground) -> Iterator[tuple[Any, Tensor]]:
    """Yield an epoch's batches as the loader makes them for the device, in pinned memory for a GPU."""
    _, labels, _ = classes_and_labels(config, data)
    transform = loader_transform(config, ground.device)
    for images, targets in batches(data, "train", labels, transform, config.batch_size, seed=0, repeat=config.repeat):
        yield (images, targets) if ground.fake else (images.pin_memory(), targets.pin_memory())


def speed(
    config: TrialConfig, data: TrialData, ground: Ground, given: list[tuple[Any, Tensor]] | None
) -> tuple[float, float]:
    """Return images per second of `fit`, and the share of the time that it waited for batches.

    given  batches in place of the loader's, None loads them
    """
    real = loop.batches

    def from_memory(data: TrialData, split: str, *rest: Any, **options: Any) -> Iterator[tuple[Tensor, Tensor]]:
        return iter(given) if split == "train" and given is not None else real(data, split, *rest, **options)

    with patch.object(loop, "batches", from_memory):
        epochs = list(fit(config, data, ground.device, num_workers=ground.num_workers))[1:]
    if not ground.fake:
        torch.cuda.empty_cache()
    waited = sum(epoch.waited_s for epoch in epochs) / sum(epoch.seconds for epoch in epochs)
    return statistics.median(epoch.images_per_s for epoch in epochs), waited


def timm_speed(config: TrialConfig, ground: Ground) -> float:
    """Return images per second of timm's own loader and loop, with the same augmentations, precision and processes.

    The steps are those of timm's train.py without what slows it down: no logging, no averaged weights.
    """
    dataset = timm.data.ImageDataset(str(ground.photos()))
    dataset.reader.samples = dataset.reader.samples * config.repeat
    channels_last = {"memory_format": torch.channels_last}
    model = timm.create_model(config.model.backbone, num_classes=len(dataset.reader.class_to_idx), pretrained=False)
    model = model.to(ground.device, **channels_last)
    about = timm.data.resolve_data_config({}, model=model)
    loader = timm.data.create_loader(
        dataset, input_size=(3, config.image_size, config.image_size), batch_size=config.batch_size, is_training=True,
        hflip=0.5, color_jitter=0.0, interpolation="bilinear", mean=about["mean"], std=about["std"],
        num_workers=ground.num_workers, use_prefetcher=not ground.fake, pin_memory=not ground.fake,
        persistent_workers=ground.num_workers > 0, device=ground.device,
    )  # fmt: skip
    optimizer = timm.optim.create_optimizer_v2(model, opt="momentum", lr=0.01, weight_decay=1e-4)
    loss_of = nn.CrossEntropyLoss().to(ground.device)
    model.train()
    speeds = []
    for _ in range(config.epochs):
        began = time.perf_counter()
        seen = 0
        for images, targets in loader:
            images = images.to(ground.device, **channels_last)
            with autocast(config, ground.device):
                loss = loss_of(model(images), targets.to(ground.device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            seen += len(images)
        if not ground.fake:
            torch.cuda.synchronize()
        speeds.append(seen / (time.perf_counter() - began))
    del model, optimizer, loader
    if not ground.fake:
        torch.cuda.empty_cache()
    return statistics.median(speeds[1:])


class Busy:
    """The share of the time within the body in which the GPU computed, as nvidia-smi samples it. None if it cannot."""

    share: float | None = None

    def __init__(self, ground: Ground) -> None:
        self.ground = ground

    def __enter__(self) -> Busy:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").partition(",")[0]
        command = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "-lms", "100"]
        try:
            if self.ground.fake:
                raise FileNotFoundError
            self._process: subprocess.Popen[str] | None = subprocess.Popen(
                [*command, "-i", visible or "0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
            )
        except OSError:
            self._process = None
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is None:
            return
        self._process.terminate()
        said, _ = self._process.communicate()
        values = [int(line) for line in said.split() if line.isdigit()]
        if values:
            self.share = statistics.mean(values) / 100
