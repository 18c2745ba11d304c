"""From a run's kept models to an ensemble on the command line: chosen, judged on other images, exported, predicting."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support import Outcome, make_photos, make_sides
from trained_run import trained_run

from analysis.models.ensemble import choose_ensemble
from analysis.models.evaluate import evaluate_export
from analysis.models.predictor import load_export
from analysis.models.recommend import recommend
from launch.models.ensembles import verdict
from launch.models.run_data import data_of_run
from search_spaces.search import Search
from trainables.config.io import load_config
from trainables.pixel_scores import PixelScores
from visionsweep.run_dir.load import load_run

CLI = Callable[..., Outcome]

SMALL = {"model": {"backbone": "test_resnet", "weights": "none"}, "batch_size": 8, "image_size": 32, "epochs": 2}


def labels_config(task: str, lr: float, **others: Any) -> dict[str, Any]:
    return {**SMALL, "task": task, "optimizer": {"name": "adam", "lr": lr}, "keep_best": 2, **others}


def searched(task: str, config: dict[str, Any]) -> Search:
    """The search whose space is this configuration alone."""
    space = {key: value for key, value in config.items() if key not in ("task", "epochs")}
    return Search(task="segmentation" if task == "segmentation" else "classification", space=space, epochs=2)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two trials of two kept epochs each, on 60 photos of two classes."""
    folder = tmp_path_factory.mktemp("trained")
    photos = make_photos(folder / "photos", {"red": 30, "blue": 30})
    configs = [labels_config("binary", 1e-4), labels_config("binary", 1e-3, threshold=0.3, image_size=24)]
    trained_run(folder / "runs" / "a", searched("binary", configs[0]), str(photos), configs)
    return folder


@pytest.fixture
def run_dir(trained: Path, tmp_path: Path) -> Path:
    """A copy of it with its data."""
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    search = tmp_path / "runs" / "a" / "search.json"
    search.write_text(search.read_text().replace(str(trained), str(tmp_path)))
    return search.parent


def test_an_ensemble_is_chosen_judged_exported_and_predicts_its_members_mean(
    visionsweep: CLI, run_dir: Path, tmp_path: Path
) -> None:
    # The choice, and its score on halves that did not choose.
    done = visionsweep("ensemble", run_dir, "--size", 3)
    assert done.code == 0, done.err
    told = json.loads((run_dir / "ensemble.json").read_text())
    assert f"On halves that did not choose: {told['metric']} " in done.out
    assert told["candidates"] == 4
    assert told["held_out"]["estimates"] == 10
    assert 1 <= sum(one["weight"] for one in told["members"]) <= 3
    assert ("is better" in done.out) == told["better"]

    # Two members of different configurations, whatever was chosen of these small networks.
    told["members"] = [
        {"trial_id": "0001", "epoch": 2, "weight": 2, "value": 0.9},
        {"trial_id": "0000", "epoch": 1, "weight": 1, "value": 0.8},
    ]
    (run_dir / "ensemble.json").write_text(json.dumps(told))
    exported = visionsweep("export", run_dir, "--ensemble", "--out", "several")
    assert exported.code == 0, exported.err
    several = tmp_path / "several"
    assert sorted(path.name for path in several.iterdir()) == [
        "README.md", "classes.txt", "config.yaml", "data.json", "ensemble.json", "manifest.json", "members",
        "metrics.json", "requirements.txt",
    ]  # fmt: skip
    assert load_config(several / "members" / "0000-epoch-0001" / "config.yaml").image_size == 32
    assert load_config(several / "config.yaml").image_size == 24
    assert json.loads((several / "metrics.json").read_text())["held_out"] == told["held_out"]

    # The export predicts the weighted mean of its members.
    images = [np.full((40, 32, 3), 50 * i, np.uint8) for i in range(4)]
    together = load_export(several).probabilities(images)
    first = load_member(several, "0001-epoch-0002", images)
    second = load_member(several, "0000-epoch-0001", images)
    np.testing.assert_allclose(together, (2 * first + second) / 3, atol=1e-6)

    rows = json.loads(visionsweep("predict", several, tmp_path / "photos", "--json").out)
    assert len(rows) == 60
    threshold = json.loads((several / "ensemble.json").read_text())["threshold"]
    assert all((row["label"] == "red") == (row["probabilities"]["red"] > threshold) for row in rows)

    # `evaluate` agrees with `predict`.
    judged = visionsweep("evaluate", several, "--data", tmp_path / "photos", "--split", "val", "--json")
    assert judged.code == 0, judged.err
    by_name = {row["path"]: row["probabilities"]["red"] > threshold for row in rows}
    val = json.loads((several / "data.json").read_text())["val"]
    right = [
        said == ("red" in Path(path).parts) for path, said in by_name.items() if "/".join(Path(path).parts[-2:]) in val
    ]
    assert len(right) == len(val) == json.loads(judged.out)[0]["num_images"]
    assert json.loads(judged.out)[0]["metrics"]["accuracy"]["value"] == pytest.approx(np.mean(right))

    alone = evaluate_export(several, str(make_photos(tmp_path / "new", {"red": 1})))
    assert (alone.num_images, alone.notes) == (1, ("No image of the split shows 'blue'.",))

    # An earlier export leaves no files behind, either way.
    assert visionsweep("export", run_dir, "--out", "several").code == 0
    assert not (several / "members").exists()
    assert not (several / "ensemble.json").exists()
    assert visionsweep("predict", several, tmp_path / "photos" / "red" / "00.png").code == 0
    assert visionsweep("export", run_dir, "--ensemble", "--out", "several").code == 0
    assert not (several / "model.safetensors").exists()


