"""Folds in a packed search, with real Ray, in a process of its own (`packed_searches.py`)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from packed_searches import FOLDED, LARGE, NUM_FOLDS
from support import lines, make_photos

from visionsweep.run_dir.load import load_run

pytestmark = pytest.mark.with_ray(turn=7)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of run `f`, which was resumed."""
    found = tmp_path_factory.mktemp("packed")
    make_photos(found / "photos", {"red": 60, "blue": 60}, (160, 160))
    script = Path(__file__).with_name("packed_searches.py")
    command = [sys.executable, str(script), str(found), "--folds"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    return found


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
        assert len(set(stored["names"].tolist())) == 120
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
