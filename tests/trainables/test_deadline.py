"""When a trial stops: no clock that somebody sets has a say in it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from trainables.worker import stopping
from trainables.worker.stopping import Deadline, StopSignal


class FakeClock:
    """A machine's clock on the wall, and the one that nobody sets."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.wall = 1_000_000.0
        self.monotonic = 50.0
        monkeypatch.setattr(time, "time", lambda: self.wall)
        monkeypatch.setattr(time, "monotonic", lambda: self.monotonic)

    def pass_s(self, seconds: float) -> None:
        self.wall = self.wall + seconds
        self.monotonic = self.monotonic + seconds


@pytest.mark.parametrize("jump_s", [-86_400.0, 86_400.0])
def test_a_clock_that_jumps_moves_no_deadline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, jump_s: float) -> None:
    clock = FakeClock(monkeypatch)
    ends = Deadline.of(time.monotonic() + 100)
    stop = StopSignal(ends.here(100), tmp_path / "stop")
    clock.pass_s(60)
    clock.wall += jump_s
    assert stop() is None
    clock.pass_s(39)
    assert stop() is None
    clock.pass_s(1)
    assert stop() == "the budget is spent"


def test_on_another_machine_what_is_left_counts_from_its_receipt(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = FakeClock(monkeypatch)
    ends = Deadline.of(time.monotonic() + 100)
    monkeypatch.setattr(stopping, "_boot", lambda: "another machine")
    clock.monotonic = 9_000.0  # it was started earlier
    clock.wall = 5.0  # its clock was never set
    assert ends.here(70.0) == 9_070.0


def test_on_the_drivers_machine_waiting_for_a_process_costs_the_budget() -> None:
    ends = Deadline.of(1234.5)
    assert ends.here(70.0) == 1234.5


def test_the_stop_file_says_why(tmp_path: Path) -> None:
    stop = StopSignal(None, tmp_path / "stop")
    assert stop() is None
    (tmp_path / "stop").touch()
    stop.checked_at = -10
    assert stop() == "the search was asked to stop"
    (tmp_path / "stop").write_text("the budget is spent")
    stop.checked_at = -10
    assert stop() == "the budget is spent"


@pytest.mark.parametrize(
    "path", ["trainables/worker/stopping.py", "launch/search/searcher.py", "launch/search/progress.py"]
)
def test_what_ends_a_search_never_asks_for_the_time_of_day(path: str) -> None:
    assert "time.time" not in (Path(__file__).parents[2] / path).read_text()
