"""Where near duplicates begin: how many altered copies of a photo each threshold finds, and how many other photos.

    python -m benchmarks.near_copies --data ../shared/data/many/*/

Photos of each folder are altered in the ways in which a data set comes to hold a photo twice: saved again, made
smaller, brightened, cut, turned to grey. A copy is found if its look is as near to the original's as the thresholds
say. A pair of photos of two different folders is never a copy, so each such pair that is as near is a false one. Pairs
within a folder are counted too, by folder: some are real.

`details` are compared as they are (shared 0), or without what the photos of a folder share. dHash has 256 signs
(Krawetz 2013, "Kind of like that"), pHash 64.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from trainables.data.looks import NUM_SHARED, NUM_SIGNS, Floats, Shared, look_of
from trainables.data.reading import IMAGE_SUFFIXES, read_image

Pixels = npt.NDArray[np.uint8]
MOST = 120  # photos of a folder
ALL_BITS = 256
# Thresholds that are tried: bits that may differ, and the least correlation of details with so many shared directions.
DHASH_BITS = (8, 16, 24, 32, 40)
PHASH_BITS = (4, 6, 8, 10, 12)
CORRELATIONS = (0.6, 0.7, 0.8)


def saved_again(image: Pixels) -> Pixels:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=40)
    return np.asarray(Image.open(file).convert("RGB"))


def smaller(image: Pixels) -> Pixels:
    height, width = image.shape[:2]
    return np.asarray(
        Image.fromarray(image).resize((max(8, width // 2), max(8, height // 2)), Image.Resampling.BICUBIC)
    )


def brighter(image: Pixels) -> Pixels:
    return (255 * (image / 255.0) ** 0.7).astype(np.uint8)


def cut(image: Pixels) -> Pixels:
    """Cut a fiftieth off each side."""
    rows, columns = (max(1, round(side / 50)) for side in image.shape[:2])
    return image[rows:-rows, columns:-columns]


def grey(image: Pixels) -> Pixels:
    return np.repeat(np.asarray(Image.fromarray(image).convert("L"))[:, :, None], 3, axis=2)


ALTERED: dict[str, Callable[[Pixels], Pixels]] = {
    "saved again": saved_again,
    "half the size": smaller,
    "brighter": brighter,
    "cut by 2%": cut,
    "grey": grey,
}


def dhash(image: Pixels) -> Floats:
    """Return 256 signs, (256,) of 1 and -1: whether each of 16 x 16 places is brighter than the one to its left."""
    grey = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY).astype(np.float32)
    small = cv2.resize(grey, (17, 16), interpolation=cv2.INTER_AREA)
    return np.where(np.diff(small, axis=1) > 0, 1, -1).ravel().astype(np.float32)


def photos_of(folder: Path, most: int = MOST) -> list[Pixels]:
    """Return up to `most` photos of a folder, spread over it. Masks are no photos."""
    files = sorted(
        path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES and "masks" not in path.parts
    )
    if not files:
        return []
    return [read_image(files[number]) for number in np.unique(np.linspace(0, len(files) - 1, most).astype(int))]


@dataclass(frozen=True, eq=False)
class Compared:
    """Altered copies with their originals, and all photos with each other: how near they are, or whether they are near.

    copies  (N,) for each way in which photos are altered
    photos  (N, N)
    """

    copies: Sequence[npt.NDArray[Any]]
    photos: npt.NDArray[Any]

    @classmethod
    def of(cls, originals: Floats, altered: Sequence[Floats]) -> Compared:
        return cls([(one * originals).sum(axis=1) for one in altered], originals @ originals.T)

    def near(self, least: float) -> Compared:
        return Compared([one >= least for one in self.copies], self.photos >= least)

    def both(self, other: Compared) -> Compared:
        copies = [one & two for one, two in zip(self.copies, other.copies, strict=True)]
        return Compared(copies, self.photos & other.photos)


def own_details(looks: Floats, altered: Sequence[Floats], of_folder: npt.NDArray[np.int64], shared: int) -> Compared:
    """Compare details without what the photos of each folder share: their mean and `shared` directions. 0: nothing."""
    if not shared:
        return Compared.of(looks[:, NUM_SIGNS:], [one[:, NUM_SIGNS:] for one in altered])
    found = [np.zeros_like(looks[:, NUM_SIGNS:]) for _ in range(1 + len(altered))]
    for folder in np.unique(of_folder):
        here = of_folder == folder
        theirs = Shared.of(looks[here], shared)
        for rows, one in zip(found, (looks, *altered), strict=True):
            rows[here] = theirs.own(one[here])
    return Compared.of(found[0], found[1:])


def report(folders: Sequence[Path], most: int = MOST) -> list[str]:
    """Return a table: for each threshold the share of copies that it finds, and the pairs that it takes for copies."""
    photos = [photos_of(folder, most) for folder in folders]
    of_folder = np.repeat(np.arange(len(photos)), [len(one) for one in photos])
    images = [image for one in photos for image in one]
    altered = [[change(image) for image in images] for change in ALTERED.values()]
    across = np.triu(of_folder[:, None] != of_folder[None, :], 1)
    within = np.triu(of_folder[:, None] == of_folder[None, :], 1)
    pairs = f"{int(across.sum()):,} pairs across, {int(within.sum()):,} within"
    names = [f"{name:>14}" for name in ALTERED]
    lines = [
        f"{len(images):,} photos of {len(folders)} folders: {pairs}",
        f"{'':40}{''.join(names)}{'across':>8}{'within':>8}",
    ]

    def row(name: str, near: Compared) -> str:
        found = "".join(f"{100 * one.mean():13.1f}%" for one in near.copies)
        counts = np.bincount(of_folder[np.nonzero(near.photos & within)[0]], minlength=len(folders))
        where = ", ".join(f"{folders[i].name} {counts[i]}" for i in np.argsort(-counts)[:4] if counts[i])
        return f"{name:40}{found}{int((near.photos & across).sum()):8,}{int(counts.sum()):8,}  {where}"

    hashed = Compared.of(np.stack([dhash(one) for one in images]), [np.stack(list(map(dhash, one))) for one in altered])
    lines += [row(f"dHash, {bits} of 256 bits", hashed.near(ALL_BITS - 2 * bits)) for bits in DHASH_BITS]
    looks = np.stack([look_of(one) for one in images])
    others = [np.stack(list(map(look_of, one))) for one in altered]
    hashed = Compared.of(looks[:, :NUM_SIGNS], [one[:, :NUM_SIGNS] for one in others])
    lines += [row(f"pHash, {bits} of 64 bits", hashed.near(NUM_SIGNS - 2 * bits)) for bits in PHASH_BITS]
    for shared in (0, 1, NUM_SHARED):
        details = own_details(looks, others, of_folder, shared)
        lines += [
            row(
                f"pHash {bits}, details {least}, shared {shared}",
                hashed.near(NUM_SIGNS - 2 * bits).both(details.near(least)),
            )
            for bits in (8, 10, 12)
            for least in CORRELATIONS
        ]
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", type=Path, required=True, help="folders of photos, one for each kind")
    parser.add_argument("--most", type=int, default=MOST, help="photos of each folder")
    arguments = parser.parse_args()
    for line in report(arguments.data, arguments.most):
        print(line)


if __name__ == "__main__":
    main()
