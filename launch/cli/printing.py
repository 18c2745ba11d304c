"""What the commands print: rankings, searches, predictions."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from launch.cli.narrow import table_for
from visionsweep.core.names import CLASS_IOU
from visionsweep.core.text import duration, in_words
from visionsweep.core.words import counted
from visionsweep.run_dir.rank import ranking
from visionsweep.run_dir.run import Run

if TYPE_CHECKING:  # imports torch, which most commands do not need
    from analysis.models.graphs import Written
    from trainables.data.dataset import Dataset


TIED = "≈"
NOBODY_KNOWS: Mapping[str, bool] = {}


def print_json(rows: list[dict[str, Any]]) -> None:
    """Print plain JSON on standard output, for scripts."""
    print(json.dumps(rows, indent=1))


def print_ranking(
    run: Run, rows: list[dict[str, Any]], console: Console, alike: Mapping[str, bool] = NOBODY_KNOWS
) -> None:
    """Print the ranking as a table. Trials that do not compete for best are dimmed.

    alike: by trial, whether it is tied with the best (`analysis/expect/ties.py`); those get a mark
    """
    marked = {trial_id for trial_id, is_alike in alike.items() if is_alike}
    marked = marked if len(marked) > 1 else set()
    others = [objective.name for objective in run.objectives[1:]]
    columns: dict[str, list[str]] = {
        "rank": [str(row["rank"]) for row in rows],
        **({"front": [str(row["front"] or "") for row in rows]} if others else {}),
        "trial": [row["trial_id"] for row in rows],
        run.metric: [
            score_words(row["metrics"].get(run.metric), row.get("deviation"))
            + (f" {TIED}" if row["trial_id"] in marked else "")
            for row in rows
        ],
        **{name: [amount_words(row["objectives"][name]) for row in rows] for name in others},
        "status": [row["status"] for row in rows],
        **({"folds": [str(row["folds"]) for row in rows]} if run.num_folds > 1 else {}),
        "epochs": [str(row["epochs"]) for row in rows],
        "time": [duration(row["seconds"]) for row in rows],
        "configuration": [in_words(row["config"]) for row in rows],
    }
    table, shown = table_for(
        console.width,
        columns,
        left=("trial", "status", "configuration"),
        given_up=("configuration", "time", "epochs", "rank", "folds", "front", *reversed(others)),
        folds="configuration",
    )
    # One row for each trial, in the columns that fit.
    num_competing = sum(row["status"] == "complete" for row in rows)
    for number, row in enumerate(rows):
        style = None if row["status"] == "complete" else "dim"
        table.add_row(*(columns[name][number] for name in shown), style=style)
    console.print(table)
    # Below the table: what it leaves out, who competes, the Pareto front, and why trials failed.
    if len(shown) < len(columns):
        missing = ", ".join(name for name in columns if name not in shown)
        console.print(f"The terminal is too narrow for: {missing}. --json has all.", style="dim", **prose(console))
    if num_competing < len(rows):
        console.print(
            f"{num_competing} of {len(rows)} trials shown trained to {_their_end(run)} "
            "and compete for best; the others follow by score.",
            style="dim",
        )
    if marked:
        console.print(
            f"{TIED} {counted(len(marked) - 1, 'other trial')} cannot be told from the first: their differences on "
            "these photos may be luck.",
            style="dim",
            soft_wrap=True,
        )
    if others:
        console.print(front_line(run, ranking(run)), style="dim", soft_wrap=True)
    for row in rows:
        if row["status"] in ("failed", "diverged", "oom"):
            console.print(f"trial {row['trial_id']} {row['status']}: {row['reason']}", style="yellow", soft_wrap=True)


def front_line(run: Run, rows: Sequence[Mapping[str, Any]]) -> str:
    """Return which trials are on the Pareto front of a run with several objectives. rows: all of its ranking."""
    best = [row["trial_id"] for row in rows if row["front"] == 1]
    names = ", ".join(objective.name for objective in run.objectives)
    return f"Pareto front of {names}: trials {', '.join(best) or 'none yet'}. Export one of them with --trial ID."


def prose(console: Console) -> dict[str, Any]:
    """Return how a sentence is printed: broken between words on a terminal, in one line where a program may read it.

    Paths and commands are never broken: they are to be copied.
    """
    return {"soft_wrap": not console.is_terminal}


def _their_end(run: Run) -> str:
    """Return what complete trials were trained for, in words."""
    if run.num_folds > 1:
        return f"the end of all {run.num_folds} folds"
    lengths = {trial.config.get("epochs", run.full_epochs) for trial in run.trials}
    return f"the full {run.full_epochs} epochs" if lengths <= {run.full_epochs} else "the end of their own epochs"


def score_words(value: float | None, deviation: float | None = None) -> str:
    """Return a score, with its deviation over folds if there are several."""
    spread = "" if deviation is None else f" ± {deviation:.4f}"
    return "" if value is None else f"{value:.4f}{spread}"


def amount_words(value: float | None) -> str:
    """Return a number with four significant digits, without powers of ten: 0.8312, 14.25, 4030000."""
    if value is None:
        return ""
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def print_found(dataset: Dataset, console: Console) -> None:
    """Print what the data is, and a line for each thing that was assumed about it or left out."""
    from trainables.data.summary import summary

    console.print(summary(dataset), soft_wrap=True)
    for note in dataset.notes:
        console.print(f"  {note}", style="yellow", soft_wrap=True)


def print_class_iou(metrics: Mapping[str, float], console: Console) -> None:
    """Print the IoU of each class, best first, if the task has them.

    A mean hides the classes that were never found.
    """
    of_class = {name.removeprefix(CLASS_IOU): value for name, value in metrics.items() if name.startswith(CLASS_IOU)}
    if of_class:
        listed = ", ".join(f"{name} {value:.3f}" for name, value in sorted(of_class.items(), key=lambda item: -item[1]))
        console.print(f"IoU by class: {listed}", soft_wrap=True)


def print_export(what: str, out: Path, console: Console, graphs: Sequence[Written] = (), note: str = "") -> None:
    """Print what was exported, and its files. what: in words."""
    console.print(f"Exported {what} to {out}:", soft_wrap=True)
    if note:
        console.print(note, style="yellow", soft_wrap=True)
    for file in sorted(path.name for path in out.iterdir()):
        console.print(f"  {out / file}", soft_wrap=True)
    for graph in graphs:
        if graph.problem:
            console.print(f"{graph.file} was not written: {graph.problem}.", style="yellow", soft_wrap=True)
        else:
            takes = "images of any size" if graph.side is None else f"{graph.side} x {graph.side} images"
            same = f"takes {takes}, and differs from torch by at most {graph.difference:.1e} on {graph.num_images}"
            console.print(f"{graph.file} {same}.", soft_wrap=True)
    console.print(f"Next: visionsweep predict {out} IMAGES...", soft_wrap=True)


def print_predictions(rows: list[dict[str, Any]], console: Console) -> None:
    for row in rows:
        if "error" in row:
            console.print(row["error"], style="yellow", soft_wrap=True)
            continue
        if "mask" in row:
            shares = sorted(row["shares"].items(), key=lambda item: -item[1])
            named = ", ".join(f"{name} {share:.0%}" for name, share in shares if share >= 0.005)
            console.print(f"{row['path']}: {row['mask']}  ({named})", soft_wrap=True)
            continue
        chosen = row["labels"] if "labels" in row else [row["label"]]
        named = ", ".join(f"{name} {row['probabilities'][name]:.3f}" for name in chosen) or "none"
        console.print(f"{row['path']}: {named}", soft_wrap=True)
