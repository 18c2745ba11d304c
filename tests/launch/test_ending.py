"""--target and --stop auto: a search ends by its own results, and continues where more is asked for."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ray.tune.search import Searcher
from scripted_search import METRIC, SQUARE, Searching, quadratic, search
from support import command_in, lines, make_photos, tiny_search

from launch.samplers.fidelity_sampler import FidelitySampler
from launch.samplers.outlook import still_to_gain
from launch.search.ending import Ending, resumed_ends, standard_error
from launch.search.prepare import RunOptions
from launch.search.target import Target, check_ends
from search_spaces.search import Search
from visionsweep.core.errors import ConfigError
from visionsweep.run_dir.run import SETTLED

CLASSIFY = Search(task="classification", space={"a": SQUARE["a"]})


@pytest.mark.parametrize(
    ("target", "stop", "changes", "said"),
    [
        ("val/accuracy", None, {}, r"takes METRIC=VALUE, or a value of the search's own metric, got 'val/accuracy'"),
        ("=0.9", None, {}, "takes METRIC=VALUE"),
        ("nan", None, {}, "takes METRIC=VALUE"),
        ("val/acuracy=0.9", None, {}, r"unknown metric of --target 'val/acuracy'\. Did you mean 'val/accuracy'\?"),
        ("val/miou=0.9", None, {}, "metric of --target 'val/miou' is not one of task"),
        ("95", None, {}, r"val/accuracy is at most 1, .* write --target val/accuracy=0\.95"),
        (None, "soon", {}, "--stop takes auto, got 'soon'"),
        (None, "auto", {"sampler": "tpe"}, "asks the model of the sampler fidelity, and the search's is 'tpe'"),
        (None, "auto", {"metric": "val/loss"}, "the search compares val/loss"),
        (None, "auto", {"objectives": ["val/f1", "-latency_ms"]}, "the search compares val/f1, -latency_ms"),
    ],
)
def test_what_cannot_end_a_search_is_refused_in_a_sentence(
    target: str | None, stop: str | None, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        check_ends(replace(CLASSIFY, **changes), target, stop)


def test_a_target_is_of_the_own_metric_or_of_another_in_its_better_direction() -> None:
    check_ends(CLASSIFY, "val/top5=0.9", "auto")  # one of the tasks that the data may turn out to have
    chosen = search(SQUARE)
    assert Target.of("0.9", chosen) == Target(METRIC, "max", 0.9) == Target.of("val/accuracy=0.9", chosen)
    assert Target.of("val/loss=0.2", chosen) == Target("val/loss", "min", 0.2)


def test_a_search_proposes_nothing_more_once_a_complete_trial_has_the_target(tmp_path: Path) -> None:
    running = Searching(tmp_path / "run", search(SQUARE), quadratic)
    ending = running.searcher.ending = Ending(running.search, Target(METRIC, "max", 0.9), False, 100)
    while running.searcher.over() is None:
        running.step()
        ending.look_at(list(running.records.trials.values())[-1])
        assert len(running.records.trials) < 80
    assert running.searcher.over() == "the target val/accuracy >= 0.9 is reached"
    assert running.best() >= 0.9
    assert running.searcher.suggest("more") == Searcher.FINISHED
    again = Ending(running.search, Target(METRIC, "max", 0.9), False, 100, running.records.trials.values())
    assert again.note == ending.note
    pruned = [trial for trial in running.records.trials.values() if trial.status == "pruned"]
    assert Ending(running.search, Target(METRIC, "max", -9.0), False, 100, pruned).reason is None


def test_a_search_ends_itself_where_less_than_the_noise_is_left_to_gain(tmp_path: Path) -> None:
    running = Searching(tmp_path / "run", search(SQUARE), quadratic)
    found: list[dict[str, Any]] = []
    ending = running.searcher.ending = Ending(running.search, None, True, 60, (), found.append)
    sampler = running.searcher.study.sampler
    assert isinstance(sampler, FidelitySampler)
    while running.searcher.over() is None and len(running.records.trials) < 60:
        running.step()
        ending.look_at(list(running.records.trials.values())[-1])
        ending.look_ahead(sampler.history)  # as the next proposal would
    assert "below the noise of the validation split" in str(running.searcher.over())
    (settled,) = found
    assert settled["gain"] < settled["noise"] == standard_error(settled["score"], 60)
    assert 1 - running.best() < settled["noise"]  # the truth is 1
    assert f"standard error of the best score, {settled['score']:.4f} ± {settled['noise']:.4f}" in str(ending.note)


def test_asking_the_model_changes_no_proposal_and_a_noise_of_nothing_ends_no_search(tmp_path: Path) -> None:
    plain = Searching(tmp_path / "plain", search(SQUARE), quadratic)
    asked = Searching(tmp_path / "asked", search(SQUARE), quadratic)
    found: list[dict[str, Any]] = []
    ending = asked.searcher.ending = Ending(asked.search, None, True, 10**12, (), found.append)
    for _ in range(36):
        assert plain.step() == asked.step()
        ending.look_at(list(asked.records.trials.values())[-1])
    sampler = asked.searcher.study.sampler
    assert isinstance(sampler, FidelitySampler)
    gain = still_to_gain(sampler.history, 0, 1.0)
    assert gain is not None
    assert gain > 0
    assert (asked.searcher.over(), found) == (None, [])


def test_a_run_that_ended_itself_continues_only_where_more_is_asked_for(tmp_path: Path) -> None:
    running = Searching(tmp_path / "run", search(SQUARE), quadratic)
    running.step()
    (trial,) = running.records.trials.values()
    has = trial.best(METRIC, "max")
    assert has is not None
    options = RunOptions(data="photos", target=f"{has[0] - 0.1:.2f}", stop="auto")

    def resumed(target: str | None, more: bool, settled: bool = False) -> tuple[RunOptions, str | None]:
        search_json = {SETTLED: {}} if settled else {}
        return resumed_ends(options, running.search, [trial], search_json, target, more)

    assert str(resumed(None, False)[1]).startswith("the target val/accuracy >= ")
    assert resumed(None, True) == (replace(options, target=None), None)
    assert resumed("val/accuracy=1", False) == (replace(options, target="val/accuracy=1"), None)
    assert "below the noise" in str(resumed(None, False, settled=True)[1])
    assert resumed("val/accuracy=1", False, settled=True)[0].stop is None
    with pytest.raises(ConfigError, match=r"trial 0000 has it already"):
        resumed(f"{has[0] - 0.05:.2f}", False)


@pytest.mark.with_ray(turn=5)
@pytest.mark.usefixtures("ray_session")
def test_a_search_on_photos_ends_with_its_target_and_teaches_the_next_one(tmp_path: Path) -> None:
    make_photos(tmp_path / "photos", {"red": 24, "blue": 24})
    (tmp_path / "tiny.py").write_text(tiny_search(epochs=2, grace_epochs=2))
    ran = command_in(
        tmp_path, "run", "tiny.py", "--data", "photos", "--trials", 40, "--name", "a", "--target", "0.01", "--no-report"
    )
    assert ran.code == 0, ran.out
    said = "The search has ended: the target val/accuracy >= 0.01 is reached: trial "
    assert said in ran.out
    ends = [line for line in lines(tmp_path / "runs/a/trials.jsonl") if line["event"] == "ended"]
    assert len(ends) < 10
    assert [one["status"] for one in ends].count("complete") >= 1
    reasons = {one["reason"] for one in ends if one["status"] == "interrupted"}
    assert all(reason.startswith("the target val/accuracy >= 0.01 is reached") for reason in reasons)
    assert json.loads((tmp_path / "runs/a/search.json").read_text())["ended"].startswith("the target ")
    again = command_in(tmp_path, "resume", "runs/a", "--no-report")
    assert "The search has ended: the target val/accuracy >= 0.01 is reached. --budget" in again.out
    assert len([line for line in lines(tmp_path / "runs/a/trials.jsonl") if line["event"] == "ended"]) == len(ends)
    words = ("--trials", 1, "--name", "b", "--learn-from", "runs/a", "--no-report")
    taught = command_in(tmp_path, "run", "tiny.py", "--data", "photos", *words)
    assert taught.code == 0, taught.out
    search_json = json.loads((tmp_path / "runs/b/search.json").read_text())
    trained = {row["trial_id"] for row in lines(tmp_path / "runs/a/epochs.jsonl")}
    assert f"Learned from {len(trained)} trial" in taught.out
    assert {(one["run"], one["source"]) for one in search_json["learned"]} == {("a", 0)}
    assert search_json["options"]["learn_from"] == [str(tmp_path / "runs/a")]
