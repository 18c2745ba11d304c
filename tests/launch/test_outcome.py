"""What a search prints at its end: lines that fit a small screen. `rank` tells the rest."""

from __future__ import annotations

import io
import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from kept_run import kept_run, opened, truths
from rich.console import Console
from support import Outcome, make_photos

from analysis.figures.leads import Lead
from launch.cli.commands import app
from launch.cli.outcome import print_outcome
from launch.cli.terminal import Terminal
from visionsweep.run_dir.recommended import RECOMMENDED_FILE
from visionsweep.run_dir.trials import VERSION, Trial

CONFIG = {"model": {"backbone": "resnet18"}, "optimizer": {"name": "sgd", "lr": 0.1}}
HELD_OUT = {"gain": -0.0006, "error": 0.0012}
ENSEMBLE = {
    "combine": "mean probability", "threshold": 0.5,
    "members": [{"trial_id": f"000{number}", "epoch": 1, "weight": 0.5, "value": 0.9} for number in range(2)],
    "metrics": {"val/accuracy": 0.95}, "held_out": HELD_OUT, "latency_ms": 4.0,
}  # fmt: skip
RECOMMENDED = {
    "metric": "val/accuracy", "mode": "max", "kind": "single", "soup": None, "ensemble": ENSEMBLE, "notes": ["A note."],
    "single": {"trial_id": "0000", "epoch": 1, "value": 0.95, "latency_ms": 2.0},
}  # fmt: skip


@pytest.fixture
def console() -> Console:
    return Console(record=True, width=160, file=io.StringIO(), highlight=False, markup=False)


def epochs(*scores: float, **metrics: float) -> list[dict[str, Any]]:
    return [{"epoch": i, "metrics": {"val/f1": score, **metrics}, "seconds": 1.0} for i, score in enumerate(scores, 1)]


def write_run(folder: Path, trials: list[Trial], **search: Any) -> Path:
    folder.mkdir()
    search = {"task": "binary", "metric": "val/f1", "mode": "max", "epochs": 3, **search}
    (folder / "search.json").write_text(json.dumps({"version": VERSION, "search": search}))
    with open(folder / "trials.jsonl", "w") as events, open(folder / "epochs.jsonl", "w") as rows:
        for trial in trials:
            about = {"trial_id": trial.trial_id}
            proposed = {**about, "event": "proposed", "params": trial.params, "config": trial.config}
            ended = {**about, "event": "ended", "status": trial.status, "reason": trial.reason}
            events.write(f"{json.dumps(proposed)}\n{json.dumps(ended)}\n")
            rows.writelines(json.dumps({**about, **epoch}) + "\n" for epoch in trial.epochs)
    return folder


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """Two trials: the first is wrong on two of forty photos, the second on six others."""
    photos = make_photos(tmp_path / "photos", {"train/ants": 4, "train/bees": 4, "val/ants": 25, "val/bees": 15})
    sure = np.where(truths(opened(photos)) == 1, 3.0, -3.0).astype(np.float32)[:, None]  # (N, 1)
    first = sure.copy()
    second = sure.copy()
    first[:2] *= -1
    second[-6:] *= -1
    kept_run(tmp_path / "runs" / "one", photos, [first, second])
    (tmp_path / "runs" / "one" / RECOMMENDED_FILE).write_text(json.dumps(RECOMMENDED))
    return tmp_path / "runs" / "one"


