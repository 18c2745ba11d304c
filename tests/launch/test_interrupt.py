"""Ctrl-C and worker death on a search in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support import Outcome, tiny_search, wait_until

from visionsweep.run_dir.load import load_run
from visionsweep.run_dir.trials import read_lines

pytestmark = pytest.mark.with_ray(turn=6)

CLI = Callable[..., Outcome]


@pytest.fixture
def ended_by() -> list[str]:
    return ["--trials", "3"]


@pytest.fixture
def started(photos: Path, tmp_path: Path, ended_by: list[str]) -> Iterator[subprocess.Popen[str]]:
    # Shorter ones within a budget: on a busy machine, too, there is time for more than the first two.
    (tmp_path / "slow.py").write_text(tiny_search(task="binary", epochs=15 if "--budget" in ended_by else 40))
    arguments = ["run", "slow.py", "--data", str(photos), *ended_by, "--name", "slow", "--max-concurrent", "2"]
    process = subprocess.Popen(
        [str(Path(sys.executable).with_name("visionsweep")), *arguments],
        cwd=tmp_path,
        env={**os.environ, "VISIONSWEEP_CACHE_DIR": str(tmp_path / "cache")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    yield process
    if process.poll() is None:
        process.kill()
        process.communicate()


def wait_for_epochs(path: Path, count: int, process: subprocess.Popen[str]) -> list[dict[str, object]]:
    deadline = time.time() + 240
    while time.time() < deadline:
        assert process.poll() is None, process.communicate()[0]
        rows = read_lines(path)
        if len(rows) >= count and len({row["trial_id"] for row in rows}) == 2:
            return rows
        time.sleep(0.2)
    process.kill()
    raise AssertionError("no epochs within four minutes")


def test_a_killed_worker_is_replaced_ctrl_c_prints_the_ranking_and_the_run_goes_on_later(
    started: subprocess.Popen[str], visionsweep: CLI, tmp_path: Path
) -> None:
    run_dir = tmp_path / "runs" / "slow"
    victim = wait_for_epochs(run_dir / "epochs.jsonl", 6, started)[-1]
    os.kill(int(str(victim["pid"])), signal.SIGKILL)

    def epochs_of_another_process() -> list[object]:
        rows = [row for row in read_lines(run_dir / "epochs.jsonl") if row["trial_id"] == victim["trial_id"]]
        return [row["epoch"] for row in rows if row["pid"] != victim["pid"]]

    wait_until(lambda: len(epochs_of_another_process()) >= 2, started, 240)
    started.send_signal(signal.SIGINT)
    said = started.communicate(timeout=90)[0]
    assert started.returncode == 0, said
    assert "Traceback" not in said
    assert "visionsweep resume" in said
    trials = load_run(run_dir).trials
    assert {trial.status for trial in trials} <= {"interrupted", "complete"}
    interrupted = {trial.trial_id: len(trial.epochs) for trial in trials if trial.status == "interrupted"}
    assert 0 < interrupted[str(victim["trial_id"])] < 40
    assert all(trial.trial_id in said for trial in trials)
    begun = [trial_id for trial_id, epochs in interrupted.items() if epochs]
    assert all((run_dir / "checkpoints" / trial_id / "last.pt").exists() for trial_id in begun)
    assert not (run_dir / "stop").exists()

    assert visionsweep("resume", run_dir).code == 0
    trials = load_run(run_dir).trials
    assert [trial.trial_id for trial in trials] == ["0000", "0001", "0002"]
    assert {trial.status for trial in trials} == {"complete"}
    assert not [row for row in read_lines(run_dir / "trials.jsonl") if row.get("status") == "failed"]
    for trial in trials:
        assert [row["epoch"] for row in trial.epochs] == list(range(1, 41)), "every epoch, none left out"
    told = [(row["trial_id"], row["epoch"]) for row in read_lines(run_dir / "epochs.jsonl")]
    assert len(told) - len(set(told)) <= 1, "at most one, of the killed process, is told again"


@pytest.mark.parametrize("ended_by", [["--budget", "75s"]])
def test_a_search_that_was_killed_spends_the_rest_of_its_budget(
    started: subprocess.Popen[str], visionsweep: CLI, tmp_path: Path
) -> None:
    run_dir = tmp_path / "runs" / "slow"
    began = time.time()
    wait_for_epochs(run_dir / "epochs.jsonl", 6, started)
    started.kill()
    started.communicate()
    rows = read_lines(run_dir / "epochs.jsonl")
    spent_s = rows[-1]["time"] - began
    resumed = time.time()
    ran = visionsweep("resume", "runs/slow")
    assert ran.code == 0, ran.err
    assert "s of the budget of 1m15s is left." in ran.out
    assert spent_s + time.time() - resumed < 85, "the budget is kept, all in all, and the time to print"
    assert spent_s + read_lines(run_dir / "epochs.jsonl")[-1]["time"] - resumed > 60, "and used"
    assert len(load_run(run_dir).trials) > 2, "new ones were proposed"
    # Until the budget is spent: some seconds were reserved for the end, or were too few for another trial. An
    # interrupted trial, if there is one, is trained to its end, and nothing new is tried.
    for _ in range(4):
        before = {trial.trial_id: len(trial.epochs) for trial in load_run(run_dir).trials}
        lines_before = len(read_lines(run_dir / "epochs.jsonl"))
        said = visionsweep("resume", "runs/slow").out
        if "The budget of 1m15s is spent: " in said:
            break
    assert "The budget of 1m15s is spent: " in said
    trials = load_run(run_dir).trials
    assert {trial.trial_id for trial in trials} == set(before)
    assert {trial.status for trial in trials} <= {"complete", "pruned"}
    further = sum(len(trial.epochs) - before[trial.trial_id] for trial in trials)
    assert len(read_lines(run_dir / "epochs.jsonl")) - lines_before == further, "no epoch is trained twice"
