"""The search on the terminal: a live table, or plain lines if there is no terminal."""

from __future__ import annotations

import heapq
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Protocol

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from launch.cli.narrow import table_for
from search_spaces.search import Search
from visionsweep.core.objectives import sign_of
from visionsweep.core.text import duration, in_words
from visionsweep.core.words import counted
from visionsweep.run_dir.trials import Trial, Trials

_Scored = tuple[float, int, Trial]

ENDS = ("complete", "pruned", "failed", "diverged", "oom")
NUM_SHOWN = 3  # of the best trials, and of those that ended last
ENOUGH_FOR_A_PACE = 2  # epochs
BAR_LETTERS = 20


class _Tally:
    """Counts over all trials. Ended trials are counted once, as they no longer change.

    A table that is drawn twice a second must not walk through ten thousand trials.
    """

    def __init__(self, search: Search) -> None:
        self.metric = search.metric or ""
        self.mode = search.mode or "max"
        self._forget({})

    def _forget(self, trials: Trials) -> None:
        self.trials = trials
        self.num_seen = 0
        self.open = list[Trial]()
        self.settled = Counter[str]()
        self.settled_epochs = 0
        self.settled_leaders: list[_Scored] = []  # the best NUM_SHOWN, best first
        self.ended_last: list[Trial] = []  # NUM_SHOWN, the last one first

    def look(self, trials: Trials) -> None:
        """Set counts (by status), num_epochs, running, ended_last and leaders: the best trials that have a value."""
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
            self.settled_leaders = self._best([*self.settled_leaders, self._scored(trial)])
            self.ended_last = [trial, *self.ended_last][:NUM_SHOWN]
        self.open = still_open
        self.counts = self.settled + Counter(trial.status for trial in self.open)
        self.num_epochs = self.settled_epochs + sum(len(trial.epochs) for trial in self.open)
        self.leaders = [trial for *_, trial in self._best([*self.settled_leaders, *map(self._scored, self.open)])]
        self.running = [trial for trial in self.open if trial.status == "running"]

    def _scored(self, trial: Trial) -> _Scored | None:
        best = trial.best(self.metric, self.mode)
        return None if best is None else (best[0] * sign_of(self.mode), -int(trial.trial_id), trial)

    @property
    def best(self) -> Trial | None:
        return self.leaders[0] if self.leaders else None

    def _best(self, scored: Iterable[_Scored | None]) -> list[_Scored]:
        known = [one for one in scored if one is not None]
        return heapq.nlargest(NUM_SHOWN, known, key=lambda one: one[:2])


class Recorded(Protocol):
    """A run's trials so far: the records of the run in this process, or what was read of another one."""

    trials: Trials


