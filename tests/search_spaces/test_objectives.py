from __future__ import annotations

import math
from typing import Any

import pytest

from search_spaces import Float, Search
from search_spaces.serial import search_from_json, search_to_json
from visionsweep.core.errors import ConfigError
from visionsweep.core.names import COSTS
from visionsweep.core.objectives import Objective, outcome, parse_objectives

SEARCH = Search(task="classification", space={"lr": Float(0.1, 1)})


def test_a_minus_says_that_lower_is_better_and_losses_and_costs_say_so_themselves() -> None:
    found = parse_objectives(["val/f1", "-latency_ms", "parameters", "val/loss"], "multilabel")
    assert found == (
        Objective("val/f1", "max"), Objective("latency_ms", "min"), Objective("parameters", "min"),
        Objective("val/loss", "min"),
    )  # fmt: skip


def test_every_cost_can_be_an_objective() -> None:
    assert [one.name for one in parse_objectives(["val/miou", *COSTS], "segmentation")] == ["val/miou", *COSTS]


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        (["val/f2", "latency_ms"], "objective 'val/f2'"),
        (["val/f1", "-latency"], "Did you mean 'latency_ms'?"),
        (["val/miou", "latency_ms"], "is not one of task 'multiclass'"),
        (["latency_ms", "val/f1"], "Put a metric first"),
        (["val/f1", "-val/f1"], "an objective counts once"),
    ],
)
def test_what_is_no_objective_is_refused_with_a_sentence(texts: list[str], words: str) -> None:
    with pytest.raises(ConfigError) as refused:
        SEARCH.with_set({"objectives": texts}).for_task("multiclass")
    assert words in str(refused.value)


@pytest.mark.parametrize("value", ["val/f1", 3, [3], {"val/f1": "max"}])
def test_objectives_are_a_list_of_names(value: Any) -> None:
    with pytest.raises(ConfigError, match="must be a list of names"):
        SEARCH.with_set({"objectives": value})


def test_a_sampler_of_one_objective_is_refused_for_several_and_not_for_one() -> None:
    with pytest.raises(ConfigError, match="sampler 'cmaes' knows one objective, and 2 are asked for"):
        SEARCH.with_set({"objectives": ["val/f1", "latency_ms"], "sampler": "cmaes"})
    assert SEARCH.with_set({"objectives": ["val/f1"], "sampler": "cmaes"}).for_task("binary").metric == "val/f1"


def test_the_first_objective_is_the_metric_and_another_metric_contradicts_it() -> None:
    search = SEARCH.with_set({"objectives": ["val/loss", "latency_ms"]}).for_task("binary")
    assert (search.metric, search.mode) == ("val/loss", "min")
    assert search.compared == (Objective("val/loss", "min"), Objective("latency_ms", "min"))
    assert search_from_json(search_to_json(search)).compared == search.compared
    with pytest.raises(ConfigError, match="contradict each other"):
        Search(task="binary", space={}, metric="val/f1", objectives=["val/loss", "latency_ms"])


def test_without_objectives_the_metric_is_the_one() -> None:
    assert SEARCH.for_task("multilabel").compared == (Objective("val/f1", "max"),)


def test_an_outcome_reads_rows_and_flat_results_and_is_none_where_something_is_missing() -> None:
    objectives = parse_objectives(["val/f1", "latency_ms"], "binary")
    assert outcome({"metrics": {"val/f1": 0.5}, "latency_ms": 3.0}, objectives) == (0.5, -3.0)
    assert outcome({"metrics/val/f1": 0.5, "latency_ms": 3.0}, objectives) == (0.5, -3.0)
    assert outcome({"metrics": {}, "latency_ms": 3.0}, objectives) is None
    assert outcome({"metrics": {"val/f1": 0.5}, "latency_ms": math.nan}, objectives) is None
