"""Training throughput through the real data path, against the same loop fed from memory.

    python -m benchmarks.loader --data FOLDER [--image-size 96] [--epochs 3]

One training of tf_efficientnet_lite0 (all layers, from scratch, one core, the reports' augmentations) is fed in three
ways: with prepared batches, from the decoded cache, and without a cache. They take turns within one run, epoch by
epoch, and the ratio of the medians is printed. Target for the cache: at least 0.9.
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
from trainables.config.io import parse_config
from trainables.config.trial import TrialConfig
from trainables.data.augment import train_transform
from trainables.data.formats import load_dataset, reopen_images
from trainables.data.loader import TrialData, batches
from trainables.targets import classes_and_labels
from trainables.worker.threads import limit_threads

MAX_IMAGES = 512


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True)
    parser.add_argument("--image-size", type=int, default=96)
    parser.add_argument("--epochs", type=int, default=3)
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
