"""A run with folds, made without Ray: what is ranked, recommended, exported and said of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from support import Outcome, make_photos, tiny_config

from analysis.figures.verdict import verdict
from analysis.models.recommend import recommend
from launch.machines.cluster import MachineShare
from launch.models.run_data import data_of_run
from launch.search.prepare import RunOptions, prepared, trial_settings
from launch.search.records import Records
from search_spaces import Pick, Search
from search_spaces.serial import search_to_json
from trainables.worker.trainable import VisionTrainable
from visionsweep.run_dir.load import Run, load_run

CLI = Callable[..., Outcome]

SPACE = {
    "model": {"backbone": "test_resnet", "weights": "none"},
    "optimizer": {"name": "adam", "lr": Pick(0.01, 0.003)},
}
ROW = ("epoch", "metrics", "seconds", "images_per_s", "lr", "fold", "fold_values")


@pytest.fixture(scope="module")
def folded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two trials on three folds of 36 photos."""
    folder = tmp_path_factory.mktemp("folded")
    photos = make_photos(folder / "photos", {"red": 18, "blue": 18})
    search = Search(task="classification", space=SPACE, fixed={"image_size": 32, "batch_size": 8}, epochs=2)
    options = RunOptions(data=str(photos), folds=3)
    search, dataset = prepared(search, options)
    about = {"search": search_to_json(search), "data": dataset.describe(), "options": asdict(options)}
    records = Records.create(folder / "run", about)
    settings = trial_settings(search, options, folder / "run", None, MachineShare(1, 0, 1, 0), None)
    threads = torch.get_num_threads()
    for number, lr in enumerate((0.01, 0.003)):
        trial_id = f"{number:04d}"
        config = tiny_config(optimizer={"name": "adam", "lr": lr})
        records.proposed(trial_id, {"optimizer/lr": lr}, config, "sampler")
        records.started(trial_id)
        actor = VisionTrainable.__new__(VisionTrainable)
        actor.setup({"trial_id": trial_id, "config": config}, dataset, settings)
        result = {"done": False}
        while not result["done"]:
            result = actor.step()
            if "epoch" in result:
                records.epoch({"trial_id": trial_id, **{key: result[key] for key in ROW if key in result}})
        records.ended(trial_id, str(result["status"]), "")
        actor.cleanup()
    torch.set_num_threads(threads)  # the trials had one
    return folder


@pytest.fixture
def run(folded: Path) -> Run:
    return load_run(folded / "run")


def test_all_images_choose_what_is_recommended_and_say_how_good_it_is(run: Run) -> None:
    found = recommend(run, data_of_run(run), torch.device("cpu"))
    assert found is not None
    assert found["chosen_on"] == 36
    assert any("All 36 images chose, each predicted by the model of a fold" in note for note in found["notes"])
    said = verdict(run)
    assert said is not None
    assert said.num_images == 36
    best = max((trial.best(run.metric, run.mode) or (0.0, 0))[0] for trial in run.trials)
    assert said.score == pytest.approx(best), "folds are of equal size here"


def test_scores_are_shown_with_their_deviation_and_exports_name_the_folds(
    visionsweep: CLI, folded: Path, tmp_path: Path
) -> None:
    ranked = visionsweep("rank", folded / "run")
    row = json.loads(visionsweep("rank", folded / "run", "--json").out)[0]
    assert row["folds"] == 3
    assert row["epochs"] == 2
    assert f"{row['metrics']['val/accuracy']:.4f} ± {row['deviation']:.4f}" in ranked.out
    assert "±" in visionsweep("status", folded / "run").out
    page = tmp_path / "page.html"
    assert visionsweep("report", folded / "run", "--no-model", "--out", page).code == 0
    assert f"Trial {row['trial_id']}, complete: the mean over 3 folds, ±" in page.read_text()
    assert "of 36 validation images are right" in page.read_text()
    exported = visionsweep("export", folded / "run", "--single", "--out", tmp_path / "kept")
    assert exported.code == 0, exported.err
    about = json.loads((tmp_path / "kept" / "metrics.json").read_text())
    assert about["folds"]["number"] == 3
    assert about["folds"]["val/accuracy"] == pytest.approx(row["metrics"]["val/accuracy"])
    trial = next(one for one in load_run(folded / "run").trials if one.trial_id == row["trial_id"])
    assert about["val/accuracy"] == trial.values("val/accuracy")[about["epoch"]], "of the first fold"
    assert "over 3 folds: val/accuracy" in (tmp_path / "kept" / "README.md").read_text()
    judged = visionsweep("evaluate", tmp_path / "kept", "--split", "val")
    assert "Split val, 12 images." in judged.out, judged.err


def test_an_ensemble_is_chosen_by_all_images(visionsweep: CLI, folded: Path) -> None:
    done = visionsweep("ensemble", folded / "run")
    assert done.code == 0, done.err
    told = json.loads((folded / "run" / "ensemble.json").read_text())
    assert told["held_out"]["estimates"] > 1
    stored = np.load(folded / "run" / "predictions" / "0000" / "out-of-fold.npz")
    assert len(stored["logits"]) == 36
