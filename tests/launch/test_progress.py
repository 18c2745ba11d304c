"""The search on the terminal, from records that were made by hand."""

from __future__ import annotations

import io
import re
import time
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from launch.search.progress import Progress
from launch.search.records import Records
from search_spaces import Search
from visionsweep.run_dir.trials import Trial

SEARCH = Search(task="multiclass", space={}, epochs=4).for_task("multiclass")


def config(backbone: str, lr: float) -> dict[str, Any]:
    return {"model": {"backbone": backbone}, "optimizer": {"name": "sgd", "lr": lr}, "schedule": {"name": "cosine"}}


def epochs(*scores: float) -> list[dict[str, Any]]:
    return [{"epoch": i, "metrics": {"val/accuracy": s}, "seconds": 1.5} for i, s in enumerate(scores, start=1)]


@pytest.fixture
def records(tmp_path: Path) -> Records:
    """Records of one trial complete, one pruned, one failed, one running, and one that is starting."""
    records = Records(tmp_path)
    records.trials = {
        "0000": Trial("0000", {}, config("resnet18", 0.1), epochs(0.5, 0.8, 0.75, 0.7), "complete"),
        "0001": Trial("0001", {}, config("resnet34", 0.2), epochs(0.3), "pruned", "not among the best"),
        "0002": Trial("0002", {}, config("resnet50", 0.3), [], "failed", "ValueError: no"),
        "0003": Trial("0003", {}, config("alexnet", 0.4), epochs(0.6, 0.4), started_s=1.0),
        "0004": Trial("0004", {}, config("vgg11", 0.5)),
    }
    return records


def plain() -> Console:
    return Console(record=True, width=200, file=io.StringIO(), force_terminal=False)


def test_where_there_is_no_terminal_a_trial_that_ended_is_one_line(records: Records) -> None:
    console = plain()
    ended = records.trials
    records.trials = {}
    with Progress(records, SEARCH, console, 20, None) as progress:
        records.trials = ended
        for trial_id in ("0000", "0001", "0002"):
            progress.ended(trial_id)
        progress.say("Stopping.")
    best = "best so far 0.8000 (trial 0000: resnet18, sgd 0.1, cosine)"
    lines = console.export_text().splitlines()
    assert len(lines) == 4
    assert lines[0].startswith(f"[3/20] trial 0000 complete after 4 epochs, val/accuracy 0.8000; {best}; about ")
    assert lines[1].startswith(
        f"[3/20] trial 0001 pruned after 1 epoch, val/accuracy 0.3000 (not among the best); {best}; "
    )
    assert lines[2].startswith(f"[3/20] trial 0002 failed after 0 epochs, val/accuracy none (ValueError: no); {best}; ")
    assert lines[3] == "Stopping."


def test_the_first_epoch_is_counted_from_when_the_user_asked_and_not_from_when_python_began(records: Records) -> None:
    console = plain()
    progress = Progress(records, SEARCH, console, 20, None, began=time.monotonic() - 9)
    progress.epoch("0000")
    progress.epoch("0001")
    assert console.export_text() == "First epoch after 9s: trial 0000, val/accuracy 0.8000.\n"


def test_a_search_without_a_number_of_trials_counts_up(records: Records) -> None:
    console = plain()
    Progress(records, SEARCH, console, None, None).ended("0000")
    text = console.export_text()
    assert text.startswith("[3] trial 0000 complete")
    assert text.endswith(" so far\n")


def test_the_live_table_shows_what_runs_and_the_best_so_far(records: Records) -> None:
    console = Console(record=True, width=120, file=io.StringIO(), force_terminal=True)
    progress = Progress(records, SEARCH, console, 20, time.monotonic() + 3600)
    console.print(progress._render())
    lines = [line.rstrip() for line in console.export_text().splitlines()]
    assert lines[0] == "3 of 20 trials have ended: 1 complete, 1 pruned, 1 failed. 1 running, 1 starting."
    assert re.fullmatch(r"\[\.{20}\] 0% of \w+ · about \w+ left", lines[1]), lines[1]
    assert lines[2] == "best 0.8000 (trial 0000: resnet18, sgd 0.1, cosine)"
    assert lines[3].split() == ["trial", "epoch", "val/accuracy", "best", "s/epoch", "configuration"]
    assert lines[4].split(maxsplit=5) == ["0003", "2/4", "0.4000", "0.6000", "1.5", "alexnet, sgd 0.4, cosine"]
    assert lines[5].split(maxsplit=3) == ["0004", "starts", "none", "vgg11, sgd 0.5, cosine"]
    assert lines[6:10] == [
        "then 0003 0.6000, 0001 0.3000",
        "0002 failed: ValueError: no",
        "0001 pruned: not among the best",
        "0000 complete",
    ]
    assert "Ctrl-C" in lines[10]
    progress.say("Stopping after the current batches.")
    console.print(progress._render())
    assert "Stopping after the current batches." in console.export_text()


