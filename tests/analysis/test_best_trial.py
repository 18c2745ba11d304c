"""What predictions, weights and images of a trial give, from real ones of tiny models."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from made_runs import EPOCHS, SEARCH, write_predictions, write_run
from PIL import Image
from safetensors.torch import save_file
from support import make_photos

from analysis import Run, load_run
from analysis.figures.best_trial import class_iou, class_scores, confusion, judged, kept_predictions, most_wrong
from analysis.figures.cost import incumbent
from analysis.figures.embeddings import features, plane
from analysis.figures.overlays import open_data, segmented
from analysis.report.best import best_section
from analysis.report.plots import Plots
from search_spaces.serial import search_to_json
from trainables.config.io import parse_config
from trainables.data.dataset import VOID
from trainables.data.formats import load_dataset
from trainables.models.build import build_model
from visionsweep.core.errors import RunError

CONFIG = {
    "model": {"backbone": "test_resnet", "weights": "none"},
    "optimizer": {"name": "sgd", "lr": 0.1},
    "epochs": 1,
    "batch_size": 4,
    "image_size": 32,
}
SEGMENTER = {**CONFIG, "model": {"architecture": {"name": "unet"}, "backbone": "test_resnet", "weights": "none"}}


def run_on_data(folder: Path, spec: str, task: str, config: dict[str, object], metrics: dict[str, float]) -> Run:
    """A run of one complete trial of one epoch with real weights, on real data."""
    torch.manual_seed(0)
    dataset, _ = load_dataset(spec, task=task, short_side_px=40, cache_dir=folder.parent / "cache")
    metric = next(iter(metrics))
    search = {**search_to_json(SEARCH), "task": task, "metric": metric, "epochs": 1}
    options = {"data": spec, "seed": 0, "cache_dir": str(folder.parent / "cache"), "on_bad_image": "error"}
    folder.mkdir()
    about = {"version": 1, "search": search, "data": dataset.describe(), "options": options}
    (folder / "search.json").write_text(json.dumps(about))
    whole = {**config, "task": task}
    proposed = {"event": "proposed", "trial_id": "0000", "params": {}, "config": whole}
    ended = {"event": "ended", "trial_id": "0000", "status": "complete", "reason": ""}
    (folder / "trials.jsonl").write_text(f"{json.dumps(proposed)}\n{json.dumps(ended)}\n")
    row = {"trial_id": "0000", "epoch": 1, "metrics": metrics, "seconds": 1.0}
    (folder / "epochs.jsonl").write_text(json.dumps(row) + "\n")
    num_outputs = 1 if task == "binary" else len(dataset.classes)
    model = build_model(parse_config(whole).model, num_outputs, 32)
    weights = folder / "checkpoints" / "0000" / "epoch-0001.safetensors"
    weights.parent.mkdir(parents=True)
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, weights)
    return load_run(folder)


def test_confusions_and_scores_are_those_of_the_predictions(tmp_path: Path) -> None:
    run = load_run(write_run(tmp_path / "run"))
    at = incumbent(run)
    assert at is not None
    one = judged(run, at.best)
    assert one.epoch == EPOCHS
    assert confusion(one).tolist() == [[9, 1, 0], [0, 10, 0], [0, 0, 10]]
    table = class_scores(one).set_index("class")
    assert table.loc["daisy", "recall"] == 0.9
    assert table.loc["rose", "precision"] == pytest.approx(10 / 11)
    (mistake,) = most_wrong(one)
    assert (mistake.name, mistake.truth, mistake.said) == ("val/000.jpg", "daisy", "rose 0.99")


def test_several_labels_are_judged_one_by_one(tmp_path: Path) -> None:
    search = {**search_to_json(SEARCH), "task": "multilabel"}
    data = {"classes": ["bag", "hat", "shoe"], "val": ["a", "b", "c"], "val_targets": [[0, 1], [], [2]]}
    run = load_run(write_run(tmp_path / "run", 9, changes={"search": search, "data": data}))
    at = incumbent(run)
    assert at is not None
    logits = np.array([[3, -3, -3], [-3, -3, -3], [-3, 1, 3]], np.float32)
    write_predictions(run.run_dir, at.best.trial_id, EPOCHS, logits=logits)
    one = judged(run, at.best)
    table = class_scores(one).set_index("class")
    assert table["f1"].tolist() == [1.0, 0.0, 1.0]
    wrong = most_wrong(one)
    assert [(mistake.name, mistake.truth, mistake.said) for mistake in wrong] == [
        ("a", "bag, hat", "missed hat 0.05"),
        ("c", "shoe", "wrongly hat 0.73"),
    ]


def test_a_binary_trial_is_judged_by_its_threshold(tmp_path: Path) -> None:
    search = {**search_to_json(SEARCH), "task": "binary"}
    data = {"classes": ["ants", "bees"], "val": ["a", "b"], "val_targets": [0, 1]}
    run = load_run(write_run(tmp_path / "run", 9, changes={"search": search, "data": data}))
    at = incumbent(run)
    assert at is not None
    write_predictions(run.run_dir, at.best.trial_id, EPOCHS, logits=np.array([[0.5], [0.7]], np.float32))
    assert confusion(judged(run, at.best)).tolist() == [[0, 1], [0, 1]]
    at.best.config["threshold"] = 0.65  # sigmoid(0.5) is 0.62, sigmoid(0.7) is 0.67
    assert confusion(judged(run, at.best)).tolist() == [[1, 0], [0, 1]]


def test_predictions_of_other_images_are_refused(tmp_path: Path) -> None:
    run = load_run(write_run(tmp_path / "run", 9))
    at = incumbent(run)
    assert at is not None
    write_predictions(run.run_dir, at.best.trial_id, EPOCHS, logits=np.zeros((7, 3), np.float32))
    with pytest.raises(RunError, match="are not of the images that search"):
        judged(run, at.best)


@pytest.fixture
def on_photos(tmp_path: Path) -> Run:
    photos = make_photos(tmp_path / "photos", {"red": 30, "green": 30, "blue": 30})
    run = run_on_data(tmp_path / "run", str(photos), "multiclass", CONFIG, {"val/accuracy": 0.5})
    num_val = len(run.search["data"]["val"])
    logits = np.eye(3, dtype=np.float32)[[0] * num_val]  # predicts the first class for everything
    write_predictions(run.run_dir, "0000", 1, logits=logits)
    return run


def test_the_section_on_the_best_trial_shows_images_and_a_map_of_them(on_photos: Run) -> None:
    plots = Plots("r0")
    section = best_section(on_photos, on_photos.trials[0], plots, with_model=True)
    assert section.missing == []
    assert {plot.key for plot in section.plots} == {"r0-confusion"}
    assert {picture.said for picture in section.mistakes} == {"blue 0.58"}
    assert {picture.truth for picture in section.mistakes} == {"green", "red"}
    assert all(picture.src.startswith("data:image/jpeg;base64,") for picture in section.mistakes)
    assert {picture.said for picture in section.doubts} == {"blue 0.58"}
    assert {picture.truth for picture in section.doubts} == {"green", "red"}, "labels that may be wrong"
    assert section.embedding is not None
    drawn = json.loads(plots.figures[section.embedding.key])["data"]
    assert {trace["name"] for trace in drawn} == {"red", "green", "blue"}


def test_features_are_what_the_models_head_sees(on_photos: Run) -> None:
    rows, found = features(on_photos, on_photos.trials[0], open_data(on_photos))
    assert len(rows) == len(on_photos.search["data"]["val"])
    assert found.shape[0] == len(rows)
    points = plane(found)
    assert points.shape == (len(rows), 2)
    assert np.isfinite(points).all()
    np.testing.assert_array_equal(points, plane(found))


def test_what_is_gone_is_told_and_the_rest_is_shown(on_photos: Run, tmp_path: Path) -> None:
    trial = on_photos.trials[0]
    for weights in (on_photos.run_dir / "checkpoints" / "0000").iterdir():
        weights.unlink()
    section = best_section(on_photos, trial, Plots("r0"), with_model=True)
    assert [sentence.partition(":")[0] for sentence in section.missing] == ["The map of the images is not shown"]
    assert "the weights of trial 0000 are not in" in section.missing[0]
    assert section.mistakes
    (tmp_path / "photos" / "red" / "00.png").unlink()
    section = best_section(on_photos, trial, Plots("r0"), with_model=True)
    assert "is not the run's data: its images, labels or masks are others now" in section.missing[0]
    assert len(section.plots) == 1  # the confusions are in the run directory
    assert not section.mistakes
    (tmp_path / "photos").rename(tmp_path / "elsewhere")
    section = best_section(on_photos, trial, Plots("r0"), with_model=True)
    assert "no data in" in section.missing[0]


def test_a_run_of_before_the_targets_were_recorded_takes_them_from_its_data(on_photos: Run) -> None:
    expected = on_photos.search["data"].pop("val_targets")
    assert open_data(on_photos).targets() == expected
    section = best_section(on_photos, on_photos.trials[0], Plots("r0"), with_model=True)
    assert len(section.plots) == 1


def test_masks_are_laid_over_their_images_and_judged_by_pixels(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for kind, shape in (("images", (40, 48, 3)), ("masks", (40, 48))):
        (tmp_path / "scenes" / kind).mkdir(parents=True)
        for number in range(45):
            pixels = rng.integers(0, 256, shape, dtype=np.uint8) if kind == "images" else np.zeros(shape, np.uint8)
            if kind == "masks":
                pixels[:20, : 10 + number % 30] = 1
                pixels[30:] = 255  # not judged
            Image.fromarray(pixels).save(tmp_path / "scenes" / kind / f"{number:02d}.png")
    (tmp_path / "scenes" / "classes.txt").write_text("background\nhouse\n")
    metrics = {"val/miou": 0.5, "val/iou/background": 0.75, "val/iou/house": 0.25}
    run = run_on_data(tmp_path / "run", str(tmp_path / "scenes"), "segmentation", SEGMENTER, metrics)
    data = open_data(run)
    truth = [data.mask(row) for row in range(len(data.positions))]
    said = [np.where(mask == VOID, 0, mask).astype(np.uint8) for mask in truth]
    said[3][:] = 1  # one image is wrong everywhere
    shapes = np.array([mask.shape for mask in said], np.int64)
    flat = np.concatenate([mask.reshape(-1) for mask in said])
    write_predictions(run.run_dir, "0000", 1, masks=flat, shapes=shapes)
    found = segmented(run, run.trials[0], data)
    names = run.search["data"]["val"]
    assert found.num_images == len(names)
    assert found.matrix.sum() == 0.75 * flat.size
    assert (found.scenes[0].name, found.scenes[-1].miou) == (names[3], 1.0)
    assert found.scenes[0].miou < 0.5
    assert found.matrix[1, 0] == found.matrix[1].sum() - found.matrix[1, 1] == 0
    assert found.matrix[0, 1] == (truth[3] == 0).sum()
    assert class_iou(run, run.trials[0]).to_numpy().tolist() == [["background", 0.75], ["house", 0.25]]
    section = best_section(run, run.trials[0], Plots("r0"), with_model=True)
    assert section.missing == []
    assert [plot.title for plot in section.plots] == ["IoU of each class", "Confusion matrix"]
    assert section.embedding is not None
    (run.run_dir / "predictions" / "0000" / "epoch-0001.npz").unlink()
    with pytest.raises(RunError, match="A search keeps those of its best trials"):
        kept_predictions(run, run.trials[0])
