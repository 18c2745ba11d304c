"""Trials as a table of parameters and comparable scores, all read at the same epoch.

A trial that was stopped after four epochs cannot be compared with one that trained sixty. A look at complete trials
alone is biased to what the search preferred. So every question about the effect of a parameter reads the score of every
trial at one epoch, which most trials reached.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

from search_spaces.grammar import Float, Int, Pick, walk
from search_spaces.serial import search_from_json
from visionsweep.core.errors import InputError
from visionsweep.run_dir.load import Run
from visionsweep.run_dir.trials import Trial

MOST = 0.8  # of the trials that trained at all
NUMBERS = (Float, Int)
NONE = "none"  # a drawn value of None; in the table, None means that a trial does not have the parameter


@dataclass(frozen=True, eq=False)
class ScoresAtEpoch:
    """Trials at one epoch.

    table       a row for each trial that reached `epoch`: trial_id, status, score (the best up to it), parameters
    ranges      of every parameter that took more than one value
    epoch       at which the scores are read
    num_trials  that trained at all
    """

    table: pd.DataFrame
    ranges: dict[str, Float | Int | Pick]
    epoch: int
    num_trials: int

    def sentence(self) -> str:
        """Return a sentence on what the scores are."""
        return f"Scores at epoch {self.epoch}, which {len(self.table)} of {self.num_trials} trials reached."


def scores_at_epoch(run: Run, epoch: int | None = None) -> ScoresAtEpoch:
    """Read the scores of a run at an epoch. None means the last one that most trials reached."""
    curves = {trial.trial_id: trial.values(run.metric) for trial in run.trials}
    longest = max((max(curve) for curve in curves.values() if curve), default=0)
    # A short trial that is complete has reached its end: its score counts at every later epoch too.
    reached = {
        trial.trial_id: longest if trial.status == "complete" else max(curves[trial.trial_id])
        for trial in run.trials
        if curves[trial.trial_id]
    }
    lengths = sorted(reached.values(), reverse=True)
    if epoch is None:
        epoch = lengths[max(0, -int(-len(lengths) * MOST // 1) - 1)] if lengths else 0
    pick = max if run.mode == "max" else min
    rows = []
    for trial in run.trials:
        curve = curves[trial.trial_id]
        if curve and min(curve) <= epoch <= reached[trial.trial_id]:  # a copy of another trial begins late
            score = pick(value for at, value in curve.items() if at <= epoch)
            params = {name: NONE if value is None else value for name, value in trial.params.items()}
            rows.append({"trial_id": trial.trial_id, "status": trial.status, "score": score, **params})
    table = pd.DataFrame(rows, columns=None if rows else ["trial_id", "status", "score"])
    return ScoresAtEpoch(table, _ranges(run, table), epoch, len(lengths))


def _ranges(run: Run, table: pd.DataFrame) -> dict[str, Float | Int | Pick]:
    """Return the range of each parameter, in the order of the space.

    Parameters that the space does not have get their range from their values.
    """
    try:
        space = search_from_json(run.search["search"]).full_space
        known = {name: node for name, node, _ in walk(space) if isinstance(node, (*NUMBERS, Pick))}
    except (InputError, TypeError, KeyError, AttributeError):  # of another version, or missing
        known = {}
    found: dict[str, Float | Int | Pick] = {}
    names = [name for name in table.columns if name not in ("trial_id", "status", "score")]
    order = {name: number for number, name in enumerate(known)}
    for name in sorted(names, key=lambda name: order.get(name, len(order))):
        values = [value for value in table[name] if not _is_missing(value)]
        if len({str(value) for value in values}) > 1:
            found[name] = _widened(known.get(name), values)
    return found


def _widened(node: Float | Int | Pick | None, values: list[Any]) -> Float | Int | Pick:
    """Return the range with every value in it: a copied run may hold values outside."""
    if isinstance(node, NUMBERS) and all(_is_number(value) for value in values):
        low = min(node.low, *values)
        high = max(node.high, *values)
        return Float(low, high, log=node.log and low > 0)
    if node is None and all(_is_number(value) for value in values):
        return Float(min(values), max(values))
    choices = [NONE if choice is None else choice for choice in node.choices] if isinstance(node, Pick) else []
    return Pick(*choices, *(value for value in dict.fromkeys(values) if value not in choices))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and value != value)


def values_of(table: pd.DataFrame, name: str) -> list[Any]:
    """Return a column, with None where a trial does not have the parameter. Whole numbers stay whole."""
    return [None if _is_missing(value) else value for value in table[name].astype(object)]


def broken_before(run: Run, epoch: int) -> list[Trial]:
    """Return the trials that broke before `epoch`. They have no score there, which is a result too."""
    return [
        trial
        for trial in run.trials
        if trial.status in ("failed", "diverged", "oom") and max(trial.values(run.metric), default=0) < epoch
    ]
