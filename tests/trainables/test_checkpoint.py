from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from trainables.checkpoint import TrialFiles, load_state, write_whole
from trainables.config.trial import TrialConfig
from trainables.data.loader import TrialData
from trainables.loop import EpochResult, fit
from trainables.models.classifiers import build_classifier
from visionsweep.core.errors import RunError
from visionsweep.run_dir.files import epoch_of

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")
Digits = Callable[..., TrialData]
Tiny = Callable[..., TrialConfig]

TRAININGS: dict[str, dict[str, Any]] = {
    "sgd with momentum, averaged weights and augmentation": {
        "ema_decay": 0.95,
        "schedule": {"name": "cosine", "warmup_epochs": 1.5},
        "augment": {"rotate": {}, "random_resized_crop": {}, "tone": {}, "policy": {"name": "autoaugment"}},
    },
    "adamw with mixup, dropout and accumulation": {
        "optimizer": {"name": "adamw", "lr": 3e-3, "backbone_lr_scale": 0.5},
        "model": {"head": {"name": "mish_mlp", "hidden": 16, "dropout": 0.5}},
        "augment": {"mix": {"name": "mixup"}},
        "accumulate": 3,
        "clip_grad_norm": 1.0,
    },
    "adamw with fixed statistics, stages at their own rates and averaged weights": {
        "optimizer": {"name": "adamw", "lr": 3e-3, "backbone_lr_scale": 0.5, "layer_decay": 0.6},
        "model": {"batch_norm": "fixed", "freeze": "stage1"},
        "ema_decay": 0.9,
    },
    "adam on a frozen stage, in bf16": {
        "optimizer": {"name": "adam", "lr": 3e-3},
        "model": {"freeze": "stage1"},
        "precision": "bf16",
        "schedule": {"name": "multistep", "spacing": "late"},
    },
}


def files(folder: Path, *, keep_best: int = 1, metric: str = "val/accuracy", mode: str = "max") -> TrialFiles:
    return TrialFiles(folder / "checkpoints/t1", folder / "predictions/t1", metric, mode, keep_best)


def kept_files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def kept_epochs(trial: TrialFiles) -> list[int]:
    return sorted(epoch_of(path) for path in trial.checkpoints.glob("epoch-*"))


@pytest.fixture
def result(digits: Digits, tiny: Tiny) -> EpochResult:
    return next(fit(tiny(), digits(train=16, val=8), CPU))


def scripted(result: EpochResult, epoch: int, accuracy: float) -> EpochResult:
    return replace(result, epoch=epoch, metrics={"val/accuracy": accuracy, "val/loss": 1 - accuracy})


@pytest.mark.parametrize("training", TRAININGS)
def test_a_resumed_training_is_the_training_that_was_never_stopped(
    digits: Digits, tiny: Tiny, tmp_path: Path, training: str
) -> None:
    config = tiny(epochs=4, **TRAININGS[training])
    data = digits(train=50)
    trial = files(tmp_path)
    straight = list(fit(config, data, CPU))

    stopped = fit(config, data, CPU)
    next(stopped)
    trial.save(next(stopped), resumable=True)
    stopped.close()
    torch.manual_seed(12345)  # whatever happened in between
    resumed = list(fit(config, data, CPU, resume=load_state(trial.last)))

    assert [result.epoch for result in resumed] == [3, 4]
    assert [result.metrics for result in resumed] == [result.metrics for result in straight[2:]]
    assert [result.lr for result in resumed] == [result.lr for result in straight[2:]]
    assert (resumed[-1].predictions["logits"] == straight[-1].predictions["logits"]).all()
    one = straight[-1].state
    two = resumed[-1].state
    assert (one.epoch, one.num_steps) == (two.epoch, two.num_steps)
    for before, after in ((one.model, two.model), (one.weights, two.weights)):
        stored = after.state_dict()
        assert all(torch.equal(tensor, stored[name]) for name, tensor in before.state_dict().items())


