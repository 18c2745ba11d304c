"""kill -9 in the middle of a real search; `benchmarks/kills.py` does it twenty times."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))


@pytest.mark.timeout(400)
def test_nothing_is_lost_when_a_search_is_killed_and_resumed(tmp_path: Path) -> None:
    from kills import search_under_kills

    outcome = search_under_kills(tmp_path, kills=3, trials=5, seed=2)
    assert outcome.lost == []
    assert sum(outcome.kills.values()) == 3
    assert outcome.repeated <= outcome.allowed
    assert set(outcome.statuses) <= {"complete", "pruned"}
