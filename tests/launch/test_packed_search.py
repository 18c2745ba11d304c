"""Packed searches with real Ray and real trainings, in a process of their own (`packed_searches.py`)."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from packed_searches import FOLDED, LARGE, NUM_FOLDS, SEARCH
from support import lines, make_photos

from launch.machines.capacity import MARGIN
from launch.machines.memory_model import MemoryModel
from launch.search.records import Records
from visionsweep.run_dir.load import load_run

pytestmark = pytest.mark.with_ray(turn=7)

Rows = list[dict[str, Any]]
NUM_PHOTOS = 170


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of runs `a`, which was resumed, `b`, whose recorded memories are wrong, and `f`, with folds."""
    found = tmp_path_factory.mktemp("packed")
    make_photos(found / "photos", {"red": NUM_PHOTOS // 2, "blue": NUM_PHOTOS // 2}, (160, 160))
    script = Path(__file__).with_name("packed_searches.py")
    done = subprocess.run([sys.executable, str(script), str(found)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    return found


def rows(folder: Path, run: str, name: str, event: str | None = None) -> Rows:
    found = [json.loads(line) for line in (folder / "runs" / run / name).read_text().splitlines()]
    return [row for row in found if event is None or row["event"] == event]


def shares(folder: Path, run: str, trial_id: str) -> list[dict[str, Any]]:
    """Return the shares of one trial, in order."""
    return [row["share"] for row in rows(folder, run, "trials.jsonl", "started") if row["trial_id"] == trial_id]


def batch_size(row: dict[str, Any]) -> int:
    return int(row["config"]["batch_size"])


def running(folder: Path, run: str) -> list[tuple[int, int]]:
    """Return (small, large), the running trials at each start of one."""
    sizes = {row["trial_id"]: batch_size(row) for row in rows(folder, run, "trials.jsonl", "proposed")}
    alive: set[str] = set()
    found = []
    for row in rows(folder, run, "trials.jsonl"):
        if row["event"] == "started":
            alive.add(row["trial_id"])
            large = sum(sizes[name] == LARGE for name in alive)
            found.append((len(alive) - large, large))
        elif row["event"] == "ended":
            alive.remove(row["trial_id"])
    return found


def test_every_trial_is_trained_once_and_to_its_end(folder: Path) -> None:
    ended = rows(folder, "a", "trials.jsonl", "ended")
    assert [row["status"] for row in ended] == ["complete"] * 7
    epochs = Counter((row["trial_id"], row["epoch"]) for row in rows(folder, "a", "epochs.jsonl"))
    assert len(epochs) == 7 * SEARCH.epochs
    assert set(epochs.values()) == {1}


def test_more_small_trials_than_large_ones_run_at_once(folder: Path) -> None:
    moments = running(folder, "a")
    assert max(small for small, large in moments if not large) == 3, "as many as there are cores"
    assert max(large for _, large in moments) == 2
    assert all(small <= 2 for small, large in moments if large), "a large one takes the room of two"


def test_a_trial_is_given_what_it_needs(folder: Path) -> None:
    last = {row["trial_id"]: row for row in rows(folder, "a", "epochs.jsonl")}
    for proposed in rows(folder, "a", "trials.jsonl", "proposed"):
        share = shares(folder, "a", proposed["trial_id"])[-1]
        assert last[proposed["trial_id"]]["peak_memory_mb"] <= share["memory_mb"]
        if batch_size(proposed) == LARGE:
            assert share["of_one"] == 0.5


def test_a_process_is_reused_by_trials_of_the_same_share_alone(folder: Path) -> None:
    started = rows(folder, "a", "trials.jsonl", "started")
    trials: dict[int, set[str]] = {}
    parts: dict[int, set[float]] = {}
    for row in rows(folder, "a", "epochs.jsonl"):
        before = [one for one in started if one["trial_id"] == row["trial_id"] and one["time"] < row["time"]]
        trials.setdefault(row["pid"], set()).add(row["trial_id"])
        parts.setdefault(row["pid"], set()).add(before[-1]["share"]["of_one"])
    assert max(len(names) for names in trials.values()) > 1
    assert all(len(found) == 1 for found in parts.values())


def test_a_run_that_is_gone_on_with_knows_what_was_measured(folder: Path) -> None:
    first = shares(folder, "a", "0000")[0]
    assert (first["of_one"], first["measure"]) == (0.5, True)
    resumed = shares(folder, "b", "0007")[0]
    assert (resumed["of_one"], resumed["measure"]) == (0.25, False), "its records say that all are small"


def test_a_wrong_prediction_heals_and_nothing_is_lost(folder: Path) -> None:
    assert batch_size(rows(folder, "b", "trials.jsonl", "proposed")[7]) == LARGE
    assert [share["of_one"] for share in shares(folder, "b", "0007")] == [0.25, 0.5], "it was seen to take more"
    epochs = [row["epoch"] for row in rows(folder, "b", "epochs.jsonl") if row["trial_id"] == "0007"]
    assert epochs == list(range(1, SEARCH.epochs + 1))


def test_what_the_first_trials_took_bounds_what_the_later_ones_take(folder: Path) -> None:
    trials = list(Records.open(folder / "runs" / "a")[0].trials.values())
    taken = [trial.peak_memory_mb or 0.0 for trial in trials]
    model = MemoryModel(SEARCH.space, [trial.params for trial in trials[:5]], taken[:5])
    for trial, mb in zip(trials[5:], taken[5:], strict=True):
        estimate = model.estimate(trial.params)
        assert mb <= MARGIN * estimate.upper_mb
        assert estimate.upper_mb < 2 * mb


def test_images_are_decoded_once_for_all_trials_of_a_machine(folder: Path) -> None:
    assert len([path for path in (folder / "cache").iterdir() if path.is_dir()]) == 1


def test_every_trial_is_trained_once_on_every_fold(folder: Path) -> None:
    run = load_run(folder / "runs" / "f")
    assert run.num_folds == NUM_FOLDS
    assert [trial.status for trial in run.trials] == ["complete"] * 7
    steps = [(1, None), (2, 1), *((FOLDED.epochs + fold - 1, fold) for fold in range(2, NUM_FOLDS + 1))]
    for trial in run.trials:
        assert [(row["epoch"], row.get("fold")) for row in trial.epochs] == steps
    kept = sorted((folder / "runs" / "f" / "predictions").glob("*/out-of-fold.npz"))
    assert kept
    for path in kept:
        stored = np.load(path)
        assert len(set(stored["names"].tolist())) == NUM_PHOTOS
        assert set(stored["fold"].tolist()) == {1, 2, 3}


def test_trials_of_folds_are_packed_by_what_they_need_in_all_folds(folder: Path) -> None:
    run = folder / "runs" / "f"
    sizes = {
        row["trial_id"]: row["config"]["batch_size"]
        for row in lines(run / "trials.jsonl")
        if row["event"] == "proposed"
    }
    shares = {row["trial_id"]: row["share"] for row in lines(run / "trials.jsonl") if row["event"] == "started"}
    for row in lines(run / "epochs.jsonl"):
        assert row["peak_memory_mb"] <= shares[row["trial_id"]]["memory_mb"]
    alive = set[str]()
    most = 0
    for row in lines(run / "trials.jsonl"):
        if row["event"] == "started":
            alive.add(row["trial_id"])
        elif row["event"] == "ended":
            alive.remove(row["trial_id"])
        most = max(most, sum(sizes[name] != LARGE for name in alive))
        assert sum(sizes[name] == LARGE for name in alive) <= 2
    assert most > 1
