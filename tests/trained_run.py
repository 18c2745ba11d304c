"""A run directory like a search's, made without Ray: a few tiny trials, each trained in this process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from launch.search.preflight import short_side_px
from launch.search.prepare import RunOptions
from launch.search.records import Records
from search_spaces.search import Search
from search_spaces.serial import search_to_json
from trainables.checkpoint import TrialFiles
from trainables.config.io import parse_config
from trainables.data.formats import load_dataset
from trainables.data.loader import TrialData
from trainables.loop import fit


def trained_run(
    run_dir: Path, search: Search, data: str, configs: Sequence[dict[str, Any]], **options: Any
) -> TrialData:
    """Train one complete trial per configuration. Return the data that they were trained on.

    options: of the run, beside its data.
    """
    asked = RunOptions(data=data, **options)
    dataset, images = load_dataset(
        data, task=None if search.task == "classification" else search.task, short_side_px=short_side_px(search),
        cache_dir=None, **asked.read_as.options(),
    )  # fmt: skip
    search = search.for_task(dataset.task)
    metric = search.metric or ""
    mode = search.mode or "max"
    records = Records.create(
        run_dir,
        {
            "search": search_to_json(search),
            "data": dataset.describe(),
            "options": asdict(asked),
        },
    )
    for number, values in enumerate(configs):
        trial_id = f"{number:04d}"
        config = parse_config(values)
        records.proposed(trial_id, {}, values, "drawn")
        records.started(trial_id)
        folders = (run_dir / room / trial_id for room in ("checkpoints", "predictions"))
        files = TrialFiles(*folders, metric, mode, config.keep_best)
        for result in fit(config, TrialData(dataset, images), torch.device("cpu")):
            files.save(result, resumable=False)
            records.epoch({"trial_id": trial_id, **result.row()})
        records.ended(trial_id, "complete", "")
    return TrialData(dataset, images)
