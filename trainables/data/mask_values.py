"""Count how often the masks of a data set hold each value."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from trainables.data.dataset import VOID
from trainables.data.masks import check_bytes, palette_of, raw_mask, without_color
from visionsweep.core.cores import num_cores
from visionsweep.core.errors import DataError
from visionsweep.core.words import counted

MANY = 32  # more values than that look like smoothed edges
# so many between 0 and 255, on fewer of the pixels, do too
EDGE_VALUES = 4
MOST_SMOOTHED = 0.25
SHOWN = 8
CHUNK = 64  # masks counted ahead
BLOCK = 1 << 20  # pixels counted at a time: bincount makes eight bytes of each

Counted = tuple[npt.NDArray[np.int64], Sequence[tuple[int, ...]]]  # pixels of each value, colours of the palette


@dataclass(eq=False)
class MaskValues:
    """Statistics of the values in all masks.

    pixels, masks  (256,) int64: pixels of each value, and masks that have any
    bits           (2,) int64: pixels of 0 and of 1 in 1-bit masks, until `settle_bits`
    num_masks      masks that could be read
    num_one_bit    1-bit masks with a set pixel
    with_numbers   masks that hold 255 and a value from 1 to 254
    with_zero      masks that hold 0 and 255, and nothing else
    prefix_ends    the highest values of masks whose values run from 0 without a gap. None after one that does not
    first_with     the first mask that has a value
    colors         what palette images show for a value
    recoloured     a value that has several colours
    """

    pixels: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(256, np.int64))
    masks: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(256, np.int64))
    bits: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(2, np.int64))
    num_masks: int = 0
    num_one_bit: int = 0
    with_numbers: int = 0
    with_zero: int = 0
    prefix_ends: set[int] | None = field(default_factory=set)
    first_with: dict[int, str] = field(default_factory=dict)
    colors: dict[int, tuple[int, ...]] = field(default_factory=dict)
    recoloured: int | None = None

    def add(self, name: str, counts: npt.NDArray[np.int64], palette: Sequence[tuple[int, ...]]) -> None:
        """Add one mask: the pixels of each value, (256,), or (2,) for a 1-bit mask, and its palette's colours."""
        self.num_masks += 1
        for value, color in enumerate(palette):
            if value < len(counts) and counts[value] and self.colors.setdefault(value, color) != color:
                self.recoloured = value
        if len(counts) == 2:
            self.bits += counts
            self.num_one_bit += bool(counts[1])
            return
        self.pixels += counts
        self.masks += counts > 0
        for value in np.flatnonzero(counts).tolist():
            self.first_with.setdefault(value, name)
        numbers = np.flatnonzero(counts[:VOID])
        if counts[VOID]:
            self.with_numbers += bool(len(numbers) and numbers[-1] > 0)
            self.with_zero += numbers.tolist() == [0]
        if len(numbers) and numbers[-1] >= len(numbers):
            self.prefix_ends = None
        elif len(numbers) and self.prefix_ends is not None:
            self.prefix_ends.add(int(numbers[-1]))

    def settle_bits(self, spec: str) -> None:
        """Count the set pixels of 1-bit masks as 1 if the other masks hold 1, else as 255.

        Raises DataError unless the others hold, beside 0, one of these values only.
        """
        if self.num_one_bit and not (set(self.held) <= {0, VOID} or set(self.held) <= {0, 1}):
            raise DataError(
                f"{spec}: {self.num_one_bit} of {counted(self.num_masks, 'mask')} are 1-bit, and the others hold the "
                f"values {listed(self.held)}. Save all masks with 8 bits."
            )
        value = 1 if 1 in self.held else VOID
        self.pixels[[0, value]] += self.bits
        self.masks[[0, value]] += self.num_one_bit
        self.bits[:] = 0

    @property
    def held(self) -> list[int]:
        """All values, ascending."""
        return [int(value) for value in np.flatnonzero(self.pixels)]

    @property
    def numbers(self) -> list[int]:
        return [value for value in self.held if value != VOID]

    @property
    def is_binary(self) -> bool:
        """Whether the masks hold no other values than 0 and 255."""
        return set(self.held) <= {0, VOID}

    @property
    def look_smoothed(self) -> bool:
        """Many values, or several between 0 and 255 on few pixels."""
        between = len(self.held) - 2
        few = self.pixels[1:VOID].sum() < MOST_SMOOTHED * self.pixels.sum()
        edges = bool(self.pixels[0]) and bool(self.pixels[VOID]) and between >= EDGE_VALUES and bool(few)
        return not self.has_no_gap and (edges or len(self.held) > MANY)

    @property
    def has_no_gap(self) -> bool:
        return self.numbers == list(range(len(self.numbers)))

    def counted(self) -> str:
        """Return '0 (61.3% of the pixels, 6 of 6 masks), 85 (...)' for all values, or the commonest of many."""
        shown = self.held
        if len(shown) > SHOWN:
            shown = sorted(sorted(shown, key=lambda value: -self.pixels[value])[:SHOWN])
        parts = [
            f"{value} ({share(self.pixels[value], self.pixels.sum())} of the pixels, "
            f"{self.masks[value]} of {counted(self.num_masks, 'mask')}"
            + (f", '{self.first_with[value]}')" if self.masks[value] == 1 and value in self.first_with else ")")
            for value in shown
        ]
        rest = len(self.held) - len(shown)
        return ", ".join(parts) + (f" and {rest} more" if rest else "")


def share(part: float, whole: float) -> str:
    """Return '4.2%', with more digits for a very small share."""
    percent = 100 * part / max(whole, 1)
    return (
        f"{percent:.1f}%" if percent >= 0.1 or not part else f"{percent:.1g}%" if percent >= 1e-4 else "under 0.0001%"
    )


def count_values(
    spec: str, root: Path, names: Sequence[str], enough: Callable[[MaskValues], bool] = lambda _: False
) -> MaskValues:
    """Return the values of all masks, or of as many as are `enough`.

    Unreadable masks are skipped: decoding reports them. Raises DataError if none can be read.
    """
    values = MaskValues()
    first_error: DataError | None = None
    for name, got in zip(names, _each(root, names), strict=False):
        if isinstance(got, DataError):
            first_error = first_error or got
            continue
        values.add(name, *got)
        if enough(values):
            return values
    if not values.num_masks and first_error is not None:
        raise DataError(
            f"{spec}: {first_error}. Save masks as 8-bit images of class numbers, or name their colours in palette.txt."
        )
    return values


def listed(held: Sequence[int]) -> str:
    """Return '0, 85, 170'. Long lists are cut, with the number of values that are left out."""
    return ", ".join(map(str, held[:SHOWN])) + (f" and {len(held) - SHOWN} more" if len(held) > SHOWN else "")


def _each(root: Path, names: Sequence[str]) -> Iterator[Counted | DataError]:
    def count(name: str) -> Counted | DataError:
        try:
            raw = without_color(raw_mask(root / name, name, as_colors=False), name)  # (H, W)
            if raw.dtype != bool:
                check_bytes(raw, name)
        except DataError as error:
            return error
        if raw.dtype == bool:
            ones = int(np.count_nonzero(raw))
            return np.array([raw.size - ones, ones]), ()
        counts = np.zeros(256, np.int64)
        flat = raw.ravel()
        for start in range(0, len(flat), BLOCK):
            counts += np.bincount(flat[start : start + BLOCK], minlength=256)
        return counts, palette_of(root / name)

    with ThreadPoolExecutor(num_cores()) as pool:
        for start in range(0, len(names), CHUNK):
            yield from pool.map(count, names[start : start + CHUNK])
