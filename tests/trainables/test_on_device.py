"""Augmentation in batches on the device: the same draws, and the same pixels, as the loader's own pipeline."""

from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from search_spaces import recipe
from search_spaces.recipes import RECIPES
from trainables.checkpoint import TrialFiles, load_state
from trainables.config import augment as parts
from trainables.config.augment import AUGMENTATIONS, AugmentConfig
from trainables.config.entries import Entry
from trainables.config.io import parse_config
from trainables.config.trial import TrialConfig
from trainables.data.augment import mix_batch, train_transform
from trainables.data.loader import TrialData, batches
from trainables.data.on_device.drawn import DrawnTransform
from trainables.data.on_device.finish import finished
from trainables.data.on_device.kernels import KERNELS
from trainables.data.on_device.ops import Undone, UndoneBatch, collated
from trainables.data.on_device.where import augmented_on, fallback, loader_transform
from trainables.data.steps import A
from trainables.loop import fit
from trainables.seeds import derived_seed
from trainables.tasks import LABEL_TASKS
from visionsweep.core.errors import ConfigError

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")
GPU = torch.device("cuda", 0)
META = torch.device("meta")
SIZE = 32
SEED = 3

PARTS: list[tuple[str, Any]] = [
    ("horizontal_flip", parts.Flip()),
    ("tone", parts.Tone(p=1)),
    ("tone", parts.Tone(strength=4.0)),
    ("color_jitter", parts.ColorJitter(strength=0.2)),
    ("color_jitter", parts.ColorJitter(p=0.5, strength=0.5)),
    ("blur", parts.Blur(p=1)),
    ("blur", parts.Blur(limit_px=4, kind="gaussian", sigma_max=0.6)),
    ("blur", parts.Blur(p=1, limit_px=13)),
    ("policy", parts.AutoAugment()),
    ("policy", parts.AutoAugment(policy="cifar10")),
    ("policy", parts.AutoAugment(policy="svhn")),
    ("policy", parts.RandAugment()),
    ("policy", parts.RandAugment(num_ops=8, magnitude=30)),
    ("coarse_dropout", parts.CoarseDropout()),
    ("coarse_dropout", parts.CoarseDropout(p=1, num_holes=64, hole_px=512)),
]
REPORT = {
    "rotate": {},
    "random_resized_crop": {},
    "horizontal_flip": {},
    "tone": {},
    "color_jitter": {},
    "blur": {},
    "coarse_dropout": {},
}
# Levels by which a value may differ from the CPU's, of 255: OpenCV's way back from HSV rounds some values otherwise.
# Further steps stretch that, so a jitter and a pipeline may have a few more.
LEVELS = {"color_jitter": 3, "all": 4}
# A policy moves pixels by the nearest one. Ties of a rotation may go to the other neighbour.
MOST_MOVED = 0.002


def make(augment: dict[str, Any] | AugmentConfig, **values: Any) -> TrialConfig:
    plain = {"task": "multiclass", "model": {"backbone": "resnet18"}, "optimizer": {"name": "sgd", "lr": 0.1}}
    if values.get("task") == "segmentation":
        plain["model"] = {"architecture": {"name": "unet"}, "backbone": "resnet18"}
    given = augment if isinstance(augment, dict) else augment.model_dump()
    return parse_config({**plain, "augment": given, "epochs": 1, "batch_size": 2, "image_size": SIZE, **values})


def images(num: int, *, channels: int = 3, dtype: Any = np.uint8) -> list[np.ndarray]:
    """Noise and gradients in turn, of different sizes. Noise shows every pixel that is moved."""
    random = np.random.default_rng(0)
    top = 255 if dtype == np.uint8 else 60_000
    made = []
    for number in range(num):
        height, width = 40 + number % 7, 50 - number % 5
        noise = random.integers(0, top, (height, width, channels))
        ramp = np.linspace(number % 3 * 60, top - number, width)[None, :, None] * np.linspace(0.4, 1, channels)
        made.append((noise if number % 2 else np.broadcast_to(ramp, noise.shape)).astype(dtype))
    return made


