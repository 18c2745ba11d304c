"""Run directories made by hand: their files as a search writes them, without a search."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from search_spaces import Branch, Float, Maybe, Pick, Search
from search_spaces.serial import search_to_json
from visionsweep.run_dir.trials import VERSION

STARTED = 1_700_000_000.0
EPOCHS = 9
GRACE = 3
SEARCH = Search(
    task="multiclass",
    space={
        "model": {"backbone": Pick("resnet18", "resnet34", "vgg11")},
        "optimizer": Branch(
            {
                "sgd": {"lr": Float(1e-3, 0.3, log=True), "momentum": Float(0.8, 0.99)},
                "adam": {"lr": Float(1e-5, 1e-2, log=True)},
            }
        ),
        "augment": {"rotate": Maybe({"degrees": Float(5, 30)}), "blur": Maybe({"p": 0.5})},
        "batch_size": Pick(16, 32),
    },
    metric="val/accuracy",
    mode="max",
    epochs=EPOCHS,
    grace_epochs=GRACE,
)


def made_params(number: int, rng: np.random.Generator) -> tuple[dict[str, Any], float]:
    """Return flat parameters and their score: adam is 0.1 above sgd, everything else is noise of 0.02."""
    adam = number % 2 == 0
    rotated = bool(rng.random() < 0.5)
    arm = "adam" if adam else "sgd"
    low, high = (1e-5, 1e-2) if adam else (1e-3, 0.3)
    params: dict[str, Any] = {
        "model/backbone": str(rng.choice(["resnet18", "resnet34", "vgg11"])),
        "optimizer": arm,
        f"optimizer/{arm}/lr": float(math.exp(rng.uniform(math.log(low), math.log(high)))),
        "augment/rotate": rotated,
        "augment/blur": bool(rng.random() < 0.5),
        "batch_size": int(rng.choice([16, 32])),
    }
    if not adam:
        params["optimizer/sgd/momentum"] = float(rng.uniform(0.8, 0.99))
    if rotated:
        params["augment/rotate/degrees"] = float(rng.uniform(5, 30))
    return params, (0.7 if adam else 0.6) + float(rng.normal(0, 0.02))


def write_run(
    folder: Path,
    num_trials: int = 24,
    *,
    classes: Sequence[str] = ("daisy", "rose", "tulip"),
    search: Search = SEARCH,
    changes: dict[str, Any] | None = None,
    reasons: Sequence[str] = ("the loss became nan at epoch 2, step 3.",),
    seed: int = 0,
) -> Path:
    """Write a finished search, with predictions of 30 images for its best trial.

    The best third is complete, and the others were pruned after GRACE epochs. Each ninth diverged with one of
    `reasons`. changes: laid over search.json.
    """
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    names = [f"val/{number:03d}.jpg" for number in range(30)]
    targets = [number % len(classes) for number in range(30)]
    # search.json, as a search writes it at its start.
    about: dict[str, Any] = {
        "version": VERSION,
        "name": folder.name,
        "search": search_to_json(search),
        "data": {"task": search.task, "classes": list(classes), "fingerprint": "0" * 16, "val": names,
                 "val_targets": targets, "counts": {"train": 90, "val": 30}},
        "options": {"data": str(folder / "photos"), "seed": 0, "cache_dir": None, "on_bad_image": "error"},
        "started": STARTED,
    }  # fmt: skip
    (folder / "search.json").write_text(json.dumps({**about, **(changes or {})}))
    # The events and the epochs of each trial, on a clock of two seconds an epoch.
    now = STARTED + 10
    best = (0.0, "0000", 1)
    drawn = [made_params(number, rng) for number in range(num_trials)]
    whole = [number for number in range(num_trials) if number % 9 != 8]
    finishing = set(sorted(whole, key=lambda number: -drawn[number][1])[: -(-num_trials // 3)])
    with open(folder / "trials.jsonl", "w") as events, open(folder / "epochs.jsonl", "w") as lines:
        for number in range(num_trials):
            trial_id = f"{number:04d}"
            params, goal = drawn[number]
            broken = number % 9 == 8
            complete = number in finishing
            config = search.draw(_Fixed(params))
            origin = "warm_start" if number < 2 else "sampler"
            base = {"trial_id": trial_id}
            _line(
                events, {**base, "time": now, "event": "proposed", "params": params, "config": config, "origin": origin}
            )
            _line(events, {**base, "time": now, "event": "started"})
            num_epochs = 1 if broken else EPOCHS if complete else GRACE
            for epoch in range(1, num_epochs + 1):
                now += 2.0
                score = goal * (1 - math.exp(-epoch / 2))
                metrics = {"val/accuracy": score, "val/loss": 1 - score, "train/loss": 1.1 - score}
                _line(
                    lines,
                    {**base, "time": now, "epoch": epoch, "metrics": metrics, "seconds": 2.0, "images_per_s": 45.0,
                     "lr": 0.01, "latency_ms": 3.0 + number % 7, "parameters": 1000 * (1 + number % 5),
                     "peak_memory_mb": 100.0 + number % 11, "gpu_seconds": 2.0 * epoch, "node": "laptop",
                     "pid": 100 + number % 2, "device": "cpu"},
                )  # fmt: skip
                if complete:
                    best = max(best, (score, trial_id, epoch))
            status = "diverged" if broken else "complete" if complete else "pruned"
            reason = str(reasons[number % len(reasons)]) if broken else "" if complete else f"{goal:.3f} is too low"
            _line(
                events,
                {**base, "time": now, "event": "ended", "status": status, "reason": reason, "epochs": num_epochs},
            )
    # The best epoch's predictions.
    if num_trials:
        logits = np.full((30, len(classes)), 0.0, np.float32)
        logits[range(30), targets] = 2.0
        logits[0] = [0.0, 5.0, *[0.0] * (len(classes) - 2)]  # one mistake: an image of the first class
        write_predictions(folder, best[1], best[2], logits=logits)
    return folder


def write_predictions(folder: Path, trial_id: str, epoch: int, **arrays: np.ndarray) -> Path:
    path = folder / "predictions" / trial_id / f"epoch-{epoch:04d}.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, metrics=np.array("{}"), **arrays)
    return path


class _Fixed:
    """Answers `draw` from given parameters."""

    def __init__(self, params: dict[str, Any]) -> None:
        self.params = params

    def suggest_float(self, name: str, low: float, high: float, **more: Any) -> float:
        return float(self.params[name])

    def suggest_int(self, name: str, low: int, high: int, **more: Any) -> int:
        return int(self.params[name])

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        return self.params[name]


def _line(file: Any, row: dict[str, Any]) -> None:
    file.write(json.dumps(row) + "\n")
