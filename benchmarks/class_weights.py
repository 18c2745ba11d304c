"""What weighting the loss by class does to the IoU of rare classes: plain against median-frequency cross-entropy.

    python -m benchmarks.class_weights FOLDER [--epochs 6]

Runs the search of this file: one small network with either loss, nothing pruned. `visionsweep run
benchmarks/class_weights.py --data FOLDER` does so too.

Prints the IoU of every class at each one's best epoch. Beside it is the IoU of the best constant prediction: the
class's share of the pixels, and nothing for the others.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from search_spaces import Pick, Search
from trainables.data.formats import load_dataset
from visionsweep.run_dir.load import load_run
from visionsweep.run_dir.run import Run
from visionsweep.run_dir.trials import Trial

WEIGHTS = ("none", "median_frequency")
CONFIG: dict[str, Any] = {
    "model": {"architecture": {"name": "fpn", "channels": 64}, "backbone": "tf_efficientnet_lite0"},
    "optimizer": {"name": "adamw", "lr": 3e-3, "weight_decay": 0.01, "backbone_lr_scale": 0.5},
    "schedule": {"name": "cosine", "final_fraction": 0.01, "warmup_epochs": 0.5},
    "augment": {"horizontal_flip": {"p": 0.5}},
    "batch_size": 8,
    "image_size": 128,
    "short_side": 144,
}
SEARCH = Search(
    task="segmentation",
    space={**CONFIG, "loss": {"name": "cross_entropy", "class_weights": Pick(*WEIGHTS)}},
    epochs=6,
    grace_epochs=6,
    warm_start=[{**CONFIG, "loss": {"name": "cross_entropy", "class_weights": name}} for name in WEIGHTS],
    num_trials=len(WEIGHTS),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--epochs", type=int, default=SEARCH.epochs)
    parser.add_argument("--runs-dir", type=Path, default=Path("runs"))
    arguments = parser.parse_args()
    name = f"class-weights-{arguments.folder.name}-{time.strftime('%H%M%S')}"
    epochs = ["--set", f"epochs={arguments.epochs}", "--set", f"grace_epochs={arguments.epochs}"]
    command = [str(Path(sys.executable).with_name("visionsweep")), "run", __file__, "--data", str(arguments.folder)]
    command += ["--task", "segmentation", "--name", name, "--runs-dir", str(arguments.runs_dir), *epochs]
    subprocess.run(command, check=True)
    print(table(load_run(arguments.runs_dir / name), constant(arguments.folder)))


def constant(folder: Path) -> dict[str, float]:
    """IoU by class on val of the best prediction that is one class everywhere."""
    dataset, _ = load_dataset(str(folder), task="segmentation", short_side_px=64, cache_dir=None)
    pixels = dataset.targets[dataset.split == "val"].sum(axis=0)
    shares = pixels / pixels.sum()
    return {
        name: float(share) if number == int(np.argmax(shares)) else 0.0
        for number, (name, share) in enumerate(zip(dataset.classes, shares, strict=True))
    }


def table(run: Run, constant_iou: dict[str, float]) -> str:
    """Classes from the most frequent to the rarest in what the constant prediction and the trials reach."""
    found = [_best_metrics(trial, run) for trial in run.trials]
    rows = [("IoU", "constant", *(str(trial.config["loss"]["class_weights"]) for trial in run.trials))]
    for name, value in constant_iou.items():
        rows.append(
            (name, f"{value:.3f}", *(f"{metrics.get(f'val/iou/{name}', float('nan')):.3f}" for metrics in found))
        )
    mean = sum(constant_iou.values()) / len(constant_iou)
    rows.append(("mean", f"{mean:.3f}", *(f"{metrics['val/miou']:.3f}" for metrics in found)))
    return "\n".join("  ".join(f"{cell:>16}" for cell in row) for row in rows)


def _best_metrics(trial: Trial, run: Run) -> dict[str, float]:
    best = trial.best(run.metric, run.mode)
    assert best is not None, f"trial {trial.trial_id} finished no epoch"
    return next(row["metrics"] for row in trial.epochs if row["epoch"] == best[1])


if __name__ == "__main__":
    main()
