"""Batches of one image are refused before training if batch norm would see one value per channel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from trainables.config.io import parse_config
from trainables.config.model import ClassifierConfig, SegmenterConfig
from trainables.config.trial import TrialConfig
from trainables.data.loader import TrialData
from trainables.loop import fit
from trainables.models.build import build_model
from trainables.models.single_image import needs_two_images
from visionsweep.core.errors import ConfigError, Contradiction

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")
Digits = Callable[..., TrialData]
Tiny = Callable[..., TrialConfig]
FAMILIES = ("test_resnet", "test_efficientnet", "test_convnext", "test_vit", "resnet18", "mobilenetv3_small_050")


@pytest.mark.parametrize("backbone", FAMILIES)
@pytest.mark.parametrize(("freeze", "image_size"), [("none", 32), ("none", 64), ("all", 32)])
def test_it_is_known_without_training_whether_one_image_is_enough(backbone: str, freeze: str, image_size: int) -> None:
    config = ClassifierConfig(backbone=backbone, weights="none", freeze=freeze)
    assert needs_two_images(config, image_size) == fails_on_one_image(config, image_size)


@pytest.mark.parametrize("name", ["unet", "fpn", "pspnet", "deeplabv3plus", "segformer"])
@pytest.mark.parametrize("image_size", [32, 64])
def test_it_is_known_of_segmenters_too(name: str, image_size: int) -> None:
    config = SegmenterConfig(architecture={"name": name}, backbone="resnet18", weights="none")
    assert needs_two_images(config, image_size) == fails_on_one_image(config, image_size)


def fails_on_one_image(config: ClassifierConfig | SegmenterConfig, image_size: int) -> bool:
    model = build_model(config, 3, image_size).train()
    try:
        model(torch.zeros(1, 3, image_size, image_size))
    except ValueError as error:
        return "more than 1 value per channel" in str(error)
    return False


def test_a_classifier_that_needs_two_images_is_refused_with_the_way_out(tiny: Tiny) -> None:
    with pytest.raises(Contradiction) as caught:
        tiny(backbone="resnet18", batch_size=1)
    assert str(caught.value) == (
        "the configuration: backbone 'resnet18' at image_size 32 normalises one value per channel over the batch, and "
        "batch_size is 1: set batch_size=2 or more, or a larger image_size. Change one of them."
    )
    assert tiny(backbone="resnet18", batch_size=2)
    assert tiny(backbone="resnet18", batch_size=1, image_size=64)
    assert tiny(backbone="resnet18", batch_size=1, model={"freeze": "all"})


def test_a_segmenter_whose_deepest_map_is_one_pixel_is_refused_at_that_size(tiny: Tiny) -> None:
    changed: dict[str, Any] = {"task": "segmentation", "model": {"architecture": {"name": "unet"}}, "batch_size": 1}
    with pytest.raises(ConfigError, match=r"architecture 'unet' at image_size 32 normalises one value per channel"):
        tiny(backbone="resnet18", **changed)
    assert tiny(backbone="resnet18", **changed, image_size=64)


def test_fixed_batch_norm_needs_no_second_image_and_a_decoders_own_does(tiny: Tiny, digits: Digits) -> None:
    config = tiny(backbone="resnet18", batch_size=1, model={"batch_norm": "fixed"})
    assert next(fit(config, digits(train=3, val=4), CPU)).state.num_steps == 3
    segmenter = {"task": "segmentation", "batch_size": 1, "image_size": 32}
    with pytest.raises(ConfigError, match="normalises one value per channel"):
        tiny("resnet18", {"architecture": {"name": "deeplabv3"}, "batch_norm": "fixed"}, **segmenter)


def test_an_unknown_backbone_has_its_own_message(tiny: Tiny, digits: Digits) -> None:
    config = tiny(backbone="resnet43", batch_size=1)
    with pytest.raises(ConfigError, match=r"unknown backbone 'resnet43'"):
        next(fit(config, digits(train=4, val=4), CPU))


@pytest.mark.parametrize("backbone", ["test_convnext", "test_vit"])
def test_what_needs_no_second_image_trains_on_one(tiny: Tiny, digits: Digits, backbone: str) -> None:
    result = next(fit(tiny(backbone=backbone, batch_size=1, accumulate=2), digits(train=5, val=4), CPU))
    assert result.state.num_steps == 2  # a step of two images, as one batch of them takes: the fifth is left over


def test_every_head_needs_the_same(tiny: Tiny) -> None:
    for head in ({"name": "linear", "dropout": 0.5}, {"name": "mish_mlp", "hidden": 8}):
        with pytest.raises(Contradiction):
            parse_config({**tiny().model_dump(), "model": {"backbone": "resnet18", "head": head}, "batch_size": 1})
