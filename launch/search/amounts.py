"""The share of a large data set that each trial looks at, so that the budget holds a dozen trials.

This is the one rule for it. A small set is never cut. Nor is a number that the user has set: --set epoch_images=...,
--set val_images=...
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeVar

from launch.machines.cluster import MachineShare
from search_spaces.grammar import REGIME, Branch
from search_spaces.regimes import regimes_of
from search_spaces.search import Search
from trainables.data.dataset import Dataset
from visionsweep.core.text import duration

if TYPE_CHECKING:  # imports torch, which only a large set needs
    from launch.search.speed import Speed

Settled = TypeVar("Settled", bound=Search)

EPOCH_IMAGES = "epoch_images"
MANY = 5000  # images of train and val together; with no more, nothing is measured or cut
NUM_TRIALS = 12  # trials of the shortest length that must fit into the budget
# Share of the seconds of all workers that is planned. The rest is for the start, the comparison at the end, and trials
# that are slower than the measured one.
SHARE = 0.6
FOR_JUDGING = 0.2  # most of a trial's time that validation may take
LEAST = 500  # images of an epoch, and of validation: fewer say little, however short the budget
MOST_OF_PROBE = 10_000  # images: a solved head has a few thousand weights an output, and more change it little


@dataclass(frozen=True)
class Amounts:
    """Numbers of images that trials look at.

    epoch_images: by regime, if less than the training set. val_images: None for all.
    """

    val_images: int | None = None
    epoch_images: Mapping[str, int] = field(default_factory=dict)


def amounts(num_train: int, num_val: int, seconds: float, found: Mapping[str, Speed], probes: set[str]) -> Amounts:
    """Return how many images a trial trains on and is judged by.

    At the shortest length, NUM_TRIALS trials of each regime take SHARE of the seconds. Pure.

        num_train  training images
        num_val    validation images
        seconds    of all trials of the search together, summed over those that run at once
        found      measured speed of each regime
        probes     regimes whose head is solved on kept features
    """
    if not found:
        return Amounts()
    trial_s = seconds * SHARE / NUM_TRIALS
    judged = min(trial_s * FOR_JUDGING / max(1e-9, one.judge_s * one.shortest) for one in found.values())
    most_judged = min(num_val, max(LEAST, judged))
    epoch_images = {}
    for regime, one in found.items():
        left_s = trial_s - one.trial_s(0, most_judged, one.shortest)
        most = max(LEAST, left_s / max(1e-9, one.start_s + one.shortest * one.train_s))
        most = min(most, MOST_OF_PROBE) if regime in probes else most
        if most < num_train:
            epoch_images[regime] = _round(most)
    return Amounts(_round(most_judged) if most_judged < num_val else None, epoch_images)


def in_amounts(
    search: Settled, dataset: Dataset, budget_s: float, left_s: float, share_of: Callable[[], MachineShare]
) -> tuple[Settled, tuple[str, ...]]:
    """Return the search with `epoch_images` and `val_images` for its data and budget, and a sentence if it was cut.

        search    for the data's task
        budget_s  of the run
        left_s    of the budget, now
        share_of  what a trial gets; called only if the set is large

    A large set takes a few seconds, as this machine is measured.
    """
    num_train = len(dataset.indices("train"))
    num_val = len(dataset.indices("val"))
    if num_train + num_val <= MANY or (is_said(search) and search.val_images is not None):
        return search, ()
    from launch.search.speed import speeds

    began = time.monotonic()
    share = share_of()
    found = speeds(search, dataset, share)
    left_s -= time.monotonic() - began
    probes = {regime for regime, one in found.items() if dict(one.config).get("views") is not None}
    cut = amounts(num_train, num_val, max(0.0, left_s) * share.concurrent, found, probes)
    if is_said(search):
        cut = replace(cut, epoch_images={})
    if search.val_images is not None:
        cut = replace(cut, val_images=None)
    if cut == Amounts():
        return search, ()
    return with_amounts(search, cut), (_sentence(cut, num_train, num_val, budget_s),)


def is_said(search: Search) -> bool:
    """Whether the search itself sets the number of images of an epoch, be it all of them."""
    arms = regimes_of(search.space).values()
    return any(EPOCH_IMAGES in part for part in (search.space, search.fixed, *arms))


def with_amounts(search: Settled, cut: Amounts) -> Settled:
    """Return the search with these amounts.

    They are plain values in the space, so the same is proposed.
    """
    space = dict(search.space)
    arms = regimes_of(search.space)
    if arms:
        numbers = {name: {EPOCH_IMAGES: cut.epoch_images[name]} for name in arms if name in cut.epoch_images}
        space[REGIME] = Branch({name: {**arm, **numbers.get(name, {})} for name, arm in arms.items()})
    else:
        space.update(zip([EPOCH_IMAGES], cut.epoch_images.values(), strict=False))
    return replace(search, space=space, val_images=search.val_images or cut.val_images)


def _sentence(cut: Amounts, num_train: int, num_val: int, budget_s: float) -> str:
    parts = []
    for regime, number in sorted(cut.epoch_images.items(), key=lambda one: -one[1]):
        of = f" of '{regime}'" if regime and len(cut.epoch_images) > 1 else ""
        parts.append(f"an epoch{of} is {number:,} of {num_train:,} images")
    if cut.val_images is not None:
        parts.append(f"val judges {cut.val_images:,} of {num_val:,}")
    text = "; ".join(parts)
    ways = [f"--set {EPOCH_IMAGES}=N"] * bool(cut.epoch_images) + ["--set val_images=N"] * (cut.val_images is not None)
    fits = f"so that a dozen short trials fit into {duration(budget_s)}"
    return f"{text[0].upper()}{text[1:]}, {fits}. {' and '.join(ways)} say otherwise."


def _round(number: float) -> int:
    """Round down to two significant digits."""
    step = int(10 ** max(0, len(str(int(number))) - 2))
    return int(number) // step * step
