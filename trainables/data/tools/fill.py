"""Fill polygons: a pixel belongs to a polygon if its centre lies inside, by the even-odd rule."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Ring = Sequence[float]  # x, y, x, y, ... in pixels, from the image's upper left corner
Bits = npt.NDArray[np.bool_]


def fill_rings(rings: Sequence[Ring], height: int, width: int) -> tuple[int, int, Bits]:
    """Return (top, left, the pixels of one annotation from there on).

    A ring inside another one is a hole, and a ring inside a hole is filled again. Rings that only overlap, or lie
    apart, are parts of one area.
    """
    filled = [_fill(np.asarray(ring, np.float64).reshape(-1, 2), height, width) for ring in rings]
    top = min(one[0] for one in filled)
    left = min(one[1] for one in filled)
    bottom = max(one[0] + one[2].shape[0] for one in filled)
    right = max(one[1] + one[2].shape[1] for one in filled)
    area = np.zeros((bottom - top, right - left), bool)
    # The largest first: a hole is then cut out of what surrounds it, wherever the file has it.
    for ring_top, ring_left, bits in sorted(filled, key=lambda one: -int(one[2].sum())):
        rows = slice(ring_top - top, ring_top - top + bits.shape[0])
        columns = slice(ring_left - left, ring_left - left + bits.shape[1])
        part = area[rows, columns]  # a view
        if bits.any() and part[bits].all():
            part &= ~bits
        else:
            part |= bits
    return top, left, area


def _fill(points: npt.NDArray[np.float64], height: int, width: int) -> tuple[int, int, Bits]:
    """Return (top, left, pixels) of one ring (n, 2). Each edge flips the pixels to its right, row by row."""
    top, bottom = _bounds(points[:, 1], height)
    left, right = _bounds(points[:, 0], width)
    flips = np.zeros((bottom - top, right - left + 1), np.uint8)
    start = points
    end = np.roll(points, -1, axis=0)
    # The rows whose centre an edge crosses: from the first one to before the last one.
    first = np.clip(np.ceil(np.minimum(start[:, 1], end[:, 1]) - 0.5), top, bottom).astype(np.int64)
    last = np.clip(np.ceil(np.maximum(start[:, 1], end[:, 1]) - 0.5), top, bottom).astype(np.int64)
    crossed = last - first
    edge = np.repeat(np.arange(len(points)), crossed)
    rows = np.arange(len(edge)) - np.repeat(np.cumsum(crossed) - crossed, crossed) + first[edge]
    # A crossed edge is never horizontal, so nothing is divided by zero.
    slope = (end[edge, 0] - start[edge, 0]) / (end[edge, 1] - start[edge, 1])
    crossing = start[edge, 0] + (rows + 0.5 - start[edge, 1]) * slope
    columns = np.clip(np.ceil(crossing - 0.5), left, right).astype(np.int64)
    np.add.at(flips, (rows - top, columns - left), np.uint8(1))
    bits = np.bitwise_xor.accumulate(flips & 1, axis=1)[:, :-1].astype(bool)
    return top, left, bits


def _bounds(values: npt.NDArray[np.float64], most: int) -> tuple[int, int]:
    """Return the first pixel whose centre is within the values, and the one after the last."""
    low, high = np.clip(np.ceil([values.min() - 0.5, values.max() - 0.5]), 0, most)
    return int(low), int(high)


def ellipse(centre: tuple[float, float], radii: tuple[float, float], degrees: float = 0.0) -> list[float]:
    """Return an ellipse as a ring of 72 points. degrees: clockwise, as the eye sees it."""
    angles = np.linspace(0, 2 * np.pi, 72, endpoint=False)
    return _turned(radii[0] * np.cos(angles), radii[1] * np.sin(angles), centre, degrees)


def rectangle(left: float, top: float, right: float, bottom: float) -> list[float]:
    return [left, top, right, top, right, bottom, left, bottom]


def turned(ring: Ring, centre: tuple[float, float], degrees: float) -> list[float]:
    """Return a ring turned clockwise around a point."""
    points = np.asarray(ring, np.float64).reshape(-1, 2)
    return _turned(points[:, 0] - centre[0], points[:, 1] - centre[1], centre, degrees)


def _turned(
    x: npt.NDArray[np.float64], y: npt.NDArray[np.float64], centre: tuple[float, float], degrees: float
) -> list[float]:
    angle = np.deg2rad(degrees)
    points = np.stack([x * np.cos(angle) - y * np.sin(angle), x * np.sin(angle) + y * np.cos(angle)], axis=1)
    return [round(float(value), 3) for value in (points + centre).ravel()]
