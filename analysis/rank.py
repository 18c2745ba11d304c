"""Which trial is best: the ranking of a run."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from analysis.load import Run, Trial


def ranked(trials: Iterable[Trial], metric: str, mode: str) -> list[Trial]:
    """Best first. Only trials that trained to the full epoch count compete; the others follow them, best first, then
    all without a score. Ties go to the earlier trial."""
    sign = 1 if mode == "max" else -1

    def key(trial: Trial) -> tuple[bool, bool, float, str]:
        best = trial.best(metric, mode)
        return (best is None, trial.status != "complete", -sign * best[0] if best else 0.0, trial.trial_id)

    return sorted(trials, key=key)


def ranking(run: Run) -> list[dict[str, Any]]:
    """A row per trial: rank, trial_id, status, reason, epochs, best_epoch, metrics (of that epoch), config, seconds."""
    rows = []
    for rank, trial in enumerate(ranked(run.trials, run.metric, run.mode), start=1):
        best = trial.best(run.metric, run.mode)
        best_epoch = best[1] if best else None
        rows.append(
            {
                "rank": rank,
                "trial_id": trial.trial_id,
                "status": trial.status,
                "reason": trial.reason,
                "epochs": len(trial.epochs),
                "best_epoch": best_epoch,
                "metrics": next((row["metrics"] for row in trial.epochs if row["epoch"] == best_epoch), {}),
                "config": trial.config,
                "seconds": round(trial.seconds, 3),
            }
        )
    return rows
