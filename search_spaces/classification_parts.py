"""Choices shared by all searches for photos with classes or tags: head, loss, optimizer, schedule, augmentations."""

from __future__ import annotations

from typing import Any

from search_spaces.grammar import Branch, Float, Int, Maybe, Pick

HEAD = Branch(
    {
        "linear": {"dropout": Float(0.0, 0.5)},
        # Report "3080Ti" (2020): Mish in the head gave about 2 points of F1 over ReLU.
        "mish_mlp": {"hidden": Pick(128, 256, 512), "dropout": Float(0.0, 0.6)},
    }
)

_FOCAL = {"gamma": Float(0.5, 3.0)}
_BCE = {"label_smoothing": Float(0.0, 0.1), "pos_weight": Pick("none", "balanced")}
_CROSS_ENTROPY = {"label_smoothing": Float(0.0, 0.2), "class_weights": Pick("none", "inverse_frequency")}

BY_TASK: dict[str, dict[str, Any]] = {
    "binary": {"loss": Branch({"bce": _BCE, "focal": _FOCAL})},
    "multiclass": {"loss": Branch({"cross_entropy": _CROSS_ENTROPY, "focal": _FOCAL})},
    "multilabel": {
        "loss": Branch({"bce": _BCE, "focal": _FOCAL}),
        # F1 depends on the threshold: rare tags are seldom predicted above one half.
        "threshold": Pick(0.2, 0.25, 0.3, 0.35, 0.4, 0.5, 0.6),
        "fit_image": Pick("crop", "squash"),  # a centre crop loses tags at the border
    },
}


def optimizer_branch(sgd_lr: tuple[float, float], adam_lr: tuple[float, float]) -> Branch:
    """SGD, Adam and AdamW, each with its own range of rates. SGD beat Adam in "3080Ti". The CV homework took Adam."""
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


SCHEDULE = Branch(
    {
        "cosine": {"final_fraction": Float(1e-4, 0.1, log=True), "warmup_epochs": Pick(0.0, 0.5, 1.0)},
        "multistep": {"gamma": Float(0.1, 0.5), "spacing": Pick("doubling", "late")},
        # The "one or two in one" that "3080Ti" proposes as future work.
        "cosine_then_multistep": {"switch_fraction": Float(0.3, 0.8), "gamma": Float(0.1, 0.5)},
        # Equal pieces, each a fraction of the one before: the stepwise rates of "We need to go deeper" halve twice.
        "piecewise": {"num_pieces": Int(2, 4), "factor": Float(0.1, 0.7)},
    }
)

AUGMENT = {
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

# Settings that are usually tried first, so that a search is never worse than they are.
FIRST: dict[str, Any] = {
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
}
