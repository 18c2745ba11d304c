"""The pixels of a data set, as training and evaluation access them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np
import numpy.typing as npt

from trainables.data.cache_build import Source
from trainables.data.cache_stack import Stack
from trainables.data.view import View
from visionsweep.core.errors import DataError

NO_MASKS = "this data set has no masks"


class Images(Protocol):
    """The pixels of a data set. `bad` maps an index without pixels to the reason."""

    @property
    def bad(self) -> Mapping[int, str]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> npt.NDArray[np.uint8]:
        """Return the image, (H, W, 3) uint8 RGB, a copy that may be changed. Raises DataError for a bad one."""

    def mask(self, index: int) -> npt.NDArray[np.uint8]:
        """Return the mask, (H, W) uint8 class indices and VOID, at its own size, a copy that may be changed.

        Raises DataError for a bad one, and RuntimeError if the data set has no masks.
        """

    def at(self, view: View, indices: npt.NDArray[np.int64]) -> Images:
        """Return the images of `indices` as `view` shrinks the originals. The masks stay the same."""


class DecodedImages:
    """Images decoded at each access, where there is no room for a cache. They are shrunk as a cache's are."""

    def __init__(
        self,
        source: Source,
        view: View,
        bad: Mapping[int, str],
        pixel_counts: npt.NDArray[np.int64] | None = None,
    ) -> None:
        self._source = source
        self._view = view
        self.bad = bad
        self.pixel_counts = pixel_counts

    def __len__(self) -> int:
        return len(self._source.names)

    def __getitem__(self, index: int) -> npt.NDArray[np.uint8]:
        self._check(index)
        return self._view.shrink(self._source.reader(index)).copy()

    def mask(self, index: int) -> npt.NDArray[np.uint8]:
        if self._source.mask_reader is None:
            raise RuntimeError(NO_MASKS)
        self._check(index)
        return self._source.mask_reader(index).copy()

    def at(self, view: View, indices: npt.NDArray[np.int64]) -> Images:
        return DecodedImages(self._source, view, self.bad, self.pixel_counts)

    def _check(self, index: int) -> None:
        if index in self.bad:
            raise DataError(self.bad[index])
        if not 0 <= index < len(self):
            raise IndexError(index)


class JudgedImages:
    """Some of a data set's images at another size, with the masks of all."""

    def __init__(self, images: Images, indices: npt.NDArray[np.int64], some: Stack) -> None:
        self._all = images
        self._some = some
        self.bad = images.bad
        self._row = {int(index): row for row, index in enumerate(indices)}

    def __len__(self) -> int:
        return len(self._all)

    def __getitem__(self, index: int) -> npt.NDArray[np.uint8]:
        return self._some[self._row[index]]

    def mask(self, index: int) -> npt.NDArray[np.uint8]:
        return self._all.mask(index)

    def at(self, view: View, indices: npt.NDArray[np.int64]) -> Images:
        return self._all.at(view, indices)
