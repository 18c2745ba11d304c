"""Predicted masks as files: class numbers, colours, and overlays on their images.

DIR/masks/NAME.png      one byte a pixel: the class's number, which is its line in classes.txt
DIR/colours/NAME.png    the same with a palette, for viewing
DIR/overlays/NAME.jpg   the colours over the image
DIR/palette.txt         R G B class
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from trainables.data.bands import shown
from visionsweep.core.errors import RunError

OPACITY = 0.5


def class_colours(num_classes: int) -> npt.NDArray[np.uint8]:
    """Return Pascal VOC's colours (num_classes, 3) uint8, black first.

    They spread the bits of a class's number over the three channels, from the highest bit down. Source: Everingham et
    al. 2010, development kit.
    """
    numbers = np.arange(num_classes)
    colours = np.zeros((num_classes, 3), np.uint8)
    for bit in range(8):
        for channel in range(3):
            colours[:, channel] |= (((numbers >> (3 * bit + channel)) & 1) << (7 - bit)).astype(np.uint8)
    return colours


class MaskWriter:
    """Writes the three files of each mask below `out`. Raises RunError where that fails."""

    def __init__(self, out: Path, classes: Sequence[str]) -> None:
        self.out = out
        self.colours = class_colours(len(classes))
        self.taken = set[str]()
        try:
            for folder in ("masks", "colours", "overlays"):
                (out / folder).mkdir(parents=True, exist_ok=True)
            lines = [
                f"{red} {green} {blue} {name}"
                for (red, green, blue), name in zip(self.colours.tolist(), classes, strict=True)
            ]
            text = "".join(f"{line}\n" for line in lines)
            (out / "palette.txt").write_text(text, encoding="utf-8", errors="surrogateescape")
        except OSError as error:
            raise self._unwritable(error) from None

    def write(self, path: Path, image: npt.NDArray[np.uint8], mask: npt.NDArray[np.uint8]) -> dict[str, str]:
        """Write the files of a mask and return their paths by kind. image (H, W, C), mask (H, W) of class numbers."""
        name = self._free_name(path.stem)
        coloured = Image.frombytes("P", (mask.shape[1], mask.shape[0]), mask.tobytes())
        coloured.putpalette(self.colours.tobytes())
        files = {
            "mask": self.out / "masks" / f"{name}.png",
            "colours": self.out / "colours" / f"{name}.png",
            "overlay": self.out / "overlays" / f"{name}.jpg",
        }
        overlay = Image.blend(Image.fromarray(shown(image)), coloured.convert("RGB"), OPACITY)
        try:
            Image.fromarray(mask).save(files["mask"])
            coloured.save(files["colours"])
            overlay.save(files["overlay"], quality=92)
        except OSError as error:
            raise self._unwritable(error) from None
        return {kind: str(file) for kind, file in files.items()}

    def _free_name(self, stem: str) -> str:
        """Return an unused name, so that images of one name from two folders do not overwrite each other's masks."""
        name = stem
        number = 2
        while name in self.taken:
            name = f"{stem}-{number}"
            number = number + 1
        self.taken.add(name)
        return name

    def _unwritable(self, error: OSError) -> RunError:
        return RunError(f"{self.out}: cannot be written ({error.strerror or error}). Choose another --out.")
