"""The search on the terminal: a live table where there is one, plain lines where there is none."""

from __future__ import annotations

import time
from collections import Counter
from types import TracebackType
from typing import Literal

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from analysis.load import Trial
from analysis.words import duration, in_words
from launch.records import Records
from search_spaces.search import Search


class Progress:
    """Shows a run while it goes on. Reads `records`; knows nothing of Ray.

    num_trials, deadline: what ends the search, None for what does not.
    """

    def __init__(
        self, records: Records, search: Search, console: Console, num_trials: int | None, deadline: float | None
    ) -> None:
        self.records, self.search, self.console = records, search, console
        self.num_trials, self.deadline = num_trials, deadline
        self.started = time.time()
        self.epochs_before, self.done_before = self._num_epochs(), self._num_done()
        self.notice = ""
        self.live = Live(get_renderable=self._render, console=console, refresh_per_second=2, transient=True)

    def __enter__(self) -> Progress:
        if self.console.is_terminal:
            self.live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.live.stop()

    def ended(self, trial_id: str) -> None:
        """A line where there is no terminal; the live table looks by itself."""
        if not self.console.is_terminal:
            self.console.print(self._line(self.records.trials[trial_id]), soft_wrap=True)

    def say(self, notice: str) -> None:
        """A sentence that must be seen now."""
        self.notice = notice
        if not self.console.is_terminal:
            self.console.print(notice)

    def _line(self, trial: Trial) -> str:
        counts = Counter(other.status for other in self.records.trials.values())
        done = sum(counts.values()) - counts["running"]
        of = f"/{self.num_trials}" if self.num_trials else ""
        reason = f" ({trial.reason})" if trial.reason else ""
        score = self._score(trial)
        return (
            f"[{done}{of}] trial {trial.trial_id} {trial.status} after {len(trial.epochs)} epochs, "
            f"{self.search.metric} {score}{reason}; best so far {self._best_text()}; {self._left()}"
        )

    def _render(self) -> Group:
        table = Table(box=None, pad_edge=False, header_style="bold")
        for column in ("trial", "epoch", self.search.metric or "", "best", "s/epoch", "configuration"):
            justify: Literal["left", "right"] = "left" if column in ("trial", "configuration") else "right"
            table.add_column(column, justify=justify, no_wrap=column != "configuration")  # that one gives way
        for trial in list(self.records.trials.values()):
            if trial.status != "running":
                continue
            last = trial.epochs[-1] if trial.epochs else None
            now = last["metrics"].get(self.search.metric) if last else None
            table.add_row(
                trial.trial_id,
                f"{last['epoch'] if last else 0}/{self.search.epochs}",
                "" if now is None else f"{now:.4f}",
                self._score(trial),
                f"{last['seconds']:.1f}" if last else "",
                in_words(trial.config),
            )
        counts = Counter(trial.status for trial in self.records.trials.values())
        parts = [
            f"{counts[name]} {name}"
            for name in ("complete", "pruned", "failed", "diverged", "oom", "interrupted", "running")
            if counts[name]
        ]
        of = f" of {self.num_trials}" if self.num_trials else ""
        rate = (self._num_epochs() - self.epochs_before) / max(1e-9, time.time() - self.started)
        summary = Text(f"{sum(counts.values())}{of} trials: {', '.join(parts)} · {rate:.2f} epochs/s · {self._left()}")
        best = Text(f"best {self._best_text()}", style="bold green")
        return Group(
            summary,
            best,
            table,
            Text(self.notice or "Ctrl-C ends the search cleanly; it can go on later.", style="dim"),
        )

    def _best(self) -> Trial | None:
        metric, mode = self.search.metric or "", self.search.mode or "max"
        sign = 1 if mode == "max" else -1
        scored = [
            (best[0] * sign, -int(trial.trial_id), trial)
            for trial in list(self.records.trials.values())
            if (best := trial.best(metric, mode))
        ]
        return max(scored, key=lambda item: item[:2])[2] if scored else None

    def _best_text(self) -> str:
        trial = self._best()
        return (
            "none yet" if trial is None else f"{self._score(trial)} (trial {trial.trial_id}: {in_words(trial.config)})"
        )

    def _score(self, trial: Trial) -> str:
        best = trial.best(self.search.metric or "", self.search.mode or "max")
        return "none" if best is None else f"{best[0]:.4f}"

    def _left(self) -> str:
        estimates = []
        now = time.time()
        if self.deadline is not None:
            estimates.append(self.deadline - now)
        done = self._num_done() - self.done_before  # in this sitting
        if self.num_trials and done >= 3:
            estimates.append((now - self.started) / done * (self.num_trials - done - self.done_before))
        return f"about {duration(min(estimates))} left" if estimates else f"{duration(now - self.started)} so far"

    def _num_done(self) -> int:
        return sum(trial.status not in ("running", "interrupted") for trial in list(self.records.trials.values()))

    def _num_epochs(self) -> int:
        return sum(len(trial.epochs) for trial in list(self.records.trials.values()))
