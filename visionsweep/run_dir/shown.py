"""A run in one line, and as a table for a notebook."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from html import escape
from pathlib import Path
from typing import Any, Protocol

from visionsweep.core.errors import RunError
from visionsweep.core.text import duration, in_words
from visionsweep.core.words import counted
from visionsweep.run_dir.rank import Ranked, ranking
from visionsweep.run_dir.recommended import in_sentences, stored
from visionsweep.run_dir.trials import Trial

NUM_ROWS = 10
STATUSES_SHOWN = ("complete", "running", "pruned", "interrupted", "failed", "diverged", "oom")


class Shown(Ranked, Protocol):
    """What is shown of a `Run`."""

    @property
    def run_dir(self) -> Path: ...
    @property
    def search(self) -> dict[str, Any]: ...
    @property
    def metric(self) -> str: ...


def best_trial(run: Shown) -> tuple[float, Trial] | None:
    """Return the score of the trial that ranks first, and the trial, or None while none has a score."""
    by_id = {trial.trial_id: trial for trial in run.trials}
    for row in ranking(run)[:1]:
        value = row["metrics"].get(run.metric)
        if value is not None:
            return value, by_id[row["trial_id"]]
    return None


def counts_of(trials: Iterable[Trial]) -> dict[str, int]:
    """Return the number of trials of each status, in the order in which they are shown."""
    counts = Counter(trial.status for trial in trials)
    return {status: counts[status] for status in STATUSES_SHOWN if counts[status]}


def in_counts(counts: Mapping[str, int]) -> str:
    """`7 trials: 5 complete, 2 running`"""
    listed = ", ".join(f"{count} {status}" for status, count in counts.items())
    return f"{counted(sum(counts.values()), 'trial')}{': ' if listed else ''}{listed}"


def run_line(run: Shown) -> str:
    """`<Run runs/mine: 7 trials: 5 complete, 2 pruned; best 0.9312 val/accuracy (trial 0003)>`"""
    try:
        best = best_trial(run)
    except RunError as error:  # a search.json that does not say the metric; a repr must not raise
        return f"<Run {run.run_dir}: {in_counts(counts_of(run.trials))}; {error}>"
    said = "no score yet" if best is None else f"best {best[0]:.4f} {run.metric} (trial {best[1].trial_id})"
    return f"<Run {run.run_dir}: {in_counts(counts_of(run.trials))}; {said}>"


def run_html(run: Shown, heading: str | None = None) -> str:
    """Return the best trials as a table of HTML, below a heading, and what is recommended.

    heading: None means the counts of the trials. Everything in it may be the words of others, and is escaped.
    """
    try:
        objectives = [objective.name for objective in run.objectives]
        rows = ranking(run)
    except RunError:
        return f"<p>{escape(run_line(run))}</p>"
    columns = ["rank", "trial", *objectives, "status", "epochs", "time", "configuration"]
    body = []
    for row in rows[:NUM_ROWS]:
        values = {**row["metrics"], **row.get("objectives", {})}
        scores = ["" if values.get(name) is None else f"{values[name]:.4g}" for name in objectives]
        cells = [str(row["rank"]), row["trial_id"], *scores, row["status"], str(row["epochs"])]
        cells += [duration(row["seconds"]), in_words(row["config"])]
        body.append("".join(f"<td>{escape(cell)}</td>" for cell in cells))
    head = "".join(f"<th>{escape(name)}</th>" for name in columns)
    more = f"<p>{len(rows) - NUM_ROWS} more: <code>vs.ranking(run)</code></p>" if len(rows) > NUM_ROWS else ""
    return (
        f"<div><p><b>{escape(str(run.run_dir))}</b>: {escape(heading or in_counts(counts_of(run.trials)))}</p>"
        f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(f'<tr>{row}</tr>' for row in body)}</tbody></table>"
        f"{more}{''.join(f'<p>{escape(line)}</p>' for line in [*_recommended(run), *_notes(run)])}</div>"
    )


def _notes(run: Shown) -> list[str]:
    """Return what was assumed of the data, or left out of it."""
    return [str(note) for note in (run.search.get("data") or {}).get("notes") or ()]


def _recommended(run: Shown) -> list[str]:
    try:
        told = stored(run.run_dir)
    except RunError as error:  # a table must be shown nevertheless
        return [str(error)]
    return [] if told is None else in_sentences(told)
