"""A search of two regimes over a tiny network, as a user would write it: a probe, and short fine-tunings."""

from search_spaces.grammar import Branch, Float, Pick
from search_spaces.search import Search

MODEL = {"backbone": "test_resnet", "weights": "none", "head": {"name": "linear", "dropout": 0.0}}

SEARCH = Search(
    task="classification",
    epochs=4,
    grace_epochs=1,
    space={
        "regime": Branch(
            {
                "probe": {
                    "model": {**MODEL, "freeze": "all"},
                    "optimizer": {"name": "lbfgs", "l2": Float(1e-4, 1.0, log=True)},
                    "views": Pick(1, 2),
                    "epochs": 1,
                },
                "finetune": {
                    "model": MODEL,
                    "optimizer": {"name": "adamw", "lr": Float(1e-4, 1e-2, log=True)},
                    "epochs": Pick(1, 2, 4),
                },
            }
        ),
        "image_size": 32,
        "batch_size": 16,
        "fit_image": Pick("crop", "squash"),
    },
)
