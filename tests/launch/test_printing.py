"""What the commands print, from searches and runs that were made by hand."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from support import Outcome

from launch.cli.printing import print_ranking
from launch.cli.printing_search import print_search
from search_spaces import Branch, Float, Int, Pick, Search
from search_spaces.grammar import walk
from search_spaces.regimes import readable
from search_spaces.shipped import SEARCHES
from visionsweep.core.tasks import tasks_of
from visionsweep.run_dir.rank import ranking
from visionsweep.run_dir.run import Run
from visionsweep.run_dir.trials import Trial

CLI = Callable[..., Outcome]
CONFIG = {"model": {"backbone": "resnet18"}, "optimizer": {"name": "sgd", "lr": 0.1}}


@pytest.fixture
def console() -> Console:
    return Console(record=True, width=160, file=io.StringIO(), highlight=False, markup=False)


def epochs(*scores: float, metric: str = "val/f1") -> list[dict[str, Any]]:
    return [{"epoch": i, "metrics": {metric: score}, "seconds": 1.0} for i, score in enumerate(scores, start=1)]


def test_the_shipped_searches_are_listed(visionsweep: CLI) -> None:
    said = visionsweep("spaces")
    assert said.code == 0, said.err
    for name, search in SEARCHES.items():
        assert f"{name} " in said.out
        assert search.description.split(":")[0] in said.out


@pytest.mark.parametrize("name", SEARCHES)
def test_a_shipped_search_is_described_with_every_parameter(visionsweep: CLI, name: str) -> None:
    said = visionsweep("spaces", name)
    assert said.code == 0, said.err
    first_cells = {re.split(r"\s{2,}", line)[0] for line in said.out.splitlines()}
    search = SEARCHES[name]
    tasks = tasks_of(search.task)
    spaces = [search.full_space, *(search.for_task(task).full_space for task in tasks)]
    assert {readable(parameter) for space in spaces for parameter, _, _ in walk(space)} <= first_cells


def test_what_a_task_adds_is_described_in_the_regimes_that_take_it(console: Console) -> None:
    regimes = Branch({"probe": {"loss": None}, "finetune": {"epochs": Pick(2, 4)}})
    by_task = {"binary": {"loss": Branch({"focal": {"gamma": Float(0, 3)}}), "threshold": Pick(0.3, 0.5)}}
    print_search("mine", Search(task="classification", space=regimes, space_by_task=by_task), console)
    rows = [re.split(r"\s{2,}", line.strip()) for line in console.export_text().splitlines()]
    assert [row for row in rows if row[-1].startswith("binary data")] == [
        ["finetune: loss", "focal", "binary data"],
        ["finetune: loss/focal/gamma", "0 to 3", "binary data, loss = focal"],
        ["threshold", "0.3, 0.5", "binary data"],
    ]


def test_ranges_are_described_with_their_scale_and_their_steps(console: Console) -> None:
    space = {
        "even": Int(2, 10, step=2), "any": Int(1, 9), "log": Int(1, 64, log=True),
        "grid": Float(0, 1, step=0.25), "ones": Float(0, 3, step=1), "real": Float(0.1, 2),
        "rate": Float(1e-4, 0.1, log=True), "one_of": Pick(None, 3), "plain": 224,
    }  # fmt: skip
    print_search("mine", Search(task="binary", space=space, description="A search."), console)
    lines = [line.split(maxsplit=1) for line in console.export_text().splitlines()]
    words = {parts[0]: parts[1].strip() for parts in lines if len(parts) == 2}
    assert {name: words[name] for name in space} == {
        "even": "2 to 10, in steps of 2",
        "any": "1 to 9",
        "log": "1 to 64, on a log scale",
        "grid": "0 to 1, in steps of 0.25",
        "ones": "0 to 3, in steps of 1",
        "real": "0.1 to 2",
        "rate": "0.0001 to 0.1, on a log scale",
        "one_of": "None, 3",
        "plain": "always 224",
    }


def test_a_ranking_says_how_many_trials_compete_for_best_and_why_some_failed(console: Console) -> None:
    trials = [
        Trial("0000", {}, CONFIG, epochs(0.9), "pruned"),
        Trial("0001", {}, CONFIG, epochs(0.5, 0.6, 0.7), "complete"),
        Trial("0002", {}, CONFIG, [], "failed", "ValueError: no"),
    ]
    run = Run(Path("runs/one"), {"search": {"metric": "val/f1", "mode": "max", "epochs": 3}}, trials)
    print_ranking(run, ranking(run), console)
    text = console.export_text()
    assert [line.split()[1] for line in text.splitlines()[1:4]] == ["0001", "0000", "0002"]
    assert "1 of 3 trials shown trained to the full 3 epochs" in text
    assert "trial 0002 failed: ValueError: no" in text


@pytest.mark.parametrize("width", [30, 40, 52, 64, 80, 120])
def test_on_a_narrow_terminal_trial_score_and_status_stay_whole(width: int) -> None:
    trials = [
        Trial("0000", {}, CONFIG, epochs(0.9), "interrupted"),
        Trial("0001", {}, CONFIG, epochs(0.5, 0.6, 0.7), "complete"),
        Trial("10002", {}, CONFIG, [], "failed", "no"),
    ]
    run = Run(Path("runs/one"), {"search": {"metric": "val/f1", "mode": "max", "epochs": 3}}, trials)
    console = Console(width=width, record=True, file=io.StringIO())
    print_ranking(run, ranking(run), console)
    text = console.export_text()
    head, *rows = text.splitlines()[:4]
    assert all(len(line) <= width for line in (head, *rows))
    assert {"trial", "val/f1", "status"} <= set(head.split())
    assert all("…" not in line for line in (head, *rows))
    assert {"0001", "0.7000", "complete"} <= set(text.split())
    assert {"0000", "0.9000", "interrupted"} <= set(text.split())
    assert {"10002", "failed"} <= set(text.split())
    left_out = "The terminal is too narrow for: " in text
    assert left_out == ("configuration" not in head)
    assert ("configuration" in head) == (width >= 64)
    assert ("rank" in head) == (width >= 40)
