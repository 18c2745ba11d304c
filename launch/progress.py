"""The search on the terminal: a live table, or plain lines if there is no terminal."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from types import TracebackType
from typing import Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from analysis.trials import Trial, Trials
from analysis.words import duration, in_words
from launch.narrow import table_for
from search_spaces.search import Search

_Scored = tuple[float, int, Trial]


class _Tally:
    """Counts over all trials. Ended trials are counted once, as they no longer change.

    A table that is drawn twice a second must not walk through ten thousand trials.
    """

    def __init__(self, search: Search) -> None:
        self.metric, self.mode = search.metric or "", search.mode or "max"
        self._forget({})

    def _forget(self, trials: Trials) -> None:
        self.trials, self.num_seen, self.open = trials, 0, list[Trial]()
        self.settled, self.settled_epochs = Counter[str](), 0
        self.settled_best: _Scored | None = None

    def look(self, trials: Trials) -> None:
        """Set counts (by status), num_epochs, best (of the trials that have a value) and running."""
        if trials is not self.trials:
            self._forget(trials)
        fresh = list(trials.values())[self.num_seen :]
        self.num_seen += len(fresh)
        still_open = []
        for trial in [*self.open, *fresh]:
            if trial.status in ("running", "interrupted"):
                still_open.append(trial)
                continue
            self.settled[trial.status] += 1
            self.settled_epochs += len(trial.epochs)
            self.settled_best = self._best([self.settled_best, self._scored(trial)])
        self.open = still_open
        self.counts = self.settled + Counter(trial.status for trial in self.open)
        self.num_epochs = self.settled_epochs + sum(len(trial.epochs) for trial in self.open)
        best = self._best([self.settled_best, *map(self._scored, self.open)])
        self.best = None if best is None else best[2]
        self.running = [trial for trial in self.open if trial.status == "running"]

    def _scored(self, trial: Trial) -> _Scored | None:
        best = trial.best(self.metric, self.mode)
        return None if best is None else (best[0] * (1 if self.mode == "max" else -1), -int(trial.trial_id), trial)

    def _best(self, scored: Iterable[_Scored | None]) -> _Scored | None:
        return max((one for one in scored if one is not None), key=lambda one: one[:2], default=None)


class Recorded(Protocol):
    """A run's trials so far: the records of the run in this process, or what was read of another one."""

    trials: Trials


class Progress:
    """Display of a search that runs. It reads `records`, and knows nothing of Ray.

    num_trials, deadline: what ends the search, None for what does not. The deadline is of time.monotonic().
    """

    def __init__(
        self, records: Recorded, search: Search, console: Console, num_trials: int | None, deadline: float | None
    ) -> None:
        self.records, self.search, self.console = records, search, console
        self.num_trials, self.deadline = num_trials, deadline
        self.started, self.tally = time.monotonic(), _Tally(search)
        self.tally.look(records.trials)
        self.epochs_before, self.done_before = self.tally.num_epochs, self._num_done()
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
        """Print a line if there is no terminal. The live table updates itself."""
        if not self.console.is_terminal:
            self.console.print(self._line(self.records.trials[trial_id]), soft_wrap=True)

    def say(self, notice: str) -> None:
        """Show a sentence that must be seen now."""
        self.notice = notice
        if not self.console.is_terminal:
            self.console.print(notice, soft_wrap=True, markup=False)

    def tell(self, text: str) -> None:
        """Print a line that stays, above the live table too."""
        self.console.print(text, soft_wrap=True, markup=False)

    def _line(self, trial: Trial) -> str:
        self.tally.look(self.records.trials)
        done = sum(self.tally.counts.values()) - self.tally.counts["running"]
        of = f"/{max(self.num_trials, done)}" if self.num_trials else ""
        reason = f" ({trial.reason})" if trial.reason else ""
        score = self._score(trial)
        return (
            f"[{done}{of}] trial {trial.trial_id} {trial.status} after {len(trial.epochs)} epochs, "
            f"{self.search.metric} {score}{reason}; best so far {self._best_text()}; {self._left()}"
        )

    def _render(self) -> Group:
        self.tally.look(self.records.trials)
        rate = (self.tally.num_epochs - self.epochs_before) / max(1e-9, time.monotonic() - self.started)
        notice = self.notice or "Ctrl-C ends the search cleanly; it can go on later."
        return self.render(f"{rate:.2f} epochs/s · {self._left()}", notice)

    def render(self, pace: str, notice: str) -> Group:
        """Return the number of trials of each status, the best one, and a table of what runs."""
        self.tally.look(self.records.trials)
        running = self.tally.running
        last = [trial.epochs[-1] if trial.epochs else None for trial in running]
        now = [None if row is None else row["metrics"].get(self.search.metric) for row in last]
        columns: dict[str, list[str]] = {
            "trial": [trial.trial_id for trial in running],
            "epoch": [
                f"{row['epoch'] if row else 0}/{trial.config.get('epochs', self.search.epochs)}"
                for trial, row in zip(running, last, strict=True)
            ],
            self.search.metric or "": ["" if value is None else f"{value:.4f}" for value in now],
            "best": [self._score(trial) for trial in running],
            "s/epoch": [f"{row['seconds']:.1f}" if row else "" for row in last],
            "configuration": [in_words(trial.config) for trial in running],
        }
        table, shown = table_for(
            self.console.width,
            columns,
            left=("trial", "configuration"),
            given_up=("configuration", "s/epoch", self.search.metric or ""),
            folds="configuration",
        )
        for cells in zip(*(columns[name] for name in shown), strict=True):
            table.add_row(*cells)
        counts = self.tally.counts
        parts = [
            f"{counts[name]} {name}"
            for name in ("complete", "pruned", "failed", "diverged", "oom", "interrupted", "running")
            if counts[name]
        ]
        of = f" of {max(self.num_trials, sum(counts.values()))}" if self.num_trials else ""
        summary = Text(f"{sum(counts.values())}{of} trials: {', '.join(parts)} · {pace}")
        best = Text(f"best {self._best_text()}", style="bold green")
        return Group(summary, best, *([table] if running else []), Text(notice, style="dim"))

    def _best_text(self) -> str:
        trial = self.tally.best
        return (
            "none yet" if trial is None else f"{self._score(trial)} (trial {trial.trial_id}: {in_words(trial.config)})"
        )

    def _score(self, trial: Trial) -> str:
        best = trial.best(self.search.metric or "", self.search.mode or "max")
        return "none" if best is None else f"{best[0]:.4f}"

    def _left(self) -> str:
        estimates = []
        now = time.monotonic()
        if self.deadline is not None:
            estimates.append(self.deadline - now)
        done = self._num_done() - self.done_before  # in this session
        if self.num_trials and done >= 3:
            estimates.append((now - self.started) / done * max(0, self.num_trials - done - self.done_before))
        return f"about {duration(min(estimates))} left" if estimates else f"{duration(now - self.started)} so far"

    def _num_done(self) -> int:
        return sum(self.tally.settled.values())