def test_the_patience_of_early_stopping_survives_a_resume(digits: Digits, tiny: Tiny, tmp_path: Path) -> None:
    config = tiny(
        epochs=9, model={"freeze": "all"}, optimizer={"name": "sgd", "lr": 1e-12},
        early_stopping_patience=3, early_stopping_metric="val/accuracy",
    )  # fmt: skip
    trial = files(tmp_path)
    stopped = fit(config, digits(), CPU)
    next(stopped)
    trial.save(next(stopped), resumable=True)
    stopped.close()
    resumed = list(fit(config, digits(), CPU, resume=load_state(trial.last)))
    assert [result.epoch for result in resumed] == [3, 4]
    assert resumed[-1].reason == "early stopping: no better val/accuracy for 3 epochs"


def test_compact_predictions_are_those_of_the_best_epoch_so_far(
    result: EpochResult, tiny: Tiny, tmp_path: Path
) -> None:
    trial = TrialFiles.below(tmp_path, "0001", "val/accuracy", "max", tiny())
    path = tmp_path / "judged" / "0001" / "best.npz"
    for epoch, accuracy, best in ((1, 0.5, 1), (2, 0.4, 1), (3, 0.7, 3), (4, 0.7, 3), (2, 0.6, 2)):
        trial.save(scripted(result, epoch, accuracy), resumable=False)  # the last one goes back, after a crash
        with np.load(path) as stored:
            assert int(stored["epoch"]) == best
    with np.load(path) as stored:
        assert json.loads(str(stored["metrics"]))["val/accuracy"] == 0.6
        logits = result.predictions["logits"]
        assert stored["logits"].dtype == np.float16
        assert (stored["logits"].argmax(1) == logits.argmax(1)).all()


def test_an_epoch_is_stored_as_weights_and_logits_that_load_without_us(
    result: EpochResult, tiny: Tiny, tmp_path: Path
) -> None:
    trial = files(tmp_path)
    assert trial.save(result, resumable=False)
    assert kept_files(tmp_path) == ["checkpoints/t1/epoch-0001.safetensors", "predictions/t1/epoch-0001.npz"]
    weights_file, logits_file = trial.files_of(1)
    model = build_classifier(tiny().model, 10, 32)
    model.load_state_dict(load_file(weights_file))
    assert torch.equal(model.head[1].weight, result.state.model.head[1].weight)  # type: ignore[index, union-attr]
    with safe_open(weights_file, "pt") as opened:
        about = opened.metadata()
    assert (about["epoch"], json.loads(about["metrics"])) == ("1", result.metrics)
    with np.load(logits_file, allow_pickle=False) as stored:
        assert (stored["logits"] == result.predictions["logits"]).all()
        assert json.loads(str(stored["metrics"])) == result.metrics


def test_averaged_weights_are_what_is_stored(digits: Digits, tiny: Tiny, tmp_path: Path) -> None:
    result = next(fit(tiny(ema_decay=0.9), digits(), CPU))
    trial = files(tmp_path)
    trial.save(result, resumable=False)
    stored = load_file(trial.files_of(1)[0])
    assert torch.equal(stored["head.1.weight"], result.state.weights.state_dict()["head.1.weight"])
    assert not torch.equal(stored["head.1.weight"], result.state.model.state_dict()["head.1.weight"])


@pytest.mark.parametrize(
    ("keep_best", "after_each_epoch"),
    [
        (1, [[1], [2], [2], [4], [4], [4]]),
        (2, [[1], [1, 2], [2, 3], [2, 4], [2, 4], [2, 4]]),
        (3, [[1], [1, 2], [1, 2, 3], [2, 3, 4], [2, 4, 5], [2, 4, 5]]),
    ],
)
def test_the_best_epochs_are_kept_and_no_more(
    result: EpochResult, tmp_path: Path, keep_best: int, after_each_epoch: list[list[int]]
) -> None:
    trial = files(tmp_path, keep_best=keep_best)
    for epoch, (accuracy, kept) in enumerate(zip((0.3, 0.6, 0.5, 0.8, 0.6, 0.1), after_each_epoch, strict=True), 1):
        is_best = trial.save(scripted(result, epoch, accuracy), resumable=False)
        assert kept_epochs(trial) == kept
        assert is_best == (epoch in kept)
        assert sorted(epoch_of(path) for path in trial.predictions.iterdir()) == kept
    assert trial.best() == (4, {"val/accuracy": 0.8, "val/loss": pytest.approx(0.2)})


