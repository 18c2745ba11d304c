"""Trials as a table of parameters and of how they compare.

A trial that was stopped after four epochs cannot be compared with one that trained sixty by their scores. A look at
complete trials alone is biased to what the search preferred. So every question about the effect of a parameter goes by
the order of the trials (`analysis/figures/order.py`), in which one that was ended early is below those that passed its
rung.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from analysis.figures.order import Pairs, comparable, pairs, standings
from search_spaces.grammar import Float, Int, Pick, walk
from search_spaces.serial import search_from_json
from visionsweep.core.errors import InputError
from visionsweep.core.words import counted
from visionsweep.run_dir.run import Run
from visionsweep.run_dir.trials import Trial

LEAST_TRIALS = 10  # that can be compared: below, nothing is said to matter or to be better
NUMBERS = (Float, Int)
NONE = "none"  # a drawn value of None; in the table, None means that a trial does not have the parameter
KEYS = ["trial_id", "status", "best", "score"]


@dataclass(frozen=True, eq=False)
class ScoresAtEpoch:
    """Trials that can be compared.

    table       a row for each: trial_id, status, best (its best value of the metric, None without one), score (the
                share of the other trials that it beats), parameters
    pairs       (N, N), of two trials in the order of the table which is better (see `order.pairs`)
    ranges      of every parameter that took more than one value
    epoch       None where the trials' order is compared, else the epoch whose scores are
    num_trials  of the run
    """

    table: pd.DataFrame
    pairs: Pairs
    ranges: dict[str, Float | Int | Pick]
    epoch: int | None
    num_trials: int

    def sentence(self) -> str:
        """Return a sentence on what is compared."""
        trials = f"{len(self.table):,} of {counted(self.num_trials, 'trial')} can be compared"
        if self.epoch is not None:
            return f"{trials}, by their scores at epoch {self.epoch}."
        return (
            f"{trials}: by their best scores, and one that was ended early ranks below those that passed its rung. "
            "One that diverged ranks last."
        )


def scores_at_epoch(run: Run, epoch: int | None = None) -> ScoresAtEpoch:
    """Compare the trials of a run by their order, or by their scores at an epoch that they reached."""
    if epoch is None:
        trials = comparable(run)
        found = pairs(run, trials)
        bests: list[float | None] = [_best(run, trial) for trial in trials]
    else:
        at_epoch = _scores_at(run, epoch)
        trials = [trial for trial, _ in at_epoch]
        bests = [score for _, score in at_epoch]
        values = np.array([score for _, score in at_epoch], dtype=float) * run.sign
        found = np.sign(values[:, None] - values[None, :]).astype(np.int8)
    rows = []
    for trial, best, score in zip(trials, bests, standings(found).tolist(), strict=True):
        params = {name: NONE if value is None else value for name, value in trial.params.items()}
        rows.append({"trial_id": trial.trial_id, "status": trial.status, "best": best, "score": score, **params})
    # As objects, so that whole numbers stay whole beside trials without the parameter.
    table = pd.DataFrame(rows, columns=None if rows else KEYS, dtype=object).astype({"score": float})
    return ScoresAtEpoch(table, found, _ranges(run, table), epoch, len(run.trials))


def _best(run: Run, trial: Trial) -> float | None:
    best = trial.best(run.metric, run.mode)
    return None if best is None else best[0]


def _scores_at(run: Run, epoch: int) -> list[tuple[Trial, float]]:
    """Return the trials that reached an epoch, each with its best score up to it."""
    pick = max if run.mode == "max" else min
    found = []
    for trial in run.trials:
        curve = trial.values(run.metric)
        # A short trial that is complete has reached its end: its score counts at every later epoch too.
        reached = max(curve, default=0) if trial.status != "complete" else max(epoch, *curve, 0)
        if curve and min(curve) <= epoch <= reached:  # a copy of another trial begins late
            found.append((trial, pick(value for at, value in curve.items() if at <= epoch)))
    return found


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
    names = [name for name in table.columns if name not in KEYS]
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


def broken_before(run: Run) -> list[Trial]:
    """Return the trials that failed or ran out of memory: they say nothing of a score, and are not compared."""
    return [trial for trial in run.trials if trial.status in ("failed", "oom")]
