"""A model's scores in its run, by `evaluate` and by `predict` are the same.

That holds for sizes, crops, squashed, small and thin images, with a cache and without.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from analysis.models.evaluate import evaluate_export
from analysis.models.export import export_trial
from analysis.models.predict import predict_images
from analysis.models.predictor import load_export
from launch.search.preflight import short_side_px, views
from launch.search.prepare import RunOptions, load_data
from launch.search.records import Records
from launch.search.settled import SettledSearch
from search_spaces import Int, Pick, Search
from search_spaces.serial import search_to_json
from trainables.checkpoint import TrialFiles
from trainables.config.io import parse_config
from trainables.data.cache import CachedImages
from trainables.data.formats import reopen_images
from trainables.data.loader import TrialData
from trainables.data.reading import read_image
from trainables.data.view import View
from trainables.loop import fit
from trainables.tasks import TASKS
from visionsweep.run_dir.load import load_run
from visionsweep.run_dir.run import Run

SIZES = [(61, 47), (200, 130), (40, 33), (97, 300), (12, 9), (250, 251), (128, 64), (20, 300)]  # width, height
CLASSIFIER: dict[str, Any] = {
    "model": {"backbone": "test_resnet", "weights": "none"},
    "optimizer": {"name": "adam", "lr": 0.003},
    "batch_size": 4,
    "epochs": 2,
}
SEGMENTER: dict[str, Any] = {
    **CLASSIFIER,
    "model": {"architecture": {"name": "fpn", "channels": 16}, "backbone": "test_resnet", "weights": "none"},
}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of noise of many sizes, one of them lighter. Two images are one or two pixels wide or high."""
    root = tmp_path_factory.mktemp("data") / "photos"
    rng = np.random.default_rng(0)
    for number, (width, height) in enumerate([*SIZES, *SIZES, *SIZES, (1, 900), (900, 2)]):
        name = "dark" if number % 2 else "light"
        pixels = rng.integers(0, 200 if number % 2 else 255, (height, width, 3), dtype=np.uint8)
        (root / name).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(root / name / f"{number:02d}.png")
    return root


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / "scenes"
    rng = np.random.default_rng(1)
    for number, (width, height) in enumerate([*SIZES, *SIZES]):
        image = rng.integers(0, 120, (height, width, 3), dtype=np.uint8)
        mask = np.zeros((height, width), np.uint8)
        mask[height // 3 :, : width // 2] = 1
        image[mask == 1] += 100
        for folder, array in (("images", image), ("masks", mask)):
            (root / folder).mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(root / folder / f"{number:02d}.png")
    (root / "classes.txt").write_text("ground\nthing\n")
    return root


def run_of(folder: Path, search: Search, data: Path, configs: Sequence[dict[str, Any]], cache: Path | None) -> Run:
    """Return a run whose trials are each trained as in a worker, which opens the run's images itself."""
    options = RunOptions(data=str(data), cache_dir=None if cache is None else str(cache))
    dataset = load_data(SettledSearch.of(search), options)
    search = search.for_task(dataset.task)
    about = {"search": search_to_json(search), "data": dataset.describe(), "options": asdict(options)}
    records = Records.create(folder, about)
    images = reopen_images(dataset, short_side_px(search), cache, views(search))
    for number, values in enumerate(configs):
        trial_id = f"{number:04d}"
        config = parse_config({"task": dataset.task, **values})
        records.proposed(trial_id, {}, config.model_dump(mode="json"), "drawn")
        records.started(trial_id)
        folders = (folder / room / trial_id for room in ("checkpoints", "predictions"))
        files = TrialFiles(*folders, search.metric or "", search.mode or "max", config.keep_best)
        for result in fit(config, TrialData(dataset, images), torch.device("cpu")):
            files.save(result, resumable=False)
            records.epoch({"trial_id": trial_id, **result.row()})
        records.ended(trial_id, "complete", "")
    return load_run(folder)


def check_same_numbers(run: Run, folder: Path, data: Path, cache: Path | None) -> None:
    """Every trial's export, judged again, has the metrics of its epoch to the last digit."""
    for trial in run.trials:
        out = folder / f"export-{trial.trial_id}"
        epoch = export_trial(run, out, trial.trial_id).epochs[0]
        recorded = next(row["metrics"] for row in trial.epochs if row["epoch"] == epoch)
        judged = evaluate_export(out, str(data), "val", cache_dir=cache, device=torch.device("cpu"))
        found = {name: value["value"] for name, value in judged.metrics.items()}
        found |= {f"iou/{name}": row["iou"]["value"] for name, row in judged.classes.items() if "iou" in row}
        expected = {name.removeprefix("val/"): value for name, value in recorded.items() if name.startswith("val/")}
        assert found == expected, trial.config


def stored(run: Run, trial_id: str, epoch: int) -> dict[str, np.ndarray]:
    with np.load(run.run_dir / "predictions" / trial_id / f"epoch-{epoch:04d}.npz") as arrays:
        return {name: arrays[name] for name in arrays.files}


CLASSIFIERS = [
    {**CLASSIFIER, "image_size": size, "eval_crop": crop, "fit_image": fit}
    for size, crop, fit in [
        *itertools.product((32, 48, 64), (0.5, 0.875, 1.0), ("crop",)),
        *((size, 0.875, "squash") for size in (32, 48, 64)),
    ]
]
SEGMENTERS = [
    *({**SEGMENTER, "image_size": 32, "short_side": side} for side in (None, 40, 65)),
    {**SEGMENTER, "image_size": 32, "short_side": 65, "evaluation": "tiled"},
    *({**SEGMENTER, "image_size": size, "fit_image": "squash"} for size in (32, 64)),
]


@pytest.mark.parametrize("cached", [True, False], ids=["cache", "no-cache"])
def test_evaluate_gives_a_classifiers_numbers_of_its_run_for_every_size(
    photos: Path, tmp_path: Path, cached: bool
) -> None:
    cache = tmp_path / "cache" if cached else None
    space = {"image_size": Pick(32, 48, 64), "eval_crop": Pick(0.5, 0.875, 1.0), "fit_image": Pick("crop", "squash")}
    search = Search(task="binary", space={**CLASSIFIER, **space}, epochs=2)
    run = run_of(tmp_path / "run", search, photos, CLASSIFIERS, cache)
    check_same_numbers(run, tmp_path, photos, cache)


def test_predict_gives_the_probabilities_that_the_run_stored(photos: Path, tmp_path: Path) -> None:
    space = {"image_size": Pick(32, 64), "fit_image": Pick("crop", "squash")}
    search = Search(task="binary", space={**CLASSIFIER, **space}, epochs=2, fixed={"eval_crop": 0.5})
    configs = [
        {**CLASSIFIER, "image_size": size, "fit_image": fit, "eval_crop": 0.5}
        for size in (32, 64)
        for fit in ("crop", "squash")
    ]
    run = run_of(tmp_path / "run", search, photos, configs, tmp_path / "cache")
    val = [photos / name for name in run.search["data"]["val"]]
    for trial in run.trials:
        out = tmp_path / f"export-{trial.trial_id}"
        epoch = export_trial(run, out, trial.trial_id).epochs[0]
        logits = torch.from_numpy(stored(run, trial.trial_id, epoch)["logits"])
        expected = TASKS["binary"].probabilities(logits)[:, 0]
        rows = predict_images(out, val)
        told = torch.tensor([row["probabilities"]["light"] for row in rows])
        torch.testing.assert_close(told, expected, rtol=0, atol=2e-6)  # reported with six digits
        exported = load_export(out, torch.device("cpu"))
        again = exported.probabilities(read_image(path) for path in val)[:, 0]
        torch.testing.assert_close(again, expected, rtol=0, atol=0)  # of chunks of the same size


@pytest.mark.parametrize("cached", [True, False], ids=["cache", "no-cache"])
def test_evaluate_gives_a_segmenters_numbers_of_its_run_for_every_size(
    scenes: Path, tmp_path: Path, cached: bool
) -> None:
    cache = tmp_path / "cache" if cached else None
    space = {"image_size": Pick(32, 64), "short_side": Pick(None, 40, 65), "fit_image": Pick("crop", "squash")}
    search = Search(task="segmentation", space={**SEGMENTER, **space}, epochs=2)
    run = run_of(tmp_path / "run", search, scenes, SEGMENTERS, cache)
    check_same_numbers(run, tmp_path, scenes, cache)


def test_predict_decides_the_pixels_that_the_run_stored(scenes: Path, tmp_path: Path) -> None:
    search = Search(task="segmentation", space={**SEGMENTER, "short_side": Pick(40, 65)}, epochs=2)
    configs = [{**SEGMENTER, "image_size": 32, "short_side": side} for side in (40, 65)]
    run = run_of(tmp_path / "run", search, scenes, configs, tmp_path / "cache")
    val = [scenes / name for name in run.search["data"]["val"]]
    for trial in run.trials:
        out = tmp_path / f"export-{trial.trial_id}"
        epoch = export_trial(run, out, trial.trial_id).epochs[0]
        exported = load_export(out, torch.device("cpu"))
        decided = list(exported.masks([read_image(path) for path in val]))
        kept = stored(run, trial.trial_id, epoch)
        assert [mask.shape for mask in decided] == [tuple(shape) for shape in kept["shapes"].tolist()]
        assert (np.concatenate([mask.ravel() for mask in decided]) == kept["masks"]).mean() > 0.9999


def test_a_size_that_nobody_foresaw_is_kept_for_the_judged_images_alone(photos: Path, tmp_path: Path) -> None:
    """In a space of ranges every trial may have a size of its own."""
    search = Search(task="binary", space={**CLASSIFIER, "image_size": Int(32, 64)}, epochs=2)
    assert views(search) == []
    configs = [{**CLASSIFIER, "image_size": size} for size in (33, 57)]
    run = run_of(tmp_path / "run", search, photos, configs, tmp_path / "cache")
    num_val = len(run.search["data"]["val"])
    kept = {path.name.split("-", 1)[1]: path for path in (tmp_path / "cache").iterdir() if path.is_dir()}
    some = [json.loads((kept[name] / "meta.json").read_text())["count"] for name in kept if "-of-" in name]
    assert some == [num_val, num_val]
    assert {name.split("-")[0] for name in kept} == {"38", "65", "73"}
    check_same_numbers(run, tmp_path, photos, tmp_path / "cache")


def test_a_disk_without_room_for_another_size_has_images_decoded_every_time(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    search = Search(task="binary", space={**CLASSIFIER, "image_size": Int(32, 64)}, epochs=2)
    dataset = load_data(SettledSearch.of(search), RunOptions(data=str(photos), cache_dir=str(tmp_path)))
    images = reopen_images(dataset, 73, tmp_path)
    assert isinstance(images, CachedImages)
    val = dataset.indices("val")
    wanted = images.at(View(38, crop=33), val)[int(val[0])]

    def no_room(*given: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("trainables.data.cache.build", no_room)
    assert (images.at(View(38, crop=33), val)[int(val[0])] == wanted).all()  # there already
    small = images.at(View(20, crop=17), val)
    assert min(small[int(val[0])].shape[:2]) <= 20
    assert "No space left on device" in caplog.text


def test_all_sizes_of_a_space_are_there_before_the_first_trial(photos: Path, tmp_path: Path) -> None:
    search = Search(
        task="binary", space={**CLASSIFIER, "image_size": Pick(32, 64), "fit_image": Pick("crop", "squash")}, epochs=2
    )
    dataset = load_data(SettledSearch.of(search), RunOptions(data=str(photos), cache_dir=str(tmp_path)))
    names = {path.name.removeprefix(f"{dataset.fingerprint}-") for path in tmp_path.iterdir() if path.is_dir()}
    assert {name.split("-of-")[0] for name in names} == {"73", "37", "32x32", "64x64"}
    for file in photos.glob("*/*"):
        file.with_suffix(".gone").write_bytes(file.read_bytes())
        file.unlink()  # decoding fails from now on
    try:
        images = reopen_images(dataset, short_side_px(search), tmp_path, views(search))
        for view in views(search):
            assert len(images.at(view, dataset.indices("val"))) == len(dataset.names)
            images.at(view, dataset.indices("val"))[int(dataset.indices("val")[3])]
    finally:
        for file in photos.glob("*/*.gone"):
            file.rename(file.with_suffix(".png"))


@pytest.mark.parametrize(
    ("space", "fixed", "expected"),
    [
        ({"image_size": Pick(64, 96, 160)}, {}, 183),
        ({"image_size": Pick(64, 96, 160)}, {"eval_crop": 0.5}, 320),
        ({"image_size": Pick(64, 96, 160)}, {"eval_crop": 1.0}, 160),
        ({"image_size": Int(64, 128)}, {}, 146),
        ({"image_size": Pick(64, 128), "eval_crop": Pick(0.64, 1.0)}, {}, 200),
    ],
)
def test_the_images_of_a_search_are_as_large_as_its_largest_view(
    space: dict[str, Any], fixed: dict[str, Any], expected: int
) -> None:
    search = Search(task="binary", space={**CLASSIFIER, **space}, fixed=fixed, epochs=2)
    assert short_side_px(search) == expected
    assert all(view.side <= expected for view in views(search))
