"""A trial trains on one GPU: more are refused, wherever they are asked for, before anything starts."""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest
from rich.console import Console
from support import Outcome

from launch.cli.options import check_gpus_per_trial
from launch.jobs.submission import submit_check, submit_search
from launch.machines.cluster import share_of_machine
from launch.search.prepare import RunOptions, with_one_gpu
from visionsweep.core.errors import ConfigError

pytestmark = pytest.mark.with_ray

CLI = Callable[..., Outcome]
RULE = "a trial trains on one GPU, so --gpus-per-trial takes auto or a number from 0 to 1, got"


@pytest.mark.parametrize("command", ["run", "check", "submit"])
@pytest.mark.parametrize("gpus", ["2", "1.5", "1.0001", "8"])
def test_more_than_one_gpu_for_a_trial_is_refused_in_one_sentence(visionsweep: CLI, command: str, gpus: str) -> None:
    refused = visionsweep(command, "quickstart", "--gpus-per-trial", gpus)
    assert refused.code == 2
    assert f"{RULE} {float(gpus):g}. Give 1: further GPUs train further trials at the same time." in refused.err
    assert refused.out == ""
    assert len(refused.err.splitlines()) == 1


@pytest.mark.parametrize("gpus", [2, 1.5, -1, -0.5, float("nan"), float("inf"), "2", True])
def test_more_than_one_gpu_is_refused_from_python(gpus: object) -> None:
    with pytest.raises(ConfigError, match=RULE):
        RunOptions("digits", gpus_per_trial=gpus)  # type: ignore[arg-type]


@pytest.mark.parametrize("gpus", [None, "auto", 0, 0.25, 1, 1.0])
def test_what_one_trial_can_use_is_taken(gpus: object) -> None:
    check_gpus_per_trial(gpus)
    assert RunOptions("digits", gpus_per_trial=gpus).gpus_per_trial == gpus  # type: ignore[arg-type]


@pytest.mark.usefixtures("ray_session")
def test_a_share_of_the_machine_has_one_gpu_at_most() -> None:
    with pytest.raises(ConfigError, match=RULE):
        share_of_machine(None, 2.0, None)


@pytest.mark.parametrize("submit", [submit_search, submit_check])
def test_a_search_for_a_cluster_is_refused_before_it_is_sent(submit: Callable[..., object]) -> None:
    with pytest.raises(ConfigError, match=RULE):
        submit("quickstart", {"--gpus-per-trial": 2, "--runs-dir": "/shared/runs"}, "http://127.0.0.1:1")


def test_a_run_of_an_earlier_version_that_set_two_aside_is_resumed_with_one() -> None:
    console = Console(file=io.StringIO(), width=200)
    options = {"data": "digits", "gpus_per_trial": 2.0}
    assert with_one_gpu(options, console) == {"data": "digits", "gpus_per_trial": 1.0}
    assert "The run set 2 GPUs aside for each trial, which trains on one." in console.file.getvalue()  # type: ignore[attr-defined]
    for kept in (None, "auto", 0.5, 1):
        assert with_one_gpu({"data": "digits", "gpus_per_trial": kept}, console)["gpus_per_trial"] == kept