def test_the_end_fits_a_small_screen_and_holds_the_numbers_that_count(
    kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    terminal = Terminal(80, record=True)
    print_outcome(Path("runs/one"), terminal, report=lambda found, chances: Path("runs/one/report.html"))
    text = terminal.export_text().strip()
    assert len(text.splitlines()) <= 12
    assert all(len(line.rstrip()) <= 80 for line in text.splitlines())
    said = " ".join(text.split())
    assert said.startswith(
        "Best: trial 0000, test_resnet, adam 0.001. 38 of 40 validation images are right: 95% (95% interval 83% to 99%). "
        "Always 'ants' would be 62%. Its lead over trial 0001 is not clear: 6 images to 2, p = 0.29. "
        "On new photos expect val/accuracy of about 0.9"
    )
    assert "Recommended: trial 0000 alone. Instead an ensemble of 2 models, val/accuracy -0.0006 ± 0.0012." in said
    assert "Report: runs/one/report.html Configuration: runs/one/best.yaml" in said
    assert "rank trial" not in said, "the ranking is what `rank` is for"


def test_rank_tells_what_the_end_leaves_out(visionsweep: Callable[..., Outcome], kept: Path) -> None:
    said = visionsweep("rank", kept).out
    assert said.startswith("rank  trial  val/accuracy")
    assert "Best: trial 0000, val/accuracy 0.9500: test_resnet, adam 0.001." in said
    assert "6 images only it gets right, 2 only the other (exact McNemar test, p = 0.29)." in said
    assert "photos chose the best of 2 trials." in said
    assert "Instead: an ensemble of 2 models, val/accuracy -0.0006 ± 0.0012, 4 ms an image.\n" in said
    assert "A note.\n" in said
    (kept / RECOMMENDED_FILE).write_text("{")
    damaged = visionsweep("rank", kept)
    assert damaged.code == 0
    assert "Best: trial 0000" in damaged.out
    assert RECOMMENDED_FILE in damaged.out


@pytest.mark.parametrize("width", [30, 50, 80, 160])
def test_the_next_commands_are_whole_quoted_and_known(tmp_path: Path, width: int) -> None:
    run_dir = write_run(tmp_path / "my photos", [Trial("0000", {}, CONFIG, epochs(0.5, 0.7, 0.6), "complete")])
    terminal = Terminal(width, record=True)
    print_outcome(run_dir, terminal, "my runs/a")
    lines = [line.rstrip() for line in terminal.export_text(clear=False).splitlines()]
    commands = [
        line.removeprefix("Next:").strip()
        for line in lines
        if line.removeprefix("Next:").strip().startswith("visionsweep")
    ]
    assert commands == [
        "visionsweep export 'my runs/a' --out 'exports/my photos'",
        "visionsweep predict 'exports/my photos' PHOTOS",
        "visionsweep resume 'my runs/a' --budget 20m",
        "visionsweep rank 'my runs/a'",
    ]
    known = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    for command in commands:
        _, name, *arguments = shlex.split(command)
        known[name].make_context(name, arguments)  # raises for an option that it does not have


def test_without_a_verdict_the_best_has_its_score(console: Console, tmp_path: Path) -> None:
    run_dir = write_run(tmp_path / "one", [Trial("0000", {}, CONFIG, epochs(0.5, 0.7, 0.6), "complete")])
    print_outcome(run_dir, console)
    assert "Best: trial 0000, val/f1 0.7000: resnet18, sgd 0.1." in console.export_text()


def test_failures_interruptions_and_a_best_that_is_not_complete_are_said(console: Console, tmp_path: Path) -> None:
    trials = [
        Trial("0000", {}, CONFIG, epochs(0.5), "pruned"),
        Trial("0001", {}, CONFIG, [], "failed", "ValueError: no"),
        Trial("0002", {}, CONFIG, [], "oom", "too large"),
        Trial("0003", {}, CONFIG, epochs(0.2), "interrupted"),
    ]
    print_outcome(write_run(tmp_path / "one", trials), console, "runs/one")
    text = console.export_text()
    assert "Best so far (pruned after 1 epochs): trial 0000, val/f1 0.5000: resnet18, sgd 0.1." in text
    assert (
        "2 trials of 4 failed: `visionsweep rank runs/one` says why. 1 trial was interrupted: `resume` trains them first."
        in text
    )


def test_a_segmenter_names_its_best_and_its_worst_class(console: Console, tmp_path: Path) -> None:
    of_class = {"val/iou/road": 0.93, "val/iou/pole": 0.0, "val/iou/sky": 0.9}
    print_outcome(
        write_run(tmp_path / "one", [Trial("0000", {}, CONFIG, epochs(0.6, **of_class), "complete")]), console
    )
    assert "IoU by class: from road 0.930 down to pole 0.000." in console.export_text()


def test_several_objectives_have_their_values_and_their_front(console: Console, tmp_path: Path) -> None:
    rows = epochs(0.6)
    rows[0]["latency_ms"] = 3.25
    run_dir = write_run(
        tmp_path / "one", [Trial("0000", {}, CONFIG, rows, "complete")], objectives=["val/f1", "-latency_ms"]
    )
    print_outcome(run_dir, console)
    text = console.export_text()
    assert "Best: trial 0000, val/f1 0.6000, latency_ms 3.25: resnet18, sgd 0.1." in text
    assert "Pareto front of val/f1, latency_ms: trials 0000. Export one of them with --trial ID." in text


def test_an_outcome_in_which_no_trial_has_the_metric_says_so(console: Console, tmp_path: Path) -> None:
    other = [{"epoch": 1, "metrics": {"val/loss": 0.5}, "seconds": 1.0}]
    print_outcome(write_run(tmp_path / "one", [Trial("0000", {}, CONFIG, other, "complete")]), console)
    text = console.export_text()
    assert "Best" not in text
    assert "No trial has a value of val/f1" in text


def test_a_lead_is_one_short_sentence() -> None:
    clear = Lead("0001", 0.3, 12, 0, 0.0005, is_ahead=True)
    assert clear.in_short() == "Its lead over trial 0001 is clear: 12 images to 0, p = 0.0005."
    assert Lead("0001", 0.0, 3, 3, 1.0, is_ahead=False).in_short() == "It leads trial 0001 by nothing."
    of_f1 = Lead("0001", 0.0123, None, None, 0.2, is_ahead=True)
    assert of_f1.in_short() == "Its lead over trial 0001 is not clear: +0.012, p = 0.2."
