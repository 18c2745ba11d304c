"""Images of a data set that is too large to decode before a search begins. Each is decoded when it is read.

Images that are read again and again, such as those that every trial is judged by, are cached.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from trainables.data.cache import Place, finished_images, folder_of_part, keep_part
from trainables.data.cache_build import Source
from trainables.data.cache_stack import Stack
from trainables.data.images import NO_MASKS, DecodedImages, Images, JudgedImages
from trainables.data.view import View
from visionsweep.core.cores import num_cores
from visionsweep.core.errors import DataError

SAMPLE = 16  # images that are decoded to guess the time of all
FEWEST = 1000  # images: a smaller set is always decoded at once

log = logging.getLogger(__name__)

OnBad: TypeAlias = Literal["error", "skip"]


class OnDemandImages:
    """Images that are decoded at each access.

    place: where parts are cached, None for nowhere. on_bad: 'error' ends the trial that reads a bad image. 'skip' puts
    another image in its place (`loader.py`).
    """

    bad: Mapping[int, str] = {}  # not decoded yet
    pixel_counts = None

    def __init__(self, source: Source, view: View, place: Place | None, on_bad: OnBad) -> None:
        self.place = place
        self.view = view
        self.on_bad = on_bad
        self._source = source

    @property
    def skips(self) -> bool:
        return self.on_bad == "skip"

    def __len__(self) -> int:
        return len(self._source.names)

    def __getitem__(self, index: int) -> npt.NDArray[np.uint8]:
        return self.view.shrink(self._source.reader(index)).copy()

    def mask(self, index: int) -> npt.NDArray[np.uint8]:
        raise RuntimeError(NO_MASKS)

    def at(self, view: View, indices: npt.NDArray[np.int64]) -> Images:
        """Those of `indices` from the disk, once some process has put them there."""
        decoded = DecodedImages(self._source, view, {})
        if self.place is None or not len(indices):
            return decoded
        try:
            self.keep([view], indices)
            return JudgedImages(self, indices, Stack(folder_of_part(self.place, view, indices), channels=3))
        except DataError as error:
            log.warning("%s Here these images are decoded every time.", error)
            return decoded

    def keep(self, views: Sequence[View], indices: npt.NDArray[np.int64]) -> None:
        """Have the images of `indices` ready for `at`, in one pass of decoding. Raises DataError."""
        if self.place is not None:
            keep_part(self.place, self._source, views, indices)


def on_demand_images(
    source: Source, fingerprint: str, short_side_px: int, cache_dir: Path | None, on_bad_image: str
) -> OnDemandImages:
    """Return the images of `source`, none decoded yet, each with its shorter side at most `short_side_px`."""
    place = None if cache_dir is None else Place(cache_dir.absolute(), fingerprint)
    return OnDemandImages(source, View(short_side_px), place, "skip" if on_bad_image == "skip" else "error")


def is_left(
    source: Source,
    fingerprint: str,
    short_side_px: int,
    cache_dir: Path | None,
    *,
    always: bool,
    within_s: float | None,
) -> bool:
    """Whether images are left to be decoded on demand.

    always    whatever it would take
    within_s  where it would take longer to decode all of them, None: never. Few are decoded in any case, as are those
              with masks: which classes there are is known from all of them

    Those that an earlier search has decoded are not, unless `always`.
    """
    if source.mask_reader is not None or (within_s is None and not always):
        return False
    if always:
        return True
    if cache_dir is not None and finished_images(source, fingerprint, short_side_px, cache_dir) is not None:
        return False
    view = View(short_side_px)
    return len(source.names) >= FEWEST and seconds_to_decode(source, view) > (within_s or 0.0)


def seconds_to_decode(source: Source, view: View) -> float:
    """Estimate how long all processors of this machine need to decode `source`, from a few images spread over it."""
    count = len(source.names)
    workers = num_cores()
    chosen = sorted({*np.linspace(0, count - 1, SAMPLE, dtype=int).tolist()}) if count else []

    def decode(index: int) -> None:
        try:
            view.shrink(source.reader(index))
        except (DataError, OSError):  # reported when the image is needed
            return

    began = time.perf_counter()
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(decode, chosen))
    return (time.perf_counter() - began) / max(1, len(chosen)) * count
