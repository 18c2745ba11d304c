"""Parts shared by the recipes of several reports. Every call returns new dicts, which the caller may change."""

from __future__ import annotations

from typing import Any, TypeAlias

Recipe: TypeAlias = dict[str, Any]

AUGMENTATIONS = (
    "rescale", "crop_and_pad", "rotate", "random_resized_crop", "foreground_crop", "horizontal_flip", "tone",
    "color_jitter", "blur", "policy", "coarse_dropout", "mix",
)  # fmt: skip


def augment(**on: Recipe) -> Recipe:
    """Return all augmentations, those not in `on` explicitly off. A warm start draws values that are left out."""
    return {name: on.get(name) for name in AUGMENTATIONS}


def classifier(backbone: str, *, head: Recipe | None = None, weights: str = "imagenet", freeze: str = "none") -> Recipe:
    return {
        "backbone": backbone,
        "weights": weights,
        "freeze": freeze,
        "head": head or {"name": "linear", "dropout": 0.0},
    }


def segmenter(
    architecture: Recipe, *, backbone: str | None = None, weights: str = "imagenet", freeze: str = "none"
) -> Recipe:
    return {"architecture": architecture, "backbone": backbone, "weights": weights, "freeze": freeze}


def sgd(lr: float, weight_decay: float = 0.0) -> Recipe:
    """Return SGD with momentum 0.9, which every report that names one took."""
    return {"name": "sgd", "lr": lr, "momentum": 0.9, "weight_decay": weight_decay, "backbone_lr_scale": 1.0}


def adam(lr: float, weight_decay: float = 0.0) -> Recipe:
    return {"name": "adam", "lr": lr, "weight_decay": weight_decay, "backbone_lr_scale": 1.0}


def adamw(lr: float, weight_decay: float = 0.01) -> Recipe:
    return {"name": "adamw", "lr": lr, "weight_decay": weight_decay, "backbone_lr_scale": 1.0}


def bce() -> Recipe:
    return {"name": "bce", "label_smoothing": 0.0, "pos_weight": "none"}


def cross_entropy(class_weights: str = "none", reduction: str = "mean") -> Recipe:
    return {
        "name": "cross_entropy",
        "label_smoothing": 0.0,
        "class_weights": class_weights,
        "reduction": reduction,
    }


def constant() -> Recipe:
    return {"name": "constant", "warmup_epochs": 0.0}


def cosine() -> Recipe:
    """Return cosine annealing to zero over the whole training."""
    return {"name": "cosine", "period_epochs": None, "final_fraction": 0.0, "warmup_epochs": 0.0}


def rest(precision: str = "fp32") -> Recipe:
    """Return settings that hardly any report mentions."""
    return {
        "accumulate": 1,
        "repeat": 1,
        "precision": precision,
        "clip_grad_norm": None,
        "ema_decay": None,
        "augment_on": "cpu",  # as the reports did it
    }
