"""Images as Python names them: files, folders, patterns, addresses, arrays, PIL images, or several of these."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from analysis.models.predict import Given, expand
from trainables.data.reading import to_rgb
from trainables.data.remote import bring_images
from trainables.data.view import Pixels
from visionsweep.core.errors import DataError
from visionsweep.core.files import short
from visionsweep.core.s3 import is_remote

TAKEN = "files, folders, patterns, arrays (H, W, 3) of uint8, PIL images, or a list of these"


def given_images(images: Any, note: Callable[[str], None]) -> tuple[list[Given], list[str | None]]:
    """Return the images in their order, and the path or address of each, None for one that is no file.

    note: called with what folders and patterns leave out. Raises DataError for what is no image.
    """
    given: list[Given] = []
    paths: list[str | None] = []
    for one in _one_by_one(images):
        if isinstance(one, (str, os.PathLike)):
            for path, shown in _files(os.fspath(one), note):
                given.append((path, None))
                paths.append(shown)
        else:
            given.append((Path(f"image-{len(given)}"), _pixels(one)))
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


def _pixels(image: Any) -> Pixels:
    """Return (H, W, 3) uint8, of a PIL image as a file of it would be read."""
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
