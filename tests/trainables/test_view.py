"""An image has one way to its size at evaluation, from the original or from what a cache keeps of it."""

from __future__ import annotations

import tracemalloc
from typing import Any

import cv2
import numpy as np
import pytest
from support import tiny_config

from trainables.config.io import parse_config
from trainables.data.augment import eval_transform, train_transform
from trainables.data.view import MOST_ASPECT, View, check_aspect
from visionsweep.core.errors import DataError

CLASSIFIER = tiny_config(optimizer={"name": "adam", "lr": 1e-3}, batch_size=4, epochs=1, image_size=64)
SEGMENTER = {
    **CLASSIFIER,
    "task": "segmentation",
    "model": {"architecture": {"name": "fpn"}, "backbone": "test_resnet", "weights": "none"},
}
VIEWS = [View(73, crop=64), View(128, crop=64), View(64, crop=64), View(64, squash=True), View(45)]
SHAPES = [(200, 260), (73, 73), (72, 74), (30, 41), (32, 500), (500, 32), (129, 64), (64, 64), (65, 1000), (1000, 65)]


def noise(shape: tuple[int, int], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (*shape, 3), dtype=np.uint8)


@pytest.mark.parametrize("view", VIEWS, ids=str)
@pytest.mark.parametrize("shape", [*SHAPES, (1, 8000), (3, 2000), (8000, 1), (1, 1)], ids=str)
def test_what_a_cache_keeps_gives_the_same_pixels_as_the_original(view: View, shape: tuple[int, int]) -> None:
    image = noise(shape)
    if view.crop is None and not view.squash and max(shape) > 100 * min(shape):
        return  # refused for segmentation: the whole image is seen
    kept = view.shrink(image)
    assert kept.size <= image.size
    seen = view.apply(image)
    assert (view.apply(kept) == seen).all()
    assert (view.apply(seen) == seen).all() or view.crop is not None
    if view.squash or view.crop is not None:
        assert seen.shape == (64, 64, 3)
    else:
        assert min(seen.shape[:2]) == view.side


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_an_image_is_resized_once_as_opencv_does_it(shape: tuple[int, int]) -> None:
    image = noise(shape)
    scale = 128 / min(shape)
    height, width = (max(128, round(side * scale)) for side in shape)
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    resized = cv2.resize(image, (width, height), interpolation=how)
    top = (height - 64) // 2
    left = (width - 64) // 2
    assert (View(128, crop=64).apply(image) == resized[top : top + 64, left : left + 64]).all()


@pytest.mark.parametrize(
    ("values", "view"),
    [
        ({**CLASSIFIER}, View(73, crop=64)),
        ({**CLASSIFIER, "eval_crop": 0.5}, View(128, crop=64)),
        ({**CLASSIFIER, "eval_crop": 1.0}, View(64, crop=64)),
        ({**CLASSIFIER, "fit_image": "squash", "eval_crop": 0.5}, View(64, squash=True)),
        ({**SEGMENTER}, View(64)),
        ({**SEGMENTER, "short_side": 100}, View(100)),
        ({**SEGMENTER, "fit_image": "squash", "short_side": 100}, View(64, squash=True)),
    ],
)
def test_a_configuration_has_one_view(values: dict[str, Any], view: View) -> None:
    config = parse_config(values)
    assert View.of(config) == view
    assert (eval_transform(config)(image=noise((90, 70)))["image"] == view.apply(noise((90, 70)))).all()


def test_views_that_only_crop_differently_share_what_is_kept() -> None:
    assert View(73, crop=64).key == View(73).key == "73"
    assert View(73, squash=True).key == "73x73"


@pytest.mark.parametrize("shape", [(1, 8000), (8000, 1), (1, 30000), (2, 20000)])
@pytest.mark.parametrize("fit_image", ["crop", "squash"])
def test_a_thread_of_an_image_takes_little_memory_in_training_and_evaluation(
    shape: tuple[int, int], fit_image: str
) -> None:
    """Enlarged as a whole, 8,000 x 1 pixels are 1.5 GB at 224 px."""
    config = parse_config({**CLASSIFIER, "image_size": 224, "fit_image": fit_image})
    image = noise(shape)
    for transform in (eval_transform(config), train_transform(config)):
        tracemalloc.start()
        seen = transform(image=image)["image"]
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert seen.shape == (224, 224, 3)
        assert peak < 2 * 3 * MOST_ASPECT * 256**2


def test_training_sees_all_of_a_long_image_in_turns_and_evaluation_its_middle() -> None:
    config = parse_config({**CLASSIFIER, "eval_crop": 1.0})
    ramp = np.repeat(np.linspace(0, 255, 4000).astype(np.uint8)[None, :, None], 3, axis=2)  # (1, 4000, 3)
    assert 120 <= eval_transform(config)(image=ramp)["image"].mean() <= 135
    transform = train_transform(config)
    transform.set_random_seed(0)
    means = [transform(image=ramp)["image"].mean() for _ in range(40)]
    assert min(means) < 40
    assert max(means) > 215


def test_an_image_of_sixteen_to_one_is_enlarged_as_a_whole() -> None:
    image = noise((10, 10 * MOST_ASPECT))
    whole = cv2.resize(image, (64 * MOST_ASPECT, 64), interpolation=cv2.INTER_LINEAR)
    left = (whole.shape[1] - 64) // 2
    assert (View(64, crop=64).apply(image) == whole[:, left : left + 64]).all()


def test_an_image_too_long_to_segment_is_refused_by_name() -> None:
    check_aspect((10, 1000, 3), "a.png")
    with pytest.raises(DataError) as caught:
        check_aspect((10, 1001, 3), "a.png")
    assert str(caught.value) == (
        "image 'a.png' is 1001 x 10 pixels, and a segmenter takes images up to 100 times as long as wide"
    )
