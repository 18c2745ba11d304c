"""Segmenters of a run that are recommended together, by the mean of their probabilities."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from support import Outcome, make_sides
from trained_run import trained_run

from analysis.models.ensemble import described, yardstick
from analysis.models.ensemble_selection import score_ensemble
from analysis.models.kept import kept_models, side_by_side
from analysis.models.kept_means import means_side_by_side
from analysis.models.predictor import ExportedEnsemble, load_export
from analysis.models.recommend import _means, recommend
from search_spaces.search import Search
from trainables.data.loader import TrialData
from trainables.evaluate import at_size
from trainables.pixel_scores import PixelScores
from visionsweep.run_dir.load import load_run
from visionsweep.run_dir.recommended import RECOMMENDED_FILE
from visionsweep.run_dir.run import Run

CLI = Callable[..., Outcome]
CPU = torch.device("cpu")

SEGMENTER: dict[str, Any] = {
    "task": "segmentation", "batch_size": 8, "image_size": 32, "epochs": 2,
    "model": {"architecture": {"name": "unet", "channels": 16}, "backbone": "test_resnet", "weights": "none"},
    "optimizer": {"name": "adam", "lr": 0.01},
}  # fmt: skip
OTHER = {**SEGMENTER, "image_size": 24, "seed": 1, "model": {**SEGMENTER["model"], "backbone": "test_efficientnet"}}


@pytest.fixture
def found(tmp_path: Path) -> tuple[Run, TrialData]:
    """Two trials of different sizes and backbones, on forty scenes that are bright to the left or to the right."""
    make_sides(tmp_path / "scenes", noise=120, brighter=60)
    space = {key: value for key, value in SEGMENTER.items() if key not in ("task", "epochs")}
    search = Search(task="segmentation", space=space, epochs=2)
    data = trained_run(tmp_path / "runs" / "s", search, str(tmp_path / "scenes"), [SEGMENTER, OTHER])
    return load_run(tmp_path / "runs" / "s"), data


def scored(export: ExportedEnsemble, data: TrialData) -> float:
    """Return the mIoU on the validation images of the mean of the members' whole maps."""
    scores = PixelScores(data.dataset.classes, CPU)
    for position in data.dataset.indices("val").tolist():
        image = data.images[position]
        mask = data.images.mask(position)
        mean = torch.zeros(1, len(data.dataset.classes), *mask.shape)
        for member, weight in zip(export.members, export.weights, strict=True):
            (logits,) = member.maps_of([member.seen(image)])
            mean += weight * at_size(logits, mask.shape).softmax(1)
        decided = torch.from_numpy(next(export.masks([image])))
        assert torch.equal(decided, mean[0].argmax(0).to(torch.uint8))
        scores.update(mean, torch.from_numpy(mask)[None].long())
    return scores.compute()["miou"]


def test_what_is_chosen_by_mean_probability_predicts_and_is_evaluated_by_it(
    visionsweep: CLI, found: tuple[Run, TrialData], tmp_path: Path
) -> None:
    run, data = found
    told = recommend(run, data, CPU)
    assert told is not None
    assert told["ensemble"] is None or told["ensemble"]["combine"] == "mean probability"
    members = means_side_by_side(run, data, kept_models(run), CPU)
    mean = score_ensemble(members, [0, 1])
    one = told["ensemble"] or {"threshold": 0.5, "metric": "val/miou", "held_out": None, "latency_ms": None}
    both = [
        {"trial_id": kept.trial_id, "epoch": kept.epoch, "weight": 1, "value": kept.value} for kept in kept_models(run)
    ][:2]
    # Both members, whatever was chosen of these small networks.
    one |= {"combine": "mean probability", "mode": "max", "members": both, "metrics": mean}
    (run.run_dir / RECOMMENDED_FILE).write_text(json.dumps({**told, "kind": "ensemble", "ensemble": one}))

    exported = visionsweep("export", run.run_dir, "--out", "both")
    assert exported.code == 0, exported.err
    assert "Their probabilities are averaged" in (tmp_path / "both" / "README.md").read_text()
    export = load_export(tmp_path / "both", CPU)
    assert isinstance(export, ExportedEnsemble)
    assert not export.votes
    assert scored(export, data) == pytest.approx(mean["val/miou"], abs=1e-3)
    judged = visionsweep("evaluate", "both", "--data", tmp_path / "scenes", "--split", "val", "--json")
    assert judged.code == 0, judged.err
    assert json.loads(judged.out)[0]["metrics"]["miou"]["value"] == pytest.approx(mean["val/miou"], abs=1e-3)
    predicted = visionsweep("predict", "both", tmp_path / "scenes" / "images" / "00.png", "--out", "out")
    assert predicted.code == 0, predicted.err
    with Image.open(tmp_path / "out" / "masks" / "00.png") as mask:
        assert mask.size == (32, 32)


def test_a_model_alone_scores_as_its_search_said(found: tuple[Run, TrialData]) -> None:
    run, data = found
    kept = kept_models(run)
    members = means_side_by_side(run, data, kept, CPU)
    for number, one in enumerate(kept):
        assert score_ensemble(members, [number])["val/miou"] == pytest.approx(one.value, abs=1e-4)


def test_where_half_of_the_time_is_gone_segmenters_vote(found: tuple[Run, TrialData]) -> None:
    run, data = found
    kept = kept_models(run)
    left_s = iter([10.0, 9.0, *[4.9] * 9])
    assert _means(run, data, kept, CPU, lambda: next(left_s)) is None
    assert next(left_s) == 4.9  # it ended at once, and left the rest to the vote
    means = _means(run, data, kept, CPU, lambda: np.inf)
    assert means is not None
    assert len(means) == len(kept) == 2
    assert len(means_side_by_side(run, data, [*kept, kept[0]], CPU, has_time=lambda took_s: took_s < 0)) == 2
    assert described(kept, means, [0, 1], yardstick(run, kept[0].config, []))["combine"] == "mean probability"
    votes = side_by_side(data, kept)
    assert described(kept, votes, [0, 1], yardstick(run, kept[0].config, []))["combine"] == "vote"
