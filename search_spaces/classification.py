"""The shipped searches for photos with classes or tags, in three sizes.

    visionsweep run classification-cpu --data photos/ --budget 20m
    visionsweep run classification-gpu-small --data photos/ --trials 100
    visionsweep run classification-gpu-large --data photos/ --budget 12h

Together they hold what five course reports tried by hand (see docs of the single choices below) and what a good
engineer adds today. One search serves binary, multiclass and multilabel data: what differs is in `_BY_TASK`.
"""

from __future__ import annotations

from typing import Any

from search_spaces.grammar import Branch, Float, Int, Maybe, Pick
from search_spaces.search import Search

_HEAD = Branch(
    {
        "linear": {"dropout": Float(0.0, 0.5)},
        # Report "3080Ti" (2020): Mish in the head gave about 2 points of F1 over ReLU.
        "mish_mlp": {"hidden": Pick(128, 256, 512), "dropout": Float(0.0, 0.6)},
    }
)

_FOCAL = {"gamma": Float(0.5, 3.0)}
_BCE = {"label_smoothing": Float(0.0, 0.1), "pos_weight": Pick("none", "balanced")}
_CROSS_ENTROPY = {"label_smoothing": Float(0.0, 0.2), "class_weights": Pick("none", "inverse_frequency")}

_BY_TASK: dict[str, dict[str, Any]] = {
    "binary": {"loss": Branch({"bce": _BCE, "focal": _FOCAL})},
    "multiclass": {"loss": Branch({"cross_entropy": _CROSS_ENTROPY, "focal": _FOCAL})},
    "multilabel": {
        "loss": Branch({"bce": _BCE, "focal": _FOCAL}),
        # F1 lives from the threshold: rare tags are seldom predicted above one half.
        "threshold": Float(0.2, 0.6),
        "fit_image": Pick("crop", "squash"),  # tags at the border are lost by a centre crop
    },
}


def optimizer_branch(sgd_lr: tuple[float, float], adam_lr: tuple[float, float]) -> Branch:
    """SGD, Adam and AdamW, each with its own range of rates. SGD beat Adam in "3080Ti"; the CV homework took Adam."""
    backbone_lr_scale = Float(0.05, 1.0, log=True)
    return Branch(
        {
            "sgd": {
                "lr": Float(*sgd_lr, log=True),
                "momentum": Float(0.8, 0.99),
                "weight_decay": Float(1e-6, 1e-3, log=True),
                "backbone_lr_scale": backbone_lr_scale,
            },
            "adam": {
                "lr": Float(*adam_lr, log=True),
                "weight_decay": Float(1e-7, 1e-4, log=True),
                "backbone_lr_scale": backbone_lr_scale,
            },
            "adamw": {
                "lr": Float(*adam_lr, log=True),
                "weight_decay": Float(1e-4, 0.1, log=True),
                "backbone_lr_scale": backbone_lr_scale,
            },
        }
    )


_SCHEDULE = Branch(
    {
        "cosine": {"final_fraction": Float(1e-4, 0.1, log=True), "warmup_epochs": Pick(0.0, 0.5, 1.0)},
        "multistep": {"gamma": Float(0.1, 0.5), "spacing": Pick("doubling", "late")},
        # The "one or two in one" that "3080Ti" proposes as future work.
        "cosine_then_multistep": {"switch_fraction": Float(0.3, 0.8), "gamma": Float(0.1, 0.5)},
        # Equal pieces, each a fraction of the one before: the stepwise rates of "We need to go deeper" halve twice.
        "piecewise": {"num_pieces": Int(2, 4), "factor": Float(0.1, 0.7)},
    }
)

_AUGMENT = {
    "rescale": Maybe({"p": Float(0.2, 1.0), "low": Float(0.5, 1.0), "high": Float(1.0, 2.0)}),
    "crop_and_pad": Maybe({"p": Float(0.2, 1.0), "fraction": Float(0.02, 0.2)}),
    "rotate": Maybe({"p": Float(0.2, 1.0), "degrees": Float(5, 30)}),
    "random_resized_crop": Maybe({"scale_min": Float(0.2, 0.9)}),
    "horizontal_flip": Maybe({"p": 0.5}),
    "tone": Maybe({"p": Float(0.2, 0.8), "strength": Float(0.5, 2.0)}),
    "blur": Maybe({"p": Float(0.1, 0.6), "limit_px": Pick(3, 5, 7)}),
    "policy": Maybe(
        Branch(
            {
                "autoaugment": {"policy": Pick("imagenet", "cifar10")},
                "randaugment": {"num_ops": Int(1, 3), "magnitude": Int(3, 15)},
            }
        )
    ),
    "coarse_dropout": Maybe({"p": Float(0.2, 0.8), "num_holes": Int(1, 8), "hole_px": Pick(8, 16)}),
    "mix": Maybe(
        Branch(
            {
                "mixup": {"p": Float(0.3, 1.0), "alpha": Float(0.1, 0.8)},
                "cutmix": {"p": Float(0.3, 1.0), "alpha": Float(0.5, 1.0)},
            }
        )
    ),
}

