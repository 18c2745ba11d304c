"""Decode every image and mask once, into files that all trials of a machine map.

A cache is a few folders. Each holds arrays one after the other (`cache_stack.py`):

    <fingerprint>-<view>/             all images as trials train on them: (H, W, 3)
    <fingerprint>-masks/              for segmentation, (H, W), each mask of its own size: nothing is lost by resizing
                                      pixel_counts.npy (N, 256) int64: how many pixels of each mask have each value
    <fingerprint>-<view>-of-<hash>/   the images of one split as networks of another size are judged on them
    <fingerprint>-features/           what frozen backbones make of them (`trainables/features/feature_store.py`)

A folder is built under a temporary name and renamed when it is complete. So no folder of these names is half-written.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
from filelock import FileLock

from trainables.data.cache_build import Source, build, inspect
from trainables.data.cache_stack import NOT_WHOLE, Stack
from trainables.data.dataset import MaskReader, Reader
from trainables.data.images import NO_MASKS, DecodedImages, Images, JudgedImages
from trainables.data.view import View
from visionsweep.core.errors import DataError

__all__ = ["CachedImages", "DecodedImages", "Images", "default_cache_dir", "keep_views", "open_images"]

NEXT_MOVE = "Name another place with --cache-dir, or pass --no-cache."

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Place:
    """The location of one data set's cache."""

    cache_dir: Path
    fingerprint: str

    def folder(self, name: str) -> Path:
        return self.cache_dir / f"{self.fingerprint}-{name}"

    def lock(self) -> FileLock:
        """Return the lock to hold while building anything of this data set."""
        self.cache_dir.mkdir(parents=True, exist_ok=True)
        return FileLock(self.folder("cache.lock"))


class CachedImages:
    """Images of a finished cache. They pickle as their path, and each process maps the files itself.

    source: decodes what the cache does not hold yet. It is not pickled.
    """

    def __init__(self, place: Place, view: View, masked: bool, source: Source | None = None) -> None:
        self._place = place
        self._view = view
        self._source = source
        self._images = Stack(place.folder(view.key), channels=3)
        self._masks = Stack(place.folder("masks"), channels=1) if masked else None
        self.bad = self._images.bad
        self.pixel_counts: npt.NDArray[np.int64] | None = None
        if self._masks is not None:
            self.pixel_counts = np.load(place.folder("masks") / "pixel_counts.npy", mmap_mode="r")

    @property
    def place(self) -> Place:
        return self._place

    @property
    def view(self) -> View:
        return self._view

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> npt.NDArray[np.uint8]:
        return self._images[index]

    def mask(self, index: int) -> npt.NDArray[np.uint8]:
        if self._masks is None:
            raise RuntimeError(NO_MASKS)
        return self._masks[index][:, :, 0]

    def at(self, view: View, indices: npt.NDArray[np.int64]) -> Images:
        if view.key == self._view.key:
            return self
        try:
            self.keep([view], indices)
            return JudgedImages(self, indices, Stack(folder_of_part(self._place, view, indices), channels=3))
        except DataError as error:
            assert self._source is not None  # it was asked to build something
            log.warning("%s Here the images that are judged are decoded every time.", error)
            return DecodedImages(self._source, view, self.bad, self.pixel_counts)

    def keep(self, views: Sequence[View], indices: npt.NDArray[np.int64]) -> None:
        """Prepare the images of `indices` for `at`, in one pass of decoding for all `views`.

        Other images are not decoded: most are never judged, and in a space of ranges every trial has its own view.
        Raises DataError where the files cannot be written.
        """
        keep_part(self._place, self._source, [view for view in views if view.key != self._view.key], indices)

    def __reduce__(self) -> tuple[type[CachedImages], tuple[Place, View, bool]]:
        return CachedImages, (self._place, self._view, self._masks is not None)  # a memmap would pickle all its pixels


def keep_part(place: Place, source: Source | None, views: Sequence[View], indices: npt.NDArray[np.int64]) -> None:
    """Write some images of a data set to the disk as `views` shrink them. Raises DataError if that fails.

    source: of all its images, None for a process that has none.
    """
    folders = {view: folder_of_part(place, view, indices) for view in views}
    if not len(indices) or all(_is_whole(folder, 3) for folder in folders.values()):
        return
    if source is None:
        raise RuntimeError(f"what is not yet in {place.cache_dir} cannot be built from a copy of its path")
    chosen = tuple(int(index) for index in indices)
    part = Source([source.names[index] for index in chosen], _Part(source.reader, chosen))
    with _building(place):  # another process may have built some while this one waited
        missing = {view: folder for view, folder in folders.items() if not _is_whole(folder, 3)}
        if missing:
            build(part, missing)


