"""Data for the page's scripts: JSON in <script type="application/json"> elements that no content can close."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from analysis.report.digits import rank_digits
from visionsweep.core.text import in_words
from visionsweep.run_dir.rank import ranking
from visionsweep.run_dir.run import Run

LOSSES = ("train/loss", "val/loss")
OFF = "null"
WHOLE = ("merge",)  # parts of a configuration whose keys are names of classes


def script_json(value: Any) -> str:
    """Return JSON that is safe in any script element: without `<`, no end tag and no comment can begin in it."""
    text = json.dumps(_finite(value), separators=(",", ":"), allow_nan=False, default=str)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def trial_rows(run: Run, as_good: Mapping[str, bool] | None = None) -> dict[str, Any]:
    """Return the ranking by columns, each a list with one entry per trial.

    Parameters that all configurations share are stored once, under `constant`. `tied` are the best trial and those that
    `as_good` says are tied with it.
    """
    rows = ranking(run)
    tied = {trial_id for trial_id, is_tied in (as_good or {}).items() if is_tied}
    tied = tied if len(tied) > 1 else set()
    origins = {trial.trial_id: trial.origin for trial in run.trials}
    others = [objective.name for objective in run.objectives[1:]]
    configs = [flat(row["config"]) for row in rows]
    paths = list(dict.fromkeys(path for config in configs for path in config))
    columns = {path: [config.get(path) for config in configs] for path in paths}
    constant = {path: values[0] for path, values in columns.items() if len(rows) > 1 and _all_equal(values)}
    metrics = list(dict.fromkeys(name for row in rows for name in row["metrics"]))
    return {
        "metric": run.metric,
        "mode": run.mode,
        "epochs": run.full_epochs,
        "digits": rank_digits(run),
        "tied": [row["trial_id"] in tied for row in rows],
        "id": [row["trial_id"] for row in rows],
        "rank": [row["rank"] for row in rows],
        "front": [row.get("front") for row in rows] if others else None,
        "score": [rounded(row["metrics"].get(run.metric)) for row in rows],
        "objectives": {name: [rounded(row["objectives"][name]) for row in rows] for name in others},
        "status": [row["status"] for row in rows],
        "trained": [row["epochs"] for row in rows],
        "best_epoch": [row["best_epoch"] for row in rows],
        "seconds": [rounded(row["seconds"]) for row in rows],
        "words": [words_of(row["config"]) for row in rows],
        "reason": [row["reason"] for row in rows],
        "origin": [origins[row["trial_id"]] for row in rows],
        "metrics": {name: [rounded(row["metrics"].get(name)) for row in rows] for name in metrics},
        "paths": paths,  # in the configuration's own order
        "config": {path: values for path, values in columns.items() if path not in constant},
        "constant": constant,
    }


def trial_curves(run: Run) -> dict[str, Any]:
    """Return `names`, the metric and the losses, and `trials`, by id the epochs and the values of each name."""
    names = list(dict.fromkeys((run.metric, *LOSSES)))
    trials = {}
    for trial in run.trials:
        rows = sorted(trial.curve, key=lambda row: int(row["epoch"]))
        if rows:
            values = [[rounded(row["metrics"].get(name)) for row in rows] for name in names]
            trials[trial.trial_id] = [[row["epoch"] for row in rows], *values]
    return {"names": names, "trials": trials}


def flat(config: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Flatten {'optimizer': {'lr': 0.1}} to {'optimizer.lr': 0.1}, with OFF for None."""
    found: dict[str, Any] = {}
    for key, value in config.items():
        path = f"{above}{key}"
        if isinstance(value, Mapping) and value and path not in WHOLE:
            found.update(flat(value, f"{path}."))
        else:
            found[path] = OFF if value is None else rounded(value)  # a column has null where a trial has no such part
    return found


def words_of(config: dict[str, Any]) -> str:
    """Return `in_words`, or '?' for a configuration that this version does not know."""
    try:
        return in_words(config)
    except (TypeError, ValueError, AttributeError):
        return "?"


def rounded(value: Any) -> Any:
    """Round to six significant digits; the page shows four."""
    return float(f"{value:.6g}") if isinstance(value, float) and math.isfinite(value) else value


def _all_equal(values: list[Any]) -> bool:
    return all(type(value) is type(values[0]) and value == values[0] for value in values)


def _finite(value: Any) -> Any:
    """Replace non-finite numbers by None, because JSON has no NaN."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(key): _finite(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(one) for one in value]
    return value
