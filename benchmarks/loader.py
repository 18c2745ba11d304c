"""Training throughput through the real data path, against the same loop fed from memory.

    python -m benchmarks.loader --data FOLDER [--image-size 96] [--epochs 3] [--alone]

One training of tf_efficientnet_lite0 (all layers, from scratch, one core, the reports' augmentations) is fed in three
ways: with prepared batches, from the decoded cache, and without a cache. They take turns within one run, epoch by
epoch, and the ratio of the medians is printed. Target for the cache: at least 0.9.

`--alone` trains nothing. It measures how many images a loader of one core makes: with `augment_on` cpu, with device (it
crops and draws, and a GPU does the rest), and with the crop alone. They take turns, pass by pass.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import torch
from torch import Tensor

from trainables import loop
from trainables.config.augment import RandAugment
from trainables.config.io import parse_config
from trainables.config.trial import TrialConfig
from trainables.data.augment import train_transform
from trainables.data.formats import load_dataset, reopen_images
from trainables.data.loader import TrialData, batches
from trainables.data.on_device.where import loader_transform
from trainables.targets import classes_and_labels
from trainables.worker.threads import limit_threads

MAX_IMAGES = 512


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True)
    parser.add_argument("--image-size", type=int, default=96)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--alone", action="store_true")
    arguments = parser.parse_args()
    limit_threads(1)
    config = configuration(arguments.image_size, arguments.epochs)
    short_side_px = round(config.image_size / config.eval_crop)
    with tempfile.TemporaryDirectory() as folder:
        dataset, cached = load_dataset(arguments.data, short_side_px=short_side_px, cache_dir=Path(folder))
        rows = dataset.indices("train")
        dataset.split[rows[MAX_IMAGES:]] = "unused"
        dataset.split[dataset.indices("val")[32:]] = "unused"  # the training is timed, not the evaluation
        config = config.model_copy(update={"task": dataset.task, "loss": default_loss(dataset.task)})
        if arguments.alone:
            tell_alone(config, TrialData(dataset, cached), arguments.epochs)
            return
        decoded = reopen_images(dataset, short_side_px, None)
        speeds: dict[str, list[float]] = {"from memory": [], "through the cache": [], "without the cache": []}
        prepared = list(train_batches(config, TrialData(dataset, cached)))
        runs = {
            "from memory": fed(config, TrialData(dataset, cached), prepared),
            "through the cache": fed(config, TrialData(dataset, cached), None),
            "without the cache": fed(config, TrialData(dataset, decoded), None),
        }
        for _ in range(arguments.epochs):
            for name, epochs in runs.items():
                speeds[name].append(next(epochs))

    base = statistics.median(speeds["from memory"])
    print(f"{min(MAX_IMAGES, len(rows))} images, {config.image_size} px, batch {config.batch_size}, one core")
    for name, values in speeds.items():
        print(f"{name:18}  {statistics.median(values):7.1f} images/s   ratio {statistics.median(values) / base:.3f}")
    print("target for the cache: at least 0.9")


def configuration(image_size: int, epochs: int) -> TrialConfig:
    augment = {
        name: {} for name in ("rotate", "random_resized_crop", "horizontal_flip", "tone", "blur", "coarse_dropout")
    }
    return parse_config(
        {
            "task": "binary",
            "model": {"backbone": "tf_efficientnet_lite0", "weights": "none"},
            "optimizer": {"name": "sgd", "lr": 0.01},
            "augment": augment,
            "epochs": epochs,
            "batch_size": 32,
            "image_size": image_size,
        }
    )


def tell_alone(config: TrialConfig, data: TrialData, passes: int) -> None:
    """Print the images per second of core time of each kind of loader, for three pipelines."""
    augment = config.augment
    crop = type(augment)(random_resized_crop=augment.random_resized_crop)
    pipelines = {
        "the reports'": augment,
        "the reports' without rotate": augment.model_copy(update={"rotate": None}),
        "crop and RandAugment": crop.model_copy(update={"policy": RandAugment()}),
    }
    for name, some in pipelines.items():
        kinds = {
            "augmented by the loader": config.model_copy(update={"augment": some, "augment_on": "cpu"}),
            "left to the device": config.model_copy(update={"augment": some, "augment_on": "device"}),
            "crop alone": config.model_copy(update={"augment": crop, "augment_on": "cpu"}),
        }
        speeds: dict[str, list[float]] = {kind: [] for kind in kinds}
        for number in range(passes + 1):
            for kind, asked in kinds.items():
                speed = images_per_core_s(asked, data, number)
                if number:  # the first pass reads the cache from the disk
                    speeds[kind].append(speed)
        base = statistics.median(speeds["augmented by the loader"])
        print(f"{config.image_size} px, one core, augmentations: {name}")
        for kind, values in speeds.items():
            print(
                f"{kind:24}  {statistics.median(values):7.1f} images/s   ratio {statistics.median(values) / base:.2f}"
            )


def images_per_core_s(config: TrialConfig, data: TrialData, seed: int) -> float:
    """Return the images per second of processor time that this process's loader makes in a pass."""
    _, labels, _ = classes_and_labels(config, data)
    transform = loader_transform(config, torch.device("cpu"))
    began = time.process_time()
    made = batches(data, "train", labels, transform, config.batch_size, seed=seed)
    return sum(len(images) for images, _ in made) / (time.process_time() - began)


def default_loss(task: str) -> object:
    base = {"task": task, "model": {"backbone": "resnet18"}, "optimizer": {"name": "sgd", "lr": 1.0}, "epochs": 1}
    return parse_config({**base, "batch_size": 1}).loss


def train_batches(config: TrialConfig, data: TrialData) -> Iterator[tuple[Tensor, Tensor]]:
    _, labels, _ = classes_and_labels(config, data)
    return batches(data, "train", labels, train_transform(config), config.batch_size, seed=0)


def fed(config: TrialConfig, data: TrialData, prepared: list[tuple[Tensor, Tensor]] | None) -> Iterator[float]:
    """Yield the images per second of each epoch of the real loop. `prepared` batches replace the loader's."""
    real = loop.batches

    def from_memory(data: TrialData, split: str, *rest: object, **options: object) -> Iterator[tuple[Tensor, Tensor]]:
        if split == "train" and prepared is not None:
            return iter(prepared)
        return real(data, split, *rest, **options)  # type: ignore[arg-type]

    epochs = loop.fit(config, data, torch.device("cpu"))
    for _ in itertools.count():
        with patch.object(loop, "batches", from_memory):
            started = time.perf_counter()
            try:
                result = next(epochs)
            except StopIteration:
                return
        assert time.perf_counter() - started >= result.seconds * 0.99
        yield result.images_per_s


if __name__ == "__main__":
    main()