def folder_of_part(place: Place, view: View, indices: npt.NDArray[np.int64]) -> Path:
    """Return the folder of `keep_part`'s images."""
    digest = hashlib.sha256(np.ascontiguousarray(indices, np.int64).tobytes()).hexdigest()[:16]
    return place.folder(f"{view.key}-of-{digest}")


@runtime_checkable
class Keeps(Protocol):
    """Images with a cache."""

    def keep(self, views: Sequence[View], indices: npt.NDArray[np.int64]) -> None: ...


def default_cache_dir() -> Path:
    """$VISIONSWEEP_CACHE_DIR, or ~/.cache/visionsweep."""
    named = os.environ.get("VISIONSWEEP_CACHE_DIR")
    return Path(named).expanduser() if named else Path.home() / ".cache" / "visionsweep"


def open_images(
    names: tuple[str, ...],
    reader: Reader,
    fingerprint: str,
    short_side_px: int,
    cache_dir: Path | None,
    mask_reader: MaskReader | None = None,
) -> CachedImages | DecodedImages:
    """Open the images behind `names`, each with its shorter side at most `short_side_px`.

    Smaller images keep their size. The cache is mapped, and built first if there is none. One process builds it while
    others wait. Without `cache_dir`, one pass decodes everything to find the unreadable ones, and each access decodes
    anew.

    Raises DataError where the cache cannot be written.
    """
    source = Source(names, reader, mask_reader)
    view = View(short_side_px)
    if cache_dir is None:
        return DecodedImages(source, view, *inspect(source))
    place = Place(cache_dir.absolute(), fingerprint)
    masked = mask_reader is not None
    finished = _finished(place, view, masked, source)  # before the lock: it may lie on a disk that is read-only
    if finished is not None:
        return finished
    with _building(place):
        finished = _finished(place, view, masked, source)  # another process may have built it while this one waited
        if finished is None:
            images = place.folder(view.key)
            masks = place.folder("masks")
            missing = {} if _is_whole(images, 3) else {view: images}
            build(source, missing, None if not masked or _is_whole(masks, 1) else masks)
    return finished or CachedImages(place, view, masked, source)


def finished_images(source: Source, fingerprint: str, short_side_px: int, cache_dir: Path) -> CachedImages | None:
    """Return the cache of labelled images, or None if it is not complete."""
    return _finished(Place(cache_dir.absolute(), fingerprint), View(short_side_px), False, source)


def keep_views(images: Images, views: Sequence[View], indices: npt.NDArray[np.int64]) -> None:
    """Have the images of `indices` ready as `views` show them, where there is a cache. Raises DataError."""
    if isinstance(images, Keeps):
        images.keep(views, indices)


@dataclass(frozen=True)
class _Part:
    """Reads some of the images that another reader reads."""

    reader: Reader
    indices: tuple[int, ...]

    def __call__(self, index: int) -> npt.NDArray[np.uint8]:
        return np.asarray(self.reader(self.indices[index]))


@contextlib.contextmanager
def _building(place: Place) -> Iterator[None]:
    """The lock, and one kind of error for all that may go wrong with the disk."""
    try:
        with place.lock():
            yield
    except (OSError, NotImplementedError) as error:  # NotImplementedError: a file system without locks
        raise DataError(f"the image cache '{place.cache_dir}' cannot be written: {error}. {NEXT_MOVE}") from error


def _finished(place: Place, view: View, masked: bool, source: Source) -> CachedImages | None:
    """The cache, or None where there is none, or one that was tampered with or is of another version."""
    try:
        return CachedImages(place, view, masked, source)
    except NOT_WHOLE:
        return None


def _is_whole(folder: Path, channels: int) -> bool:
    try:
        Stack(folder, channels)
        if channels == 1:
            np.load(folder / "pixel_counts.npy", mmap_mode="r")
    except NOT_WHOLE:
        return False
    return True
