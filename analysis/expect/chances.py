"""How far a choice among trials is luck: what to expect of the winner, and which trials are tied with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from analysis.expect.candidates import candidates
from analysis.expect.expected import Expected, expected_of
from analysis.expect.ties import as_good_of
from visionsweep.run_dir.run import Run


@dataclass(frozen=True)
class Chances:
    """What stored predictions tell of a run's choice.

    expected  of the winner on new photos, None where nobody can say
    as_good   by trial, whether it is tied with the best; {} where nobody can say
    """

    expected: Expected | None = None
    as_good: Mapping[str, bool] = field(default_factory=dict)

    def tied(self, best: str) -> list[str]:
        """Return the trials that are tied with the best one, without itself."""
        return [trial_id for trial_id, is_tied in self.as_good.items() if is_tied and trial_id != best]


def chances_of(run: Run) -> Chances:
    """Read the predictions of a run's trials once, and return both."""
    found = candidates(run)
    return Chances() if found is None else Chances(expected_of(found), as_good_of(found))
