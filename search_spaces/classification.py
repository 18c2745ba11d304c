"""The shipped searches for photos with classes or tags, in three sizes.

    visionsweep run classification-cpu --data photos/ --budget 20m
    visionsweep run classification-gpu-small --data photos/ --trials 100
    visionsweep run classification-gpu-large --data photos/ --budget 12h

Together they hold what five course reports tried by hand (see the single choices in `classification_parts.py`) and
what a good engineer adds today. One search serves binary, multiclass and multilabel data: what differs is in `BY_TASK`.
"""

from __future__ import annotations

from itertools import combinations
from typing import Any

from search_spaces.classification_parts import AUGMENT, BY_TASK, HEAD, SCHEDULE, optimizer_branch
from search_spaces.grammar import Branch, Float, Pick
from search_spaces.search import Search

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
}


def _first(backbone: str, freeze: str, **more: Any) -> dict[str, Any]:
    model = {"backbone": backbone, "freeze": freeze, "head": {"name": "linear", "dropout": 0.2}}
    return {**_FIRST, "model": model, "ema_decay": None, **more}


LITE = tuple(f"tf_efficientnet_lite{number}" for number in range(3))

# A head that is solved on kept features: seconds each, and on few photos hard to beat. It leaves the loss to the task.
_PROBE = {
    "model": {
        "backbone": Pick(*LITE, *("+".join(pair) for pair in combinations(LITE, 2)), "+".join(LITE)),
        "freeze": "all",
        "head": {"name": "linear", "dropout": 0.0},
    },
    "optimizer": {"name": "lbfgs", "l2": None},
    "loss": None,
    "views": Pick(1, 2),
    # Wide images lose by a crop of their centre (tile defects: 0.60 for 0.65, cross-validated), others gain a little.
    "fit_image": Pick("crop", "squash"),
    "image_size": Pick(128, 160, 192, 224, 288),
    "batch_size": 32,
    "epochs": 1,
}

# Some or all layers, mostly from where a probe stands. A solved head wants a tenth of the rate that a random one
# does: from 1e-3 fine-tunings of 4 epochs fell below their own probe on two sets of two, and from 1e-4 rose above it.
_FINETUNE = {
    "model": {
        "backbone": Pick(*LITE),
        "freeze": Pick("none", "stage1", "stage2", "stage3"),
        "head": {"name": "linear", "dropout": Float(0.0, 0.5)},
        "head_init": Pick("probe", "random"),
        "batch_norm": Pick("fixed", "trained"),
    },
    "optimizer": optimizer_branch(sgd_lr=(3e-4, 0.1), adam_lr=(3e-5, 3e-3)),
    "schedule": SCHEDULE,
    "augment": AUGMENT,
    "batch_size": Pick(16, 32, 64),
    "accumulate": Pick(1, 2),
    "fit_image": Pick("crop", "squash"),
    "image_size": Pick(64, 96, 128, 160, 192, 224),
    "epochs": Pick(2, 4, 6, 8, 12, 16, 24),
}


def _probe(backbone: str, fit_image: str = "crop") -> dict[str, Any]:
    seen = {"image_size": 224, "fit_image": fit_image, "views": 1}
    return {"regime": "probe", "model": {"backbone": backbone}, **seen}


def _finetune(backbone: str, image_size: int, epochs: int) -> dict[str, Any]:
    model = {
        "backbone": backbone, "freeze": "none", "head": {"name": "linear", "dropout": 0.1},
        "head_init": "probe", "batch_norm": "fixed",
    }  # fmt: skip
    optimizer = {"name": "adamw", "lr": 1e-4, "weight_decay": 0.01, "backbone_lr_scale": 1.0}
    sizes = {"image_size": image_size, "fit_image": "crop", "epochs": epochs, "batch_size": 32}
    return {**_FIRST, "regime": "finetune", "model": model, "optimizer": optimizer, **sizes}


CPU = Search(
    description="Photos on a laptop without a GPU: EfficientNet-Lite, probes of kept features and short fine-tunings.",
    task="classification",
    num_trials=60,
    epochs=24,
    space={"regime": Branch({"probe": _PROBE, "finetune": _FINETUNE})},
    space_by_task=BY_TASK,
    fixed={"model": {"weights": "imagenet"}, "precision": "fp32"},
    # The cheapest that tell most: a model stands after seconds, and what comes later begins from the best of them.
    warm_start=(
        _probe(LITE[0]),
        _probe(LITE[0], "squash"),
        _probe(LITE[1]),
        _probe(LITE[2]),
        _probe("+".join(LITE)),
        _probe("+".join(LITE), "squash"),
        _finetune(LITE[0], 160, 4),
        _finetune(LITE[2], 192, 8),
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
            "head": HEAD,
        },
        "optimizer": optimizer_branch(sgd_lr=(1e-4, 0.3), adam_lr=(1e-5, 1e-2)),
        "schedule": SCHEDULE,
        "augment": AUGMENT,
        "batch_size": Pick(16, 32, 64),
        "accumulate": Pick(1, 2, 4),
        "image_size": Pick(160, 192, 224),
        "ema_decay": Pick(None, 0.99, 0.999),
    },
    space_by_task=BY_TASK,
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
            "head": HEAD,
            "aux_weight": 0.3,  # of Inception's auxiliary head; the rest have none (report "We need to go deeper")
        },
        "optimizer": optimizer_branch(sgd_lr=(1e-4, 0.3), adam_lr=(1e-5, 1e-2)),
        "schedule": SCHEDULE,
        "augment": AUGMENT,
        "batch_size": Pick(16, 24, 32, 64, 80),
        "accumulate": Pick(1, 2, 3, 4),
        "image_size": Pick(224, 256, 299, 320),
        "ema_decay": Pick(None, 0.999, 0.9995),
    },
    space_by_task=BY_TASK,
    fixed={"model": {"weights": "imagenet"}, "precision": "bf16", "clip_grad_norm": 5.0},
    warm_start=(_first("seresnext101_32x4d", "none", batch_size=64, image_size=224),),
)  # fmt: skip