def test_a_live_table_on_a_terminal_prints_no_line_per_trial(records: Records) -> None:
    console = Console(record=True, width=120, file=io.StringIO(), force_terminal=True)
    Progress(records, SEARCH, console, 20, None).ended("0000")
    assert console.export_text() == ""


def test_a_loss_is_best_from_below(records: Records) -> None:
    search = Search(task="multiclass", space={}, epochs=4, metric="val/loss").for_task("multiclass")
    for trial, loss in zip(records.trials.values(), (0.9, 0.4), strict=False):
        trial.epochs[0]["metrics"]["val/loss"] = loss
    console = plain()
    Progress(records, search, console, 20, None).ended("0000")
    assert "best so far 0.4000 (trial 0001" in console.export_text()


def test_nothing_is_best_before_the_first_epoch(tmp_path: Path) -> None:
    records = Records(tmp_path)
    records.trials = {"0000": Trial("0000", {}, config("resnet18", 0.1), [], "failed", "no")}
    console = plain()
    Progress(records, SEARCH, console, 20, None).ended("0000")
    assert "best so far none yet" in console.export_text()


def test_what_an_earlier_session_has_done_does_not_make_the_rest_look_short(records: Records) -> None:
    console = plain()
    with Progress(records, SEARCH, console, 6, None) as progress:
        progress.started -= 100  # seconds, in which none of the three trials that have ended was trained
        progress.ended("0000")
        for number in range(5, 8):
            records.trials[f"{number:04d}"] = Trial(f"{number:04d}", {}, config("vgg11", 0.5), epochs(0.5), "complete")
        progress.num_trials = 9
        progress.ended("0007")
    first, last = console.export_text().splitlines()
    assert first.endswith("1m40s so far")
    assert last.endswith("about 1m40s left"), "three in 100 s, three are left"


def test_on_a_narrow_terminal_the_trials_that_run_and_their_best_stay_whole(records: Records) -> None:
    console = Console(record=True, width=24, file=io.StringIO())
    console.print(Progress(records, SEARCH, console, 20, None).render("", ""))
    lines = [line.split() for line in console.export_text().splitlines()]
    assert ["trial", "epoch", "best"] in lines
    assert ["0003", "2/4", "0.6000"] in lines


def test_more_trials_than_there_were_to_be_are_counted_as_they_are(records: Records) -> None:
    console = plain()
    progress = Progress(records, SEARCH, console, 2, None)
    progress.ended("0002")  # of a finite space, where a configuration that failed is tried once more
    console.print(progress.render("", ""))
    text = console.export_text()
    assert "[3/3] trial 0002 failed" in text
    assert "3 of 5 trials have ended" in text


def test_the_bar_says_how_much_of_the_budget_is_used_and_the_pace_is_said_when_it_is_known(records: Records) -> None:
    console = Console(record=True, width=120, file=io.StringIO(), force_terminal=True)
    progress = Progress(records, SEARCH, console, None, time.monotonic() + 60)
    progress.started -= 60
    assert "epochs/s" not in pace_of(progress, console)
    records.trials["0004"].epochs.append(epochs(0.1)[0])
    assert "epochs/s" not in pace_of(progress, console), "one epoch is no pace"
    records.trials["0003"].epochs.append(epochs(0.1, 0.2, 0.3)[2])
    assert pace_of(progress, console) == "[##########..........] 50% of 2m00s · about 1m00s left · 0.03 epochs/s"


def pace_of(progress: Progress, console: Console) -> str:
    console.print(progress._render())
    return console.export_text().splitlines()[1].rstrip()