def both(config: TrialConfig, given: list[np.ndarray], masks: list[np.ndarray] | None = None) -> tuple[Any, ...]:
    """Return (images, masks) of the CPU's pipeline and of the device's version, with the same seeds."""
    plain = train_transform(config)
    drawing = pickle.loads(pickle.dumps(DrawnTransform(config)))  # as a loader process gets it
    drawing.set_random_seed(SEED)
    wanted, got = [], []
    for number, image in enumerate(given):
        data = {"image": image} | ({} if masks is None else {"mask": masks[number]})
        plain.set_random_seed(derived_seed(SEED, number))
        wanted.append(plain(**data))
        got.append(drawing(**data))
    targets = torch.zeros(len(given), 2)
    if masks is not None:
        targets = torch.from_numpy(np.stack([one["mask"] for one in got]))
    pixels, targets = finished(collated([one["image"] for one in got]), targets, CPU)
    return np.stack([one["image"] for one in wanted]), [one.get("mask") for one in wanted], pixels.numpy(), targets


@pytest.mark.parametrize(("field", "part"), PARTS)
def test_every_step_gives_the_pixels_of_the_loaders_pipeline(field: str, part: Any) -> None:
    wanted, _, got, _ = both(make(AugmentConfig(**{field: part})), images(24))
    off = np.abs(wanted.astype(int) - got.astype(int))
    levels = LEVELS.get(field, 1)
    if field == "policy":
        assert (off > levels).mean() <= MOST_MOVED
    else:
        assert off.max() <= levels
    assert got.dtype == np.uint8


def test_a_whole_pipeline_gives_the_pixels_of_the_loaders_own() -> None:
    wanted, _, got, _ = both(make(REPORT), images(40))
    off = np.abs(wanted.astype(int) - got.astype(int))
    assert off.max() <= LEVELS["all"]
    assert (off > 1).mean() < 0.02


def test_every_kind_of_operation_is_compared() -> None:
    seen = set[str]()
    for field, part in PARTS:
        drawing = DrawnTransform(make(AugmentConfig(**{field: part})))
        drawing.set_random_seed(SEED)
        seen |= {op.kind for image in images(24) for op in drawing(image=image)["image"].ops}
    assert seen == set(KERNELS)


def test_masks_go_along_and_void_stays_void() -> None:
    given = images(20)
    masks = [np.random.default_rng(1).choice(np.array([0, 7, 255], np.uint8), image.shape[:2]) for image in given]
    config = make({"rotate": {"p": 1.0}, "horizontal_flip": {}, "coarse_dropout": {}}, task="segmentation")
    wanted, wanted_masks, got, got_masks = both(config, given, masks)
    assert (wanted == got).all()
    assert (np.stack(wanted_masks) == got_masks.numpy()).all()
    assert set(np.unique(got_masks)) <= {0, 7, 255}


@pytest.mark.parametrize(("channels", "dtype"), [(1, np.uint8), (13, np.uint8), (13, np.uint16), (4, np.float32)])
def test_images_of_other_channels_and_depths_keep_their_values(channels: int, dtype: Any) -> None:
    bands = {"dtype": np.dtype(dtype).name, "mean": [0.0] * channels, "std": [1.0] * channels}
    augment = {"horizontal_flip": {}, "coarse_dropout": {}, "tone": {}}  # tone is for RGB, and left out
    config = make(augment, model={"backbone": "resnet18", "bands": bands})
    wanted, _, got, _ = both(config, images(20, channels=channels, dtype=dtype))
    assert got.shape == (20, SIZE, SIZE, channels)
    assert (wanted == got).all()
    assert got.dtype == (np.uint8 if dtype == np.uint8 else np.float32)


