"""Masks as runs of pixels, in the ways of COCO, CVAT and Label Studio. Both directions where we write one too.

Sources: the COCO API's maskApi.c for its text of counts; CVAT's format "CVAT for images 1.1"; thi.ng's rle-pack, which
Label Studio stores brush strokes with. Written from their descriptions.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from visionsweep.core.errors import DataError

Bits = npt.NDArray[np.bool_]


def bits_of_counts(counts: Sequence[int], height: int, width: int, *, by_column: bool) -> Bits:
    """Return (H, W) for run lengths that alternate between outside and inside, beginning outside.

    by_column: as COCO counts, else row by row as CVAT. Raises DataError if they do not fill the mask.
    """
    wrong = next((count for count in counts if not 0 <= count <= height * width), None)
    if wrong is not None:
        raise DataError(f"its RLE has a run of {wrong} pixels, and {width} x {height} are {height * width:,}")
    lengths = np.asarray(counts, np.int64)
    if lengths.sum() != height * width:
        raise DataError(f"its RLE has {lengths.sum():,} pixels, and {width} x {height} are {height * width:,}")
    flat = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)
    return flat.reshape(width, height).T if by_column else flat.reshape(height, width)


def counts_of_bits(bits: Bits, *, by_column: bool) -> list[int]:
    """Return the run lengths of a mask (H, W): the inverse of `bits_of_counts`."""
    flat = bits.ravel(order="F" if by_column else "C")
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    lengths = np.diff(np.concatenate([[0], changes, [flat.size]])).tolist()
    return [0, *lengths] if flat.size and flat[0] else lengths


def counts_of_text(text: str) -> list[int]:
    """Return the run lengths of COCO's compressed text. Raises DataError if it is damaged.

    Each number is in groups of five bits, the lowest first, each as a character from '0' on. Bit 6 says that more
    follow, and the last group's highest bit is the sign. From the fourth number on, each is the difference to the one
    before the last.
    """
    counts: list[int] = []
    number = 0
    shift = 0
    for character in text:
        group = ord(character) - 48
        if not 0 <= group < 64:
            raise DataError(f"its RLE holds {character!r}, which is no part of one")
        number |= (group & 31) << shift
        shift += 5
        if group & 32:
            if shift > 60:
                raise DataError("its RLE holds a number that never ends")
            continue
        if group & 16:
            number -= 1 << shift
        counts.append(number + counts[-2] if len(counts) > 2 else number)
        number = 0
        shift = 0
    if shift:
        raise DataError("its RLE ends within a number")
    return counts


def bits_of_brush(packed: Sequence[int], height: int, width: int) -> Bits:
    """Return (H, W) for a brush stroke of Label Studio: the opaque pixels of an RGBA picture, packed as bytes.

    Raises DataError if it is damaged or of another size.
    """
    try:
        stream = _Bits(np.asarray(packed, np.int64).astype(np.uint8))
        num_values = stream.take(32)
        if num_values != 4 * height * width:
            raise DataError(f"its RLE has {num_values // 4:,} pixels, and {width} x {height} are {height * width:,}")
        word = stream.take(5) + 1
        sizes = [stream.take(4) + 1 for _ in range(4)]
        values = np.zeros(num_values, np.uint8)
        place = 0
        while place < num_values:
            is_run = stream.take(1)
            end = place + 1 + stream.take(sizes[stream.take(2)])
            if end > num_values:
                raise DataError("its RLE has more pixels than it says")
            if is_run:
                values[place:end] = min(stream.take(word), 255)
            else:
                values[place:end] = [min(stream.take(word), 255) for _ in range(end - place)]
            place = end
    except (ValueError, TypeError, OverflowError) as error:
        raise DataError(f"its RLE is damaged ({error})") from None
    return values.reshape(height, width, 4)[:, :, 3] > 0


class _Bits:
    """Takes numbers of any number of bits out of bytes, the highest bit first."""

    def __init__(self, content: npt.NDArray[np.uint8]) -> None:
        self._text = "".join(map(str, np.unpackbits(content).tolist()))
        self._place = 0

    def take(self, count: int) -> int:
        end = self._place + count
        if end > len(self._text):
            raise ValueError("it ends too early")
        number = int(self._text[self._place : end], 2)
        self._place = end
        return number
