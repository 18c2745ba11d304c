"""Cost of a run, savings by pruning, and progress of its best score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import pandas as pd
import plotly.graph_objects as go

from analysis.figures.style import SYMBOLS, colour_of, plot, safe
from visionsweep.run_dir.rank import ranked
from visionsweep.run_dir.run import Run
from visionsweep.run_dir.sessions import spent_s, times_of
from visionsweep.run_dir.shapes import is_epoch
from visionsweep.run_dir.trials import WARM_START, Trial, seconds_of


@dataclass(frozen=True)
class RunCost:
    """Cost of a run.

    wall_s        all sessions of the search without the time between them, None where the lines have no times
    trial_s       training and evaluation of all trials
    epochs        of all trials
    device        cuda, cpu, or '' for old runs
    device_hours  cuda: GPU-hours by each trial's share of one; cpu: CPU-hours; '': hours of trials
    num_pruned    pruned trials
    saved_epochs  epochs that pruned trials did not train
    saved_s       time that those epochs would have taken at the trials' own pace
    """

    wall_s: float | None
    trial_s: float
    epochs: int
    device: str
    device_hours: float
    num_pruned: int
    saved_epochs: int
    saved_s: float

    @property
    def saved_share(self) -> float:
        """Share of the cost without pruning that was saved."""
        whole = self.trial_s + self.saved_s
        return self.saved_s / whole if whole else 0.0


def run_cost(run: Run) -> RunCost:
    rows = [row for trial in run.trials for row in trial.epochs]
    times = times_of(run.trials)
    trial_s = sum(trial.seconds for trial in run.trials)
    devices = {row.get("device") for row in rows}
    device = "cuda" if "cuda" in devices else "cpu" if devices == {"cpu"} else ""
    hours = trial_s / 3600
    if device == "cuda":
        hours = sum(_last(trial, "gpu_seconds") for trial in run.trials) / 3600
    elif device == "cpu":
        hours *= _cpus(run)
    pruned = [trial for trial in run.trials if trial.status == "pruned" and trial.epochs]
    left = [max(0, _full(run, trial) - max(int(row["epoch"]) for row in trial.curve)) for trial in pruned]
    paces = [trial.seconds / len(trial.epochs) for trial in pruned]
    return RunCost(
        wall_s=spent_s(run.search, times) if times and "started" in run.search else None,
        trial_s=trial_s,
        epochs=len(rows),
        device=device,
        device_hours=hours,
        num_pruned=len(pruned),
        saved_epochs=sum(left),
        saved_s=sum(pace * epochs for pace, epochs in zip(paces, left, strict=True)),
    )


@dataclass(frozen=True)
class Incumbent:
    """The incumbent, and what it is compared with.

    best        the best trial
    score       its score
    epoch       its best epoch
    warm        (score, number of trials) of the best warm-started trial, or None
    warm_trial  that trial, or None
    middle      (score, number of trials) of the median trial, or None
    """

    best: Trial
    score: float
    epoch: int
    warm: tuple[float, int] | None
    warm_trial: Trial | None
    middle: tuple[float, int] | None


def incumbent(run: Run) -> Incumbent | None:
    """Return the incumbent, or None if no trial has a score yet."""
    order = [trial for trial in ranked(run.trials, run.objectives) if trial.best(run.metric, run.mode)]
    if not order:
        return None
    scores = {trial.trial_id: (trial.best(run.metric, run.mode) or (0.0, 0)) for trial in order}
    warm = [trial for trial in order if trial.origin == WARM_START]
    score, epoch = scores[order[0].trial_id]
    return Incumbent(
        best=order[0],
        score=score,
        epoch=epoch,
        warm=(scores[warm[0].trial_id][0], len(warm)) if warm else None,
        warm_trial=warm[0] if warm else None,
        middle=(median(scores[trial.trial_id][0] for trial in order), len(order)),
    )


def best_so_far(run: Run) -> pd.DataFrame:
    """Return a row for each improvement: hours of training of all trials until then, score, trial_id, epoch.

    Improvements are in the order of the lines' times. In a run without times, they are trial after trial.
    """
    rows = [(row.get("time", 0.0), trial, row) for trial in run.trials for row in trial.epochs]
    rows.sort(key=lambda item: item[0])
    hours = 0.0
    best = None
    found = []
    sign = run.sign
    values = {trial.trial_id: trial.values(run.metric) for trial in run.trials}
    for _, trial, row in rows:
        hours += seconds_of(row) / 3600
        score = values[trial.trial_id].get(row["epoch"])
        if score is not None and (best is None or sign * score > sign * best):
            best = score
            found.append({"hours": hours, "score": score, "trial_id": trial.trial_id, "epoch": row["epoch"]})
    if found and hours > found[-1]["hours"]:
        found.append({**found[-1], "hours": hours})
    return pd.DataFrame(found, columns=["hours", "score", "trial_id", "epoch"])


def progress_figure(runs: Sequence[Run], names: Sequence[str]) -> go.Figure:
    """Plot each run's best score so far over the training time of all its trials."""
    traces = []
    for number, (run, name) in enumerate(zip(runs, names, strict=True)):
        table = best_so_far(run)
        traces.append(
            go.Scatter(
                x=table["hours"] * 60,
                y=table["score"],
                mode="lines+markers",
                name=safe(name),
                line={"shape": "hv", "color": colour_of(number), "width": 2},
                marker={"size": 7, "symbol": SYMBOLS[number % len(SYMBOLS)]},
                customdata=table[["trial_id", "epoch"]].to_numpy().tolist(),
                hovertemplate="%{y:.4g} after %{x:.1f} min<br>trial %{customdata[0]}, epoch %{customdata[1]}"
                "<extra></extra>",
            )
        )
    return plot(
        traces,
        x="minutes of training, all trials together",
        y=f"best {runs[0].metric} so far",
        height=340,
        showlegend=len(runs) > 1,
    )


def _last(trial: Trial, cost: str) -> float:
    return float(max((row.get(cost) or 0.0 for row in trial.epochs), default=0.0))


def _cpus(run: Run) -> float:
    """Return the CPUs of a trial, 1 where the machine decided."""
    cpus = run.search.get("options", {}).get("cpus_per_trial")
    return float(cpus) if isinstance(cpus, (int, float)) and cpus else 1.0


def _full(run: Run, trial: Trial) -> int:
    epochs = trial.config.get("epochs")
    return epochs if isinstance(epochs, int) and is_epoch(epochs) else run.full_epochs
