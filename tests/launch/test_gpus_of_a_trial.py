"""The GPUs of one trial: a share of one or several whole ones. All else is refused before anything starts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import ray
import torch
from support import Outcome

from launch.cli.options import check_gpus_per_trial
from launch.jobs.submission import submit_check, submit_search
from launch.machines.capacity import capacity_of_cluster
from launch.machines.cluster import share_of_machine
from launch.machines.trial_probe import _step
from launch.search.prepare import RunOptions
from trainables import loop
from trainables.config.io import parse_config
from trainables.config.trial import TrialConfig
from trainables.data.formats import load_dataset
from visionsweep.core.errors import ConfigError

CLI = Callable[..., Outcome]
RULE = "so --gpus-per-trial takes auto, a number from 0 to 1, or a whole number, got"


@pytest.mark.with_ray
@pytest.mark.parametrize("command", ["run", "check", "submit"])
@pytest.mark.parametrize("gpus", ["1.5", "1.0001", "2.5"])
def test_a_part_of_a_second_gpu_is_refused_in_one_sentence(visionsweep: CLI, command: str, gpus: str) -> None:
    refused = visionsweep(command, "quickstart", "--gpus-per-trial", gpus)
    assert refused.code == 2
    assert f"{RULE} {float(gpus):g}. Give 1: further GPUs train further trials at the same time." in refused.err
    assert refused.out == ""
    assert len(refused.err.splitlines()) == 1


@pytest.mark.parametrize("gpus", [1.5, -1, -0.5, float("nan"), float("inf"), "2", True])
def test_what_no_trial_can_use_is_refused_from_python(gpus: object) -> None:
    with pytest.raises(ConfigError, match=RULE):
        RunOptions("digits", gpus_per_trial=gpus)  # type: ignore[arg-type]


@pytest.mark.parametrize("gpus", [None, "auto", 0, 0.25, 1, 1.0, 2, 8.0])
def test_what_one_trial_can_use_is_taken(gpus: object) -> None:
    check_gpus_per_trial(gpus)
    assert RunOptions("digits", gpus_per_trial=gpus).gpus_per_trial == gpus  # type: ignore[arg-type]


@pytest.mark.parametrize("submit", [submit_search, submit_check])
def test_a_search_for_a_cluster_is_refused_before_it_is_sent(submit: Callable[..., object]) -> None:
    with pytest.raises(ConfigError, match=RULE):
        submit("quickstart", {"--gpus-per-trial": 1.5, "--runs-dir": "/shared/runs"}, "http://127.0.0.1:1")


def machines(monkeypatch: pytest.MonkeyPatch, *resources: dict[str, float]) -> None:
    monkeypatch.setattr(ray, "nodes", lambda: [{"Alive": True, "Resources": each} for each in resources])


def test_the_gpus_of_a_trial_are_on_one_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    machines(monkeypatch, {"CPU": 16.0, "GPU": 4.0}, {"CPU": 16.0, "GPU": 3.0}, {"CPU": 8.0, "GPU": 1.0})
    share = share_of_machine(None, 2.0, None)
    assert (share.gpus, share.concurrent) == (2.0, 3), "two on the first, one on the second"
    machines(monkeypatch, {"CPU": 8.0, "GPU": 1.0}, {"CPU": 8.0, "GPU": 1.0})
    with pytest.raises(ConfigError, match=r"2 GPUs of one machine, and there are 16 and 2 on 2\. Lower"):
        share_of_machine(None, 2.0, None)


def test_packing_and_several_gpus_for_a_trial_exclude_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    machines(monkeypatch, {"CPU": 16.0, "GPU": 4.0, "memory": 2.0**34})
    with pytest.raises(
        ConfigError, match="auto packs several trials on one machine, and --gpus-per-trial 2 trains one"
    ):
        capacity_of_cluster("auto", 2.0, None)


def test_check_measures_the_part_of_the_batch_that_one_gpu_gets(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[TrialConfig] = []

    def fit(config: TrialConfig, *_: Any) -> Iterator[Any]:
        taken.append(config)
        yield SimpleNamespace(peak_memory_mb=1.0, seconds=1.0)

    monkeypatch.setattr(loop, "fit", fit)
    dataset, _ = load_dataset("digits", short_side_px=32, cache_dir=None)
    drawn = {
        "task": "multiclass", "model": {"backbone": "test_convnext", "weights": "none"},
        "optimizer": {"name": "sgd", "lr": 0.1}, "epochs": 3, "batch_size": 9, "image_size": 32,
    }  # fmt: skip
    for gpus in (1.0, 2.0, 4.0):
        _step(drawn, dataset, gpus, 1)
    assert [config.batch_size for config in taken] == [9, 5, 3]
    assert parse_config(drawn).batch_size == 9


@pytest.mark.parametrize(
    ("seen", "words"), [(0, "this training is on cpu"), (1, "the 1 that torch sees. Give --gpus 1.")]
)
def test_train_refuses_gpus_that_are_not_there(
    visionsweep: CLI, monkeypatch: pytest.MonkeyPatch, seen: int, words: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: seen > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: seen)
    refused = visionsweep("train", "--recipe", "report-cv4/fcn8s", "--data", "digits", "--gpus", 2)
    assert refused.code == 2
    assert "--gpus 2 asks for" in refused.err
    assert words in refused.err
