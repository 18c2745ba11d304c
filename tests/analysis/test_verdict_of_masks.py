"""How sure the score of a segmenter is, from the pixels that its run has counted image by image."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support import make_sides
from trained_run import trained_run

from analysis.figures.best_trial import kept_predictions
from analysis.figures.pixels import judged_masks, pixel_scores
from analysis.figures.verdict import in_lines, verdict
from analysis.models.bootstrap import confusion_of, mask_intervals
from analysis.report.headline import headline
from search_spaces.search import Search
from trainables.data.loader import TrialData
from trainables.pixel_scores import scores_of
from visionsweep.run_dir.load import Run, load_run

SEGMENTER: dict[str, Any] = {
    "task": "segmentation", "batch_size": 8, "image_size": 32, "epochs": 2,
    "model": {"architecture": {"name": "unet", "channels": 16}, "backbone": "test_resnet", "weights": "none"},
    "optimizer": {"name": "adam", "lr": 0.01},
}  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, TrialData]:
    """Two trials on forty scenes, of which the second trains less."""
    folder = tmp_path_factory.mktemp("masks")
    make_sides(folder / "scenes", noise=120, brighter=60)
    space = {key: value for key, value in SEGMENTER.items() if key not in ("task", "epochs")}
    search = Search(task="segmentation", space=space, epochs=2)
    configs = [SEGMENTER, {**SEGMENTER, "seed": 1, "optimizer": {"name": "adam", "lr": 1e-5}}]
    data = trained_run(folder / "run", search, str(folder / "scenes"), configs)
    return load_run(folder / "run"), data


def confusions(run: Run, data: TrialData, trial_id: str) -> np.ndarray:
    """Return the confusion of each validation image (N, C, C), from the kept masks and the true ones."""
    trial = next(one for one in run.trials if one.trial_id == trial_id)
    _, arrays = kept_predictions(run, trial)
    ends = np.cumsum(arrays["shapes"].prod(axis=1))[:-1]
    found = []
    for position, decided in zip(data.dataset.indices("val"), np.split(arrays["masks"], ends), strict=True):
        truth = data.images.mask(int(position))
        found.append(confusion_of(truth, decided.reshape(truth.shape), len(data.dataset.classes)))
    return np.stack(found)


def test_miou_has_an_interval_a_baseline_and_a_lead_over_the_second(trained: tuple[Run, TrialData]) -> None:
    run, data = trained
    found = verdict(run)
    assert found is not None
    best = next(trial for trial in run.trials if trial.trial_id == found.trial_id)
    assert found.score == pytest.approx((best.best("val/miou", "max") or (0,))[0])
    of_images = confusions(run, data, found.trial_id)
    assert found.num_images == len(of_images)
    # The same draws of images as `evaluate` has.
    assert (found.low, found.high) == pytest.approx(mask_intervals(of_images, data.dataset.classes).metrics["miou"])
    # Always one class: its column holds every pixel.
    truth = of_images.sum(axis=(0, 2))
    always = np.zeros((len(truth), len(truth)))
    always[:, truth.argmax()] = truth
    assert found.constant is not None
    name, value = found.constant
    assert name == data.dataset.classes[truth.argmax()]
    assert value == pytest.approx(scores_of(torch.from_numpy(always), data.dataset.classes)["miou"])
    assert found.lead is not None
    assert found.lead.is_clear, "the other one has hardly trained"
    assert in_lines(found)[0].startswith("val/miou is 0.")
    assert f"Always '{name}' would be 0." in in_lines(found)[0]
    assert headline(run, found).result == in_lines(found)[:1]


def test_every_metric_of_pixels_is_the_searchs_own(trained: tuple[Run, TrialData]) -> None:
    run, data = trained
    one = judged_masks(run, run.trials[0])
    counts = np.random.default_rng(0).multinomial(len(one.truth), np.full(len(one.truth), 1 / len(one.truth)), size=3)
    of_images = confusions(run, data, "0000")
    for row in counts.astype(float):
        matrix = torch.from_numpy(np.tensordot(row, of_images.astype(float), axes=1))
        for name, value in scores_of(matrix, data.dataset.classes).items():
            if name != "num_classes_iou":
                assert pixel_scores(one, f"val/{name}", row[None]) == pytest.approx(value), name
    assert pixel_scores(one, "val/loss", counts) is None


def test_a_run_that_has_not_counted_its_pixels_says_nothing(trained: tuple[Run, TrialData], tmp_path: Path) -> None:
    run, _ = trained
    for path in run.run_dir.glob("predictions/*/*.npz"):
        with np.load(path) as stored:
            old = {name: stored[name] for name in stored.files if name not in ("pixels", "classes")}
        there = tmp_path / path.relative_to(run.run_dir)
        there.parent.mkdir(parents=True, exist_ok=True)
        np.savez(there, **old)
    before = replace(run, run_dir=tmp_path)
    assert verdict(before) is None
    (sentence,) = headline(before, None).result
    assert "its pixels were not counted image by image" in sentence
