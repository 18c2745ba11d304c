"""The settings that `views`, training on kept features of a frozen backbone, go with."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trainables.config.trial import TrialConfig

MIRRORED = 2  # so many views are the evaluation's and its mirror image; with more, all are drawn by the augmentations
WITH_AUX_HEAD = ("inception_v3",)  # torchvision's, whose auxiliary classifier trains on an inner map of the backbone


def check_views(config: TrialConfig) -> None:
    """Raise ValueError if a configuration has views but cannot train on kept features."""
    views = config.views
    model = config.model
    augment = config.augment
    if views is None:
        return
    if model.freeze != "all":
        raise ValueError(
            f"views {views} keeps the features of a frozen backbone, and model.freeze is '{model.freeze}': "
            "set model.freeze=all, or leave out views"
        )
    if augment.mix is not None:
        raise ValueError(
            f"views {views} keeps features, and augment.mix {augment.mix.name} mixes pixels: set augment.mix=null, "
            "or leave out views"
        )
    if config.augment_on == "device":
        raise ValueError(
            f"views {views} keeps features of pictures that the CPU augments once, and augment_on is 'device': "
            "set augment_on=auto or cpu, or leave out views"
        )
    if model.backbone in WITH_AUX_HEAD and model.aux_weight > 0:
        raise ValueError(
            f"views {views} keeps no maps for the auxiliary classifier of '{model.backbone}', and model.aux_weight is "
            f"{model.aux_weight:g}: set model.aux_weight=0, or leave out views"
        )
    drawn = [name for name, part in augment if part is not None]
    if views <= MIRRORED and drawn:
        what = "the evaluation's view" if views == 1 else "the evaluation's view and its mirror image"
        raise ValueError(
            f"views {views} trains on {what} alone, and augment.{drawn[0]} is set: set views={MIRRORED + 1} or more "
            f"to keep drawn views, or augment.{drawn[0]}=null"
        )
    if views > MIRRORED and not drawn and config.fit_image == "squash":
        raise ValueError(
            f"views {views} would keep {views} equal pictures: fit_image is 'squash', and no augmentation is set: "
            f"set views={MIRRORED}, or an augmentation"
        )
