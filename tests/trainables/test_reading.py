"""One image file in, one RGB array out, whatever a camera or a scanner wrote."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trainables.data.formats import read_image
from visionsweep.core.errors import DataError


def test_reading_an_image_applies_its_orientation(tmp_path: Path) -> None:
    image = Image.new("RGB", (30, 10), (0, 0, 255))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright
    image.save(tmp_path / "upright.jpg", exif=exif)
    assert read_image(tmp_path / "upright.jpg").shape == (30, 10, 3)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK"])
def test_images_of_every_mode_become_rgb(tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("x.tif" if mode == "CMYK" else "x.png")
    Image.new("RGB", (6, 4), (255, 255, 255)).convert(mode).save(path)
    image = read_image(path)
    assert (image.shape, image.dtype) == ((4, 6, 3), np.uint8)
    assert (image == 255).all()


def test_a_16_bit_image_keeps_its_shades(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 0x4000], [0x8000, 0xFFFF]], dtype=np.uint16)).save(tmp_path / "x.png")
    assert read_image(tmp_path / "x.png")[:, :, 0].tolist() == [[0, 64], [128, 255]]


def test_a_file_that_is_no_image_is_named_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "x.jpg").write_text("hello")
    with pytest.raises(DataError, match=r"image '.*x\.jpg' cannot be read: not an image"):
        read_image(tmp_path / "x.jpg")
    with pytest.raises(DataError, match="cannot be read: No such file or directory"):
        read_image(tmp_path / "y.jpg")
