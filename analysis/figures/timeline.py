"""Time line of a run: which trial ran where and when, and which ones broke."""

from __future__ import annotations

import re
from collections import defaultdict
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from analysis.figures.style import plot, safe, short, status_colour
from visionsweep.core.words import counted
from visionsweep.run_dir.run import Run
from visionsweep.run_dir.sessions import same_session, sessions, times_of, worked_s
from visionsweep.run_dir.trials import seconds_of

GAP_S = 120.0  # a longer gap than this and one epoch between two epochs of a trial begins a new stretch
BROKEN = ("failed", "diverged", "oom", "interrupted")


def timeline(run: Run) -> pd.DataFrame:
    """Return a row for each stretch of a trial in one process.

    Its columns are trial_id, status, node, pid, start_s and end_s (since the Unix epoch), and num_epochs. The table is
    made from the times of epochs, and empty without them.
    """
    stretches: list[dict[str, Any]] = []
    for trial in run.trials:
        rows = sorted((row for row in trial.epochs if "time" in row), key=lambda row: float(row["time"]))
        for row in rows:
            end_s = float(row["time"])
            seconds = seconds_of(row)
            where = {"node": str(row.get("node") or "?"), "pid": row.get("pid") or 0}
            last = stretches[-1] if stretches and stretches[-1]["trial_id"] == trial.trial_id else None
            same = last is not None and {key: last[key] for key in where} == where
            close = last is not None and end_s - seconds - last["end_s"] < GAP_S + seconds
            if last is not None and same and close and same_session(run.search, last["end_s"], end_s):
                last["end_s"], last["num_epochs"] = end_s, last["num_epochs"] + 1
            else:
                stretches.append(
                    {"trial_id": trial.trial_id, "status": trial.status, **where,
                     "start_s": end_s - seconds, "end_s": end_s, "num_epochs": 1}
                )  # fmt: skip
    columns = ["trial_id", "status", "node", "pid", "start_s", "end_s", "num_epochs"]
    return pd.DataFrame(stretches, columns=columns)


def timeline_figure(run: Run) -> go.Figure:
    """Plot a lane for each process and a bar for each stretch, coloured by how the trial ended."""
    table = timeline(run)
    those = sessions(run.search, times_of(run.trials)) if "started" in run.search else []
    origin = float(table["start_s"].min()) if len(table) else 0.0

    def minute(at: float) -> float:
        """Without the pauses between sessions: a run that is resumed the next day is not a day long."""
        return worked_s(those, at) / 60 if those else (at - origin) / 60

    lanes = {lane: number for number, lane in enumerate(dict.fromkeys(zip(table["node"], table["pid"], strict=True)))}
    traces = []
    for status in dict.fromkeys(table["status"]):
        some = table[table["status"] == status]
        minutes = (some["end_s"] - some["start_s"]) / 60
        traces.append(
            go.Bar(
                x=minutes,
                y=[lanes[lane] for lane in zip(some["node"], some["pid"], strict=True)],
                base=some["start_s"].map(minute),
                orientation="h",
                name=status,
                marker={"color": status_colour(status), "line": {"width": 1, "color": "rgba(255,255,255,0.6)"}},
                customdata=[
                    [row["trial_id"], counted(row["num_epochs"], "epoch"), row["minutes"]]
                    for row in some.assign(minutes=minutes).to_dict("records")
                ],
                hovertemplate="trial %{customdata[0]}, %{customdata[1]}, %{customdata[2]:.1f} min"
                f"<extra>{safe(status)}</extra>",
            )
        )
    names = [f"{short(node, 18)} {pid}" for node, pid in lanes]
    return plot(
        traces,
        x="minutes of the search, without its pauses",
        height=min(900, 120 + 26 * max(1, len(lanes))),
        barmode="overlay",
        bargap=0.25,
        yaxis={"tickvals": list(lanes.values()), "ticktext": names, "automargin": True, "autorange": "reversed"},
    )


def failures(run: Run) -> pd.DataFrame:
    """Return the trials that broke or were interrupted, grouped by reason, the most frequent reason first.

    Reasons that differ only in numbers are one. The columns are status, reason (of the first), num_trials and trials.
    """
    groups: dict[tuple[str, str], list[Any]] = defaultdict(list)
    for trial in run.trials:
        if trial.status in BROKEN:
            groups[trial.status, re.sub(r"[\d.]+(e[+-]?\d+)?", "#", trial.reason)].append(trial)
    rows = [
        {
            "status": status,
            "reason": trials[0].reason or "no reason was recorded",
            "num_trials": len(trials),
            "trials": [trial.trial_id for trial in trials],
        }
        for (status, _), trials in groups.items()
    ]
    rows.sort(key=lambda row: (BROKEN.index(str(row["status"])), -len(row["trials"])))  # type: ignore[arg-type]
    return pd.DataFrame(rows, columns=["status", "reason", "num_trials", "trials"])
