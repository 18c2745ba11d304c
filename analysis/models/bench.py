"""Comparison of a run's models, alone and together, on images that choose and images that judge."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from analysis.models.ensemble import Yardstick, described, named
from analysis.models.ensemble_selection import LabelMembers, Members, select_members
from analysis.models.folded import is_small
from analysis.models.held_out import OutOfTime, Scores, judge
from analysis.models.kept import Kept, side_by_side
from analysis.models.soup import Soup
from trainables.config.parts import part_names
from trainables.data.loader import TrialData

SIZE = 10  # members of an ensemble; one that is taken twice counts twice
PATIENCE = 2  # steps without gain: in a vote of three, the second member changes nothing but the third may
# Share of the loss that is subtracted from the metric where few images choose. On few images many models have nearly
# the same metric. Of those, the one with the lower loss is better on new images (see docs/choosing.md).
LOSS_SHARE = 0.3
# Standard errors within which probes cannot be told apart. Of those, the one with most backbones is better on new
# images (see docs/choosing.md).
TIE = 2.0


@dataclass(frozen=True)
class Bench:
    """Where candidates are judged.

    data        the run's own
    by          the metric
    kept        the models
    members     their predictions of the images that choose
    together    the same as an ensemble combines them
    shown       likewise for the validation images
    pairs       halves of the images that choose
    num_images  number of images that choose, None where the validation images alone do
    ask         raises OutOfTime to stop
    """

    data: TrialData
    by: Yardstick
    kept: Sequence[Kept]
    members: Members
    together: Members
    shown: Members
    pairs: Sequence[tuple[np.ndarray, np.ndarray]]
    num_images: int | None
    ask: Callable[[], None]

    def alone(self) -> Kept:
        """Return the best single model, among those that compete if there are any."""
        competing = self._competing()
        trial_ids = [one.trial_id for one in self.kept]
        # Only the best epoch of each trial, which an export takes.
        first = [one for one in competing if trial_ids.index(trial_ids[one]) == one]
        return self.kept[self._widest(self._best_of(self.members, first), first)]

    def standing(self) -> list[Kept]:
        """Return the models that are best alone or together."""
        competing = self._competing()
        best = self._widest(self._best_of(self.members, competing), competing)
        return [self.kept[one] for one in {*self._greedy(self.members), best}]

    def ensemble(self) -> dict[str, Any] | None:
        """Return the greedy choice on all images, judged by halves of them, or None where it is a single model."""
        chosen = self._greedy(self.together)
        if len(set(chosen)) == 1:
            return None
        entry = described(self.kept, self.shown, chosen, self.by)
        each = [self.kept[member].latency_ms for member in set(chosen)]
        held_out = self._held_out(self.together, self.together, self._greedy)
        return {**entry, "latency_ms": _sum(each), "held_out": held_out}

    def soup(self, soups: Sequence[Soup]) -> tuple[dict[str, Any], Soup] | None:
        """Return the best soup, judged likewise, or None. Of equal soups the one with more members is taken."""
        if not soups:
            return None
        tasted = [replace(one.members[0], predictions=one.judged.predictions) for one in soups]
        try:
            members = side_by_side(self.data, tasted, self.ask)
        except OutOfTime:
            return None
        best = max(soups, key=lambda one: (self.by.value(_plain(one.judged.metrics)), len(one.members)))
        first = best.members[0]
        entry = {
            "metric": self.by.metric,
            "combine": "mean weights",
            "threshold": first.config.threshold,
            "members": [named(one, 1) for one in best.members],
            "metrics": best.judged.metrics,
            "latency_ms": first.latency_ms,
            "held_out": self._held_out(self.members, members, lambda some: [self._best_of(some, range(len(some)))]),
        }
        return entry, best

    def _held_out(
        self, singles: Members, candidates: Members, choose: Callable[[Members], list[int]]
    ) -> dict[str, Any] | None:
        """Return the held-out gain of a choice over the best single model.

        singles     the models alone
        candidates  what `choose` chooses from
        choose      returns its choice, given the predictions of half of the images
        """
        there = range(len(singles))
        competing = [number for number in self._competing() if number in there] or there

        def scores(choosing: np.ndarray, judging: np.ndarray) -> Scores | None:
            alone = self._best_of(singles.of_images(choosing), competing)
            chosen = choose(candidates.of_images(choosing))
            score = self.by.score(candidates.of_images(judging), chosen)
            of_single = self.by.score(singles.of_images(judging), [alone])
            return None if score is None or of_single is None else (score, of_single)

        found = judge(self.pairs, scores, self.by.sign)
        return None if found is None else asdict(found)

    def _competing(self) -> Sequence[int]:
        return [number for number, one in enumerate(self.kept) if one.competes] or range(len(self.kept))

    def _greedy(self, members: Members) -> list[int]:
        return select_members(members, self._value, self.by.name, SIZE, PATIENCE)

    def _best_of(self, members: Members, among: Sequence[int]) -> int:
        """Return the first of the best models."""
        return max(among, key=lambda one: self._value(members.metrics(members.contribution(one), [one], self.by.name)))

    def _widest(self, best: int, among: Sequence[int]) -> int:
        """Return the probe with most backbones of those that are tied with the best, else the best.

        Only where folds choose, by accuracy.
        """
        if self.num_images is None or self.by.name != "accuracy" or not isinstance(self.members, LabelMembers):
            return best
        each = self.members.each(LOSS_SHARE)
        apart = each[best] - each
        errors = apart.std(dim=1) / each.shape[1] ** 0.5
        tied = (apart.mean(dim=1) <= TIE * errors).tolist()
        mean = each.mean(dim=1).tolist()
        widths = [len(part_names(one.config.model.backbone or "")) for one in self.kept]
        wider = [one for one in among if tied[one] and widths[one] > widths[best]]
        return max(wider, key=lambda one: (widths[one], mean[one]), default=best)

    def _value(self, metrics: dict[str, float]) -> float:
        self.ask()
        smoothing = LOSS_SHARE * metrics.get("loss", 0.0) if is_small(self.data) else 0.0
        return self.by.value(metrics) - smoothing


def _plain(metrics: Mapping[str, float]) -> dict[str, float]:
    """Return metrics by their names without `val/`, as members call them."""
    return {name.removeprefix("val/"): value for name, value in metrics.items()}


def _sum(each: Sequence[float | None]) -> float | None:
    known = [one for one in each if one is not None]
    return sum(known) if len(known) == len(each) else None