def test_the_draws_have_the_chances_and_the_ranges_of_the_configuration() -> None:
    num = 600
    augment = {
        "horizontal_flip": {"p": 0.3},
        "tone": {"p": 0.6, "strength": 1.0},
        "blur": {"p": 0.5, "limit_px": 5},
        "coarse_dropout": {"p": 0.2, "num_holes": 3, "hole_px": 8},
    }
    drawing = DrawnTransform(make(augment))
    drawing.set_random_seed(SEED)
    image = images(1)[0]
    drawn = [drawing(image=image)["image"].ops for _ in range(num)]
    kinds = Counter(op.kind for ops in drawn for op in ops)
    # A third of the tones moves the hue, and two thirds are tables: gamma, or brightness and contrast.
    chances = {"flip": 0.3, "table": 0.4, "hsv": 0.2, "blur": 0.5 * 2 / 3, "median": 0.5 / 3, "holes": 0.2}
    assert set(kinds) == set(chances)
    for kind, chance in chances.items():
        assert abs(kinds[kind] / num - chance) < 4 * (chance * (1 - chance) / num) ** 0.5, kind
    of = {kind: [op for ops in drawn for op in ops if op.kind == kind] for kind in kinds}
    assert {op.size for op in of["blur"] + of["median"]} == {3, 5}
    assert all(abs(op.values.sum() - 1) < 1e-5 for op in of["blur"])
    shifts = [(op.values[0] + 90) % 180 - 90 for op in of["hsv"]]  # of hue 0
    assert min(shifts) < -7
    assert max(shifts) > 6
    assert -10 <= min(shifts) <= max(shifts) <= 10
    counts = Counter(int((op.values.reshape(-1, 4)[:, 2] > 0).sum()) for op in of["holes"])
    assert set(counts) == {1, 2, 3}
    sides = np.concatenate([op.values.reshape(-1, 4) for op in of["holes"]])
    sides = sides[sides[:, 2] > 0]
    assert (sides[:, 2:] - sides[:, :2] == 8).all()
    assert sides.min() == 0
    assert sides.max() == SIZE


def batch_of(augment: dict[str, Any], num: int = 12) -> UndoneBatch:
    drawing = DrawnTransform(make(augment))
    drawing.set_random_seed(SEED)
    made = collated([drawing(image=image)["image"] for image in images(num)])
    assert isinstance(made, UndoneBatch)
    return made


def test_a_part_of_a_batch_has_the_draws_that_it_has_in_the_whole() -> None:
    whole = batch_of(REPORT)
    targets = torch.zeros(12, 2)
    wanted, _ = finished(whole, targets, CPU)
    for start, stop in ((0, 5), (5, 12), (11, 12)):
        got, _ = finished(whole.part(start, stop), targets[start:stop], CPU)
        assert torch.equal(got, wanted[start:stop])
    # A process that makes a part alone draws the same.
    drawing = DrawnTransform(make(REPORT))
    drawing.set_random_seed(SEED, place=5)
    alone, _ = finished(collated([drawing(image=image)["image"] for image in images(12)[5:]]), targets[5:], CPU)
    assert torch.equal(alone, wanted[5:])


def test_a_loader_process_gives_the_same_batches(digits: Callable[..., TrialData]) -> None:
    data = digits()
    config = make(REPORT)
    labels = LABEL_TASKS["multiclass"].encode(data.dataset.targets, 10)
    options: dict[str, Any] = {"seed": SEED, "batch_size": 16}
    here, there = (
        list(batches(data, "train", labels, DrawnTransform(config), **options, num_workers=number)) for number in (0, 1)
    )
    assert len(here) == len(there) == 4
    for (one, one_targets), (other, other_targets) in zip(here, there, strict=True):
        assert torch.equal(one_targets, other_targets)
        assert torch.equal(finished(one, one_targets, CPU)[0], finished(other, other_targets, CPU)[0])


def test_a_batch_is_pinned_with_its_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = batch_of({"horizontal_flip": {}})
    pinned = list[torch.Tensor]()
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: pinned.append(self) or self)
    assert batch.pin_memory().groups == batch.groups
    assert pinned[0] is batch.pixels
    assert pinned[1] is batch.values


def test_an_image_without_draws_stays_as_it_is() -> None:
    pixels = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    got, _ = finished(collated([Undone(pixels, ()), Undone(pixels, ())]), torch.zeros(2, 1), CPU)
    assert torch.equal(got[1], torch.from_numpy(pixels))


