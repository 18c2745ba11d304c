"""A new thing of any kind is one function, one class of settings and one line of a dict. Then it trains."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn

from trainables.config.architecture import SEGMENTERS, SegmenterEntry
from trainables.config.augment import AUGMENTATIONS
from trainables.config.base import Part
from trainables.config.entries import Entry
from trainables.config.io import dump_config, load_config, parse_config
from trainables.config.loss import LOSSES, LossEntry, LossPart
from trainables.config.model import HEADS, HeadPart
from trainables.config.optimizer import OPTIMIZERS, OptimizerPart
from trainables.config.schedule import SCHEDULES, SchedulePart
from trainables.data.formats import load_dataset
from trainables.data.loader import TrialData
from trainables.data.read_as import ReadAs
from trainables.data.scan import Scan, bytes_digest
from trainables.data.steps import A
from trainables.data.there import FORMATS, FileFormat
from trainables.loop import fit
from trainables.models.network import Network
from trainables.models.pyramids import Source, pretrained
from visionsweep.core.errors import ConfigError

pytestmark = pytest.mark.usefixtures("one_thread")

ROOT = Path(__file__).parents[2]
used: set[str] = set()  # which of the functions below were called


class Squared(LossPart):
    name: Literal["squared"] = "squared"
    scale: float = 1.0


class Signs(OptimizerPart):
    name: Literal["signs"] = "signs"


class Halves(SchedulePart):
    name: Literal["halves"] = "halves"


class Scaled(HeadPart):
    name: Literal["scaled"] = "scaled"
    by: float = 0.5


class Inverted(Part):
    p: float = 1.0


class OneLayer(Part):
    name: Literal["one_layer"] = "one_layer"
    width: int = 4


def squared(logits: Tensor, targets: Tensor, weights: Tensor | None, settings: Squared) -> Tensor:
    used.add("squared")
    return settings.scale * (logits.softmax(dim=1) - targets).square().mean()


def squared_pixels(logits: Tensor, targets: Tensor, weights: Tensor | None, settings: Squared) -> Tensor:
    used.add("squared_pixels")
    counts = targets < logits.shape[1]
    wanted = nn.functional.one_hot(targets * counts, logits.shape[1]).movedim(-1, 1)
    return settings.scale * ((logits.softmax(dim=1) - wanted).square() * counts[:, None]).mean()


def signs(settings: Signs, groups: Any) -> torch.optim.Optimizer:
    used.add("signs")
    return torch.optim.RMSprop(groups, lr=settings.lr)


def halves(settings: Halves, epoch: float, epochs: int) -> float:
    used.add("halves")
    return 0.5**epoch


class Times(nn.Module):
    def __init__(self, by: float) -> None:
        super().__init__()
        self.by = by

    def forward(self, features: Tensor) -> Tensor:
        return features * self.by


def scaled(settings: Scaled, in_features: int, num_outputs: int) -> nn.Module:
    used.add("scaled")
    return nn.Sequential(Times(settings.by), nn.Linear(in_features, num_outputs))


def inverted(settings: Inverted, image_size: int) -> A.InvertImg:
    used.add("inverted")
    return A.InvertImg(p=settings.p)


def one_layer(settings: OneLayer, source: Source, num_classes: int) -> Network:
    used.add("one_layer")
    layer = nn.Conv2d(3, settings.width, 3, padding=1)
    return Network(pretrained(layer, source, stages=()), nn.Conv2d(settings.width, num_classes, 1), stride=1)


@dataclass(frozen=True)
class Frames:
    file: Path

    def __call__(self, index: int) -> npt.NDArray[np.uint8]:
        frame: npt.NDArray[np.uint8] = np.load(self.file)["frames"][index]
        return frame


def scan_frames(spec: str, path: Path, task: str | None, read_as: ReadAs) -> Scan:
    arrays = np.load(path)
    digests = tuple(bytes_digest(frame.tobytes()) for frame in arrays["frames"])
    names = tuple(f"frame {number}" for number in range(len(digests)))
    return Scan(("dark", "light"), names, arrays["labels"], np.full(len(names), ""), digests, Frames(path))


@pytest.fixture(autouse=True)
def added(monkeypatch: pytest.MonkeyPatch) -> None:
    """The lines that a newcomer writes."""
    used.clear()
    monkeypatch.setitem(LOSSES, "squared", LossEntry(Squared, softmax=squared, pixels=squared_pixels))
    monkeypatch.setitem(OPTIMIZERS, "signs", Entry(Signs, signs))
    monkeypatch.setitem(SCHEDULES, "halves", Entry(Halves, halves))
    monkeypatch.setitem(HEADS, "scaled", Entry(Scaled, scaled))
    monkeypatch.setitem(AUGMENTATIONS, "inverted", Entry(Inverted, inverted))
    monkeypatch.setitem(SEGMENTERS, "one_layer", SegmenterEntry(OneLayer, one_layer))
    monkeypatch.setitem(FORMATS, "frames", FileFormat((".npz",), scan_frames))


PARTS: dict[str, Any] = {
    "optimizer": {"name": "signs", "lr": 0.01},
    "loss": {"name": "squared", "scale": 10.0},
    "schedule": {"name": "halves"},
    "augment": {"inverted": {"p": 1.0}, "horizontal_flip": {}},
    "epochs": 1,
    "batch_size": 8,
    "image_size": 32,
    "fit_image": "squash",
}
LABELS = {"task": "multiclass", "model": {"backbone": "test_resnet", "weights": "none", "head": {"name": "scaled"}}}
PIXELS = {"task": "segmentation", "model": {"architecture": {"name": "one_layer"}, "weights": "none"}}


def test_one_line_for_each_kind_trains_a_classifier_on_a_new_format(tmp_path: Path) -> None:
    labels = np.arange(24) % 2
    noise = np.random.default_rng(0).integers(0, 100, (24, 32, 32, 3), dtype=np.uint8)
    np.savez(tmp_path / "film.npz", frames=noise + (155 * labels[:, None, None, None]).astype(np.uint8), labels=labels)
    data = TrialData(*load_dataset(str(tmp_path / "film.npz"), task="multiclass", short_side_px=32, cache_dir=None))
    config = parse_config({**LABELS, **PARTS})
    (epoch,) = fit(config, data, torch.device("cpu"))
    assert data.dataset.classes == ("dark", "light")
    assert 0 < epoch.metrics["train/loss"] < 10 * 0.5  # the scale, and the mean square of a guess at two classes
    assert 0 <= epoch.metrics["val/accuracy"] <= 1
    assert used == {"squared", "signs", "halves", "scaled", "inverted"}


def test_one_line_for_each_kind_trains_a_segmenter() -> None:
    dataset, images = load_dataset("digits:segmentation", short_side_px=32, cache_dir=None)
    split = np.full(len(dataset.split), "duplicate", dtype=dataset.split.dtype)
    for name, count in (("train", 16), ("val", 4)):
        split[dataset.indices(name)[:count]] = name
    config = parse_config({**PIXELS, **PARTS})
    (epoch,) = fit(config, TrialData(replace(dataset, split=split), images), torch.device("cpu"))
    assert 0 < epoch.metrics["train/loss"] < 10
    assert 0 <= epoch.metrics["val/miou"] <= 1
    assert used == {"squared_pixels", "signs", "halves", "one_layer", "inverted"}


def test_what_was_added_is_written_to_a_file_and_read_again(tmp_path: Path) -> None:
    for kind in (LABELS, PIXELS):
        config = parse_config({**kind, **PARTS})
        (tmp_path / "config.yaml").write_text(dump_config(config))
        assert load_config(tmp_path / "config.yaml") == config
        assert config.augment.model_dump()["inverted"] == {"p": 1.0}


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"loss": {"name": "squard"}}, "unknown loss 'squard'. Did you mean 'squared'?"),
        ({"optimizer": {"name": "signs", "lr": 0.0}}, "'optimizer.lr' is 0.0: input should be greater than 0."),
        ({"schedule": {"name": "halvs"}}, "unknown schedule 'halvs'. Did you mean 'halves'?"),
        ({"augment": {"inverted": {"q": 1}}}, "unknown key 'augment.inverted.q'. Known: p."),
        ({"augment": {"invertd": {}}}, "unknown key 'augment.invertd'. Did you mean 'inverted'?"),
        ({"task": "binary"}, "task 'binary' takes the losses bce and focal, not 'squared'."),
    ],
)
def test_sentences_know_what_was_added(changed: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config({**LABELS, **PARTS, **changed})
    assert sentence in str(caught.value)


def test_a_configuration_is_checked_without_importing_torch() -> None:
    models = {"multiclass": {"backbone": "resnet18"}, "segmentation": {"architecture": {"name": "fcn8s"}}}
    code = (
        "import sys; from trainables.config.io import parse_config\n"
        f"for task, model in {models}.items():\n"
        "    rest = {'optimizer': {'name': 'sgd', 'lr': 0.1}, 'epochs': 1, 'batch_size': 2}\n"
        "    parse_config({'task': task, 'model': model, **rest})\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
