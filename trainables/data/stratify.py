"""Draw a validation side, or a part of a large set, that shows every class as often as the whole does.

Pure functions of targets and a seed. scikit-learn's `train_test_split(stratify=...)` keeps the shares, but it refuses
small classes and multilabel targets. The functions here put every class that has two images on both sides.
"""

from __future__ import annotations

import numpy as np


def stratified_val(targets: np.ndarray, val_fraction: float, seed: int) -> np.ndarray:
    """Return (N,) bool, True for val. `targets` is (N,) int.

    Each class gives its share: at least one image, never all of them.
    """
    rng = np.random.default_rng(seed)
    in_val = np.zeros(len(targets), bool)
    for index in np.unique(targets):
        images = np.flatnonzero(targets == index)
        in_val[rng.permutation(images)[: _share(len(images), val_fraction)]] = True
    return in_val


def stratified_val_multilabel(targets: np.ndarray, val_fraction: float, seed: int) -> np.ndarray:
    """Return (N,) bool, True for val. `targets` is (N, C) of 0 and 1.

    Iterative stratification: the rarest label comes first, and each of its images goes to the side that still misses
    that label most. Of two images or more, each side gets at least one.

    Sechidis, Tsoumakas, Vlahavas 2011, "On the stratification of multi-label data", algorithm 1.
    """
    rng = np.random.default_rng(seed)
    num_images = len(targets)
    # What each side is still missing: of every label, and of images.
    totals = targets.sum(axis=0, dtype=np.int64)  # (C,)
    val_labels = np.array([_share(int(total), val_fraction) for total in totals])
    missing_labels = np.stack([totals - val_labels, val_labels]).astype(float)  # (2, C): train, val
    val_images = _share(num_images, val_fraction)
    missing_images = np.array([num_images - val_images, val_images], dtype=float)  # (2,)

    side = np.full(num_images, -1)
    order = rng.permutation(num_images)  # images are taken in this order, so ties fall differently for every seed

    def place(image: int, wanted: np.ndarray) -> None:
        # The side that misses the label most. On ties, the side that misses more images.
        side[image] = max((0, 1), key=lambda s: (wanted[s], missing_images[s]))
        missing_images[side[image]] -= 1
        missing_labels[side[image]] -= targets[image]

    # Distribute the rarest label first, as it leaves the least choice.
    while True:
        open_images = order[side[order] == -1]
        left = targets[open_images].sum(axis=0, dtype=np.int64)  # (C,)
        if not left.any():
            break
        label = int(np.argmin(np.where(left > 0, left, num_images + 1)))  # the rarest label that is left
        for image in open_images[targets[open_images, label] > 0]:
            place(int(image), missing_labels[:, label])
    for image in order[side[order] == -1]:  # images without any label fill the sides up
        place(int(image), missing_images)
    # Neither side may stay empty.
    for empty in (0, 1):
        if num_images > 1 and not (side == empty).any():
            # Labels of one image each all go to train: the image that is alone with the fewest crosses over.
            num_alone = targets[:, totals == 1].sum(axis=1)  # (N,)
            side[order[np.argmin(num_alone[order])]] = empty
    return np.asarray(side == 1)


def _share(count: int, fraction: float) -> int:
    """Return how many of `count` go to val: rounded, but of two or more at least one and never all."""
    return min(max(round(count * fraction), 1), count - 1) if count > 1 else 0


def stratified_draw(targets: np.ndarray, most: int, seed: int) -> np.ndarray:
    """Return the ascending positions of at most `most` of N rows, (n,), drawn by class.

    Each class gives its share, and at least one row as long as there is room. targets: (N,) int, or (N, C), where a row
    belongs to every class above 0. The rarest class gives first (Sechidis et al. 2011), and its rows count for their
    other classes too. Half a million rows take a moment.
    """
    num_rows = len(targets)
    if num_rows <= most:
        return np.arange(num_rows)
    order = np.random.default_rng(seed).permutation(num_rows)
    if targets.ndim == 1:
        _, of_row, counts = np.unique(targets[order], return_inverse=True, return_counts=True)
        members = np.split(np.argsort(of_row, kind="stable"), np.cumsum(counts)[:-1])
    else:
        shown = targets[order] > 0
        members = [np.flatnonzero(column) for column in (*shown.T, ~shown.any(axis=1))]
    chosen = np.zeros(num_rows, bool)  # by place in `order`
    for places in sorted((places for places in members if len(places)), key=len):
        share = max(1, len(places) * most // num_rows)
        missing = min(share - int(chosen[places].sum()), most - int(chosen.sum()))
        chosen[places[~chosen[places]][: max(0, missing)]] = True
    chosen[np.flatnonzero(~chosen)[: most - int(chosen.sum())]] = True  # fill up at random
    return np.sort(order[chosen])
