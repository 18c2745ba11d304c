"""What a call of `visionsweep.search` becomes, and what is wrong with one before a process starts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support import make_photos, make_sides, wait_until

import visionsweep as vs
from launch.cli.loading import load_search
from launch.cli.search import run
from launch.jobs.submission import carried
from launch.python.caller import CALLER_PIPE, ERROR_FILE, tell_caller, told_error
from launch.python.choose import chosen_search, sees_gpu
from launch.python.epochs import EpochFile, EpochTeller
from launch.python.search import search
from launch.python.status import status_of
from launch.python.words import assignments, options_as_words, search_file
from search_spaces.shipped import SEARCHES
from trainables.data.formats import scan_data
from trainables.data.kind import has_masks
from visionsweep.core.errors import ConfigError, Damaged, DataError, Diverged, RunError, VisionsweepError
from visionsweep.core.text import duration

ROOT = Path(__file__).parents[2]


# What a call becomes


def test_the_call_takes_every_option_of_the_command() -> None:
    import inspect

    of_command = set(inspect.signature(run).parameters) - {"ctx", "assignments"}
    of_call = set(inspect.signature(search).parameters)
    assert of_command - of_call == set()
    assert of_call - of_command == {"set", "wait", "quiet", "on_epoch"}


def test_options_become_words_of_the_command_line() -> None:
    options = {
        "data": "-odd name", "trials": 3, "budget": None, "no_cache": True, "no_report": False, "log": ["mlflow", "wandb"],
        "warm_start": [], "set": assignments({"optimizer.name": "sgd", "epochs": 2, "a": "3", "b": True}),
    }  # fmt: skip
    assert options_as_words(options) == [
        "--data=-odd name", "--trials=3", "--no-cache", "--log=mlflow", "--log=wandb", '--set=optimizer.name="sgd"',
        "--set=epochs=2", '--set=a="3"', "--set=b=true",
    ]  # fmt: skip


@pytest.mark.parametrize("name", SEARCHES)
def test_a_search_arrives_as_it_was_handed_over(name: str, tmp_path: Path) -> None:
    (tmp_path / "search.json").write_text(search_file(SEARCHES[name]))
    arrived = load_search(str(tmp_path / "search.json"))
    assert search_file(arrived) == search_file(SEARCHES[name])
    assert arrived.for_task("segmentation" if "segm" in name else "multiclass").full_space


def test_a_search_that_holds_more_than_data_and_files_that_hold_no_search_are_refused(tmp_path: Path) -> None:
    odd = vs.Search(task="binary", space={"optimizer": {"name": "sgd", "lr": np.float32(0.1)}})
    with pytest.raises(ConfigError, match="holds a value that is neither a range nor plain data"):
        search_file(odd)
    (tmp_path / "a.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"a\.json: must hold a search as a run's search\.json does"):
        load_search(str(tmp_path / "a.json"))
    (tmp_path / "a.json").write_text('{"search": {"task": "dance", "space": {}}}')
    with pytest.raises(ConfigError, match=r"a\.json: 'search' cannot be read"):
        load_search(str(tmp_path / "a.json"))
    with pytest.raises(ConfigError, match=r"none\.json"):
        load_search(str(tmp_path / "none.json"))


def test_a_search_of_data_alone_travels_to_a_cluster_too(tmp_path: Path) -> None:
    (tmp_path / "search.json").write_text(search_file(SEARCHES["quickstart"]))
    assert carried(str(tmp_path / "search.json")) == {"search.json": (tmp_path / "search.json").resolve()}


# Which search is chosen


def folders(root: Path) -> dict[str, Path]:
    photos = make_photos(root / "photos", {"red": 2, "blue": 2})
    split = root / "split"
    for part in ("train", "val"):
        make_photos(split / part, {"red": 2, "blue": 2})
    sides = make_sides(root / "sides", 60, 90)
    wrapped = root / "unpacked" / "inner"
    wrapped.parent.mkdir()
    sides.rename(wrapped)
    camvid = root / "camvid"
    for part in ("train", "trainannot", "val", "valannot"):
        (camvid / part).mkdir(parents=True)
        for number in range(2):
            Image.fromarray(np.full((8, 8), number, np.uint8)).convert("L").save(camvid / part / f"{number}.png")
    (camvid / "classes.txt").write_text("a\nb\n")
    table = make_photos(root / "table", {"red": 2, "blue": 2})
    names = [str(path.relative_to(table)) for path in sorted(table.glob("*/*.png"))]
    (table / "labels.csv").write_text("\n".join(["image,label", *(f"{one},{one[0]}" for one in names)]) + "\n")
    return {"photos": photos, "split": split, "masks": wrapped.parent, "camvid": camvid, "table": table}


def test_labels_and_masks_are_told_apart_by_names_alone_as_the_scan_does(tmp_path: Path) -> None:
    made = folders(tmp_path)
    specs = [
        *map(str, made.values()),
        str(made["table"] / "labels.csv"),
        "digits",
        "digits:binary",
        "digits:segmentation",
    ]
    told = {spec: has_masks(spec) for spec in specs}
    assert told == {spec: scan_data(spec, cache_dir=None).mask_reader is not None for spec in specs}
    assert sorted(map(bool, told.values())).count(True) == 3, "both kinds are among them"


def test_the_search_is_chosen_by_the_data_the_task_and_the_machine(tmp_path: Path) -> None:
    made = folders(tmp_path)
    assert chosen_search(str(made["photos"]), gpu=lambda: False) == "classification-cpu"
    assert chosen_search(str(made["photos"]), gpu=lambda: True) == "classification-gpu-small"
    assert chosen_search(str(made["masks"]), gpu=lambda: False) == "segmentation-cpu"
    assert chosen_search(str(made["masks"]), gpu=lambda: True) == "segmentation-gpu-small"
    assert chosen_search(str(made["masks"]), "multiclass", gpu=lambda: False) == "classification-cpu"
    assert chosen_search("s3://bucket/photos", "segmentation", gpu=lambda: False) == "segmentation-cpu"
    assert chosen_search("torchvision:VOCSegmentation", gpu=lambda: False) == "segmentation-cpu"
    assert chosen_search("torchvision:CIFAR10", gpu=lambda: False) == "classification-cpu"
    assert all(
        f"{kind}-{machine}" in SEARCHES
        for kind in ("classification", "segmentation")
        for machine in ("cpu", "gpu-small")
    )
    with pytest.raises(DataError, match="Name the search or the task"):
        chosen_search("s3://bucket/photos")
    with pytest.raises(DataError, match="no data in 'nowhere'"):
        chosen_search("nowhere")


def test_a_machine_without_the_device_of_a_gpu_knows_that_without_torch(tmp_path: Path) -> None:
    code = (
        "import sys; from launch.python.choose import sees_gpu, chosen_search\n"
        "print(sees_gpu([]), chosen_search('digits', gpu=lambda: sees_gpu([])), 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "classification-cpu", "False"]
    import torch

    assert sees_gpu([]) == torch.cuda.is_available(), "torch is asked where it is loaded already"


def test_resume_takes_every_option_of_its_command_but_the_one_that_sends_a_job() -> None:
    import inspect

    from launch.cli.search import resume

    of_command = set(inspect.signature(resume).parameters)
    of_call = set(inspect.signature(vs.resume).parameters)
    assert of_command - of_call == {"run_dir", "cluster"}
    assert of_call - of_command == {"run", "wait", "quiet", "on_epoch"}


# What is wrong with a call


@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        ({}, ConfigError, "takes data, a search, or both, and got neither"),
        ({"data": "nowhere"}, DataError, "no data in 'nowhere'"),
        ({"data": "digits", "budget": "20"}, ConfigError, "a budget is a number with a unit"),
        ({"data": "digits", "budget": -3}, ConfigError, "a budget"),
        ({"data": "digits", "trials": 0}, ConfigError, "trials must be a whole number of at least 1, got 0"),
        ({"data": "digits", "trials": 2.5}, ConfigError, "trials must be a whole number of at least 1, got 2.5"),
        ({"data": "digits", "seed": -1}, ConfigError, "seed must be a whole number of at least 0"),
        ({"data": "digits", "cpus_per_trial": 0}, ConfigError, "cpus_per_trial takes 'auto' or a number of at least"),
        ({"data": "digits", "gpus_per_trial": 1.5}, ConfigError, "a share of one GPU"),
        ({"data": "digits", "search": "classification-cqu"}, ConfigError, "Did you mean"),
        ({"data": "digits", "search": 3}, ConfigError, "a search is a Search, a name or a Python file, got 3"),
        ({"data": "digits", "sampler": "psychic"}, ConfigError, "unknown sampler 'psychic'"),
        ({"data": "digits", "set": {"optimiser.lr": 0.1}}, ConfigError, "optimiser"),
        ({"data": "digits", "set": {"optimiser.lr": vs.Float(0.1, 0.2)}}, ConfigError, "optimiser"),
        ({"data": "digits", "name": "a/b"}, ConfigError, "a run name is one folder name"),
        ({"data": "digits", "address": "ray://head:10001"}, ConfigError, "`visionsweep submit`"),
        ({"data": "digits", "runs_dir": "s3://b/runs", "on_epoch": print}, ConfigError, "on_epoch reads a run in a folder"),
        ({"search": "classification-cpu"}, ConfigError, "names no data"),
    ],
)  # fmt: skip
def test_a_mistake_is_an_exception_before_anything_starts(
    call: dict[str, Any], kind: type[Exception], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    began = time.monotonic()
    with pytest.raises(kind, match=words):
        vs.search(**call)
    assert time.monotonic() - began < 10
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        ({"run": "nowhere"}, RunError, "nowhere: is not a run directory"),
        ({"run": "nowhere", "trials": 0}, ConfigError, "trials must be a whole number of at least 1"),
        ({"run": "nowhere", "budget": "soon"}, ConfigError, "a budget is a number with a unit"),
        ({"run": "nowhere", "address": "ray://head:10001"}, ConfigError, "`visionsweep submit`"),
        ({"run": "s3://bucket/runs/a", "on_epoch": print}, ConfigError, "on_epoch reads a run in a folder"),
    ],
)
def test_a_mistake_in_resuming_is_an_exception_at_once(
    call: dict[str, Any], kind: type[Exception], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(kind, match=words):
        vs.resume(**call)


def test_an_error_keeps_its_class_and_its_sentence_on_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "error.json"
    assert told_error(path) is None
    monkeypatch.setenv(ERROR_FILE, str(path))
    for error in (DataError("no data."), ConfigError("é."), RunError("r."), VisionsweepError("v.")):
        tell_caller(error)
        told = told_error(path)
        assert type(told) is type(error)
        assert str(told) == str(error)
    for special, kind in (
        (Damaged("a.pt", "cut off"), RunError),
        (Diverged(float("nan"), 1, 2, 0.1), VisionsweepError),
    ):
        tell_caller(special)
        told = told_error(path)
        assert isinstance(told, kind)
        assert isinstance(special, type(told)), "a class above it, whose sentence is its only argument"
        assert str(told) == str(special)
    path.write_text(json.dumps({"kind": "os", "message": "not one of ours"}))
    assert type(told_error(path)) is VisionsweepError


def test_a_command_without_a_caller_writes_no_error_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ERROR_FILE, raising=False)
    monkeypatch.chdir(tmp_path)
    tell_caller(DataError("no data."))
    assert list(tmp_path.iterdir()) == []


def test_a_command_ends_when_its_caller_is_gone(tmp_path: Path) -> None:
    """Also where the caller was killed, and could say nothing."""
    code = (
        "import time; from launch.python.caller import end_with_caller\n"
        "end_with_caller(); print('waits', flush=True); time.sleep(60)"
    )
    pipe, held = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, env={**os.environ, CALLER_PIPE: str(pipe)}, pass_fds=(pipe,),
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    os.close(pipe)
    assert process.stdout is not None
    assert process.stdout.readline() == "waits\n"
    assert process.poll() is None
    os.close(held)
    wait_until(lambda: process.poll() is not None, seconds=20)
    assert process.returncode == -15
    process.stdout.close()


# Epochs and status


def epoch_line(trial_id: str, epoch: int) -> str:
    return json.dumps({"trial_id": trial_id, "epoch": epoch, "metrics": {"val/accuracy": 0.5}, "seconds": 1.0}) + "\n"


def test_epochs_are_told_once_each_and_only_when_their_line_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "epochs.jsonl"
    file = EpochFile(path)
    assert list(file.new_rows()) == [], "there is no file yet"
    path.write_text(epoch_line("0000", 1) + epoch_line("0000", 2)[:20])
    assert [row["epoch"] for row in file.new_rows()] == [1]
    assert list(file.new_rows()) == []
    path.write_text(epoch_line("0000", 1) + epoch_line("0000", 2) + "not json\n" + epoch_line("0001", 1))
    assert [(row["trial_id"], row["epoch"]) for row in file.new_rows()] == [("0000", 2), ("0001", 1)]
    whole = path.read_text()
    path.write_text(whole + epoch_line("0001", 2)[:30])
    resumed = EpochFile(path)
    path.write_text(whole + epoch_line("0001", 2))  # the torn end was cut, and the epoch trained again
    assert [(row["trial_id"], row["epoch"]) for row in resumed.new_rows()] == [("0001", 2)], "of its own session"


def test_what_on_epoch_raises_ends_the_telling_and_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "epochs.jsonl"
    told: list[int] = []
    stopped: list[bool] = []

    def once(row: dict[str, Any]) -> None:
        told.append(row["epoch"])
        raise ZeroDivisionError("mine")

    teller = EpochTeller(path, once, lambda: True, lambda: stopped.append(True))
    path.write_text(epoch_line("0000", 1) + epoch_line("0000", 2))
    teller.start()
    teller.join(10)
    assert told == [1]
    assert stopped == [True]
    assert isinstance(teller.raised, ZeroDivisionError)


def test_a_status_counts_trials_and_says_what_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "tests" / "analysis"))
    from made_runs import write_run

    options = {"data": "photos", "budget_s": 600.0, "num_trials": 48}
    made = vs.load_run(write_run(tmp_path / "mine", changes={"options": options}))
    begun = made.search["started"]
    last = max(row["time"] for trial in made.trials for row in trial.epochs)
    made.search["options"]["budget_s"] = last - begun + 600
    status = status_of(made, "running", 120.0, last)
    best = vs.ranking(made).iloc[0]
    assert (status.best, status.best_trial) == (best["val/accuracy"], best["trial_id"])
    assert status.num_trials == sum(status.counts.values()) == 24
    assert status.num_epochs == len(made.curves())
    assert status.seconds_left == pytest.approx(last - begun), "24 trials took so long, and 24 are left"
    assert status_of(made, "running", 700.0, last + 590).seconds_left == pytest.approx(10), "the budget ends it before"
    assert status_of(made, "ended", 500.0, last).seconds_left is None
    assert str(status).startswith(f"running after 2m00s, about {duration(last - begun)} left; 24 trials: ")
    made.search["options"]["num_trials"] = None
    made.search["resumed"] = [{"time": last + 1000}]
    assert status_of(made, "running", 20.0, last + 1020).seconds_left == pytest.approx(580), "a pause does not count"
    assert str(status_of(None, "starting", 3.0, last)) == "starting after 3s; 0 trials"


# What ends the process itself, before Ray starts


def test_an_error_of_the_command_is_raised_where_it_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text("print('loading')\n1 / 0\n")
    with pytest.raises(ConfigError, match=r"mine\.py, line 2: ZeroDivisionError"):
        vs.search("digits", "mine.py", runs_dir="elsewhere")
    said = capfd.readouterr()
    assert "loading" in said.out, "what the command prints stands where the caller's output does"
    assert "ZeroDivisionError" in said.err
    handle = vs.search("digits", Path("mine.py"), wait=False)
    with pytest.raises(ConfigError, match="ZeroDivisionError"):
        handle.wait(60)
    with pytest.raises(ConfigError, match="ZeroDivisionError"):
        handle.stop()
    assert handle.status().state == "failed"
    assert "failed" in repr(handle)
    assert "ZeroDivisionError" in handle.output
    assert not Path(handle._process.folder).exists(), "the files of the call are gone"
    with pytest.raises(RunError, match="is not a run directory"):
        handle.ranking()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("import os; print('last words', flush=True); os._exit(3)", "ended with exit code 3: last words"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "was ended by signal 9: "),
    ],
)
def test_a_process_that_dies_is_an_error_with_its_last_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(line)
    with pytest.raises(VisionsweepError, match=words):
        vs.search("digits", "mine.py", quiet=True)


def test_a_quiet_search_prints_nothing_and_one_that_is_waited_for_too_shortly_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text("import time; print('loading', flush=True); time.sleep(60)")
    handle = vs.search("digits", "mine.py", wait=False, quiet=True, name="mine")
    with pytest.raises(TimeoutError, match=r"goes on after 0\.1 s"):
        handle.wait(0.1)
    assert handle.is_running
    assert handle.status().state == "starting"
    assert "<pre>" not in handle._repr_html_() or "loading" in handle._repr_html_()
    wait_until(lambda: "loading" in handle.output, handle._process.process)
    handle.stop()
    assert handle.status().state == "stopped"
    assert capfd.readouterr().out == ""


def test_two_searches_of_one_second_have_names_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text("import time; time.sleep(60)")
    handles = [vs.search("digits", "mine.py", wait=False, quiet=True) for _ in range(3)]
    for handle in handles:
        handle.stop(wait=False)
    assert len({handle.run_dir for handle in handles}) == 3
    assert all(handle.wait().status().state == "stopped" for handle in handles)


def test_searches_that_run_when_python_ends_are_ended_too(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("import os, time; print('pid', os.getpid(), flush=True); time.sleep(60)")
    script = (
        "import time, visionsweep as vs\n"
        "run = vs.search('digits', 'mine.py', wait=False)\n"
        "while 'pid' not in run.output: time.sleep(0.1)\n"
        "print(run.output, 'folder', run._process.folder)"
    )
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True,
        text=True, timeout=60, check=True,
    )  # fmt: skip
    assert time.monotonic() - began < 40
    words = done.stdout.split()
    pid = words[words.index("pid") + 1]
    folder = words[words.index("folder") + 1]
    assert pid.isdecimal()
    assert not Path(f"/proc/{pid}").exists()
    assert not Path(folder).exists(), "the files of the call are gone too"
