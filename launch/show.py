"""What the commands print: rankings, searches, predictions."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from rich.console import Console
from rich.table import Table

from analysis.load import Run, load_run
from analysis.rank import ranking
from analysis.recommended import in_sentences, stored
from analysis.words import duration, in_words
from launch.narrow import table_for
from search_spaces.grammar import Float, Int, Pick, Space, walk
from search_spaces.names import CLASS_IOU
from search_spaces.paths import lowest
from search_spaces.regimes import added, readable, within
from search_spaces.search import CLASSIFICATION_TASKS, DEFAULT_OBJECTIVE, Search
from search_spaces.shipped import SEARCHES
from trainables.data.words import counted

if TYPE_CHECKING:  # torch, which most of these need not wait for
    from analysis.graphs import Written
    from trainables.data.dataset import Dataset


def print_json(rows: list[dict[str, Any]]) -> None:
    """Plain JSON on standard output, for scripts."""
    print(json.dumps(rows, indent=1))


def print_ranking(run: Run, rows: list[dict[str, Any]], console: Console) -> None:
    """The ranking as a table; trials that do not compete for best are dimmed."""
    others = [objective.name for objective in run.objectives[1:]]
    columns: dict[str, list[str]] = {
        "rank": [str(row["rank"]) for row in rows],
        **({"front": [str(row["front"] or "") for row in rows]} if others else {}),
        "trial": [row["trial_id"] for row in rows],
        run.metric: [_score(row["metrics"].get(run.metric)) for row in rows],
        **{name: [_amount(row["objectives"][name]) for row in rows] for name in others},
        "status": [row["status"] for row in rows],
        "epochs": [str(row["epochs"]) for row in rows],
        "time": [duration(row["seconds"]) for row in rows],
        "configuration": [in_words(row["config"]) for row in rows],
    }
    table, shown = table_for(
        console.width,
        columns,
        left=("trial", "status", "configuration"),
        given_up=("configuration", "time", "epochs", "rank", "front", *reversed(others)),
        folds="configuration",
    )
    num_competing = sum(row["status"] == "complete" for row in rows)
    for number, row in enumerate(rows):
        style = None if row["status"] == "complete" else "dim"
        table.add_row(*(columns[name][number] for name in shown), style=style)
    console.print(table)
    if len(shown) < len(columns):
        missing = ", ".join(name for name in columns if name not in shown)
        console.print(f"The terminal is too narrow for: {missing}. --json has all.", style="dim", soft_wrap=True)
    if num_competing < len(rows):
        console.print(
            f"{num_competing} of {len(rows)} trials shown trained to {_their_end(run)} "
            "and compete for best; the others follow by score.",
            style="dim",
        )
    if others:
        best = [row["trial_id"] for row in ranking(run) if row["front"] == 1]
        console.print(
            f"Pareto front of {', '.join([run.metric, *others])}: trials {', '.join(best) or 'none yet'}. "
            "Export one of them with --trial ID.",
            style="dim",
            soft_wrap=True,
        )
    for row in rows:
        if row["status"] in ("failed", "diverged", "oom"):
            console.print(f"trial {row['trial_id']} {row['status']}: {row['reason']}", style="yellow", soft_wrap=True)


def _their_end(run: Run) -> str:
    """What a complete trial trained."""
    lengths = {trial.config.get("epochs", run.full_epochs) for trial in run.trials}
    return f"the full {run.full_epochs} epochs" if lengths <= {run.full_epochs} else "the end of their own epochs"


def _score(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _amount(value: float | None) -> str:
    """Four digits that count, without powers of ten: 0.8312, 14.25, 4030000."""
    if value is None:
        return ""
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def print_outcome(run_dir: Path, console: Console, place: str | None = None) -> None:
    """What a finished search found, where it lies, and what to do next. place: what commands take for it, if not the
    folder."""
    run = load_run(run_dir)
    place = place or str(run_dir)
    rows = ranking(run)
    if not any(row["epochs"] for row in rows):
        console.print(f"No trial has finished an epoch. `visionsweep resume {place}` goes on.", soft_wrap=True)
        for row in rows[:5]:
            console.print(f"trial {row['trial_id']} {row['status']}: {row['reason']}", style="yellow", soft_wrap=True)
        return
    print_ranking(run, rows[:10], console)
    best = rows[0]
    if run.metric not in best["metrics"]:
        console.print(f"\nNo trial has a value of {run.metric}. Start a run with another --set metric.", soft_wrap=True)
        return
    so_far = "" if best["status"] == "complete" else f" so far ({best['status']} after {best['epochs']} epochs)"
    score = f"{run.metric} {best['metrics'][run.metric]:.4f}"
    score += "".join(f", {name} {_amount(value)}" for name, value in list(best.get("objectives", {}).items())[1:])
    console.print(f"\nBest{so_far}: trial {best['trial_id']}, {score}", style="bold green")
    print_class_iou(best["metrics"], console)
    console.print(yaml.safe_dump(best["config"], sort_keys=False).rstrip())
    console.print(f"\nRun directory: {place}  (search.json, trials.jsonl, epochs.jsonl, best.yaml)", soft_wrap=True)
    unfinished = sum(row["status"] == "interrupted" for row in rows)
    if unfinished:
        trials = counted(unfinished, "interrupted trial")
        console.print(f"Go on with {trials}: visionsweep resume {place}", soft_wrap=True)
    recommended = stored(run_dir)
    for line in in_sentences(recommended) if recommended is not None else ():
        console.print(line, style="bold green" if line.startswith("Recommended") else None, soft_wrap=True)
    model = "model" if recommended is None else recommended["kind"].replace("single", "model")
    console.print(f"Export the {model}: visionsweep export {place} --out exports/{run_dir.name}", soft_wrap=True)


def print_found(dataset: Dataset, console: Console) -> None:
    """What the data is, as one line, and a line for each thing that was assumed about it or left out."""
    from trainables.data.summary import summary

    console.print(summary(dataset), soft_wrap=True)
    for note in dataset.notes:
        console.print(f"  {note}", style="yellow", soft_wrap=True)


def print_class_iou(metrics: Mapping[str, float], console: Console) -> None:
    """The IoU of each class, best first, where the task has them: a mean hides the classes that were never found."""
    of_class = {name.removeprefix(CLASS_IOU): value for name, value in metrics.items() if name.startswith(CLASS_IOU)}
    if of_class:
        listed = ", ".join(f"{name} {value:.3f}" for name, value in sorted(of_class.items(), key=lambda item: -item[1]))
        console.print(f"IoU by class: {listed}", soft_wrap=True)


def print_searches(console: Console) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("search", "task", "trials", "epochs", "parameters", "what it is for"):
        table.add_column(column)
    for name, search in SEARCHES.items():
        num_ranges = len(_ranges(search))
        table.add_row(
            name, search.task, str(search.num_trials), str(search.epochs), str(num_ranges), search.description
        )
    console.print(table)
    console.print("`visionsweep spaces NAME` describes one; `visionsweep run NAME --data DIR` starts it.", style="dim")


def print_search(name: str, search: Search, console: Console) -> None:
    """A search for people: what it compares, what it may try and when."""
    console.print(f"{name}: {search.description}", style="bold", soft_wrap=True)
    tasks = CLASSIFICATION_TASKS if search.task == "classification" else (search.task,)
    goals = ", ".join(f"{DEFAULT_OBJECTIVE[task][0]} ({task})" for task in tasks)
    compared = ", ".join(search.objectives) or search.metric or goals
    console.print(f"task {search.task}; compares {compared}", soft_wrap=True)
    console.print(
        f"{_lengths(search)} epochs a full trial; compared from epoch {search.grace_epochs} on, the best "
        f"1/{search.reduction_factor} of each rung goes on; {search.num_trials or 50} trials unless told otherwise; "
        f"sampler {search.sampler}, pruner {search.pruner}\n",
        soft_wrap=True,
    )
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("parameter", "values", "only when"):
        table.add_column(column, overflow="fold")
    of_all = list(walk(search.full_space))
    for parameter, node, when in of_all:
        table.add_row(readable(parameter), _in_range_words(node), readable(when))
    for task, part in search.space_by_task.items():
        for parameter, node, when in (row for row in walk(_with(search, part)) if row not in of_all):
            of_task = f"{task} data" + (f", {within(when)[1]}" if when else "")  # the name says the regime
            table.add_row(readable(parameter), _in_range_words(node), of_task)
    console.print(table)


def _with(search: Search, part: Space) -> Space:
    """The whole space, with what a task adds in the regimes that take it."""
    return replace(search, space=added(search.space, part)).full_space


def _lengths(search: Search) -> str:
    """Of full trials: `12`, or `1 to 12` where they differ."""
    shortest = lowest(search.full_space, "epochs") or search.epochs
    return f"{shortest:g} to {search.epochs}" if shortest < search.epochs else str(search.epochs)


def print_export(what: str, out: Path, console: Console, graphs: Sequence[Written] = (), note: str = "") -> None:
    """what: was exported, in words."""
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


def _ranges(search: Search) -> set[str]:
    spaces = [search.full_space, *(_with(search, part) for part in search.space_by_task.values())]
    return {name for space in spaces for name, node, _ in walk(space) if isinstance(node, (Float, Int, Pick))}


def _in_range_words(node: Any) -> str:
    match node:
        case Float(low, high, log, step) | Int(low, high, log, step):
            grid = "" if step is None or (isinstance(node, Int) and step == 1) else f", in steps of {step:g}"
            return f"{low:g} to {high:g}{', on a log scale' if log else ''}{grid}"
        case Pick(choices=(False, True)):
            return "off, on"
        case Pick(choices=choices):
            return ", ".join(map(str, choices))
    return f"always {node}"
