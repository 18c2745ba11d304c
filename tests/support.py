"""What tests make for themselves: small folders of images, and what a command said."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str


def make_photos(folder: Path, counts: dict[str, int], size: tuple[int, int] = (40, 32)) -> Path:
    """DIR/class/NN.png; each class has its own dominant colour."""
    rng = np.random.default_rng(sum(str(folder.name).encode()))  # no two folders hold copies of one image
    for channel, (name, count) in enumerate(counts.items()):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            pixels = rng.integers(0, 120, (size[1], size[0], 3), dtype=np.uint8)
            pixels[..., channel % 3] += 120
            Image.fromarray(pixels).save(folder / name / f"{number:02d}.png")
    return folder
