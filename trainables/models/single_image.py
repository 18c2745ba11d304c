"""Whether a model can train on one image at a time."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

import torch

from trainables.config.model import ClassifierConfig, LinearHead, SegmenterConfig
from trainables.models.build import build_model


def needs_two_images(config: ClassifierConfig | SegmenterConfig, image_size: int) -> bool:
    """Whether batch norm sees one value per channel in a batch of one image, which it cannot train on.

    That happens where a map has shrunk to 1 x 1, unless that part of the model is frozen. False for a model that cannot
    be built, as building it reports why.
    """
    same: dict[str, Any] = {"weights": "none"}
    if isinstance(config, ClassifierConfig):
        same["head"] = LinearHead()  # no head normalises, and drawn ones differ in their dropout
    return _needs_two_images(config.model_copy(update=same).model_dump_json(), image_size)


@lru_cache(maxsize=256)
def _needs_two_images(config_json: str, image_size: int) -> bool:
    kind = SegmenterConfig if "architecture" in json.loads(config_json) else ClassifierConfig
    config = kind.model_validate_json(config_json)
    channels = 3 if config.bands is None else config.bands.channels
    try:
        with torch.device("meta"), torch.no_grad():  # shapes alone: no memory, and hardly any time
            build_model(config, 2, image_size).train()(torch.empty(1, channels, image_size, image_size))
    except Exception as error:
        return "more than 1 value per channel" in str(error)
    return False