def test_a_loss_is_better_when_lower(result: EpochResult, tmp_path: Path) -> None:
    trial = files(tmp_path, metric="val/loss", mode="min", keep_best=2)
    for epoch, accuracy in enumerate((0.3, 0.6, 0.5, 0.8), 1):
        trial.save(scripted(result, epoch, accuracy), resumable=False)
    assert kept_epochs(trial) == [2, 4]
    assert trial.best() == (4, {"val/accuracy": 0.8, "val/loss": pytest.approx(0.2)})


def test_of_two_equal_epochs_the_earlier_is_kept(result: EpochResult, tmp_path: Path) -> None:
    trial = files(tmp_path)
    assert [trial.save(scripted(result, epoch, 0.5), resumable=False) for epoch in (1, 2)] == [True, False]
    assert kept_epochs(trial) == [1]


def test_an_epoch_that_is_trained_again_takes_its_own_place(result: EpochResult, tmp_path: Path) -> None:
    """A process killed between storing the weights and last.pt trains that epoch again."""
    trial = files(tmp_path, keep_best=2)
    for epoch, accuracy in ((1, 0.5), (2, 0.8), (2, 0.8)):
        assert trial.save(scripted(result, epoch, accuracy), resumable=True)
    assert kept_epochs(trial) == [1, 2]


def test_an_epoch_without_the_metric_is_not_among_the_best(result: EpochResult, tmp_path: Path) -> None:
    trial = files(tmp_path, metric="val/auroc")
    assert not trial.save(scripted(result, 1, 0.5), resumable=False)
    assert kept_files(tmp_path) == []
    assert trial.best() is None


def test_what_is_kept_is_remembered_by_another_process(result: EpochResult, tmp_path: Path) -> None:
    files(tmp_path).save(scripted(result, 1, 0.9), resumable=True)
    assert not files(tmp_path).save(scripted(result, 2, 0.5), resumable=True)
    assert kept_files(tmp_path) == [
        "checkpoints/t1/epoch-0001.safetensors",
        "checkpoints/t1/last.pt",
        "predictions/t1/epoch-0001.npz",
    ]


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "new/file"
    write_whole(path, lambda place: place.write_text("old"))

    def fail(place: Path) -> None:
        place.write_text("half")
        raise OSError("no space left on device")

    with pytest.raises(OSError, match="no space"):
        write_whole(path, fail)
    assert path.read_text() == "old"
    assert kept_files(tmp_path) == ["new/file"]


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_a_checkpoint_that_is_cut_short_is_refused_with_its_name(
    result: EpochResult, digits: Digits, tiny: Tiny, tmp_path: Path, share: float
) -> None:
    trial = files(tmp_path)
    trial.save(result, resumable=True)
    whole = trial.last.read_bytes()
    trial.last.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(RunError) as caught:
        next(fit(tiny(epochs=2), digits(), CPU, resume=load_state(trial.last)))
    assert str(caught.value).startswith(f"{trial.last}: cannot be read as a checkpoint of this configuration (")
    assert str(caught.value).endswith("). Delete it to start the trial anew.")


class _Mischief:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.mkdir, (self.path,)


@pytest.mark.parametrize("write", [torch.save, lambda made, path: path.write_bytes(pickle.dumps(made))])
def test_a_checkpoint_from_somewhere_else_cannot_run_code(
    digits: Digits, tiny: Tiny, tmp_path: Path, write: Callable[..., None]
) -> None:
    crafted = tmp_path / "last.pt"
    made = tmp_path / "made"
    write({"model": _Mischief(made)}, crafted)
    with pytest.raises(RunError, match="cannot be read as a checkpoint of this configuration"):
        next(fit(tiny(), digits(), CPU, resume=load_state(crafted)))
    assert not made.exists()


def test_a_checkpoint_that_is_not_there_says_so(digits: Digits, tiny: Tiny, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        next(fit(tiny(), digits(), CPU, resume=load_state(tmp_path / "last.pt")))


def test_a_file_name_gives_its_epoch(tmp_path: Path) -> None:
    trial = files(tmp_path)
    assert [epoch_of(path) for path in trial.files_of(12345)] == [12345, 12345]
    with pytest.raises(RunError) as caught:
        epoch_of(Path("a/epoch-x.npz"))
    assert str(caught.value) == "a/epoch-x.npz: is not named epoch-NNNN. Move it out of the run directory."
