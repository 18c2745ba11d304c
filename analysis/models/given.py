"""Images as Python names them: files, folders, patterns, addresses, arrays, PIL images, or several of these."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from analysis.models.predict import Given, expand
from trainables.config.bands import Bands
from trainables.data.reading import to_rgb
from trainables.data.remote import bring_images
from trainables.data.view import Pixels
from visionsweep.core.errors import DataError
from visionsweep.core.files import short
from visionsweep.core.s3 import is_remote

TAKEN = "files, folders, patterns, arrays (H, W, 3) of uint8, PIL images, or a list of these"


def given_images(
    images: Any, note: Callable[[str], None], bands: Bands | None = None
) -> tuple[list[Given], list[str | None]]:
    """Return the images in their order, and the path or address of each, None for one that is no file.

    note: called with what folders and patterns leave out. bands: of the model, None for RGB of 8 bits. Raises
    DataError for what is no image.
    """
    given: list[Given] = []
    paths: list[str | None] = []
    for one in _one_by_one(images):
        if isinstance(one, (str, os.PathLike)):
            for path, shown in _files(os.fspath(one), note):
                given.append((path, None))
                paths.append(shown)
        else:
            given.append((Path(f"image-{len(given)}"), _pixels(one, bands)))
            paths.append(None)
    return given, paths


def _one_by_one(images: Any) -> Iterator[Any]:
    if isinstance(images, (str, os.PathLike, Image.Image)):
        yield images
    elif isinstance(images, np.ndarray):
        yield from images if images.ndim == 4 else [images]
    elif isinstance(images, Iterable) and not isinstance(images, (Mapping, bytes)):
        yield from images
    else:
        raise DataError(f"images are {TAKEN}, got {short(images)}. Name one of them.")


def _files(named: str, note: Callable[[str], None]) -> Iterator[tuple[Path, str]]:
    if not is_remote(named):
        yield from ((path, str(path)) for path in expand([Path(named)], note))
        return
    copy = bring_images(named)
    for path in expand([copy.path], note):
        yield path, str(path).replace(str(copy.folder), copy.uri)


def _pixels(image: Any, bands: Bands | None) -> Pixels:
    """Return (H, W, 3) uint8, of a PIL image as a file of it would be read, or (H, W, C) of `bands`."""
    if bands is not None:
        return _of_bands(image, bands)
    if isinstance(image, Image.Image):
        return to_rgb(ImageOps.exif_transpose(image))
    if not isinstance(image, np.ndarray):
        raise DataError(f"images are {TAKEN}, got {type(image).__name__}. Convert it.")
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise DataError(
            f"an array is one image (H, W, 3) of uint8, RGB from 0 to 255, got {image.shape} of {image.dtype}. "
            "Convert it."
        )
    pixels: Pixels = np.ascontiguousarray(image)
    return pixels


def _of_bands(image: Any, bands: Bands) -> Pixels:
    pixels = np.asarray(image)
    pixels = pixels[:, :, None] if pixels.ndim == 2 else pixels
    if pixels.dtype != bands.dtype or pixels.ndim != 3 or pixels.shape[2] != bands.channels or not pixels.size:
        raise DataError(
            f"an array is one image (H, W, {bands.channels}) of {bands.dtype}, as the model was trained on, got "
            f"{pixels.shape} of {pixels.dtype}. Convert it."
        )
    return np.ascontiguousarray(pixels)