# What an experienced hand would try first; a search that starts here is never worse than a good habit.
_FIRST = {
    "optimizer": {"name": "adamw", "lr": 2e-3, "weight_decay": 0.01, "backbone_lr_scale": 0.3},
    "schedule": {"name": "cosine", "final_fraction": 0.01, "warmup_epochs": 0.5},
    "augment": {
        "rescale": None,
        "crop_and_pad": None,
        "rotate": None,
        "random_resized_crop": {"scale_min": 0.5},
        "horizontal_flip": {"p": 0.5},
        "tone": None,
        "blur": None,
        "policy": None,
        "coarse_dropout": None,
        "mix": None,
    },
    "accumulate": 1,
    "ema_decay": None,
}


def _first(backbone: str, freeze: str, **more: Any) -> dict[str, Any]:
    model = {"backbone": backbone, "freeze": freeze, "head": {"name": "linear", "dropout": 0.2}}
    return {**_FIRST, "model": model, **more}


CPU = Search(
    description="Photos on a laptop without a GPU: EfficientNet-Lite, frozen or not, small images, short trials.",
    task="classification",
    num_trials=40,
    epochs=12,
    space={
        "model": {
            "backbone": Pick("tf_efficientnet_lite0", "tf_efficientnet_lite1", "tf_efficientnet_lite2"),
            "freeze": Pick("all", "stage3", "stage2", "none"),
            "head": _HEAD,
        },
        "optimizer": optimizer_branch(sgd_lr=(1e-3, 0.3), adam_lr=(2e-4, 2e-2)),
        "schedule": _SCHEDULE,
        "augment": _AUGMENT,
        "batch_size": Pick(16, 32, 64),
        "accumulate": Pick(1, 2),
        "image_size": Pick(64, 96, 128, 160),
    },
    space_by_task=_BY_TASK,
    fixed={"model": {"weights": "imagenet"}, "precision": "fp32"},
    # Frozen features are enough for few photos of things that ImageNet knows; for many small ones they are not.
    warm_start=(
        _first("tf_efficientnet_lite0", "all", batch_size=32, image_size=128),
        _first("tf_efficientnet_lite0", "none", batch_size=32, image_size=64),
    ),
)

GPU_SMALL = Search(
    description="One GPU of 8 to 16 GB: ResNet to ConvNeXt-tiny at up to 224 px, all layers or some.",
    task="classification",
    num_trials=100,
    epochs=40,
    space={
        "model": {
            "backbone": Pick(
                "resnet18", "resnet34", "resnet50", "alexnet",
                "efficientnet_b0", "efficientnet_b2",
                "tf_efficientnet_lite0", "tf_efficientnet_lite1", "tf_efficientnet_lite2",
                "mobilenetv3_large_100", "regnety_016", "convnext_tiny", "vit_small_patch16_224",
            ),
            "freeze": Pick("none", "stage1", "stage2", "stage3", "all"),
            "head": _HEAD,
        },
        "optimizer": optimizer_branch(sgd_lr=(1e-4, 0.3), adam_lr=(1e-5, 1e-2)),
        "schedule": _SCHEDULE,
        "augment": _AUGMENT,
        "batch_size": Pick(16, 32, 64),
        "accumulate": Pick(1, 2, 4),
        "image_size": Pick(160, 192, 224),
        "ema_decay": Pick(None, 0.99, 0.999),
    },
    space_by_task=_BY_TASK,
    fixed={"model": {"weights": "imagenet"}, "precision": "bf16", "clip_grad_norm": 5.0},
    warm_start=(_first("convnext_tiny", "none", batch_size=32, image_size=224),),
)  # fmt: skip

GPU_LARGE = Search(
    description="GPUs of 24 GB and more: what won the reports (SE-ResNeXt101, EfficientNet-B7) and today's like.",
    task="classification",
    num_trials=200,
    epochs=60,
    space={
        "model": {
            "backbone": Pick(
                "resnet34", "resnet101", "seresnext101_32x4d", "pnasnet5large", "tf_efficientnet_b7",
                "inception_v3", "efficientnet_b2", "tf_efficientnetv2_s", "convnext_tiny", "convnext_small",
                "regnety_032", "vit_base_patch16_224",
            ),
            "freeze": Pick("none", "stage1", "stage2", "stage3", "all"),
            "head": _HEAD,
            "aux_weight": 0.3,  # of Inception's auxiliary head; the rest have none (report "We need to go deeper")
        },
        "optimizer": optimizer_branch(sgd_lr=(1e-4, 0.3), adam_lr=(1e-5, 1e-2)),
        "schedule": _SCHEDULE,
        "augment": _AUGMENT,
        "batch_size": Pick(16, 24, 32, 64, 80),
        "accumulate": Pick(1, 2, 3, 4),
        "image_size": Pick(224, 256, 299, 320),
        "ema_decay": Pick(None, 0.999, 0.9995),
    },
    space_by_task=_BY_TASK,
    fixed={"model": {"weights": "imagenet"}, "precision": "bf16", "clip_grad_norm": 5.0},
    warm_start=(_first("seresnext101_32x4d", "none", batch_size=64, image_size=224),),
)  # fmt: skip
