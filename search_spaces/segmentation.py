"""The shipped searches for photos with masks, in three sizes.

    visionsweep run segmentation-cpu --data scenes/ --budget 40m
    visionsweep run segmentation-gpu-small --data scenes/ --trials 100
    visionsweep run segmentation-gpu-large --data scenes/ --budget 12h

They choose decoder, backbone, loss, optimizer, schedule and augmentation. The whole networks of the reports are recipes
(`visionsweep recipes`). A decoder on a pretrained backbone beats all of them.
"""

from __future__ import annotations

from typing import Any

from search_spaces.classification_parts import optimizer_branch
from search_spaces.grammar import Branch, Float, Int, Maybe, Pick, Space
from search_spaces.search import Search

# All five reports took cross-entropy. The UCSD report weighed it by inverse frequency and gained IoU on rare classes.
# The overlap losses (dice, lovasz) optimise the IoU itself, and need some cross-entropy at the start.
_LOSS = Branch(
    {
        "cross_entropy": {
            "label_smoothing": Float(0.0, 0.1),
            "class_weights": Pick("none", "median_frequency", "inverse_frequency"),
        },
        "dice": {"ce_weight": Float(0.2, 2.0, log=True)},
        "lovasz": {"ce_weight": Float(0.2, 2.0, log=True)},
        "focal": {"gamma": Float(0.5, 3.0)},
    }
)

_SCHEDULE = Branch(
    {
        "cosine": {"final_fraction": Float(1e-4, 0.1, log=True), "warmup_epochs": Pick(0.0, 0.5, 1.0)},
        "multistep": {"gamma": Float(0.1, 0.5), "spacing": Pick("doubling", "late")},
        "cosine_then_multistep": {"switch_fraction": Float(0.3, 0.8), "gamma": Float(0.1, 0.5)},
        # The rates of "We need to go deeper" halve twice.
        "piecewise": {"num_pieces": Int(2, 4), "factor": Float(0.1, 0.7)},
    }
)

_AUGMENT: dict[str, Any] = {
    "rescale": Maybe({"p": Float(0.3, 1.0), "low": Float(0.5, 1.0), "high": Float(1.0, 2.0)}),
    "rotate": Maybe({"p": Float(0.2, 1.0), "degrees": Float(3, 20)}),
    "foreground_crop": Maybe({"p": Float(0.3, 1.0), "min_share": Float(0.05, 0.5)}),
    "horizontal_flip": Maybe({"p": 0.5}),
    "tone": Maybe({"p": Float(0.2, 0.8), "strength": Float(0.5, 2.0)}),
    "blur": Maybe({"p": Float(0.1, 0.6), "limit_px": Pick(3, 5)}),
    "coarse_dropout": Maybe({"p": Float(0.2, 0.8), "num_holes": Int(1, 8), "hole_px": Pick(8, 16)}),
}

# Settings that are usually tried first. On CamVid a U-Net with plain cross-entropy predicted only the frequent classes
# (mIoU 0.42 after 16 epochs, people and poles at zero). An FPN with dice and cross-entropy did not (0.60).
_FIRST: dict[str, Any] = {
    "loss": {"name": "dice", "ce_weight": 1.0},
    "optimizer": {"name": "adamw", "lr": 3e-3, "weight_decay": 0.01, "backbone_lr_scale": 0.5},
    "schedule": {"name": "cosine", "final_fraction": 0.01, "warmup_epochs": 0.5},
    "augment": {
        "rescale": {"p": 1.0, "low": 0.75, "high": 1.5},
        "rotate": None,
        "foreground_crop": None,
        "horizontal_flip": {"p": 0.5},
        "tone": {"p": 0.5, "strength": 1.0},
        "blur": None,
        "coarse_dropout": None,
    },
}


def _first(decoder: str, channels: int, backbone: str, **more: Any) -> dict[str, Any]:
    architecture = {"name": decoder, "channels": channels}
    model = {"architecture": architecture, "backbone": backbone, "freeze": "none", "batch_norm": "trained"}
    return {**_FIRST, "model": model, **more}


def _short(decoder: str, channels: int, backbone: str, decoder_first: float, **more: Any) -> dict[str, Any]:
    first = _first(decoder, channels, backbone, batch_size=8, ema_decay=None, **more)
    return {**first, "model": {**first["model"], "decoder_first": decoder_first}}


def _low(decoder: str, channels: int, backbone: str, **more: Any) -> dict[str, Any]:
    """A first trial at a ConvNeXt's rates. mmsegmentation trains UPerNet on one with AdamW at 1e-4, decay 0.05."""
    optimizer = {"name": "adamw", "lr": 2e-4, "weight_decay": 0.05, "backbone_lr_scale": 0.5}
    return {**_first(decoder, channels, backbone, **more), "optimizer": optimizer}


def _decoders(names: tuple[str, ...], channels: Space | Pick) -> Branch:
    return Branch({name: {"channels": channels} for name in names})


