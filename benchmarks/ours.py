"""Our own search for the benchmark: the project's searcher and scheduler, driven through `RayMethod`."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ray.tune import Callback

from benchmarks.simulate import BlackBox, Clock
from benchmarks.simulate_ray import RayMethod
from launch.pruners.pruning import build_scheduler
from launch.search.records import Records
from launch.search.searcher import StudySearcher
from search_spaces.search import Search
from search_spaces.serial import search_to_json


def method_ours(
    black_box: BlackBox,
    seed: int,
    workers: int,
    budget_s: float,
    clock: Clock,
    warm_start: Sequence[Mapping[str, Any]] = (),
    learned: Sequence[Mapping[str, Any]] = (),
    data: str = "",
) -> RayMethod:
    """The search that a user gets: defaults for everything but the space, the metric and the epochs.

    It knows neither budget nor workers, like `visionsweep run --trials N`. The run directory is a real one and lives as
    long as the method.

        learned  trials of earlier runs, as `learned_from` returns them
        data     what search.json calls the data
    """
    search = search_of(black_box, warm_start)
    folder = tempfile.TemporaryDirectory(prefix="visionsweep-benchmark-")
    records = Records.create(Path(folder.name) / "run", {"name": "benchmark", **described(search, data)})
    # A black box's configuration is not one of TrialConfig's.
    searcher = StudySearcher(
        search, records, seed, num_trials=None, deadline=None, valid=lambda config: None, learned=learned
    )
    metric = str(search.metric)
    return RayMethod(searcher, build_scheduler(search), metric, black_box.epochs, Recorder(records, folder))


def search_of(black_box: BlackBox, warm_start: Sequence[Mapping[str, Any]] = ()) -> Search:
    metric = {"max": "val/accuracy", "min": "val/loss"}[black_box.mode]
    search = Search(
        task="multiclass", space=black_box.space, metric=metric, epochs=black_box.epochs, warm_start=warm_start
    )
    return search.for_task("multiclass")


def described(search: Search, data: str) -> dict[str, Any]:
    """Return what search.json says of a search and its data, so that another search can learn from it."""
    return {"search": search_to_json(search), "data": {"fingerprint": data, "val": [data]}}


class Recorder(Callback):  # type: ignore[misc]
    """Write what `RunCallback` writes of a run, without a terminal, weights to delete, or the best as a TrialConfig.

    folder: held here, as it is deleted when nothing holds it.
    """

    def __init__(self, records: Records, folder: tempfile.TemporaryDirectory[str]) -> None:
        self.records = records
        self.folder = folder

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.records.started(trial.config["trial_id"])

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        if "epoch" in result:
            row = {key: result[key] for key in ("epoch", "metrics", "seconds")}
            self.records.epoch({"trial_id": trial.config["trial_id"], **row})

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        status = trial.last_result["status"]
        self.records.ended(trial.config["trial_id"], "pruned" if status == "running" else status, "")
