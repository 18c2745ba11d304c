"""A trial with folds, as Ray's actor would call it: one fold after the other, resumed where it was."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support import tiny_config

from trainables.config.io import parse_config
from trainables.data.folds import of_fold, with_folds
from trainables.data.loader import TrialData
from trainables.loop import fit
from trainables.out_of_fold import out_of_fold_logits
from trainables.worker.settings import TrialSettings
from trainables.worker.trainable import VisionTrainable

pytestmark = pytest.mark.usefixtures("one_thread")

CONFIG = tiny_config(task="multiclass", optimizer={"name": "sgd", "lr": 0.05}, batch_size=16, fit_image="squash")
CPU = torch.device("cpu")
Started = Callable[..., VisionTrainable]


@pytest.fixture
def data(loaded: Callable[..., TrialData]) -> TrialData:
    few = loaded(train=60, val=30, cache=None)
    return TrialData(with_folds(few.dataset, 3, seed=0), few.images)


@pytest.fixture
def started(data: TrialData, tmp_path: Path) -> Iterator[Started]:
    running: list[VisionTrainable] = []

    def start(trial_id: str = "0000", recorded: int = 0) -> VisionTrainable:
        settings = TrialSettings(
            run_dir=tmp_path, metric="val/accuracy", mode="max", short_side_px=32, cache_dir=None, cpus=1, gpu_share=0.0,
            num_workers=0, deadline=None, stop_file=tmp_path / "stop",
        )  # fmt: skip
        actor = VisionTrainable.__new__(VisionTrainable)  # Ray's __init__ wants a session
        actor.setup({"trial_id": trial_id, "config": CONFIG, "epochs_recorded": recorded}, data.dataset, settings)
        running.append(actor)
        return actor

    yield start
    for actor in running:
        actor.cleanup()


def until_its_end(actor: VisionTrainable) -> list[dict[str, Any]]:
    results = [actor.step()]
    while not results[-1]["done"]:
        results.append(actor.step())
    return results


def test_every_fold_is_trained_and_the_score_is_the_mean_of_their_best_epochs(
    started: Started, data: TrialData, tmp_path: Path
) -> None:
    results = until_its_end(started())
    assert [result.get("epoch") for result in results] == [1, 2, None, 3, None, 4]
    rows = [result for result in results if "epoch" in result]
    assert [row.get("fold") for row in rows] == [None, 1, 2, 3]
    assert [row["status"] for row in rows] == ["running", "running", "running", "complete"]
    assert rows[-1]["gpu_seconds"] > rows[1]["gpu_seconds"] > 0
    # The same as three trainings that know nothing of each other.
    best = []
    logits = {}
    for fold in (1, 2, 3):
        alone = list(fit(parse_config(CONFIG), TrialData(of_fold(data.dataset, fold), data.images), CPU))
        best.append(max(alone, key=lambda result: result.metrics["val/accuracy"]))
        logits[fold] = best[-1].predictions["logits"]
    values = [result.metrics["val/accuracy"] for result in best]
    assert rows[-1]["fold_values"] == pytest.approx(values)
    assert rows[2]["fold_values"] == pytest.approx(values[:2])
    for name in ("val/accuracy", "val/loss"):
        assert rows[-1]["metrics"][name] == pytest.approx(np.mean([result.metrics[name] for result in best]))
    assert rows[-1]["val/accuracy"] == rows[-1]["metrics"]["val/accuracy"]
    # Each image is predicted by the fold that has not seen it.
    kept = tmp_path / "predictions" / "0000"
    assert not list(kept.glob("fold-*"))
    stored = np.load(kept / "out-of-fold.npz")
    assert len({*stored["names"].tolist()}) == 90
    for fold in (1, 2, 3):
        assert np.array_equal(stored["logits"][stored["fold"] == fold], logits[fold])
    unseen = out_of_fold_logits(kept / "out-of-fold.npz", data.dataset)
    assert unseen is not None
    train = data.dataset.indices("train")
    assert np.array_equal(unseen[data.dataset.folds[train] == 3], logits[3])  # type: ignore[index]
    assert out_of_fold_logits(kept / "out-of-fold.npz", replace(data.dataset, names=("other",) * 2000)) is None


@pytest.mark.parametrize("num_steps", [2, 3, 4, 5])
def test_a_killed_trial_is_resumed_in_its_fold_and_epoch(started: Started, tmp_path: Path, num_steps: int) -> None:
    whole = until_its_end(started("0000"))
    killed = started("0001")
    before = [killed.step() for _ in range(num_steps)]
    recorded = max(result.get("epoch", 0) for result in before)
    after = until_its_end(started("0001", recorded))
    assert [told(result) for result in [*before, *after]] == [told(result) for result in whole]
    stored = [np.load(tmp_path / "predictions" / name / "out-of-fold.npz")["logits"] for name in ("0000", "0001")]
    assert np.array_equal(*stored)


def test_a_fold_that_the_records_lost_is_told_again(started: Started) -> None:
    killed = started()
    whole = [killed.step() for _ in range(4)]
    again = started(recorded=1)
    assert [told(again.step()) for _ in range(2)] == [told(whole[1]), told(whole[3])]


def told(result: dict[str, Any]) -> str:
    """Return what a result says, without times and memory."""
    kept = ("epoch", "fold", "fold_epoch", "fold_values", "metrics", "status")
    return json.dumps({key: result[key] for key in kept if key in result})
