"""Every sampler that can be named, through the searcher, with scripted results."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.samplers import BaseSampler
from ray.tune.search import Searcher

from launch.samplers import samplers
from launch.search.records import Records
from launch.search.searcher import StudySearcher
from search_spaces.grammar import Branch, Float, Int, Maybe, Pick, Space
from search_spaces.search import Search
from visionsweep.core import names
from visionsweep.core.errors import ConfigError

SPACE: Space = {
    "optimizer": Branch(
        {
            "sgd": {"lr": Float(1e-3, 0.3, log=True), "momentum": Float(0.8, 0.99)},
            "adam": {"lr": Float(1e-5, 1e-2, log=True)},
        }
    ),
    "rotate": Maybe({"degrees": Float(5, 30, step=5)}),
    "depth": Int(1, 5),
    "batch_size": Pick(16, 32),
}
ENDS = ("complete", "pruned", "complete", "diverged", "complete", "failed", "running")


def search(sampler: str, space: Space = SPACE) -> Search:
    return Search(task="multiclass", space=space, epochs=4, sampler=sampler).for_task("multiclass")


def configs(folder: Path, sampler: str, num: int, space: Space = SPACE, seed: int = 0) -> list[dict[str, Any]]:
    """Return `num` proposals in a row. All but every seventh ended before the next."""
    records = Records.create(folder, {"search": {}})
    searcher = StudySearcher(
        search(sampler, space), records, seed, num_trials=None, deadline=None, valid=lambda config: None
    )
    proposed = []
    for number in range(num):
        name = f"ray-{number}"
        status = ENDS[number % len(ENDS)]
        proposal = searcher.suggest(name)
        assert isinstance(proposal, dict)
        proposed.append(proposal["config"])
        if status == "running":
            continue
        for epoch in range(1, 5 if status == "complete" else 3):
            last = {"status": "complete" if epoch == 4 else "running", "seconds": 1.0}
            result = {"epoch": epoch, "val/accuracy": 1 - 1 / (epoch + number % 5 + 1), **last}
            if epoch < 4:
                searcher.on_trial_result(name, result)
        ended = {"complete": result, "pruned": result}.get(status, {"status": status, "reason": "", "done": True})
        searcher.on_trial_complete(name, ended)
    return proposed


def test_every_sampler_that_can_be_named_can_be_built_and_none_is_hidden() -> None:
    written = [name for name, one in vars(samplers).items() if getattr(one, "__module__", "") == samplers.__name__]
    assert set(written) - {"build_sampler"} == set(names.SAMPLERS)
    for sampler in names.SAMPLERS:
        assert isinstance(samplers.build_sampler(search(sampler), 0, 0), BaseSampler)


@pytest.mark.parametrize("sampler", names.SAMPLERS)
def test_every_sampler_proposes_configurations_of_a_conditional_space(tmp_path: Path, sampler: str) -> None:
    search = Search(task="multiclass", space=SPACE, epochs=4).for_task("multiclass")
    drawn = configs(tmp_path / "run", sampler, 12)
    assert len(drawn) == 12
    for config in drawn:
        params = search.encode(config)
        assert search.draw(optuna.trial.FixedTrial(params)) == config  # warns for a value outside its range
    assert len({repr(config) for config in drawn}) > 8


@pytest.mark.parametrize("sampler", names.SAMPLERS)
def test_every_sampler_proposes_the_same_for_the_same_seed(tmp_path: Path, sampler: str) -> None:
    first = configs(tmp_path / "a", sampler, 12)
    assert configs(tmp_path / "b", sampler, 12) == first
    assert configs(tmp_path / "c", sampler, 12, seed=1) != first


@pytest.mark.parametrize("sampler", names.SAMPLERS)
@pytest.mark.parametrize(
    "space",
    [
        {"batch_size": 16},
        {"batch_size": Pick(16)},
        {"lr": Float(0.1, 0.1), "depth": Int(3, 3)},
    ],
    ids=["nothing", "one choice", "ranges of one value"],
)
def test_every_sampler_proposes_once_what_a_space_without_a_choice_has(
    tmp_path: Path, sampler: str, space: Space
) -> None:
    assert len(configs(tmp_path / "run", sampler, 1, space)) == 1
    search = Search(task="multiclass", space=space, epochs=4, sampler=sampler).for_task("multiclass")
    searcher = StudySearcher(search, Records.open(tmp_path / "run")[0], 0, None, None, valid=lambda config: None)
    searcher.suggest("the one that was cut off")
    searcher.on_trial_complete("the one that was cut off", {"status": "diverged", "reason": "", "done": True})
    assert searcher.suggest("one more") == Searcher.FINISHED


@pytest.mark.parametrize("sampler", names.SAMPLERS)
def test_every_sampler_copes_with_parameters_that_leave_no_choice(tmp_path: Path, sampler: str) -> None:
    space = {"batch_size": Pick(16), "lr": Float(0.1, 0.1), "depth": Int(3, 3), "dropout": Float(0, 0.5)}
    drawn = configs(tmp_path / "run", sampler, 12, space)
    assert len({config["dropout"] for config in drawn}) == 12
    assert all({**config, "dropout": 0} == {**drawn[0], "dropout": 0} for config in drawn)


@pytest.mark.parametrize("sampler", names.SAMPLERS)
def test_every_sampler_copes_with_nothing_but_diverged_trials(tmp_path: Path, sampler: str) -> None:
    search = Search(task="multiclass", space=SPACE, epochs=4, sampler=sampler).for_task("multiclass")
    records = Records.create(tmp_path / "run", {"search": {}})
    searcher = StudySearcher(search, records, 0, num_trials=None, deadline=None, valid=lambda config: None)
    for number in range(30):
        proposal = searcher.suggest(str(number))
        assert isinstance(proposal, dict)
        assert math.isfinite(proposal["config"]["optimizer"]["lr"])
        searcher.on_trial_complete(str(number), {"status": "diverged", "reason": "", "done": True})


def test_a_sampler_of_ones_own_is_one_function_and_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Lowest(optuna.samplers.RandomSampler):
        def sample_independent(self, study: Any, trial: Any, name: str, distribution: Any) -> Any:
            return distribution.choices[0] if hasattr(distribution, "choices") else distribution.low

    own = names.Sampler(lambda search, seed, num_before: Lowest(seed), several=False)
    monkeypatch.setitem(names.SAMPLERS, "lowest", own)
    (proposed,) = configs(tmp_path / "run", "lowest", 1)
    assert proposed["optimizer"] == {"name": "sgd", "lr": pytest.approx(1e-3), "momentum": 0.8}
    assert proposed["depth"] == 1
    with pytest.raises(ConfigError, match=r"sampler 'lowest' knows one objective, and 2 are asked for\."):
        Search(task="multiclass", space=SPACE, epochs=4, sampler="lowest", objectives=["val/f1", "-latency_ms"])
    with pytest.raises(ConfigError, match=r"unknown sampler 'lowst'\. Did you mean 'lowest'\?"):
        Search(task="multiclass", space=SPACE, epochs=4, sampler="lowst")
