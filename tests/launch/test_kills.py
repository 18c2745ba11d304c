"""kill -9 of a worker and of the raylet in the middle of a real search. `benchmarks/kills.py` does it twenty times.

That of the driver is in `test_interrupt.py`.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

from running import main_of

pytestmark = pytest.mark.with_ray(turn=4)


@pytest.mark.timeout(400)
def test_nothing_is_lost_when_a_search_is_killed_and_resumed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    main_of("kills", monkeypatch)("--kills", 2, "--trials", 3, "--seed", 0)
    said = capsys.readouterr().out
    assert re.search(r"^2 kills \(", said, re.MULTILINE), said
    assert "lost: nothing\n" in said
    repeated = re.search(r"epochs trained twice: (\d+) \(at most (\d+) allowed\)", said)
    assert repeated is not None
    assert int(repeated[1]) <= int(repeated[2])
    ends = re.search(r"^trials: (.*)$", said, re.MULTILINE)
    assert ends is not None
    assert set(re.findall(r"[a-z]+", ends[1])) <= {"complete", "pruned"}
