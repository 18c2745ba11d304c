"""Compact predictions of a trial's best epoch, kept for every trial: they tell what luck the choice among trials had.

judged/TRIAL/best.npz holds

epoch, metrics  of the epoch, metrics as JSON
logits          (N, K) float16; of one class an image they are log probabilities
pixels, classes (N, 3, C) uint32 and C names instead, of masks: see `evaluate.Evaluation`

float16 has 11 bits. A log probability needs no more, while a probability near one would round to one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from visionsweep.core.tasks import task_kind
from visionsweep.core.writing import write_whole

# Values of one trial, so that a trial takes 400 kB at most: 20,000 images of 10 classes.
MOST_VALUES = 200_000
LARGEST = 60_000.0  # float16 ends at 65,504


def compact(predictions: Mapping[str, np.ndarray], task: str) -> dict[str, np.ndarray] | None:
    """Return the predictions of an epoch (see `evaluate.Evaluation`) in few bytes, or None if there are too many."""
    if "pixels" in predictions:
        pixels = predictions["pixels"]
        if pixels.size > MOST_VALUES:
            return None
        return {"pixels": pixels.astype(np.uint32), "classes": predictions["classes"]}
    logits = predictions.get("logits")
    if logits is None or logits.size > MOST_VALUES:
        return None
    exact = logits.astype(np.float64)
    if task_kind(task).softmax:
        exact = exact - exact.max(axis=1, keepdims=True)
        exact = exact - np.log(np.exp(exact).sum(axis=1, keepdims=True))
    return {"logits": exact.clip(-LARGEST, LARGEST).astype(np.float16)}


def write_compact(path: Path, arrays: Mapping[str, np.ndarray], epoch: int, metrics: Mapping[str, float]) -> None:
    """Write compact predictions, whole or not at all."""
    whole: dict[str, Any] = {"epoch": np.array(epoch), "metrics": np.array(json.dumps(dict(metrics))), **arrays}

    def write(partial: Path) -> None:
        with partial.open("wb") as file:  # given a name, numpy would append .npz to it
            np.savez_compressed(file, **whole)

    write_whole(path, write)
