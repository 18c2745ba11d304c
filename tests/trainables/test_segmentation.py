"""Segmentation through the loop: images and masks moved together, judged at the masks' own size, resumed exactly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from trainables.checkpoint import TrialFiles, load_state
from trainables.config.io import parse_config
from trainables.config.trial import TrialConfig
from trainables.data.augment import cached_short_side, eval_transform, train_transform
from trainables.data.dataset import VOID
from trainables.data.formats import load_dataset
from trainables.data.loader import TrialData, batches, whole_images
from trainables.data.merge import merge_classes
from trainables.data.steps import A, Pipeline
from trainables.ensemble import evaluate_files
from trainables.evaluate import evaluate
from trainables.inference import predict_batch, windows
from trainables.loop import fit
from trainables.pixel_scores import scores_of
from trainables.state import build_state
from trainables.targets import classes_and_labels
from visionsweep.core.errors import Interrupted

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")


def tiny(**changed: Any) -> TrialConfig:
    return parse_config(
        {
            "task": "segmentation",
            "model": {
                "architecture": {"name": "fpn", "channels": 16},
                "backbone": "test_efficientnet",
                "weights": "none",
            },
            "optimizer": {"name": "adam", "lr": 0.005},
            "epochs": 1,
            "batch_size": 8,
            "image_size": 64,
            "fit_image": "squash",
            **changed,
        }
    )


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., TrialData]:
    """Return `scenes(train=16, val=6)`: drawn scenes of digits with their masks."""
    dataset, images = load_dataset("digits:segmentation", short_side_px=64, cache_dir=tmp_path_factory.mktemp("cache"))

    def take(train: int = 16, val: int = 6) -> TrialData:
        split = np.full(len(dataset.split), "duplicate", dtype=dataset.split.dtype)
        for name, count in (("train", train), ("val", val)):
            split[dataset.indices(name)[:count]] = name
        return TrialData(replace(dataset, split=split), images)

    return take


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Ten images of 60 x 45 px with a bright right half.

    Masks are twice as large, with the bright half as class 1 and one row of void.
    """
    rng = np.random.default_rng(0)
    for number in range(10):
        image = rng.integers(0, 60, (45, 60, 3), dtype=np.uint8)
        image[:, 30:] += 150
        mask = np.zeros((90, 120), np.uint8)
        mask[:, 60:] = 1
        mask[:2] = VOID
        for folder, array in (("images", image), ("masks", mask)):
            (tmp_path / "photos" / folder).mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(tmp_path / "photos" / folder / f"{number}.png")
    (tmp_path / "photos" / "classes.txt").write_text("background\nbright\n")
    return tmp_path / "photos"


def load(photos: Path, short_side_px: int = 45) -> TrialData:
    return TrialData(*load_dataset(str(photos), short_side_px=short_side_px, cache_dir=None))


# --- images and masks together ---------------------------------------------------------------------------------

GEOMETRY: list[dict[str, Any]] = [
    {},
    {"horizontal_flip": {"p": 1.0}},
    {"rescale": {"p": 1.0, "low": 0.5, "high": 1.0}},
    {"rescale": {"p": 1.0, "low": 1.0, "high": 2.0}},
    {"crop_and_pad": {"p": 1.0, "fraction": 0.3}},
    {"rotate": {"p": 1.0, "degrees": 30.0}},
    {"random_resized_crop": {"scale_min": 0.3}},
    {"foreground_crop": {"p": 1.0, "min_share": 0.2}},
    {"coarse_dropout": {"p": 1.0}, "blur": {"p": 1.0}, "tone": {"p": 1.0}},
]


