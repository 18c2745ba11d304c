"""The shipped search for photos with classes or tags on a laptop. `classification_gpu.py` has those for a GPU.

    visionsweep run classification-cpu --data photos/ --budget 20m

Together they hold what five course reports tried by hand (see the single choices in `classification_parts.py`), and
current practice. One search serves binary, multiclass and multilabel data, whose differences are in `BY_TASK`.
"""

from __future__ import annotations

from itertools import combinations
from typing import Any

from search_spaces.classification_parts import AUGMENT, BY_TASK, FIRST, SCHEDULE, optimizer_branch
from search_spaces.grammar import Branch, Float, Pick
from search_spaces.search import Search

LITE = tuple(f"tf_efficientnet_lite{number}" for number in range(3))

# A head that is solved on kept features in seconds, hard to beat on few photos. The loss is that of the task.
_PROBE = {
    "model": {
        "backbone": Pick(*LITE, *("+".join(pair) for pair in combinations(LITE, 2)), "+".join(LITE)),
        "freeze": "all",
        "head": {"name": "linear", "dropout": 0.0},
        # The means of the stages' maps cost nothing, and were mostly better (docs/decisions.md).
        "features": Pick("stages", "last"),
    },
    "optimizer": {"name": "lbfgs", "l2": None},
    "loss": None,
    "views": Pick(1, 2),
    # A centre crop loses on wide images (tile defects: 0.60 instead of 0.65, cross-validated) and gains a little on
    # others.
    "fit_image": Pick("crop", "squash"),
    "image_size": Pick(128, 160, 192, 224, 288),
    "batch_size": 32,
    "epochs": 1,
}

# Some or all layers, mostly from a probe's head. A solved head needs a tenth of the rate of a random one. On both sets
# that were tried, fine-tunings of 4 epochs fell below their own probe at 1e-3, and rose above it at 1e-4.
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
    "image_size": Pick(96, 128, 160, 192, 224),
    "epochs": Pick(2, 4, 6, 8, 12, 16, 24),
}


def _probe(backbone: str, fit_image: str = "crop") -> dict[str, Any]:
    seen = {"image_size": 224, "fit_image": fit_image, "views": 1}
    return {"regime": "probe", "model": {"backbone": backbone, "features": "stages"}, **seen}


def _finetune(backbone: str, image_size: int, epochs: int) -> dict[str, Any]:
    model = {
        "backbone": backbone, "freeze": "none", "head": {"name": "linear", "dropout": 0.1},
        "head_init": "probe", "batch_norm": "fixed",
    }  # fmt: skip
    optimizer = {"name": "adamw", "lr": 1e-4, "weight_decay": 0.01, "backbone_lr_scale": 1.0}
    sizes = {"image_size": image_size, "fit_image": "crop", "epochs": epochs, "batch_size": 32}
    return {**FIRST, "regime": "finetune", "model": model, "optimizer": optimizer, **sizes}


CPU = Search(
    description="Photos on a laptop without a GPU: EfficientNet-Lite, probes of kept features and short fine-tunings.",
    task="classification",
    num_trials=60,
    epochs=24,
    space={"regime": Branch({"probe": _PROBE, "finetune": _FINETUNE})},
    space_by_task=BY_TASK,
    fixed={"model": {"weights": "imagenet"}, "precision": "fp32"},
    # The cheapest and most informative first: there is a model after seconds, and later trials start from the best.
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
