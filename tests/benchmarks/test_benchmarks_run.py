"""Every benchmark runs, on the smallest input that it takes, and every command that the pages name is one."""

from __future__ import annotations

import argparse
import importlib
import re
import shlex
from pathlib import Path

import pytest
from running import BENCHMARKS, ROOT, main_of, needs_curves

Capture = pytest.CaptureFixture[str]
Patch = pytest.MonkeyPatch
TASKSET = ("taskset-patch32_LSTM128_bs128", "taskset-patch32_GRU64_avg_bs128")
DOCUMENTS = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]


def test_loader_compares_three_ways_of_feeding_a_training(photos: Path, monkeypatch: Patch, capsys: Capture) -> None:
    main_of("loader", monkeypatch)("--data", photos, "--image-size", 32, "--epochs", 1)
    said = capsys.readouterr().out
    assert re.search(r"38 images, 32 px, batch 32, one core\nfrom memory +\d+\.\d images/s +ratio 1\.000\n", said)
    assert re.search(r"through the cache .*\nwithout the cache .*\n", said)


def test_engine_speed_times_proposals_and_a_whole_search(monkeypatch: Patch, capsys: Capture) -> None:
    main_of("engine_speed", monkeypatch)("--trials", 30, "--workers", 4, "--proposals", 2)
    said = capsys.readouterr().out
    assert "25 parameters, 30 recorded trials" in said
    assert "a search of 30 trials on 4 virtual workers" in said


def test_scale_times_a_run_that_goes_on(monkeypatch: Patch, capsys: Capture) -> None:
    main_of("scale", monkeypatch)("--trials", 20, "--more", 5, "--ray")
    assert re.search(r"20 trials +\d+\.\d\d / \d+\.\d\d ", capsys.readouterr().out)


@needs_curves
def test_warm_start_compares_starts(monkeypatch: Patch, capsys: Capture) -> None:
    sizes = ("--seeds", 1, "--workers", 2, "--budget", 2, "--jobs", 1)
    main_of("warm_start", monkeypatch)("--tasks", *TASKSET, "--starts", "plain", "bad", *sizes)
    said = capsys.readouterr().out
    assert "[4/4]" in said
    assert re.search(r"\nplain  .*\nbad  .* behind by ", said)


@needs_curves
def test_learning_from_compares_what_earlier_runs_teach(monkeypatch: Patch, capsys: Capture) -> None:
    sizes = ("--seeds", 1, "--workers", 2, "--taught", 3, "--budgets", 1, 2, "--jobs", 1)
    main_of("learning_from", monkeypatch)("--tasks", *TASKSET, *sizes)
    said = capsys.readouterr().out
    assert "[6/6]" in said
    assert re.search(r"\nplain +\d\.\d{4} .*\nsame .*\(.\d\.\d{4} ± nan|\nsame .*won \d+%\)\nother .*won \d+%\)", said)
    with pytest.raises(SystemExit):
        main_of("learning_from", monkeypatch)("--tasks", TASKSET[0])


def test_stopping_says_what_an_early_end_costs_and_saves(monkeypatch: Patch, capsys: Capture) -> None:
    main_of("stopping", monkeypatch)("--seeds", 1, "--budget", 5, "--jobs", 1)
    assert re.search(
        r"\nown-flowers5-cpu +\d of 1 +0\.\d{4} +0\.02\d\d +0\.\d{4} +0\.\d{4} +\d+%\n", capsys.readouterr().out
    )


def test_searcher_contract_prints_who_keeps_what(capsys: Capture, monkeypatch: Patch) -> None:
    main_of("searcher_contract", monkeypatch)()
    assert re.search(r"visionsweep.* stock", capsys.readouterr().out)


IN_A_SENTENCE = re.compile(r"`python -m (benchmarks\.[^`]+)`")
IN_A_BLOCK = re.compile(r"^ {4}python -m (benchmarks\.(?:[^\\\n]|\\\n)+)", re.MULTILINE)


def commands() -> list[str]:
    texts = [path.read_text() for path in DOCUMENTS]
    found = [one for text in texts for rule in (IN_A_SENTENCE, IN_A_BLOCK) for one in rule.findall(text)]
    return sorted({" ".join(one.replace("\\\n", " ").split()) for one in found})


class Parsed(Exception):
    """The command line was understood, and that is all."""


@pytest.mark.parametrize("command", commands())
def test_a_command_that_the_documents_name_is_understood(command: str, monkeypatch: Patch, capsys: Capture) -> None:
    name, *arguments = shlex.split(command)
    assert (ROOT / f"{name.replace('.', '/')}.py").is_file()
    real = argparse.ArgumentParser.parse_args

    def parse(self: argparse.ArgumentParser, *given: object, **named: object) -> None:
        real(self, arguments)
        raise Parsed

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse)
    module = importlib.import_module(name)
    try:
        with pytest.raises(Parsed):
            module.main()
    except SystemExit:
        pytest.fail(capsys.readouterr().err)


def test_the_documents_name_commands() -> None:
    assert len(commands()) > 10


def test_every_benchmark_is_run_by_a_test() -> None:
    tests = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("*.py"))
    commands = [path for path in BENCHMARKS.glob("*.py") if "__main__" in path.read_text()]
    missing = [
        path.name
        for path in sorted(commands)
        if f'main_of("{path.stem}"' not in tests and f'"benchmarks.{path.stem}"' not in tests
    ]
    assert missing == []
