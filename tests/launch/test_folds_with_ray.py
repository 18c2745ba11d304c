"""A search with folds: run, ranked by means, recommended by all images, resumed on the same folds, exported."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from support import Outcome, lines, make_photos, tiny_search

from visionsweep.run_dir.load import load_run

CLI = Callable[..., Outcome]

pytestmark = [pytest.mark.with_ray, pytest.mark.usefixtures("ray_session")]


def test_a_search_with_folds_ranks_by_means_and_is_resumed_on_the_same_folds(visionsweep: CLI, tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "photos", {"red": 16, "blue": 16})
    (tmp_path / "tiny.py").write_text(tiny_search(epochs=2, grace_epochs=2, reduction_factor=2))
    ran = visionsweep(
        "run", "tiny.py", "--data", photos, "--folds", 2, "--trials", 4, "--name", "folded", "--max-concurrent", 1
    )
    assert ran.code == 0, ran.err
    assert "16 to train on, 16 to judge by (split drawn: 2 folds, stratified, seed 0)" in ran.out
    folder = tmp_path / "runs" / "folded"
    run = load_run(folder)
    assert run.num_folds == 2
    complete = [trial for trial in run.trials if trial.status == "complete"]
    assert len(complete) >= 2
    for trial in complete:
        assert [(row["epoch"], row.get("fold")) for row in trial.epochs] == [(1, None), (2, 1), (3, 2)]
        values = trial.epochs[-1]["fold_values"]
        assert trial.best(run.metric, run.mode) == (pytest.approx(np.mean(values)), max_epoch(trial.values(run.metric)))
        stored = np.load(folder / "predictions" / trial.trial_id / "out-of-fold.npz")
        right = (stored["logits"].ravel() > 0) == stored["targets"]
        assert right.mean() == pytest.approx(np.mean(values))
    pruned = [trial for trial in run.trials if trial.status == "pruned"]
    assert all(trial.num_folds <= 1 for trial in pruned)
    assert all(
        "after fold 1 of 2 is not in the best 1/2" in trial.reason or "to the last" in trial.reason for trial in pruned
    )
    # The terminal, best.yaml and the recommendation know of folds.
    assert re.search(r"Best: trial \d+, val/accuracy 0\.\d+ ± 0\.\d+ over 2 folds", ran.out) or "1.0000 ±" in ran.out
    assert "--seeds 1 --on train+val" in ran.out
    assert re.search(r"val/accuracy [01]\.\d+ ± 0\.\d+ over 2 folds", (folder / "best.yaml").read_text())
    assert json.loads((folder / "recommended.json").read_text())["chosen_on"] == 32
    rows = json.loads(visionsweep("rank", "runs/folded", "--json").out)
    assert [row["folds"] for row in rows] == sorted((row["folds"] for row in rows), reverse=True)
    assert rows[0]["deviation"] is not None

    val = json.loads((folder / "search.json").read_text())["data"]["val"]
    resumed = visionsweep("resume", "runs/folded", "--trials", "+1")
    assert resumed.code == 0, resumed.err
    assert json.loads((folder / "search.json").read_text())["data"]["val"] == val
    assert max(row["fold"] for row in lines(folder / "epochs.jsonl") if "fold" in row) == 2
    exported = visionsweep("export", "runs/folded", "--single", "--out", "kept")
    assert exported.code == 0, exported.err
    assert visionsweep("predict", "kept", photos / "red").code == 0
    assert visionsweep("ensemble", "runs/folded").code == 0


def max_epoch(values: dict[int, float]) -> int:
    return max(values, key=lambda epoch: (values[epoch], -epoch))
