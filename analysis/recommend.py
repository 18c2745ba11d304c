"""At a search's end: whether several of its models, or their mean, are better than the best one alone.

    what is compared   what it is                                                     predicts in the time of
    single             the best trial                                                 one model
    ensemble           kept models, chosen greedily, whose probabilities are averaged    all its members
                       (of segmenters: or that vote on each pixel, where time is short)
    soup               the mean of the weights of kept models (`soup.py`)             one model

Each is chosen by one half of the validation images and judged by the other, both ways, beside the single model that is
best on the first: what is better by the luck of its own choice gains nothing there.
"""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch

from analysis.ensemble import Yardstick, described, named, yardstick
from analysis.held_out import FEWEST_IMAGES, OutOfTime, Scores, halves, judge
from analysis.kept import Kept, alike, kept_models, side_by_side
from analysis.kept_means import means_side_by_side
from analysis.load import Run
from analysis.rank import ranked
from analysis.recommended import PREDICTIONS_FILE, RECOMMENDED_FILE, gain_of, kind_of
from analysis.solved_again import solve_again
from analysis.soup import Soup, cook
from trainables.data.loader import TrialData
from trainables.members import Members, greedy
from trainables.pixel_mean import MeanMembers
from trainables.writing import write_whole

SIZE = 10  # members of an ensemble, one that is taken twice counted twice
PATIENCE = 2  # the second of a vote of three changes nothing, and the third does


def recommend(
    run: Run, data: TrialData, device: torch.device, left_s: Callable[[], float] = lambda: np.inf
) -> dict[str, Any] | None:
    """Compare a run's kept models, write RUN/recommended.json (see `recommended.py`) and return what it says.

    data    the run's own
    device  that a soup is judged on
    left_s  seconds that are left

    Returns None, and writes nothing, where too little time was left, fewer than two models are kept, the best trial has
    none, or there are fewer than FEWEST_IMAGES validation images. Raises RunError where predictions cannot be read, or
    are not those of this data.
    """

    def ask() -> None:
        if left_s() <= 0:
            raise OutOfTime

    notes: list[str] = []
    kept = kept_models(run)
    if len(kept) < 2 or len(data.dataset.indices("val")) < FEWEST_IMAGES:
        return None
    kept = alike(data, kept, notes)
    best = ranked(run.trials, run.objectives)[0].trial_id
    single = next((one for one in kept if one.trial_id == best), None)
    if single is None or len(kept) < 2:
        return None
    by = yardstick(run, single.config, notes)
    try:
        decided = side_by_side(data, kept, ask)
        means = _means(run, data, kept, device, left_s) or decided
        bench = _Bench(data, by, kept, decided, means, halves(data), ask)
        began = time.monotonic()
        ensemble = bench.ensemble()
    except OutOfTime:
        return None
    judging_s = time.monotonic() - began  # a soup's halves take less: there is less to choose from
    soup = bench.soup(cook(run, data, kept, device, lambda: left_s() - judging_s))
    told = {
        "metric": by.metric,
        "mode": "max" if by.sign == 1 else "min",
        "single": {**named(single, 1), "latency_ms": single.latency_ms},
        "ensemble": ensemble,
        "soup": None if soup is None else soup[0],
        "notes": notes,
    }
    told["kind"] = kind_of({kind: gain_of(told, kind) for kind in ("ensemble", "soup")})
    told["solved_again"] = _solved_again(run, data, told, kept, device, ask)
    if soup is not None:
        predictions = soup[1].judged.predictions
        write_whole(run.run_dir / PREDICTIONS_FILE, lambda path: path.write_bytes(_npz(predictions)))
    text = json.dumps(told, indent=1) + "\n"
    write_whole(run.run_dir / RECOMMENDED_FILE, lambda path: path.write_text(text))
    return told


def _means(
    run: Run, data: TrialData, kept: Sequence[Kept], device: torch.device, left_s: Callable[[], float]
) -> MeanMembers | None:
    """The best segmenters by their probabilities, as many as half of the time that is left allows; None for other
    models, or where it does not allow two."""
    if data.dataset.task != "segmentation":
        return None
    given = left_s()
    least = 0.0 if np.isinf(given) else given / 2

    def ask() -> None:
        if left_s() <= least:
            raise OutOfTime

    try:
        return means_side_by_side(run, data, kept, device, ask, lambda took_s: left_s() - took_s > least)
    except OutOfTime:
        return None


