"""The last seconds of a search: the time reserved for them, and what may go wrong in them."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from kept_run import kept_run, opened, truths
from rich.console import Console
from support import make_photos

from launch.search.comparing import Comparing
from launch.search.records import Records
from search_spaces.search import Search
from search_spaces.serial import search_from_json
from trainables.worker.settings import TrialSettings
from visionsweep.run_dir.load import load_run
from visionsweep.run_dir.rank import ranking_frame
from visionsweep.run_dir.recommended import stored


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """A run of two models with independent errors."""
    photos = make_photos(tmp_path / "photos", {"red": 60, "blue": 60}, (16, 16))
    truth = truths(opened(photos))[:, None] * 2.0 - 1
    rng = np.random.default_rng(0)
    kept_run(tmp_path / "a", photos, [(truth + rng.normal(size=truth.shape)).astype(np.float32) for _ in range(2)])
    return tmp_path / "a"


def compared(run_dir: Path, ends_s: float | None, console: Console) -> None:
    records, told = Records.open(run_dir)
    settings = TrialSettings(run_dir, "val/accuracy", "max", 32, None, 1, 0.0, 0, None, run_dir / "stop")
    comparing = Comparing(records, search_from_json(told["search"]), ends_s)
    comparing.recommend(opened(run_dir.parent / "photos").dataset, settings, console)


def test_some_of_the_budget_is_set_aside_and_never_much() -> None:
    search = Search(task="classification", space={}, epochs=1).for_task("binary")
    comparing = Comparing(Records(Path("a")), search, None)
    assert comparing.reserve_s(20.0) == pytest.approx(2.0)
    assert comparing.reserve_s(60.0) == pytest.approx(6.0)
    assert comparing.reserve_s(300.0) == pytest.approx(12.0)
    assert comparing.reserve_s(86400.0) == 20.0
    assert comparing.reserve_s(None) == 0.0
    several = Search(task="classification", space={}, epochs=1, objectives=("val/accuracy", "latency_ms"))
    assert Comparing(Records(Path("a")), several.for_task("binary"), None).reserve_s(60.0) == 0.0


def test_a_search_recommends_at_its_end_and_not_beyond_its_budget(run_dir: Path) -> None:
    console = Console(record=True)
    compared(run_dir, time.monotonic(), console)
    assert stored(run_dir) is None
    compared(run_dir, time.monotonic() + 60.0, console)
    told = stored(run_dir)
    assert told is not None
    assert told["single"]["trial_id"] == ranking_frame(load_run(run_dir))["trial_id"][0]
    assert console.export_text() == ""


def test_who_asks_to_stop_does_not_wait_for_it(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("launch.search.comparing.asked", lambda: True)
    compared(run_dir, None, Console())
    assert stored(run_dir) is None


def test_what_stands_in_the_way_is_said_and_costs_the_search_nothing(run_dir: Path) -> None:
    for path in (run_dir / "predictions").glob("*/*.npz"):
        path.write_bytes(b"damaged")
    console = Console(record=True, width=500)
    compared(run_dir, None, console)
    assert "The kept models could not be compared: " in console.export_text()
    assert stored(run_dir) is None