class Progress:
    """Display of a search that runs. It reads `records`, and knows nothing of Ray.

    num_trials, deadline: what ends the search, None for what does not. began: when the user asked for it, None: now.
    Deadline and began are of time.monotonic().
    """

    def __init__(
        self,
        records: Recorded,
        search: Search,
        console: Console,
        num_trials: int | None,
        deadline: float | None,
        began: float | None = None,
    ) -> None:
        self.records = records
        self.search = search
        self.console = console
        self.num_trials = num_trials
        self.deadline = deadline
        self.started = time.monotonic()
        self.asked = self.started if began is None else began
        self.tally = _Tally(search)
        self.tally.look(records.trials)
        self.epochs_before, self.done_before = self.tally.num_epochs, self._num_done()
        self.notice = ""
        self.any_began = False
        self.any_epoch = False
        self.live = Live(get_renderable=self._render, console=console, refresh_per_second=2, transient=True)

    def __enter__(self) -> Progress:
        if self.console.is_terminal:
            self.live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.live.stop()

    def began(self, trial_id: str) -> None:
        """Print a line for the first trial that begins here, if there is no terminal; the live table shows all."""
        if not self.any_began and not self.console.is_terminal:
            trial = self.records.trials[trial_id]
            self.console.print(f"Trial {trial_id} has begun: {in_words(trial.config)}.", soft_wrap=True, markup=False)
        self.any_began = True

    def epoch(self, trial_id: str) -> None:
        """Print the first epoch of this session and how long it took to get there, likewise."""
        if not self.any_epoch and not self.console.is_terminal:
            waited_s = time.monotonic() - self.asked
            score = self._score(self.records.trials[trial_id])
            self.console.print(
                f"First epoch after {duration(waited_s)}: trial {trial_id}, {self.search.metric} {score}."
            )
        self.any_epoch = True

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
            f"[{done}{of}] trial {trial.trial_id} {trial.status} after {_lasted(trial)}, "
            f"{self.search.metric} {score}{reason}; best so far {self._best_text()}; {self._left()}"
        )

    def _render(self) -> Group:
        self.tally.look(self.records.trials)
        now = time.monotonic()
        num_epochs = self.tally.num_epochs - self.epochs_before
        parts = [] if self.deadline is None else [_bar(self.started, self.deadline, now)]
        parts.append(self._left())
        if num_epochs >= ENOUGH_FOR_A_PACE:
            parts.append(f"{num_epochs / max(1e-9, now - self.started):.2f} epochs/s")
        notice = self.notice or "Ctrl-C ends the search cleanly, and `visionsweep resume` continues it."
        return self.render(" · ".join(parts), notice)

    def render(self, pace: str, notice: str) -> Group:
        """Return the number of trials of each status, the best one, and a table of what runs."""
        self.tally.look(self.records.trials)
        running = self.tally.running
        last = [trial.epochs[-1] if trial.epochs else None for trial in running]
        now = [None if row is None else row["metrics"].get(self.search.metric) for row in last]
        columns: dict[str, list[str]] = {
            "trial": [trial.trial_id for trial in running],
            "epoch": [
                "starts" if _is_starting(trial) else _reached(trial, self._num_epochs(trial)) for trial in running
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
        best = Text(f"best {self._best_text()}", style="bold green")
        parts: list[RenderableType] = [Text(self._counts()), Text(pace), best, *([table] if running else [])]
        parts += [Text(line, style="dim", no_wrap=True, overflow="ellipsis") for line in self._lately()]
        return Group(*parts, Text(notice, style="dim"))

    def _counts(self) -> str:
        """`3 of 20 trials have ended: 2 complete, 1 pruned. 1 running, 1 starting.`"""
        counts = self.tally.counts
        ended = {name: counts[name] for name in ENDS if counts[name]}
        num_starting = sum(map(_is_starting, self.tally.running))
        now = {
            "running": counts["running"] - num_starting,
            "starting": num_starting,
            "interrupted": counts["interrupted"],
        }
        of = f" of {max(self.num_trials, sum(counts.values()))}" if self.num_trials else ""
        sentence = f"{sum(ended.values())}{of} trials have ended{': ' if ended else ''}{_listed(ended)}."
        return f"{sentence} {_listed(now)}." if any(now.values()) else sentence

    def _lately(self) -> list[str]:
        """The trials that stand next to the best, and those that ended last, with their reasons."""
        others = [f"{trial.trial_id} {self._score(trial)}" for trial in self.tally.leaders[1:]]
        lines = [f"then {', '.join(others)}"] if others else []
        return lines + [
            f"{trial.trial_id} {trial.status}{': ' if trial.reason else ''}{trial.reason}"
            for trial in self.tally.ended_last
        ]

    def _num_epochs(self, trial: Trial) -> int:
        epochs: int = trial.config.get("epochs", self.search.epochs)
        return epochs

    def _best_text(self) -> str:
        trial = self.tally.best
        return (
            "none yet" if trial is None else f"{self._score(trial)} (trial {trial.trial_id}: {in_words(trial.config)})"
        )

    def _score(self, trial: Trial) -> str:
        best = trial.best(self.search.metric or "", self.search.mode or "max")
        spread = "" if trial.deviation is None else f" ± {trial.deviation:.4f}"
        return "none" if best is None else f"{best[0]:.4f}{spread}"

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


def _lasted(trial: Trial) -> str:
    """`12 epochs`, or `2 folds`."""
    return counted(trial.num_folds, "fold") if trial.num_folds else counted(len(trial.curve), "epoch")


def _reached(trial: Trial, num_epochs: int) -> str:
    """`3/12` for epochs, or `2 folds`."""
    return counted(trial.num_folds, "fold") if trial.num_folds else f"{len(trial.curve)}/{num_epochs}"


def _is_starting(trial: Trial) -> bool:
    """Whether a trial was proposed, and its process has not begun it."""
    return trial.status == "running" and trial.started_s is None and not trial.epochs


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items() if count)


def _bar(began: float, ends: float, now: float) -> str:
    """`[#####...............] 25% of 20m00s`"""
    share = min(1.0, max(0.0, (now - began) / max(1e-9, ends - began)))
    filled = round(share * BAR_LETTERS)
    return f"[{'#' * filled}{'.' * (BAR_LETTERS - filled)}] {share:.0%} of {duration(ends - began)}"