@pytest.mark.parametrize("fit_image", ["crop", "squash"])
@pytest.mark.parametrize("augment", GEOMETRY, ids=lambda augment: "+".join(augment) or "plain")
def test_a_mask_goes_where_its_image_goes(augment: dict[str, Any], fit_image: str) -> None:
    """The mask is 1 where the image is bright, and void where the image was padded."""
    config = tiny(augment=augment, fit_image=fit_image, image_size=64, short_side=64 if fit_image == "crop" else None)
    image = np.full((80, 100, 3), 60, np.uint8)
    image[20:60, 50:90] = 220
    mask = (image[:, :, 0] > 128).astype(np.uint8)
    transform = train_transform(config, background=0)
    transform.set_random_seed(0)
    for _ in range(12):
        done = transform(image=image, mask=mask)
        assert done["image"].shape == (64, 64, 3)
        assert done["mask"].shape == (64, 64)
        assert set(np.unique(done["mask"])) <= {0, 1, VOID}  # by nearest: nothing lies between two classes
        known = done["mask"] != VOID
        agree = (done["image"][:, :, 0] > 140) == (done["mask"] == 1)
        assert agree[known].mean() > 0.9 - 0.1 * ("coarse_dropout" in augment)
        if augment.keys() == {"rescale"} and not known.all():  # what is void is black, but for a blurred edge
            assert done["image"][~known].mean() < 20


