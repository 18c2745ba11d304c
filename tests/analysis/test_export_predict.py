"""Exports and predictions from a run made by hand: what is refused, and what a prediction holds."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from support import make_photos, tiny_config

from analysis.models.export import export_trial
from analysis.models.predict import predict_images
from analysis.models.predictor import load_export
from trainables.config.model import ClassifierConfig
from trainables.models.classifiers import build_classifier
from visionsweep.core.errors import DataError, RunError
from visionsweep.run_dir.run import Run
from visionsweep.run_dir.trials import Trial

CONFIG = tiny_config(task="multilabel", optimizer={"name": "sgd", "lr": 0.1}, batch_size=4, threshold=0.4)
CLASSES = ["bag", "hat", "shoes"]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run whose trial 0000 is complete with the weights of its better epoch.

    Trial 0001 was pruned and has no weights.
    """
    torch.manual_seed(0)
    model = build_classifier(ClassifierConfig.model_validate(CONFIG["model"]), len(CLASSES), 32)
    weights = tmp_path / "run" / "checkpoints" / "0000" / "epoch-0002.safetensors"
    weights.parent.mkdir(parents=True)
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, weights)
    epochs = [{"epoch": i, "metrics": {"val/f1": score}, "seconds": 1.0} for i, score in ((1, 0.2), (2, 0.6))]
    search = {"search": {"metric": "val/f1", "mode": "max"}, "data": {"classes": CLASSES, "fingerprint": "abc"}}
    trials = [Trial("0000", {}, CONFIG, epochs, "complete"), Trial("0001", {}, CONFIG, epochs[:1], "pruned")]
    return Run(tmp_path / "run", search, trials)


def test_the_best_trial_is_exported_with_its_best_epoch(run: Run, tmp_path: Path) -> None:
    exported = export_trial(run, tmp_path / "out")
    assert (exported.trial_id, exported.epochs) == ("0000", [2])
    assert (tmp_path / "out" / "classes.txt").read_text().split() == CLASSES
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["val/f1"] == 0.6
    assert json.loads((tmp_path / "out" / "data.json").read_text())["fingerprint"] == "abc"
    export_trial(run, tmp_path / "out")  # an export may be overwritten


def test_a_trial_is_named_with_or_without_its_zeros(run: Run, tmp_path: Path) -> None:
    assert export_trial(run, tmp_path / "out", "0").trial_id == "0000"


def test_what_cannot_be_exported_says_what_can(run: Run, tmp_path: Path) -> None:
    with pytest.raises(
        RunError, match=r"trial 0001 ended pruned, and its weights were not kept.*Trials with weights: 0000"
    ):
        export_trial(run, tmp_path / "out", "1")
    with pytest.raises(RunError, match="has no trial '9'"):
        export_trial(run, tmp_path / "out", "9")


def test_an_export_is_not_written_over_something_else(run: Run, tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.txt").write_text("years of work")
    with pytest.raises(RunError, match="holds something that is not an export"):
        export_trial(run, tmp_path / "thesis")


def test_tags_are_decided_by_the_threshold_of_the_configuration(run: Run, tmp_path: Path) -> None:
    export_trial(run, tmp_path / "out")
    photos = make_photos(tmp_path / "photos", {"any": 3})
    rows = predict_images(tmp_path / "out", [photos])
    assert [Path(row["path"]).name for row in rows] == ["00.png", "01.png", "02.png"]
    for row in rows:
        assert row["labels"] == [name for name in CLASSES if row["probabilities"][name] > 0.4]


def test_a_batch_of_images_predicts_what_each_alone_does(run: Run, tmp_path: Path) -> None:
    export_trial(run, tmp_path / "out")
    exported = load_export(tmp_path / "out")
    images = [np.full((20 + i, 30, 3), 40 * i, np.uint8) for i in range(5)]
    together = exported.probabilities(images)
    alone = torch.cat([exported.probabilities([image]) for image in images])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


def test_images_and_exports_that_are_none_are_named(run: Run, tmp_path: Path) -> None:
    export_trial(run, tmp_path / "out")
    with pytest.raises(DataError, match=r"nowhere\.jpg: no such image"):
        predict_images(tmp_path / "out", [tmp_path / "nowhere.jpg"])
    (tmp_path / "notes.jpg").write_text("not an image")
    (row,) = predict_images(tmp_path / "out", [tmp_path / "notes.jpg"])
    assert row["error"] == f"image '{tmp_path / 'notes.jpg'}' cannot be read: not an image"
    (tmp_path / "out" / "classes.txt").write_text("bag\nhat\n")
    with pytest.raises(RunError, match=r"classes\.txt: is not the file that was exported"):
        predict_images(tmp_path / "out", [tmp_path / "notes.jpg"])
    (tmp_path / "out" / "manifest.json").unlink()
    with pytest.raises(RunError, match=r"does not fit its configuration"):
        load_export(tmp_path / "out")
    (tmp_path / "out" / "classes.txt").unlink()
    with pytest.raises(RunError, match=r"is not an export \(it has no classes\.txt\)"):
        load_export(tmp_path / "out")
