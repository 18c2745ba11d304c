"""Recommendation at the end of a search: whether an ensemble or a soup is better than the best model alone.

    what is compared   what it is                                                     predicts in the time of
    single             the best trial                                                 one model
    ensemble           kept models, chosen greedily, whose probabilities are averaged    all its members
                       (of segmenters: or that vote on each pixel, where time is short)
    soup               the mean of the weights of kept models (`soup.py`)             one model

Each is chosen by one half of the validation images and judged by the other, both ways. It is compared with the single
model that is best on the first half. A choice that is better by luck gains nothing there.
"""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from analysis.models.bench import Bench
from analysis.models.ensemble import Yardstick, named, yardstick
from analysis.models.ensemble_selection import Members
from analysis.models.folded import folded, how_chosen, is_small
from analysis.models.held_out import FEWEST_IMAGES, OutOfTime, halves
from analysis.models.kept import Kept, alike, kept_models, side_by_side, with_out_of_fold
from analysis.models.kept_means import means_side_by_side
from analysis.models.pixel_mean import MeanMembers
from analysis.models.solved_again import solve_again
from analysis.models.soup import cook
from trainables.data.loader import TrialData
from trainables.features.probe import UNSEEN
from visionsweep.core.tasks import task_kind
from visionsweep.core.writing import write_whole
from visionsweep.run_dir.rank import ranked
from visionsweep.run_dir.recommended import PREDICTIONS_FILE, RECOMMENDED_FILE, gain_of, kind_of
from visionsweep.run_dir.run import Run


def recommend(
    run: Run, data: TrialData, device: torch.device, left_s: Callable[[], float] = lambda: np.inf
) -> dict[str, Any] | None:
    """Compare a run's kept models, write RUN/recommended.json (see `visionsweep/run_dir/recommended.py`) and return
    its content.

    A soup is judged on `device`. `left_s` returns the seconds that are left.

    Returns None, and writes nothing, in these cases:

    - Too little time is left.
    - Fewer than two models are kept, or the best trial has none.
    - There are fewer than FEWEST_IMAGES validation images.

    Raises RunError if predictions cannot be read, or are not those of this data.
    """

    def ask() -> None:
        if left_s() <= 0:
            raise OutOfTime

    # Candidates: the kept models that predict the same classes as the best of them.
    notes: list[str] = []
    kept = kept_models(run)
    if len(kept) < 2 or len(data.dataset.indices("val")) < FEWEST_IMAGES:
        return None
    kept = with_out_of_fold(run, data, alike(data, kept, notes))
    best = ranked(run.trials, run.objectives)[0].trial_id
    first = next((one for one in kept if one.trial_id == best), None)
    if first is None or len(kept) < 2:
        return None
    # The best model alone and the ensemble. Without time for them there is no recommendation.
    by = yardstick(run, first.config, notes)
    try:
        began = time.monotonic()
        means = _means(run, data, kept, device, left_s)
        bench = _bench(data, by, kept, means, notes, ask)
        single = bench.alone() if is_small(data) and data.dataset.folds is None else first
        ensemble = bench.ensemble()
    except OutOfTime:
        return None
    # The soup gets the rest of the time, less what it may take to judge it.
    judging_s = time.monotonic() - began  # a soup's halves take less: there is less to choose from
    notes += how_chosen(data, by.metric, bench.num_images, first, single)
    # With folds there is none: mixed weights are of the first fold's models, which judge its images alone.
    by_folds = data.dataset.folds is not None and bench.num_images is not None
    soups = [] if by_folds else cook(run, data, kept, device, lambda: left_s() - judging_s)
    soup = bench.soup(soups)
    recommended = {
        "metric": by.metric,
        "mode": "max" if by.sign == 1 else "min",
        "single": {**named(single, 1), "latency_ms": single.latency_ms},
        "ensemble": ensemble,
        "soup": None if soup is None else soup[0],
        "chosen_on": bench.num_images,
        "notes": notes,
    }
    # Decide, refit the probes that are recommended, and write the files.
    recommended["kind"] = kind_of({kind: gain_of(recommended, kind) for kind in ("ensemble", "soup")})
    recommended["solved_again"] = _solved_again(run, data, recommended, kept, device, ask)
    if soup is not None:
        predictions = soup[1].judged.predictions
        write_whole(run.run_dir / PREDICTIONS_FILE, lambda path: path.write_bytes(_npz(predictions)))
    text = json.dumps(recommended, indent=1) + "\n"
    write_whole(run.run_dir / RECOMMENDED_FILE, lambda path: path.write_text(text))
    return recommended


def _means(
    run: Run, data: TrialData, kept: Sequence[Kept], device: torch.device, left_s: Callable[[], float]
) -> MeanMembers | None:
    """Return the best segmenters by their probabilities, as many as half of the remaining time allows.

    The result is None for other models, and where time does not allow two.
    """
    if not task_kind(data.dataset.task).pixels:
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
    recommended: Mapping[str, Any],
    kept: Sequence[Kept],
    device: torch.device,
    ask: Callable[[], None],
) -> dict[str, Any] | None:
    """Return what `solve_again` makes of the recommended models, or None if there was no time for all of them."""
    handed_over = {
        "single": [recommended["single"]],
        "ensemble": (recommended["ensemble"] or {}).get("members", []),
        "soup": [],
    }
    members = {one["trial_id"] for one in handed_over[recommended["kind"]]}
    try:
        return solve_again(run, data, [one for one in kept if one.trial_id in members], device, ask)
    except OutOfTime:
        return None


def _bench(
    data: TrialData,
    by: Yardstick,
    kept: Sequence[Kept],
    means: Members | None,
    notes: list[str],
    ask: Callable[[], None],
) -> Bench:
    """Return where the kept models are judged.

    If all of them are probes, or have completed folds, all images choose (see `folded.py`). Beside other models the
    validation images choose. All images then select the probes that stand for the others: the best one, and those that
    are best together.

    `means` are segmenters as an ensemble combines them, None where it combines the stored predictions.
    """
    probes = [one for one in kept if UNSEEN in one.predictions]
    whole = folded(data, probes, notes)
    dataset = data.dataset
    val = dataset.indices("val")
    if whole is not None:
        shown = side_by_side(data, probes, ask)
        pairs = halves(whole.targets, dataset.groups_of(np.concatenate([dataset.indices("train"), val])))
        bench = Bench(data, by, probes, whole.members, whole.members, shown, pairs, len(whole), ask)
        if len(probes) == len(kept):
            return bench
        standing = bench.standing()
        kept = [one for one in kept if one not in probes or one in standing]
    members = side_by_side(data, kept, ask)
    together = members if means is None else means
    pairs = halves(dataset.targets[val], dataset.groups_of(val))
    return Bench(data, by, kept, members, together, together, pairs, None, ask)


def _npz(arrays: dict[str, np.ndarray]) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
    return file.getvalue()
