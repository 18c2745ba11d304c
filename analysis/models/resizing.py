"""The resize before a network in a user's own code without OpenCV, and how much predictions then differ."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from analysis.models.predictor import ExportedModel
from trainables.data.view import Pixels, View
from trainables.tasks import TASKS
from visionsweep.core.tasks import task_kind

# On probabilities, between averages by NumPy and by OpenCV, which differ by one level of 255 here and there.
BOUND = 1e-2
NUM_COMPARED = 20  # images: NumPy takes half a second for one of a camera
# HAMMING is Pillow's closest filter to area averaging: BOX and BILINEAR are two to four times as far.
HAMMING = Image.Resampling.HAMMING
BILINEAR = Image.Resampling.BILINEAR


@dataclass(frozen=True)
class Elsewhere:
    """How predictions differ if other libraries resize the images.

    num_images  how many were compared
    numpy       largest difference of a probability with NumPy's area averages
    pillow      largest difference of a probability with Pillow's HAMMING
    changed     share of decisions (of a segmenter, of pixels) that differ with Pillow's HAMMING
    """

    num_images: int
    numpy: float
    pillow: float
    changed: float


def compare(exported: ExportedModel, images: Iterable[Pixels]) -> tuple[list[Pixels], Elsewhere]:
    """Return the images as the network sees them, and how predictions differ elsewhere. images: (H, W, 3), decoded."""
    view = View.of(exported.config)
    seen = []
    of_numpy = [0.0]
    of_pillow = [0.0]
    changed = [0.0]
    for image in images:
        seen.append(view.apply(image))
        if len(seen) > NUM_COMPARED:
            continue
        ours, numpys, pillows = (
            _probabilities(exported, one) for one in (seen[-1], with_numpy(view, image), with_pillow(view, image))
        )
        of_numpy.append(float((ours - numpys).abs().max()))
        of_pillow.append(float((ours - pillows).abs().max()))
        changed.append(float((_decided(exported, ours) != _decided(exported, pillows)).float().mean()))
    num_images = min(len(seen), NUM_COMPARED)
    return seen, Elsewhere(num_images, max(of_numpy), max(of_pillow), sum(changed) / max(1, num_images))


def with_numpy(view: View, image: Pixels) -> Pixels:
    """Resize (H, W, 3) to (h, w, 3) as `view.apply` does, by the card's code without OpenCV."""
    height, width = _size(view, image)
    pixels = averages(image, (min(height, image.shape[0]), min(width, image.shape[1])))
    return _cut_out(view, np.asarray(Image.fromarray(pixels).resize((width, height), BILINEAR)))


def with_pillow(view: View, image: Pixels) -> Pixels:
    """Resize (H, W, 3) to the size that `view.apply` gives, by Pillow's own resize."""
    height, width = _size(view, image)
    how = HAMMING if height < image.shape[0] or width < image.shape[1] else BILINEAR
    return _cut_out(view, np.asarray(Image.fromarray(image).resize((width, height), how)))


def averages(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    """Shrink (H, W, 3) to (h, w, 3): each value is the average over the area that becomes one pixel.

    Neither side may be larger than before.
    """
    found = pixels.astype(np.float64)
    for axis, length in enumerate(size):
        edges = np.linspace(0, found.shape[axis], length + 1)[:, None]
        at = np.arange(found.shape[axis])
        share = np.clip(np.minimum(edges[1:], at + 1) - np.maximum(edges[:-1], at), 0, 1)  # (length, old length)
        share /= share.sum(axis=1, keepdims=True)
        found = np.moveaxis(np.tensordot(share, found, (1, axis)), 0, axis)
    return np.rint(found).astype(np.uint8)


def in_code(resize: Mapping[str, int]) -> list[str]:
    """Return Python code from a file to `images` (1, h, w, 3). resize: as in `preprocessing`."""
    side = resize.get("shorter_side")
    crop = resize.get("centre_crop")
    if side is None:
        sized = [f"width, height = {resize['width']}, {resize['height']}"]
    else:
        sized = [
            f"scale = {side} / min(image.size)",
            f"width, height = (max({side}, round(one * scale)) for one in image.size)",
        ]
    cut_out = [
        f"top, left = (height - {crop}) // 2, (width - {crop}) // 2",
        f"pixels = pixels[top : top + {crop}, left : left + {crop}]",
    ]
    return [
        'image = ImageOps.exif_transpose(Image.open("photo.jpg")).convert("RGB")',
        *sized,
        "small = min(width, image.width), min(height, image.height)",
        "pixels = cv2.resize(np.asarray(image), small, interpolation=cv2.INTER_AREA)",
        "pixels = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_LINEAR)",
        *([] if crop is None else cut_out),
        "images = np.ascontiguousarray(pixels)[None]",
    ]


def without_opencv() -> list[str]:
    """Return code that replaces the two lines of `in_code` with calls of OpenCV."""
    return [
        "pixels = np.asarray(image).astype(float)",
        "for axis, length in ((0, small[1]), (1, small[0])):",
        "    edges, at = np.linspace(0, pixels.shape[axis], length + 1)[:, None], np.arange(pixels.shape[axis])",
        "    share = np.clip(np.minimum(edges[1:], at + 1) - np.maximum(edges[:-1], at), 0, 1)",
        "    share /= share.sum(axis=1, keepdims=True)",
        "    pixels = np.moveaxis(np.tensordot(share, pixels, (1, axis)), 0, axis)",
        "image = Image.fromarray(np.rint(pixels).astype(np.uint8))",
        "pixels = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))",
    ]


def _size(view: View, image: Pixels) -> tuple[int, int]:
    """Return (height, width) before the crop."""
    if view.squash:
        return view.side, view.side
    scale = view.side / min(image.shape[:2])
    return max(view.side, round(image.shape[0] * scale)), max(view.side, round(image.shape[1] * scale))


def _cut_out(view: View, pixels: Pixels) -> Pixels:
    if view.crop is None:
        return np.array(pixels)
    top = (pixels.shape[0] - view.crop) // 2
    left = (pixels.shape[1] - view.crop) // 2
    return np.array(pixels[top : top + view.crop, left : left + view.crop])


def _probabilities(exported: ExportedModel, image: Pixels) -> Tensor:
    logits = exported.logits(torch.from_numpy(np.stack([image])))
    return TASKS[exported.config.task].probabilities(logits).cpu()


def _decided(exported: ExportedModel, probabilities: Tensor) -> Tensor:
    if task_kind(exported.config.task).thresholded:
        return probabilities > exported.config.threshold
    return probabilities.argmax(dim=1)