def exact(mask: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize a mask to its image's size like the loader: a pixel's centre decides."""
    return cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)


@pytest.mark.parametrize("size", [(120, 160), (75, 101), (241, 97)])
def test_training_masks_shrink_by_the_centres_of_their_pixels_as_the_loader_shrinks_them(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    height, width = size
    image = rng.integers(0, 256, (height, width, 3), np.uint8)
    mask = rng.integers(0, 5, size, np.uint8)
    squashed = train_transform(tiny(image_size=64))(image=image, mask=mask)["mask"]
    assert (squashed == exact(mask, 64, 64)).all()
    assert (squashed != cv2.resize(mask, (64, 64), interpolation=cv2.INTER_NEAREST)).any()
    side = 48
    config = tiny(fit_image="crop", image_size=side, short_side=side)
    scale = side / min(size)
    whole = exact(mask, round(height * scale), round(width * scale))
    cropped = train_transform(config)(image=image, mask=mask)["mask"]
    places = [
        np.s_[top : top + side, left : left + side] for top, left in np.ndindex(*(1 + n - side for n in whole.shape))
    ]
    assert any((whole[place] == cropped).all() for place in places)


def test_a_random_resized_crop_shrinks_its_mask_likewise() -> None:
    rng = np.random.default_rng(0)
    mask = rng.integers(0, 5, (96, 120), np.uint8)
    image = np.repeat(mask[..., None], 3, axis=2)
    crop = A.RandomResizedCrop((32, 32), scale=(0.3, 0.6))
    transform = Pipeline([crop])
    transform.set_random_seed(0)
    for _ in range(5):
        crop.interpolation = cv2.INTER_NEAREST_EXACT  # the image's pixels are taken, not mixed: it shows which
        done = transform(image=image, mask=mask)
        assert (done["mask"] == done["image"][..., 0]).all()


def test_what_is_padded_is_void_and_black() -> None:
    config = tiny(fit_image="crop", image_size=64, short_side=32)
    done = train_transform(config)(image=np.full((32, 40, 3), 200, np.uint8), mask=np.ones((32, 40), np.uint8))
    assert (done["mask"] == VOID).sum() == 64 * 64 - 32 * 40
    assert not done["image"][done["mask"] == VOID].any()


def test_a_foreground_crop_shows_foreground_that_a_plain_crop_misses() -> None:
    image = np.zeros((256, 256, 3), np.uint8)
    mask = np.zeros((256, 256), np.uint8)
    mask[96:128, 200:232] = 3
    mask[:40] = VOID
    shares = {}
    for name, augment in (("plain", {}), ("foreground", {"foreground_crop": {"p": 1.0, "min_share": 0.1}})):
        transform = train_transform(tiny(augment=augment, fit_image="crop", short_side=256), background=0)
        transform.set_random_seed(0)
        drawn = [transform(image=image, mask=mask)["mask"] for _ in range(60)]
        shares[name] = np.mean([(crop == 3).mean() >= 0.1 for crop in drawn])
    assert shares["plain"] < 0.2
    assert shares["foreground"] > 2 * shares["plain"] + 0.2


def test_training_batches_hold_merged_masks_at_the_image_size_and_repeat(photos: Path) -> None:
    data = load(photos)
    merge = merge_classes(data.dataset.classes, {})
    config = tiny(fit_image="crop", image_size=32, short_side=45)
    got = list(batches(data, "train", merge, train_transform(config), 4, seed=0, repeat=3))
    num_train = len(data.dataset.indices("train"))
    assert sum(len(images) for images, _ in got) == 3 * num_train
    for images, masks in got:
        assert images.shape[1:] == (32, 32, 3)
        assert masks.shape == (len(images), 32, 32)
        assert masks.dtype == torch.uint8
        bright = images[..., 0] > 130
        assert (bright == (masks == 1))[masks != VOID].float().mean() > 0.95


def test_evaluation_sees_whole_images_and_their_masks_untouched(photos: Path) -> None:
    data = load(photos)
    config = tiny(fit_image="crop", image_size=32, short_side=40)
    merge = merge_classes(data.dataset.classes, {})
    got = list(whole_images(data, "val", merge, eval_transform(config), 8))
    assert [tuple(images.shape) for images, _ in got] == [(2, 40, 53, 3)]
    assert (got[0][1].numpy() == data.images.mask(int(data.dataset.indices("val")[0]))).all()


def test_images_of_different_sizes_are_judged_together_with_those_of_their_own(photos: Path) -> None:
    for number, size in enumerate(((60, 45), (45, 60), (45, 60), (60, 45), (64, 48))):
        for folder, mode in (("images", "RGB"), ("masks", "L")):
            path = photos / folder / f"{number}.png"
            Image.open(path).resize(size, Image.Resampling.NEAREST).convert(mode).save(path)
    (photos / "val.txt").write_text("".join(f"{number}\n" for number in range(5)))
    (photos / "train.txt").write_text("".join(f"{number}\n" for number in range(5, 10)))
    data = load(photos)
    merge = merge_classes(data.dataset.classes, {})
    got = list(whole_images(data, "val", merge, eval_transform(tiny(fit_image="crop", short_side=45)), 8))
    assert [len(images) for images, _ in got] == [1, 2, 1, 1]
    assert [tuple(masks.shape[1:]) for _, masks in got] == [(45, 60), (60, 45), (45, 60), (48, 64)]


def test_the_cache_holds_images_as_large_as_the_network_sees_them() -> None:
    assert cached_short_side(tiny(image_size=64)) == 64
    assert cached_short_side(tiny(image_size=64, fit_image="crop", short_side=100)) == 100
    assert cached_short_side(tiny(image_size=64, fit_image="crop")) == 64


# --- training ------------------------------------------------------------------------------------------------------

DECODER_FIRST = {
    "architecture": {"name": "fpn", "channels": 16},
    "backbone": "test_efficientnet",
    "weights": "none",
    "decoder_first": 0.5,
}


def test_the_decoder_learns_alone_first_and_then_with_the_backbone(scenes: Callable[..., TrialData]) -> None:
    config = tiny(epochs=2, model=DECODER_FIRST, ema_decay=0.5)
    data = scenes()
    torch.manual_seed(config.seed)
    begun = build_state(config, 11, CPU).model.state_dict()

    def moved(model: nn.Module, part: str) -> set[str]:
        now = model.state_dict()
        return {name for name in begun if name.startswith(part) and not torch.equal(now[name], begun[name])}

    training = fit(config, data, CPU)
    state = next(training).state
    assert not moved(state.model, "backbone.")
    assert moved(state.model, "decoder.")
    next(training)
    for model in (state.model, state.weights):  # statistics of batch norm too
        assert {name.rpartition(".")[2] for name in moved(model, "backbone.")} >= {"weight", "running_mean"}


def test_an_epoch_goes_through_a_small_set_as_often_as_it_takes(scenes: Callable[..., TrialData]) -> None:
    def losses(data: TrialData, **changed: Any) -> list[float]:
        return [result.metrics["train/loss"] for result in fit(tiny(epochs=2, batch_size=4, **changed), data, CPU)]

    few = scenes(train=5, val=2)
    more = scenes(train=16, val=2)
    assert losses(few, least_epoch_images=16) == losses(few, repeat=4)
    assert losses(few, least_epoch_images=16, repeat=5) == losses(few, repeat=5)
    assert losses(more, least_epoch_images=16) == losses(more)


def test_a_segmenter_learns_which_pixel_is_bright(photos: Path) -> None:
    config = tiny(epochs=6, image_size=32, fit_image="crop", short_side=45, batch_size=4)
    results = list(fit(config, load(photos), CPU))
    assert results[-1].metrics["val/miou"] > 0.8
    assert results[-1].metrics["val/num_classes_iou"] == 2
    assert results[-1].predictions["shapes"].tolist() == [[90, 120]] * 2  # the masks' own size
    assert {"val/iou/background", "val/iou/bright", "val/fw_iou", "train/loss"} <= results[-1].metrics.keys()


def test_the_metrics_are_those_of_the_stored_masks(scenes: Callable[..., TrialData]) -> None:
    data = scenes(val=5)
    result = next(fit(tiny(), data, CPU))
    truth = np.concatenate([data.images.mask(int(i)).reshape(-1) for i in data.dataset.indices("val")])
    decided = result.predictions["masks"]
    num_classes = len(data.dataset.classes)
    known = truth != VOID
    counts = np.bincount(truth[known] * num_classes + decided[known].astype(int), minlength=num_classes**2)
    matrix = torch.from_numpy(counts.reshape(num_classes, num_classes))
    for name, value in scores_of(matrix, data.dataset.classes).items():
        assert result.metrics[f"val/{name}"] == pytest.approx(value), name


@pytest.mark.parametrize(
    "changed",
    [
        {"loss": {"name": "dice", "ce_weight": 0.5}, "augment": {"rotate": {"p": 1.0}, "rescale": {}}},
        {"loss": {"name": "lovasz"}, "ema_decay": 0.9, "optimizer": {"name": "sgd", "lr": 0.05}},
        {
            "fit_image": "crop",
            "image_size": 32,
            "short_side": 64,
            "augment": {"foreground_crop": {"min_share": 0.3}},
            "repeat": 2,
        },
        {"ema_decay": 0.9, "model": DECODER_FIRST},
    ],
    ids=["dice", "lovasz", "foreground crop and repeat", "decoder first"],
)
def test_a_resumed_training_is_the_same_training(
    scenes: Callable[..., TrialData], tmp_path: Path, changed: dict[str, Any]
) -> None:
    config = tiny(epochs=3, **changed)
    data = scenes()
    straight = list(fit(config, data, CPU))
    files = TrialFiles(tmp_path / "c", tmp_path / "p", "val/miou", "max", 1)
    files.save(next(fit(config, data, CPU)), resumable=True)
    resumed = list(fit(config, data, CPU, resume=load_state(files.last)))
    assert [result.metrics for result in resumed] == [result.metrics for result in straight[1:]]
    assert (resumed[-1].predictions["masks"] == straight[-1].predictions["masks"]).all()


def test_pixels_of_each_image_are_counted_for_the_metrics_of_resampled_images(
    scenes: Callable[..., TrialData], tmp_path: Path
) -> None:
    result = next(fit(tiny(epochs=1), scenes(), CPU))
    files = TrialFiles.below(tmp_path, "0001", "val/miou", "max", tiny())
    files.save(result, resumable=False)
    with np.load(tmp_path / "judged" / "0001" / "best.npz") as stored:
        right, there, said = stored["pixels"].astype(float).transpose(1, 0, 2)  # each (N, C)
        assert stored["classes"].tolist() == result.predictions["classes"].tolist()
    assert len(right) == len(result.predictions["shapes"])
    assert right.sum() / there.sum() == pytest.approx(result.metrics["val/pixel_accuracy"])
    assert (there.sum(axis=1) == said.sum(axis=1)).all()
    with np.errstate(invalid="ignore"):
        iou = right.sum(axis=0) / (there + said - right).sum(axis=0)
    assert np.nanmean(iou) == pytest.approx(result.metrics["val/miou"])


def test_an_image_whose_mask_is_all_void_breaks_nothing(photos: Path) -> None:
    for number in (0, 1, 2):
        Image.fromarray(np.full((90, 120), VOID, np.uint8)).save(photos / "masks" / f"{number}.png")
    for loss in ("cross_entropy", "dice", "focal", "lovasz"):
        config = tiny(epochs=1, image_size=32, batch_size=2, loss={"name": loss})
        result = next(fit(config, load(photos), CPU))
        assert np.isfinite(result.metrics["train/loss"])


def test_merged_classes_are_learnt_and_judged(scenes: Callable[..., TrialData]) -> None:
    merge = {"small": ["0", "1", "2", "3", "4"], "void": ["9"]}
    config = tiny(merge=merge, loss={"name": "cross_entropy", "class_weights": "median_frequency"})
    data = scenes()
    classes, _, counts = classes_and_labels(config, data)
    assert classes == ("background", "small", "5", "6", "7", "8")
    assert counts.shape == (16, 6)
    result = next(fit(config, data, CPU))
    of_class = {name for name in result.metrics if name.startswith("val/iou/")}
    assert of_class <= {f"val/iou/{name}" for name in classes}
    assert result.predictions["masks"].max() <= 5


def test_a_training_that_is_asked_to_stop_stops_while_it_judges(scenes: Callable[..., TrialData]) -> None:
    config = tiny()
    data = scenes()
    _, labels, _ = classes_and_labels(config, data)
    state = next(fit(config, data, CPU)).state
    with pytest.raises(Interrupted):
        evaluate(config, [state.weights], data, labels, CPU, stop=lambda: "enough")


# --- tiles ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("length", "size", "overlap"), [(10, 32, 0.2), (32, 32, 0.0), (33, 32, 0.25), (100, 32, 0.5)])
def test_windows_cover_everything_and_overlap_as_much_as_asked(length: int, size: int, overlap: float) -> None:
    places = windows(length, size, overlap)
    assert places[0][0] == 0
    assert places[-1][1] == length
    assert all(end - start == min(size, length) for start, end in places)
    for (_, end), (start, _) in pairwise(places):
        assert end - start >= int(overlap * size)


class _Local(torch.nn.Module):
    """A network that looks at one pixel at a time."""

    pixel_mean = torch.zeros(3, 1, 1)
    pixel_std = torch.full((3, 1, 1), 255.0)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return 4 * images[:, :2] - 2 * images[:, 2:]


def test_tiles_of_a_network_that_looks_at_single_pixels_give_the_whole_image() -> None:
    images = torch.randint(0, 255, (2, 50, 71, 3), dtype=torch.uint8)
    whole = predict_batch(tiny(), [_Local()], images, CPU).softmax(1)
    tiled = predict_batch(tiny(evaluation="tiled", image_size=32, tile_overlap=0.4), [_Local()], images, CPU)
    assert tiled.shape == (2, 2, 50, 71)
    assert torch.allclose(tiled.softmax(1), whole, atol=1e-6)


def test_tiled_evaluation_trains_and_judges(photos: Path) -> None:
    config = tiny(epochs=4, image_size=32, fit_image="crop", short_side=45, batch_size=4, evaluation="tiled")
    assert list(fit(config, load(photos), CPU))[-1].metrics["val/miou"] > 0.6


# --- ensembles -------------------------------------------------------------------------------------------------------


def test_an_ensemble_of_epochs_is_judged_by_their_mean_probability(
    scenes: Callable[..., TrialData], tmp_path: Path
) -> None:
    config = tiny(epochs=4, ensemble=2, ensemble_metric="val/loss")
    data = scenes()
    files = TrialFiles(tmp_path / "c", tmp_path / "p", "val/miou", "max", 1, 2, "val/loss")
    results = []
    for result in fit(config, data, CPU):
        files.save(result, resumable=False)
        results.append((result.epoch, dict(result.metrics)))
    expected = [epoch for epoch, _ in sorted(results, key=lambda one: one[1]["val/loss"])[:2]]
    assert files.averaged() == expected
    weights = [files.files_of(epoch)[0] for epoch in expected]
    alone = evaluate_files(config, weights[:1], data, CPU)
    assert alone == pytest.approx({k: v for k, v in dict(results)[expected[0]].items() if k != "train/loss"})
    together = evaluate_files(config, weights, data, CPU)
    assert together != alone
    twice = evaluate_files(config, [weights[0], weights[0]], data, CPU)
    assert twice == pytest.approx(alone, abs=1e-4)
