"""Draw a side of whole groups that shows every class as often as the whole does, as far as the groups allow.

A group's images stay together: slices of one patient, photos of one object, exposures of one tile. Groups are of many
sizes and may hold several classes, so shares are met approximately. scikit-learn's `StratifiedGroupKFold` deals groups
into equal folds. Here one side has a share of its own, and no class leaves the other side without a group.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

MOST_DRAWS = 20
MOST_STEPS = 20_000  # groups that are looked at in all draws together
NUM_PASSES = 3  # over all groups, in a draw
MOST_TRIED = 50  # groups that could give a missing class


def stratified_groups(targets: np.ndarray, groups: np.ndarray, fraction: float, seed: int, left: int = 1) -> np.ndarray:
    """Return (N,) bool, True for the side that is drawn.

        targets   (N,) int, or (N, C) where an image belongs to every class above 0
        groups    (N,) int: images with equal numbers stay together
        fraction  share of each class that is wanted
        left      groups of each class that stay on the other side, at least. A class with fewer gives none

    Several drawings are made, and the one whose shares are nearest to `fraction` is returned.
    """
    units = _Units.of(targets, groups)
    best = np.zeros(units.number, bool)
    least = np.inf
    for draw in range(max(1, min(MOST_DRAWS, MOST_STEPS // max(1, units.number)))):
        chosen = _drawn(units, fraction, np.random.default_rng([seed, draw]), left)
        cost = units.distance(chosen, fraction)
        if cost < least:
            best = chosen
            least = cost
    best = _with_every_class(units, best, fraction, left)
    if targets.ndim == 2 and not best.any() and units.number > left:
        # Rare tags all over: one of them loses its only group.
        best = _with_one_more(units, best, fraction, -units.number, np.arange(units.number)[:MOST_TRIED])
    found: np.ndarray = best[units.of_image]
    return found


@dataclass(frozen=True, eq=False)
class _Units:
    """U groups and K classes. Images without any label are a class of their own, the last one.

    of_image  (N,) the group of each image
    starts    (U + 1,) where each group's part of `classes` and `counts` begins
    classes   the classes of each group, one group after the other
    counts    how many images of the group each of them has
    totals    (K,) images of each class
    having    (K,) groups with each class
    fewest    (K,) images of each class in the group with the fewest
    """

    of_image: np.ndarray
    starts: np.ndarray
    classes: np.ndarray
    counts: np.ndarray
    totals: np.ndarray
    having: np.ndarray
    fewest: np.ndarray

    @classmethod
    def of(cls, targets: np.ndarray, groups: np.ndarray) -> _Units:
        _, of_image = np.unique(groups, return_inverse=True)
        if targets.ndim == 1:
            images = np.arange(len(targets))
            labels = targets.astype(np.int64)
            num_classes = int(labels.max(initial=-1)) + 1
        else:
            images, labels = np.nonzero(np.column_stack([targets > 0, ~(targets > 0).any(axis=1)]))
            num_classes = targets.shape[1] + 1
        pairs, counts = np.unique(of_image[images] * num_classes + labels, return_counts=True)
        number = int(of_image.max(initial=-1)) + 1
        classes = pairs % num_classes
        fewest = np.full(num_classes, len(targets))
        np.minimum.at(fewest, classes, counts)
        return cls(
            of_image=of_image,
            starts=np.searchsorted(pairs // num_classes, np.arange(number + 1)),
            classes=classes,
            counts=counts,
            totals=np.bincount(labels, minlength=num_classes),
            having=np.bincount(classes, minlength=num_classes),
            fewest=fewest,
        )

    @property
    def number(self) -> int:
        return len(self.starts) - 1

    def part(self, unit: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the classes of a group, and its images of each."""
        part = slice(self.starts[unit], self.starts[unit + 1])
        return self.classes[part], self.counts[part]

    def goals(self, fraction: float) -> np.ndarray:
        """Return (K,) how many images of each class are wanted: the share, and at least its smallest group."""
        found: np.ndarray = np.maximum(self.totals * fraction, np.minimum(self.fewest, self.totals / 2))
        return found

    def rarest(self) -> np.ndarray:
        """Return (U,) how many groups have the rarest class of each group."""
        found: np.ndarray = np.minimum.reduceat(self.having[self.classes], self.starts[:-1])
        return found

    def taken(self, chosen: np.ndarray) -> np.ndarray:
        """Return (K,) images of each class in the chosen groups."""
        weights = self.counts * np.repeat(chosen, np.diff(self.starts))
        found: np.ndarray = np.bincount(self.classes, weights=weights, minlength=len(self.totals))
        return found

    def distance(self, chosen: np.ndarray, fraction: float) -> float:
        """Return how far the shares of the chosen groups are from what is wanted, summed over the classes."""
        there = self.totals > 0
        taken = self.taken(chosen)
        missing = there & (self.having > 1) & (taken == 0)
        off = (taken - self.goals(fraction))[there] / self.totals[there]
        return float(np.square(off).sum() + missing.sum())


def _drawn(units: _Units, fraction: float, rng: np.random.Generator, left: int) -> np.ndarray:
    """Return (U,) bool: take groups in random order, those of rare classes first, while that nears the goals.

    Then groups are looked at again, and taken or given back where that nears the goals further.
    """
    goals = units.goals(fraction)
    weights = 1 / np.maximum(units.totals, 1).astype(float) ** 2  # a class counts by its share, large or small
    spare = units.having - left  # groups that each class can still give
    taken = np.zeros(len(goals))
    chosen = np.zeros(units.number, bool)
    order = rng.permutation(units.number)
    order = order[np.argsort(units.rarest()[order], kind="stable")]
    for step, unit in enumerate(np.tile(order, NUM_PASSES).tolist()):
        classes, counts = units.part(unit)
        sign = -1 if chosen[unit] else 1
        nearer = weights[classes] * counts * (2 * sign * (goals - taken)[classes] - counts)  # of each class
        # At first no class may pass its goal for the sake of another one.
        better = (nearer > 0).all() if step < len(order) else nearer.sum() > 0
        if better and ((taken[classes] > counts).all() if chosen[unit] else (spare[classes] > 0).all()):
            taken[classes] += sign * counts
            spare[classes] -= sign
            chosen[unit] = not chosen[unit]
    return chosen


def _with_every_class(units: _Units, chosen: np.ndarray, fraction: float, left: int) -> np.ndarray:
    """Return the choice with a group of each class that it lacks and that can spare one.

    The group is taken whose images disturb the shares least.
    """
    owner = np.repeat(np.arange(units.number), np.diff(units.starts))
    for missing in np.flatnonzero((units.having > left) & (units.taken(chosen) == 0)).tolist():
        candidates = owner[units.classes == missing][:MOST_TRIED]
        chosen = _with_one_more(units, chosen, fraction, left, candidates)
    return chosen


def _with_one_more(units: _Units, chosen: np.ndarray, fraction: float, left: int, candidates: np.ndarray) -> np.ndarray:
    """Return the choice with the best of the candidates that leave enough groups of each class, if there is one."""
    of_chosen = np.bincount(
        units.classes, weights=np.repeat(chosen, np.diff(units.starts)), minlength=len(units.having)
    )
    spare = units.having - left - of_chosen
    tried = []
    for unit in candidates.tolist():
        if (spare[units.part(unit)[0]] > 0).all():
            more = chosen.copy()
            more[unit] = True
            tried.append(more)
    return min(tried, key=lambda more: units.distance(more, fraction)) if tried else chosen
