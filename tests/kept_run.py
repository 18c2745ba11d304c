"""A run directory of untrained trials, with given predictions and any network's weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from support import tiny_config

from launch.search.prepare import RunOptions
from launch.search.records import Records
from search_spaces.search import Search
from search_spaces.serial import search_to_json
from trainables.checkpoint import TrialFiles
from trainables.config.io import parse_config
from trainables.data.formats import load_dataset
from trainables.data.loader import TrialData
from trainables.features.probe import UNSEEN
from trainables.models.build import build_model
from trainables.tasks import LABEL_TASKS, score

SMALL = tiny_config(epochs=1, optimizer={"name": "adam", "lr": 1e-3})


PROBE: dict[str, Any] = {
    **SMALL, "model": {**SMALL["model"], "freeze": "all"}, "views": 2, "optimizer": {"name": "lbfgs", "l2": 0.1},
}  # fmt: skip


def truths(data: TrialData, split: str = "val") -> np.ndarray:
    """Return the class numbers of a split, (N,) int."""
    return data.dataset.targets[data.dataset.indices(split)]


def opened(photos: Path) -> TrialData:
    dataset, images = load_dataset(str(photos), short_side_px=32, cache_dir=None)
    return TrialData(dataset, images)


def kept_run(
    run_dir: Path,
    photos: Path,
    logits: Sequence[np.ndarray],
    configs: Sequence[dict[str, Any]] | None = None,
    unseen: Sequence[np.ndarray | None] = (),
) -> TrialData:
    """Write one complete trial of two classes, with its own weights, for each (N, 1) float32 of logits.

    unseen: a probe's predictions of the training images (see `probe.SolvedEpoch`).
    """
    data = opened(photos)
    space = {key: value for key, value in SMALL.items() if key not in ("task", "epochs")}
    search = Search(task="classification", space=space, epochs=1).for_task("binary")
    about = {"search": search_to_json(search), "data": data.dataset.describe()}
    records = Records.create(run_dir, {**about, "options": asdict(RunOptions(data=str(photos)))})
    targets = LABEL_TASKS["binary"].encode(truths(data), 2)
    for number, predicted in enumerate(logits):
        values = SMALL if configs is None else configs[number]
        trial_id = f"{number:04d}"
        config = parse_config(values)
        found = score("binary", torch.from_numpy(predicted), targets, 2, config.threshold)
        metrics = {f"val/{name}": value for name, value in found.items()}
        torch.manual_seed(number)
        weights = build_model(config.model, 1, config.image_size).state_dict()
        folders = (run_dir / room / trial_id for room in ("checkpoints", "predictions"))
        file, kept = TrialFiles(*folders, "val/accuracy", "max", 1).files_of(1)
        for one in (file, kept):
            one.parent.mkdir(parents=True)
        save_file({name: tensor.contiguous() for name, tensor in weights.items()}, file)
        folds = unseen[number] if number < len(unseen) else None
        arrays = {"logits": predicted} | ({} if folds is None else {UNSEEN: folds})
        np.savez(kept, metrics=np.array("{}"), **arrays)  # type: ignore[arg-type]
        records.proposed(trial_id, {}, values, "drawn")
        records.started(trial_id)
        records.epoch({"trial_id": trial_id, "epoch": 1, "metrics": metrics, "seconds": 1.0, "latency_ms": 2.0})
        records.ended(trial_id, "complete", "")
    return data
