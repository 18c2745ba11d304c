"""Heads of probes are solved again with the validation images, once these choose nothing any more."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from kept_run import PROBE, SMALL, kept_run, opened, truths
from safetensors.torch import load_file
from support import Outcome, make_photos

from analysis.models.evaluate import evaluate_export
from analysis.models.held_out import OutOfTime
from analysis.models.kept import kept_models
from analysis.models.recommend import recommend
from analysis.models.solved_again import solve_again
from trainables.config.io import parse_config
from trainables.data.loader import TrialData
from trainables.ensemble import load_models
from trainables.features.features import frozen_backbone
from trainables.features.probe import solve_epoch
from trainables.losses import build_loss
from trainables.targets import classes_and_labels
from visionsweep.core.errors import DataError, RunError
from visionsweep.run_dir.load import load_run
from visionsweep.run_dir.recommended import HEADS_FILE, in_sentences, stored

CPU = torch.device("cpu")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return make_photos(tmp_path / "photos", {"red": 60, "blue": 60}, (16, 16))


@pytest.fixture
def run_of_probes(tmp_path: Path, photos: Path) -> tuple[Path, TrialData]:
    """A run of two probes and a fine-tuning. The first probe is always right, so it is recommended alone."""
    truth = truths(opened(photos))[:, None] * 2.0 - 1
    logits = [scale * truth.astype(np.float32) for scale in (3.0, -1.0, -2.0)]
    data = kept_run(tmp_path / "run", photos, logits, [PROBE, PROBE, SMALL])
    return tmp_path / "run", data


def test_the_head_that_is_exported_learned_from_train_and_val(
    run_of_probes: tuple[Path, TrialData], visionsweep: Callable[..., Outcome], tmp_path: Path
) -> None:
    run_dir, data = run_of_probes
    told = recommend(load_run(run_dir), data, CPU)
    assert told is not None
    assert told["kind"] == "single"
    num = {split: len(data.dataset.indices(split)) for split in ("train", "val")}
    assert told["solved_again"]["trials"] == ["0000"]
    assert (told["solved_again"]["images"], told["solved_again"]["judged_on"]) == (sum(num.values()), num["val"])
    assert any("solved again on all 120 images" in line for line in in_sentences(told))

    # As a probe solves it on data whose validation images are trained on.
    joined = replace(data.dataset, split=np.where(data.dataset.split == "val", "train", data.dataset.split))
    config = parse_config(PROBE)
    all_data = TrialData(joined, data.images)
    (model,) = load_models(config, 2, [run_dir / "checkpoints/0000/epoch-0001.safetensors"], CPU)
    classes, labels, targets = classes_and_labels(config, all_data)
    frozen = frozen_backbone(config, model, all_data, CPU)
    assert frozen is not None
    assert isinstance(labels, torch.Tensor)
    solve_epoch(config.optimizer, frozen, labels, build_loss(config, targets, len(classes)), lambda: None)  # type: ignore[arg-type]

    assert visionsweep("export", run_dir, "--out", tmp_path / "all").code == 0
    exported = load_file(tmp_path / "all" / "model.safetensors")
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(exported[name], tensor, rtol=1e-3, atol=1e-4)
    before = load_file(run_dir / "checkpoints/0000/epoch-0001.safetensors")
    changed = {name.partition(".")[0] for name, tensor in before.items() if not torch.equal(exported[name], tensor)}
    assert changed == {"head"}

    metrics = json.loads((tmp_path / "all" / "metrics.json").read_text())
    assert metrics["solved_again"]["images"] == 120
    assert "solved again on all 120 images" in (tmp_path / "all" / "README.md").read_text()
    with pytest.raises(DataError):  # they are trained on now, and say nothing of new ones
        evaluate_export(tmp_path / "all", str(data.dataset.spec), "val")

    assert visionsweep("export", run_dir, "--single", "--out", tmp_path / "alone").code == 0
    alone = load_file(tmp_path / "alone" / "model.safetensors")
    assert all(torch.equal(alone[name], tensor) for name, tensor in before.items())


def test_an_ensemble_gives_each_of_its_probes_the_new_head(
    tmp_path: Path, photos: Path, visionsweep: Callable[..., Outcome]
) -> None:
    truth = (truths(opened(photos))[:, None] * 2.0 - 1).astype(np.float32)
    third = np.arange(len(truth)) % 3
    # Each is wrong on a third of its own and sure where it is right, so two of them are right together.
    logits = [np.where(third[:, None] == number, -1, 3) * truth for number in range(3)]
    data = kept_run(tmp_path / "run", photos, [one.astype(np.float32) for one in logits], [PROBE, SMALL, PROBE])
    told = recommend(load_run(tmp_path / "run"), data, CPU)
    assert told is not None
    members = {one["trial_id"] for one in told["ensemble"]["members"]}
    assert (told["kind"], told["solved_again"]["trials"]) == ("ensemble", sorted(members - {"0001"}))
    assert visionsweep("export", tmp_path / "run", "--out", tmp_path / "all").code == 0
    for trial_id in members:
        exported = load_file(tmp_path / "all" / "members" / f"{trial_id}-epoch-0001" / "model.safetensors")
        before = load_file(tmp_path / "run" / "checkpoints" / trial_id / "epoch-0001.safetensors")
        assert (not all(torch.equal(exported[name], before[name]) for name in before)) == (trial_id != "0001")


def test_without_time_nothing_is_solved_again(run_of_probes: tuple[Path, TrialData]) -> None:
    run_dir, data = run_of_probes
    run = load_run(run_dir)
    assert recommend(run, data, CPU) is not None
    (run_dir / HEADS_FILE).unlink()

    def out_of_time() -> None:
        raise OutOfTime

    with pytest.raises(OutOfTime):
        solve_again(run, data, kept_models(run), CPU, out_of_time)
    assert not (run_dir / HEADS_FILE).exists()


@pytest.mark.parametrize("damage", [b"", b"no weights", None])
def test_heads_that_are_gone_or_damaged_are_one_sentence(
    run_of_probes: tuple[Path, TrialData], visionsweep: Callable[..., Outcome], tmp_path: Path, damage: bytes | None
) -> None:
    run_dir, data = run_of_probes
    assert recommend(load_run(run_dir), data, CPU) is not None
    if damage is None:
        (run_dir / HEADS_FILE).unlink()
    else:
        (run_dir / HEADS_FILE).write_bytes(damage)
    refused = visionsweep("export", run_dir, "--out", tmp_path / "all")
    assert refused.code != 0
    assert "recommended.safetensors: cannot be read" in refused.err
    assert not (tmp_path / "all").exists()
    assert visionsweep("export", run_dir, "--single", "--out", tmp_path / "all").code == 0


def test_a_recommendation_whose_heads_are_not_what_they_must_be_is_damaged(
    run_of_probes: tuple[Path, TrialData],
) -> None:
    run_dir, data = run_of_probes
    assert recommend(load_run(run_dir), data, CPU) is not None
    path = run_dir / "recommended.json"
    told = json.loads(path.read_text())
    for damage in (5, {}, {**told["solved_again"], "trials": ["../x"]}, {**told["solved_again"], "data": []}):
        path.write_text(json.dumps({**told, "solved_again": damage}))
        with pytest.raises(RunError, match="solved_again"):
            stored(run_dir)