def load_member(export: Path, name: str, images: list[np.ndarray]) -> np.ndarray:
    """A member's folder, made whole by the classes, is an export of its own."""
    member = export.with_name(f"{export.name}-{name}")
    shutil.copytree(export / "members" / name, member)
    (member / "classes.txt").write_bytes((export / "classes.txt").read_bytes())
    return load_export(member).probabilities(images).numpy()


def test_chance_alone_is_not_called_better(run_dir: Path) -> None:
    """An ensemble of random predictions looks better on the images that choose, and only there."""
    rng = np.random.default_rng(0)
    for path in run_dir.glob("predictions/*/*.npz"):
        with np.load(path) as stored:
            metrics = stored["metrics"]
            num = len(stored["logits"])
        np.savez(path, metrics=metrics, logits=rng.normal(size=(num, 1)).astype(np.float32))
    run = load_run(run_dir)
    told = choose_ensemble(run, data_of_run(run), 4)
    assert not told["better"]
    assert "The ensemble is not better" in verdict(told)
    assert "--trial" in verdict(told)


def test_what_cannot_be_chosen_or_exported_is_refused_in_a_sentence(visionsweep: CLI, run_dir: Path) -> None:
    both = visionsweep("export", run_dir, "--ensemble", "--trial", "0", "--out", "x")
    assert (both.code, "export takes --ensemble alone, got --trial 0 too" in both.err) == (2, True)
    assert visionsweep("ensemble", run_dir, "--candidates", 1, "--size", 2).code == 0
    for path in (run_dir / "checkpoints").glob("*/*.safetensors"):
        path.unlink()
    gone = visionsweep("export", run_dir, "--ensemble", "--out", "x")
    assert gone.code == 2
    assert "has not kept the weights of trial" in gone.err
    assert f"`visionsweep ensemble {run_dir}` chooses anew." in gone.err
    none = visionsweep("ensemble", run_dir)
    assert none.code == 2
    assert "keeps 0 models, and an ensemble takes two" in none.err
    (run_dir.parents[1] / "photos" / "red" / "00.png").unlink()
    other = visionsweep("ensemble", run_dir)
    assert other.code == 2
    assert "is not the run's data" in other.err


def test_segmenters_vote_and_predict_by_the_vote_that_was_judged(visionsweep: CLI, tmp_path: Path) -> None:
    make_sides(tmp_path / "scenes", noise=60, brighter=150)
    config = {
        **SMALL, "task": "segmentation", "image_size": 32, "keep_best": 2,
        "model": {"architecture": {"name": "unet", "channels": 16}, "backbone": "test_resnet", "weights": "none"},
        "optimizer": {"name": "adam", "lr": 0.01},
    }  # fmt: skip
    run_dir = tmp_path / "runs" / "s"
    configs = [config, {**config, "optimizer": {"name": "adam", "lr": 0.003}}]
    data = trained_run(run_dir, searched("segmentation", config), str(tmp_path / "scenes"), configs)
    done = visionsweep("ensemble", run_dir, "--size", 4, "--out", "voted")
    assert done.code == 0, done.err
    assert "Their vote, of 4 kept models" in done.out
    told = json.loads((run_dir / "ensemble.json").read_text())

    recommended = recommend(load_run(run_dir), data, torch.device("cpu"))
    assert recommended is not None
    assert 2 <= len(recommended["soup"]["members"]) <= 4
    assert recommended["soup"]["held_out"]["estimates"] == 10
    assert recommended["single"]["trial_id"] == told["single"]["trial_id"]

    export = load_export(tmp_path / "voted")
    scores = PixelScores(data.dataset.classes, torch.device("cpu"))
    for position in data.dataset.indices("val"):
        decided = torch.from_numpy(next(export.masks([data.images[int(position)]]))).long()
        certain = torch.nn.functional.one_hot(decided, 3).permute(2, 0, 1)[None].float()
        scores.update(certain, torch.from_numpy(data.images.mask(int(position)))[None].long())
    assert scores.compute()["miou"] == pytest.approx(told["metrics"]["val/miou"], abs=0.01)
    judged = visionsweep("evaluate", "voted", "--data", tmp_path / "scenes", "--split", "val", "--json")
    assert judged.code == 0, judged.err
    assert json.loads(judged.out)[0]["metrics"]["miou"]["value"] == pytest.approx(told["metrics"]["val/miou"], abs=1e-6)
    predicted = visionsweep("predict", "voted", tmp_path / "scenes" / "images" / "00.png", "--out", "out")
    assert predicted.code == 0, predicted.err
    assert (tmp_path / "out" / "masks" / "00.png").is_file()