@pytest.mark.parametrize(("field", "part"), [*PARTS, ("mix", parts.MixUp()), ("mix", parts.CutMix())])
def test_nothing_waits_for_the_device(field: str, part: Any) -> None:
    """On torch's meta device there are no values. Whatever would ask for one fails there."""
    batch = batch_of(AugmentConfig(**{"horizontal_flip": parts.Flip(), field: part}).model_dump())
    pixels, targets = finished(batch, torch.zeros(12, 2, device=META), META)
    assert pixels.shape == (12, SIZE, SIZE, 3)
    if field == "mix":
        mixed, targets = mix_batch(part, pixels.permute(0, 3, 1, 2).float(), targets)
        assert mixed.shape == (12, 3, SIZE, SIZE)
    assert targets.device == pixels.device == META


Digits = Callable[..., TrialData]
Tiny = Callable[..., TrialConfig]
AUGMENT = {"horizontal_flip": {}, "tone": {}, "policy": {"name": "randaugment"}, "mix": {"name": "mixup"}}


def losses(config: TrialConfig, data: TrialData, **options: Any) -> list[float]:
    return [result.metrics["train/loss"] for result in fit(config, data, CPU, **options)]


def test_a_training_that_augments_on_the_device_is_repeated_and_resumed(
    digits: Digits, tiny: Tiny, tmp_path: Path
) -> None:
    data = digits()
    config = tiny(epochs=3, augment=AUGMENT, augment_on="device")
    whole = losses(config, data)
    files = TrialFiles.below(tmp_path, "0", "val/loss", "min", config)
    for result in fit(config, data, CPU):
        files.save(result, resumable=True)
        break
    files.settle()
    assert losses(config, data, resume=load_state(files.last)) == whole[1:]
    assert losses(config, data) == whole
    assert losses(config.model_copy(update={"augment_on": "cpu"}), data) != whole


def test_auto_on_a_cpu_is_the_cpus_path_bit_for_bit(digits: Digits, tiny: Tiny) -> None:
    data = digits()
    auto = tiny(epochs=2, augment=AUGMENT)
    assert auto.augment_on == "auto"
    assert losses(auto, data) == losses(auto.model_copy(update={"augment_on": "cpu"}), data)
    assert isinstance(loader_transform(auto, CPU), A.Compose)


def test_where_images_are_augmented() -> None:
    config = make(REPORT)
    asked = {on: config.model_copy(update={"augment_on": on}) for on in ("auto", "cpu", "device")}
    assert augmented_on(asked["auto"], CPU) == "cpu"
    assert augmented_on(asked["auto"], GPU) == augmented_on(asked["auto"], torch.device("mps")) == "device"
    assert augmented_on(asked["cpu"], GPU) == "cpu"
    assert augmented_on(asked["device"], CPU) == "device"
    assert isinstance(loader_transform(config, GPU), DrawnTransform)
    nothing = make({"random_resized_crop": {}}, augment_on="device")  # crops are the loader's
    assert augmented_on(nothing, GPU) == "cpu"
    assert fallback(config, GPU) is None


def test_a_step_without_a_device_version_falls_back_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    config = make({"tone": {}, "blur": {}})
    monkeypatch.setitem(AUGMENTATIONS, "blur", Entry(parts.Blur, glass))
    assert augmented_on(config, GPU) == "cpu"
    assert fallback(config, GPU) == "augment.blur has no device version: images are augmented on the CPU."
    assert fallback(config, CPU) is None
    with pytest.raises(ConfigError, match=r"augment_on is 'device', and augment\.blur has no device version: set aug"):
        augmented_on(config.model_copy(update={"augment_on": "device"}), CPU)


def glass(part: Any, image_size: int) -> Any:
    return A.GlassBlur()


def test_recipes_stay_on_the_cpu_as_their_reports() -> None:
    for name in RECIPES:
        assert recipe(name)["augment_on"] == "cpu"


def test_kept_features_are_not_augmented_on_the_device() -> None:
    with pytest.raises(ConfigError, match="augment_on is 'device': set augment_on=auto or cpu, or leave out views"):
        make({}, model={"backbone": "resnet18", "freeze": "all"}, views=1, augment_on="device")
