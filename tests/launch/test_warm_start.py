"""--warm-start: earlier runs and recipes as first trials."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from launch.cli.loading import load_search
from launch.search.records import Records
from launch.search.searcher import StudySearcher
from launch.search.warm_start import warm_started
from search_spaces import Float, Search
from search_spaces.recipes import recipe
from search_spaces.serial import search_to_json
from visionsweep.core.errors import ConfigError

SEARCH = Search(
    task="multiclass",
    space={
        "model": {"backbone": "test_resnet", "weights": "none"},
        "optimizer": {"name": "sgd", "lr": Float(0.01, 1.0)},
    },
    fixed={"batch_size": 16},
    warm_start=[{"optimizer": {"name": "sgd", "lr": 0.5}}],
    epochs=4,
)


def a_run(folder: Path, scores: dict[float, float], task: str = "multiclass") -> Path:
    """A run directory whose trials had learning rates and came to scores."""
    search = Search(task=task, space=SEARCH.space, epochs=4).for_task(task)
    records = Records.create(folder, {"name": folder.name, "search": search_to_json(search)})
    for number, (lr, score) in enumerate(scores.items()):
        trial_id = f"{number:04d}"
        records.proposed(trial_id, {"optimizer/lr": lr}, {"optimizer": {"name": "sgd", "lr": lr}}, "sampler")
        for epoch in range(1, 5):
            metrics = {search.metric or "": score * epoch / 4}
            records.epoch({"trial_id": trial_id, "epoch": epoch, "metrics": metrics, "seconds": 1.0})
        records.ended(trial_id, "complete", "")
    return folder


def rates(search: Search) -> list[Any]:
    return [config["optimizer"]["lr"] for config in search.warm_start]


def test_the_best_three_of_a_run_are_tried_first_best_first(tmp_path: Path) -> None:
    run = a_run(tmp_path / "run", {0.1: 0.5, 0.2: 0.9, 0.3: 0.7, 0.4: 0.8})
    assert rates(warm_started(SEARCH, [str(run)])) == [0.2, 0.4, 0.3, 0.5]


def test_the_searcher_proposes_them_before_anything_else(tmp_path: Path) -> None:
    run = a_run(tmp_path / "run", {0.1: 0.5, 0.2: 0.9})
    search = warm_started(SEARCH, [str(run)]).for_task("multiclass")
    searcher = StudySearcher(search, Records.create(tmp_path / "new", {}), 0, num_trials=None, deadline=None)
    proposals = [searcher.suggest(name) for name in "abc"]
    assert [one["config"]["optimizer"]["lr"] for one in proposals if isinstance(one, dict)] == [0.2, 0.1, 0.5]
    origins = [json.loads(line)["origin"] for line in (tmp_path / "new" / "trials.jsonl").read_text().splitlines()]
    assert origins == ["warm_start"] * 3


def test_several_sources_give_each_configuration_once(tmp_path: Path) -> None:
    first = a_run(tmp_path / "a", {0.1: 0.9})
    second = a_run(tmp_path / "b", {0.1: 0.8, 0.2: 0.7})
    assert rates(warm_started(SEARCH, [str(first), str(second)])) == [0.1, 0.2, 0.5]


def test_a_recipe_is_a_source_by_its_name() -> None:
    search = load_search("classification-gpu-large")
    found = warm_started(search, ["report-3080ti/seresnext101-mish"])
    assert found.warm_start[0] == recipe("report-3080ti/seresnext101-mish")
    assert list(found.warm_start[1:]) == list(search.warm_start)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("nowhere", "takes a run directory or a recipe, and 'nowhere' is neither"),
        ("report-cv4/fcn8s", "is for segmentation, and this search is for multiclass"),
    ],
)
def test_a_source_that_is_none_or_of_another_kind_is_refused(source: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        warm_started(SEARCH, [source])


def test_a_run_without_an_epoch_has_nothing_to_start_from(tmp_path: Path) -> None:
    run = a_run(tmp_path / "run", {})
    with pytest.raises(ConfigError, match="no trial of that run finished an epoch"):
        warm_started(SEARCH, [str(run)])
