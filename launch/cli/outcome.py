"""What a search prints at its end, in lines that fit a small screen, and the whole story that `rank` tells."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from analysis.expect.chances import Chances, chances_of
from analysis.expect.expected import in_short as expected_in_short
from analysis.figures.verdict import Verdict, in_lines, result_sentence, verdict
from launch.cli.printing import amount_words, front_line, print_class_iou, prose, score_words
from visionsweep.core.errors import RunError
from visionsweep.core.names import CLASS_IOU
from visionsweep.core.text import in_words
from visionsweep.core.words import counted
from visionsweep.run_dir.load import load_run
from visionsweep.run_dir.rank import ranking
from visionsweep.run_dir.recommended import in_sentences, in_short, stored
from visionsweep.run_dir.run import Run

NEXT = "Next: "


def print_outcome(
    run_dir: Path,
    console: Console,
    place: str | None = None,
    report: Callable[[Verdict | None, Chances], Path | None] = lambda found, chances: None,
) -> None:
    """Print what a finished search found, where it lies, and what to do next. `visionsweep rank` tells the rest.

        place   what commands take for the run, None means the folder
        report  writes the run's page with what was found, and returns its path, None means that there is none

    The page takes seconds: what was found stands on the terminal before.
    """
    run = load_run(run_dir)
    place = place or str(run_dir)
    rows = ranking(run)
    if not any(row["epochs"] for row in rows):
        console.print(f"No trial has finished an epoch. `visionsweep resume {place}` resumes the run.", soft_wrap=True)
        for row in rows[:5]:
            console.print(f"trial {row['trial_id']} {row['status']}: {row['reason']}", style="yellow", soft_wrap=True)
        return
    best = rows[0]
    if run.metric not in best["metrics"]:
        console.print(f"\nNo trial has a value of {run.metric}. Start a run with another --set metric.", soft_wrap=True)
        return
    # What was found, and how far to trust it.
    chances = chances_of(run)
    found = verdict(run, chances.as_good)
    recommended = stored(run_dir)
    result = "" if found is None else f" {result_sentence(found)}"
    console.print(f"\n{_best_line(run, best, in_full=found is None)}{result}", style="bold green", **prose(console))
    trust = [
        *([] if found is None or found.lead is None else [found.lead.in_short()]),
        *([] if chances.expected is None else [expected_in_short(chances.expected)]),
    ]
    lines = [
        _iou_ends(best["metrics"]),
        " ".join(trust),
        front_line(run, rows) if len(run.objectives) > 1 else "",
        "" if recommended is None else in_short(recommended),
    ]
    for line in filter(None, lines):
        console.print(line, **prose(console))
    if left := _unfinished(rows, place):
        console.print(left, style="yellow", **prose(console))
    # Where it lies, and what to do next.
    page = report(found, chances)
    where = [
        f"Report:  {page or f'visionsweep report {shlex.quote(place)}'}",
        f"Configuration:  {place}/best.yaml",
    ]
    beside = "   ".join(where)
    fits = not console.is_terminal or len(beside) <= console.width
    console.print(beside if fits else "\n".join(where), soft_wrap=True)
    print_commands(_commands(run, place), console)


def print_story(run: Run, chances: Chances, console: Console) -> None:
    """Print the best trial with all that is known of it: interval, lead, expected score, and what is recommended."""
    rows = ranking(run)
    if not rows or run.metric not in rows[0]["metrics"]:
        return
    console.print(f"\n{_best_line(run, rows[0])}", style="bold green", **prose(console))
    print_class_iou(rows[0]["metrics"], console)
    found = verdict(run, chances.as_good)
    try:
        recommended = stored(run.run_dir)
    except RunError as error:  # the ranking is whole without it
        recommended = None
        console.print(str(error), style="yellow", soft_wrap=True)
    for line in (
        *([] if found is None else in_lines(found)),
        *([] if chances.expected is None else [str(chances.expected)]),
        *([] if recommended is None else in_sentences(recommended)),
    ):
        console.print(line, **prose(console))


def print_commands(commands: Sequence[str], console: Console) -> None:
    """Print commands one below the other, whole, so that they can be pasted."""
    if console.is_terminal and any(len(NEXT) + len(command) > console.width for command in commands):
        console.print(NEXT.strip())
        first, others = "", ""
    else:
        first, others = NEXT, " " * len(NEXT)
    for number, command in enumerate(commands):
        console.print(f"{others if number else first}{command}", soft_wrap=True)


def _best_line(run: Run, best: Mapping[str, Any], in_full: bool = True) -> str:
    """Return the best trial in words. in_full: with its score, which folds and several objectives always have."""
    so_far = "" if best["status"] == "complete" else f" so far ({best['status']} after {best['epochs']} epochs)"
    score = ","
    if in_full or best.get("folds", 0) > 1:
        score = f", {run.metric} {score_words(best['metrics'][run.metric], best.get('deviation'))}"
        score += f" over {best['folds']} folds" if best.get("folds", 0) > 1 else ""
        score += "".join(
            f", {name} {amount_words(value)}" for name, value in list(best.get("objectives", {}).items())[1:]
        )
        score += ":"
    return f"Best{so_far}: trial {best['trial_id']}{score} {in_words(best['config'])}."


def _iou_ends(metrics: Mapping[str, float]) -> str:
    """Return the best and the worst class of a segmenter. A mean hides a class that was never found."""
    of_class = {name.removeprefix(CLASS_IOU): value for name, value in metrics.items() if name.startswith(CLASS_IOU)}
    if len(of_class) < 2:
        return ""
    worst, *_, best = sorted(of_class, key=of_class.__getitem__)
    return f"IoU by class: from {best} {of_class[best]:.3f} down to {worst} {of_class[worst]:.3f}."


def _unfinished(rows: Sequence[Mapping[str, Any]], place: str) -> str:
    """Return how many trials failed or were interrupted, and what tells or does more. '' if none."""
    of_status = Counter(row["status"] for row in rows)
    failed = of_status["failed"] + of_status["oom"]
    parts = []
    if failed:
        why = f"`visionsweep rank {shlex.quote(place)}` says why"
        parts.append(f"{counted(failed, 'trial')} of {len(rows)} failed: {why}.")
    if num := of_status["interrupted"]:
        was = "was" if num == 1 else "were"
        parts.append(f"{counted(num, 'trial')} {was} interrupted: `resume` trains them first.")
    return " ".join(parts)


def _commands(run: Run, place: str) -> list[str]:
    """Return the next commands, quoted for a shell."""
    quoted = shlex.quote(place)
    out = shlex.quote(f"exports/{run.run_dir.name}")
    commands = [f"visionsweep export {quoted} --out {out}", f"visionsweep predict {out} PHOTOS"]
    if run.num_folds > 1:  # kept models have not seen fold 1, by which an export is judged
        commands.append(f"visionsweep refit {quoted} --seeds 1 --on train+val")
    return [*commands, f"visionsweep resume {quoted} --budget 20m", f"visionsweep rank {quoted}"]