CPU = Search(
    description="Masks on a laptop without a GPU: light decoders on EfficientNet-Lite, short trainings on small crops.",
    task="segmentation",
    num_trials=40,
    epochs=24,
    space={
        "model": {
            "architecture": _decoders(("unet", "fpn", "deeplabv3plus"), Pick(64, 128)),
            "backbone": Pick("tf_efficientnet_lite0", "tf_efficientnet_lite1", "tf_efficientnet_lite2"),
            "freeze": Pick("none", "stage1"),
            # Fixed statistics did not help: mIoU 0.48 against 0.52 (road damage), 0.60 against 0.61 (crop and weed).
            "batch_norm": Pick("trained", "fixed"),
            # A step of the decoder alone takes 27 ms an image, one of all layers 63.
            "decoder_first": Pick(0.0, 0.25, 0.5),
        },
        "loss": _LOSS,
        "optimizer": optimizer_branch(sgd_lr=(3e-3, 0.3), adam_lr=(3e-4, 1e-2)),
        "schedule": _SCHEDULE,
        "augment": _AUGMENT,
        "batch_size": Pick(4, 8, 16),
        "image_size": Pick(128, 160, 192, 224),
        "short_side": Pick(192, 224, 256, 320),
        "epochs": Pick(2, 4, 6, 8, 12, 16, 24),
        "ema_decay": Pick(None, 0.9, 0.99),
    },
    # Evaluating a whole image takes nearly as long as training on a crop: 50 and 63 ms. Small sets are evaluated less
    # often.
    fixed={"model": {"weights": "imagenet"}, "precision": "fp32", "least_epoch_images": 128},
    # Short trials first: they soon give a model and the cost of a step, so that longer ones begin only if they fit.
    warm_start=(
        _short("fpn", 128, "tf_efficientnet_lite0", 0.5, epochs=4, image_size=160, short_side=224),
        _short("unet", 64, "tf_efficientnet_lite0", 0.5, epochs=6, image_size=160, short_side=224),
        _short("fpn", 128, "tf_efficientnet_lite0", 0.25, epochs=16, image_size=160, short_side=256),
        _short("unet", 64, "tf_efficientnet_lite0", 0.25, epochs=16, image_size=192, short_side=256),
        _short("fpn", 128, "tf_efficientnet_lite1", 0.25, epochs=24, image_size=192, short_side=256),
    ),
)

GPU_SMALL = Search(
    description="One GPU of 8 to 16 GB: six decoders on ResNet to ConvNeXt-tiny, crops of up to 384 px.",
    task="segmentation",
    num_trials=100,
    epochs=60,
    space={
        "model": {
            "architecture": _decoders(
                ("unet", "fpn", "pspnet", "deeplabv3plus", "upernet", "segformer"), Pick(128, 256)
            ),
            "backbone": Pick(
                "resnet18", "resnet34", "resnet50", "efficientnet_b0", "efficientnet_b2",
                "tf_efficientnet_lite0", "tf_efficientnet_lite2", "regnety_016", "convnext_tiny",
                "convnext_tiny.dinov3_lvd1689m", "convnextv2_nano", "convnextv2_tiny", "mobilenetv4_conv_medium",
            ),
            "freeze": Pick("none", "stage1", "stage2"),
            "batch_norm": Pick("trained", "fixed"),
        },
        "loss": _LOSS,
        "optimizer": optimizer_branch(sgd_lr=(1e-3, 0.3), adam_lr=(3e-5, 1e-2)),
        "schedule": _SCHEDULE,
        "augment": _AUGMENT,
        "batch_size": Pick(8, 16),
        "image_size": Pick(224, 320, 384),
        "short_side": Pick(256, 384, 480),
        "epochs": Pick(20, 40, 60),
        "ema_decay": Pick(None, 0.99, 0.999),
    },
    fixed={"model": {"weights": "imagenet"}, "precision": "bf16", "clip_grad_norm": 5.0},
    warm_start=(
        _first("unet", 256, "resnet34", batch_size=16, image_size=320, short_side=384, epochs=40, ema_decay=None),
        _low("upernet", 256, "convnext_tiny.dinov3_lvd1689m", batch_size=16, image_size=320, short_side=384,
             epochs=40, ema_decay=None),
    ),
)  # fmt: skip

GPU_LARGE = Search(
    description="GPUs of 24 GB and more: all seven decoders on what won the reports and today's like, up to 640 px.",
    task="segmentation",
    num_trials=200,
    epochs=80,
    space={
        "model": {
            "architecture": _decoders(
                ("unet", "fpn", "pspnet", "deeplabv3", "deeplabv3plus", "upernet", "segformer"), Pick(128, 256, 512)
            ),
            "backbone": Pick(
                "resnet50", "resnet101", "seresnext101_32x4d", "tf_efficientnetv2_s", "efficientnet_b2",
                "convnext_tiny", "convnext_small", "regnety_032",
                "convnext_small.dinov3_lvd1689m", "convnextv2_base", "mobilenetv4_hybrid_medium",
            ),
            "freeze": Pick("none", "stage1", "stage2"),
            "batch_norm": Pick("trained", "fixed"),
        },
        "loss": _LOSS,
        "optimizer": optimizer_branch(sgd_lr=(1e-3, 0.3), adam_lr=(1e-5, 3e-3)),
        "schedule": _SCHEDULE,
        "augment": _AUGMENT,
        "batch_size": Pick(8, 12, 16),
        "accumulate": Pick(1, 2),
        "image_size": Pick(384, 512, 640),
        "short_side": Pick(480, 512, 640, 720),
        "epochs": Pick(20, 40, 80),
        "ema_decay": Pick(None, 0.999, 0.9995),
    },
    fixed={"model": {"weights": "imagenet"}, "precision": "bf16", "clip_grad_norm": 5.0},
    warm_start=(
        _first("deeplabv3plus", 256, "resnet101", batch_size=16, accumulate=1, image_size=512,
               short_side=512, epochs=40, ema_decay=None),
        _low("upernet", 512, "convnext_small.dinov3_lvd1689m", batch_size=16, accumulate=1, image_size=512,
             short_side=512, epochs=40, ema_decay=None),
    ),
)  # fmt: skip
