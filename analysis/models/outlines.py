"""Outlines of a mask's areas, as annotation tools take them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

TOLERANCE_PX = 1.0  # that an outline may differ from the mask: it then has few points, which people can move
LEAST_PIXELS = 10  # smaller specks are more work to delete than to draw

Bits = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Area:
    """One connected area of a class.

    number      of its class
    ring        x, y, x, y, ... around it, in pixels from the image's upper left corner
    num_pixels  of the area
    box         (left, top, width, height)
    bits        the area's own pixels in the box where the ring surrounds holes, else None
    """

    number: int
    ring: list[float]
    num_pixels: int
    box: tuple[int, int, int, int]
    bits: Bits | None


def areas_of(mask: npt.NDArray[np.uint8], number: int) -> Iterator[Area]:
    """Yield the areas of one class of a mask (H, W), without specks."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats((mask == number).astype(np.uint8), connectivity=8)
    for one in range(1, count):
        left, top, width, height, num_pixels = (int(value) for value in stats[one])
        if num_pixels < LEAST_PIXELS:
            continue
        bits = labels[top : top + height, left : left + width] == one
        outer, has_holes = _outline(bits)
        ring = [round(value, 2) for value in (outer + np.array([left, top])).ravel().tolist()]
        yield Area(number, ring, num_pixels, (left, top, width, height), bits if has_holes else None)


def _outline(bits: Bits) -> tuple[npt.NDArray[np.float64], bool]:
    """Return the outer ring (n, 2), and whether there are rings within it.

    OpenCV's contours go through the centres of pixels, and would lose half a pixel on each side. At twice the size they
    go a quarter of a pixel inside the edges, with every centre of a pixel within them.
    """
    twice = np.pad(bits.repeat(2, axis=0).repeat(2, axis=1), 1).astype(np.uint8)
    contours, hierarchy = cv2.findContours(twice, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    outer = next(contours[i] for i in range(len(contours)) if hierarchy[0][i][3] < 0)
    simple = cv2.approxPolyDP(outer, 2 * TOLERANCE_PX, closed=True)
    ring = simple if len(simple) >= 3 else outer
    return (ring.reshape(-1, 2).astype(np.float64) - 1 + 0.5) / 2, len(contours) > 1