def _solved_again(
    run: Run,
    data: TrialData,
    told: Mapping[str, Any],
    kept: Sequence[Kept],
    device: torch.device,
    ask: Callable[[], None],
) -> dict[str, Any] | None:
    """What `solve_again` makes of the models that are recommended; None where there was no time for all of them."""
    handed_over = {"single": [told["single"]], "ensemble": (told["ensemble"] or {}).get("members", []), "soup": []}
    members = {one["trial_id"] for one in handed_over[told["kind"]]}
    try:
        return solve_again(run, data, [one for one in kept if one.trial_id in members], device, ask)
    except OutOfTime:
        return None


@dataclass(frozen=True)
class _Bench:
    """Where candidates are judged: `members` are the `kept` models' predictions, `pairs` the halves of the images.
    together: the members as an ensemble combines them, or the first of these."""

    data: TrialData
    by: Yardstick
    kept: Sequence[Kept]
    members: Members
    together: Members
    pairs: Sequence[tuple[np.ndarray, np.ndarray]]
    ask: Callable[[], None]

    def ensemble(self) -> dict[str, Any] | None:
        """The greedy choice of all images, as judged by halves of them; None where it is one model."""
        chosen = self._greedy(self.together)
        if len(set(chosen)) == 1:
            return None
        told = described(self.kept, self.together, chosen, self.by)
        each = [self.kept[member].latency_ms for member in set(chosen)]
        held_out = self._held_out(self.together, self.together, self._greedy)
        return {**told, "latency_ms": _sum(each), "held_out": held_out}

    def soup(self, soups: Sequence[Soup]) -> tuple[dict[str, Any], Soup] | None:
        """The best of the soups, judged likewise; of equal ones that with more in it."""
        if not soups:
            return None
        tasted = [replace(one.members[0], predictions=one.judged.predictions) for one in soups]
        try:
            members = side_by_side(self.data, tasted, self.ask)
        except OutOfTime:
            return None
        best = max(soups, key=lambda one: (self.by.value(_plain(one.judged.metrics)), len(one.members)))
        first = best.members[0]
        told = {
            "metric": self.by.metric,
            "combine": "mean weights",
            "threshold": first.config.threshold,
            "members": [named(one, 1) for one in best.members],
            "metrics": best.judged.metrics,
            "latency_ms": first.latency_ms,
            "held_out": self._held_out(self.members, members, lambda some: [self._best_of(some, range(len(some)))]),
        }
        return told, best

    def _held_out(
        self, singles: Members, candidates: Members, choose: Callable[[Members], list[int]]
    ) -> dict[str, Any] | None:
        """The gain of what `choose` makes of candidates on half of the images over the best of the singles there."""
        there = range(len(singles))
        competing = [number for number in there if self.kept[number].competes] or there

        def scores(choosing: np.ndarray, judging: np.ndarray) -> Scores | None:
            alone = self._best_of(singles.of_images(choosing), competing)
            chosen = choose(candidates.of_images(choosing))
            score = self.by.score(candidates.of_images(judging), chosen)
            of_single = self.by.score(singles.of_images(judging), [alone])
            return None if score is None or of_single is None else (score, of_single)

        found = judge(self.pairs, scores, self.by.sign)
        return None if found is None else asdict(found)

    def _greedy(self, members: Members) -> list[int]:
        return greedy(members, self._value, self.by.name, SIZE, PATIENCE)

    def _best_of(self, members: Members, among: Sequence[int]) -> int:
        """The first of the best."""
        return max(among, key=lambda one: self._value(members.metrics(members.contribution(one), [one], self.by.name)))

    def _value(self, metrics: dict[str, float]) -> float:
        self.ask()
        return self.by.value(metrics)


def _plain(metrics: Mapping[str, float]) -> dict[str, float]:
    """By their names without `val/`, as members call them."""
    return {name.removeprefix("val/"): value for name, value in metrics.items()}


def _sum(each: Sequence[float | None]) -> float | None:
    known = [one for one in each if one is not None]
    return sum(known) if len(known) == len(each) else None


def _npz(arrays: dict[str, np.ndarray]) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
    return file.getvalue()
