"""quickstart: real handwritten digits and tiny networks, to see everything work in a few minutes on a laptop.

visionsweep run quickstart
visionsweep run quickstart-segmentation
"""

from __future__ import annotations

from search_spaces.grammar import Branch, Float, Maybe, Pick
from search_spaces.search import Search

QUICKSTART = Search(
    description="Handwritten digits with tiny networks: see a whole search in under three minutes on two cores.",
    task="multiclass",
    data="digits",
    num_trials=24,
    epochs=18,
    grace_epochs=4,
    reduction_factor=3,
    space={
        "model": {
            # timm's test models: real blocks of their families, at toy size.
            "backbone": Pick("test_resnet", "test_efficientnet", "test_convnext"),
            "head": Branch({"linear": {}, "mish_mlp": {"hidden": Pick(32, 64, 128), "dropout": Float(0.0, 0.5)}}),
        },
        "optimizer": Branch(
            {
                "sgd": {"lr": Float(3e-3, 0.5, log=True), "momentum": Float(0.8, 0.97)},
                "adam": {"lr": Float(1e-4, 3e-2, log=True)},
            }
        ),
        "schedule": Branch({"cosine": {}, "multistep": {"gamma": Float(0.1, 0.5), "spacing": "late"}}),
        "augment": {"rotate": Maybe({"degrees": Float(5, 20)})},
        "batch_size": Pick(32, 64, 128),
    },
    # No flips: a mirrored 2 is not a 2.
    fixed={"model": {"weights": "none"}, "image_size": 32, "fit_image": "squash"},
)

QUICKSTART_SEGMENTATION = Search(
    description="Which pixel is which digit, in drawn scenes, with tiny networks: the same for masks.",
    task="segmentation",
    data="digits:segmentation",
    num_trials=16,
    epochs=12,
    grace_epochs=4,
    reduction_factor=3,
    space={
        "model": {
            "architecture": Branch({"unet": {"channels": Pick(32, 64)}, "fpn": {"channels": Pick(32, 64)}}),
            "backbone": Pick("test_resnet", "test_efficientnet"),
        },
        "loss": Branch(
            {
                "cross_entropy": {"class_weights": Pick("none", "median_frequency")},
                "dice": {"ce_weight": Float(0.2, 2.0, log=True)},
            }
        ),
        "optimizer": Branch(
            {
                "sgd": {"lr": Float(0.03, 1.0, log=True), "momentum": Float(0.8, 0.97)},
                "adam": {"lr": Float(1e-3, 3e-2, log=True)},
            }
        ),
        "schedule": Branch({"cosine": {}, "multistep": {"gamma": Float(0.1, 0.5), "spacing": "late"}}),
        "augment": {"rotate": Maybe({"degrees": Float(3, 12)})},
        "batch_size": Pick(16, 32),
    },
    fixed={"model": {"weights": "none"}, "image_size": 64, "fit_image": "squash"},
)
