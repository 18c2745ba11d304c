"""A classifier is judged on chunks of one size everywhere, so its scores equal those of its training."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from analysis.models.evaluate import evaluate_export
from analysis.models.predictor import ExportedModel, load_export
from launch.models import train
from launch.models.train import train_one
from trainables.config.io import parse_config
from trainables.data.formats import load_dataset
from trainables.data.loader import TrialData
from trainables.data.read_as import ReadAs
from trainables.evaluate import evaluate
from trainables.inference import chunk_images, predict_batch
from trainables.models.classifiers import Classifier
from trainables.targets import classes_and_labels
from trainables.tasks import TASKS

CPU = torch.device("cpu")
ROTATE = {"rotate": {"degrees": 10.0}}


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Use one thread, as the last bits depend on the number of threads and `train` takes all there are."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.setattr(train, "limit_threads", lambda threads: None)
    yield
    torch.set_num_threads(before)


def exported(out: Path, cache: Path, **changed: Any) -> ExportedModel:
    config = parse_config(
        {
            "task": "multiclass",
            "model": {"backbone": "test_efficientnet", "weights": "none", "freeze": changed.pop("freeze", "none")},
            "optimizer": {"name": "adam", "lr": 0.01},
            "epochs": 2,
            "image_size": 32,
            **changed,
        }
    )
    train_one(config, "digits", out, None, None, str(cache), ReadAs(), Console(quiet=True))
    found = load_export(out, CPU)
    assert isinstance(found, ExportedModel)
    return found


@pytest.mark.parametrize(
    "changed",
    [
        {"batch_size": 24},
        {"batch_size": 100, "freeze": "stage2"},
        {"batch_size": 24, "freeze": "all", "ema_decay": 0.9},
        {"batch_size": 50, "freeze": "all", "views": 2},
        {"batch_size": 50, "freeze": "all", "views": 3, "augment": ROTATE},
        {"batch_size": 24, "freeze": "all", "ensemble": 2, "views": 1},
    ],
    ids=["all trained", "some frozen", "kept for validation", "kept for training", "drawn views", "epochs averaged"],
)
def test_evaluate_and_predict_repeat_the_training_to_the_last_digit(tmp_path: Path, changed: dict[str, Any]) -> None:
    model = exported(tmp_path / "model", tmp_path / "cache", **changed)
    told = json.loads((tmp_path / "model" / "metrics.json").read_text())
    for cache in (tmp_path / "cache", None):
        judged = evaluate_export(tmp_path / "model", "digits", "val", cache_dir=cache, device=CPU)
        found = {f"val/{name}": value["value"] for name, value in judged.metrics.items()}
        assert found == {name: told[name] for name in found}
    dataset, images = load_dataset("digits", seed=0, short_side_px=37, cache_dir=tmp_path / "cache")
    data = TrialData(dataset, images)
    _, labels, _ = classes_and_labels(model.config, data)
    logits = torch.from_numpy(evaluate(model.config, model.models, data, labels, CPU).predictions["logits"])
    val = dataset.indices("val")
    in_batches = [
        model.probabilities(np.asarray(dataset.reader(int(index))) for index in val[start : start + 32])
        for start in range(0, len(val), 32)
    ]
    assert torch.equal(torch.cat(in_batches), TASKS["multiclass"].probabilities(logits))


def test_images_go_through_a_classifier_in_chunks_on_a_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = exported(tmp_path / "model", tmp_path / "cache", batch_size=64)
    seen: list[int] = []
    run = Classifier.features
    monkeypatch.setattr(Classifier, "features", lambda self, images: (seen.append(len(images)), run(self, images))[1])
    predict_batch(model.config, model.models, torch.zeros(35, 32, 32, 3, dtype=torch.uint8), CPU)
    assert seen == [16, 16, 3]


def test_chunks_depend_on_the_images_size_and_not_on_the_trials_batch() -> None:
    def chunk(size: int, batch: int, device: str = "cpu") -> int:
        config = parse_config(
            {
                "task": "binary",
                "model": {"backbone": "test_resnet", "weights": "none"},
                "optimizer": {"name": "sgd", "lr": 0.1},
                "epochs": 1,
                "batch_size": batch,
                "image_size": size,
            }
        )
        return chunk_images(config, torch.device(device))

    assert [chunk(size, 64) for size in (32, 128, 160, 224, 288, 289, 512, 4096)] == [16, 16, 8, 4, 4, 2, 1, 1]
    assert {chunk(128, batch) for batch in (2, 16, 24, 64)} == {16}
    assert [chunk(size, 64, "cuda") for size in (32, 112, 224, 384, 4096)] == [512, 512, 128, 32, 1]
    assert [chunk(224, batch, "cuda") for batch in (2, 24)] == [16, 128], "no more than training is known to fit"
