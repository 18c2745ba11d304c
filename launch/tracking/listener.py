"""Who hears what a search records, such as Optuna's journal and the loggers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from visionsweep.run_dir.trials import Trial


class Listener(Protocol):
    """A listener's methods return at once. Its own problems are lines in the log, never the end of a search."""

    def proposed(self, trial: Trial) -> None:
        """Hear that a trial was proposed."""

    def epoch(self, trial: Trial, row: Mapping[str, Any]) -> None:
        """Hear of an epoch, as it stands in epochs.jsonl."""

    def ended(self, trial: Trial) -> None:
        """Hear that a trial has ended, as it stands in the records."""

    def close(self) -> None:
        """Finish what is pending."""


def snapshot(trial: Trial) -> Trial:
    """Return the trial as it is now, for another thread: the records keep changing theirs."""
    return Trial(trial.trial_id, trial.params, trial.config, list(trial.epochs), trial.status, trial.reason)
