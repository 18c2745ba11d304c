"""A virtual clock for a real search method: whole searches in seconds, with the real decisions.

A black box answers a configuration with its learning curve and its seconds per epoch, so nothing trains. The method is
driven as a cluster of workers would drive it, epoch by epoch. Only time is made up. The idea is Syne Tune's simulator
back-end (Salinas et al. 2022, "Syne Tune: A Library for Large Scale Hyperparameter Tuning").

    simulation = simulate(method, black_box, workers=8, budget_s=3600.0)
    times, values = incumbent(simulation, black_box.mode)
    value_at(times, values, 1800.0)  # the best that any trial had shown after half the time
"""

from __future__ import annotations

import heapq
import itertools
import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Row = tuple[float, str, int, float]


class BlackBox(Protocol):
    """A training task whose every outcome is known.

    space: of `search_spaces.grammar`. mode: `max` or `min`, of the validation metric. epochs: of a full training.
    """

    space: Mapping[str, Any]
    mode: str
    epochs: int

    def curve(self, config: Mapping[str, Any]) -> Floats:
        """Return the validation metric after each epoch, (epochs,).

        It is not finite from where the training diverged.
        """

    def seconds_per_epoch(self, config: Mapping[str, Any]) -> float: ...


class Method(Protocol):
    """A search method, as the clock drives it."""

    def suggest(self, trial_id: str) -> Mapping[str, Any] | None:
        """Return a nested configuration, None if there is nothing to start now.

        After None the clock asks again when a trial has ended.
        """

    def on_epoch(self, trial_id: str, epoch: int, value: float, seconds: float) -> bool:
        """Return whether the trial continues.

        The answer changes nothing if the value is not finite, or the epoch is the last one.

            epoch    from 1
            value    may be not finite
            seconds  since the trial began
        """

    def on_end(self, trial_id: str, status: str) -> None:
        """Take note of a trial's end. status: complete, pruned, diverged, or interrupted (cut by the budget)."""


@dataclass
class Clock:
    """The virtual time. A call returns it, so a clock serves as a `now` function."""

    now_s: float = 0.0

    def __call__(self) -> float:
        return self.now_s


@dataclass(frozen=True)
class Kill:
    """Death of the process on `worker`.

    Its trial loses the current epoch, and is resumed from the last finished one.
    """

    at_s: float
    worker: int
    restart_s: float = 0.0


@dataclass(frozen=True)
class Delay:
    """The current epoch on `worker` takes `seconds` longer. An idle worker is neither killed nor delayed."""

    at_s: float
    worker: int
    seconds: float


@dataclass(frozen=True)
class SimulatedTrial:
    """A trial that has ended. epochs: finished ones, the one that diverged included."""

    config: Mapping[str, Any]
    status: str
    epochs: int


@dataclass(frozen=True)
class Simulation:
    """What happened in a simulation.

    The REAL seconds tell how long a cluster would have waited for the method.

        rows       (time_s, trial_id, epoch, value), in the order of time
        trials     by id
        suggest_s  REAL seconds of each call to `suggest`, (number of calls,)
        epoch_s    REAL seconds of each call to `on_epoch`, (number of calls,)
        spent_s    virtual seconds of all workers in trials, with the cost of kills and delays
        end_s      the clock at the end
    """

    rows: list[Row]
    trials: dict[str, SimulatedTrial]
    suggest_s: Floats
    epoch_s: Floats
    spent_s: float
    end_s: float


@dataclass
class _Running:
    """A trial on its worker.

    ends_s: of the current epoch. An entry of the queue counts only if it agrees with that.
    """

    trial_id: str
    config: Mapping[str, Any]
    curve: list[float]
    epoch_seconds: float
    began_s: float
    ends_s: float
    epoch: int = 1  # the current one


def simulate(
    method: Method,
    black_box: BlackBox,
    *,
    workers: int,
    budget_s: float | None = None,
    num_trials: int | None = None,
    events: Iterable[Kill | Delay] = (),
    clock: Clock | None = None,
) -> Simulation:
    """Run `method` on `black_box` until the budget is spent, or `num_trials` or all that it suggests have ended.

    A method that suggests without end needs a budget or num_trials.

        workers     trials at once
        budget_s    of every worker, on the virtual clock; what still runs then is cut
        num_trials  None: no limit
        events      deaths and delays of processes
        clock       for a method that reads the time; it stands at 0 at first
    """
    simulator = _Simulator(method, black_box, workers, clock or Clock())
    return simulator.run(events, math.inf if budget_s is None else budget_s, num_trials)


class _Simulator:
    def __init__(self, method: Method, black_box: BlackBox, workers: int, clock: Clock) -> None:
        self.method = method
        self.black_box = black_box
        self.clock = clock
        self.running: list[_Running | None] = [None] * workers
        self.idle = list(range(workers - 1, -1, -1))  # the last one is the next to start
        # (time, order, worker, event): an event, or None for the end of the worker's current epoch
        self.queue: list[tuple[float, int, int, Kill | Delay | None]] = []
        self.order = itertools.count()
        self.rows: list[Row] = []
        self.trials: dict[str, SimulatedTrial] = {}
        self.suggest_s: list[float] = []
        self.epoch_s: list[float] = []
        self.num_started = 0
        self.spent_s = 0.0

    def run(self, events: Iterable[Kill | Delay], budget_s: float, num_trials: int | None) -> Simulation:
        self.num_trials = num_trials
        self.clock.now_s = 0.0
        for planned in events:
            heapq.heappush(self.queue, (planned.at_s, next(self.order), planned.worker, planned))
        self._start_trials()
        while self.queue and len(self.idle) < len(self.running):
            at_s, _, worker, event = heapq.heappop(self.queue)
            if at_s > budget_s:
                self.clock.now_s = budget_s
                break
            trial = self.running[worker]
            if trial is None or (event is None and at_s != trial.ends_s):
                continue  # an idle worker, or an epoch that a kill or a delay has put off
            self.clock.now_s = at_s
            if event is None:
                self._epoch_ended(worker, trial)
            elif isinstance(event, Kill):
                self._epoch_ends_at(worker, trial, at_s + event.restart_s + trial.epoch_seconds)
            else:
                self._epoch_ends_at(worker, trial, trial.ends_s + event.seconds)
        for worker, trial in enumerate(self.running):
            if trial is not None:
                self._end(worker, trial, "interrupted", trial.epoch - 1)
        times = np.array(self.suggest_s), np.array(self.epoch_s)
        return Simulation(self.rows, self.trials, *times, self.spent_s, self.clock.now_s)

    def _start_trials(self) -> None:
        while self.idle and self.num_started != self.num_trials:
            trial_id = f"{self.num_started:04d}"
            now_s = self.clock.now_s
            started = time.perf_counter()
            config = self.method.suggest(trial_id)
            self.suggest_s.append(time.perf_counter() - started)
            if config is None:
                return
            self.num_started += 1
            curve = self.black_box.curve(config).tolist()
            seconds = float(self.black_box.seconds_per_epoch(config))
            worker = self.idle.pop()
            trial = self.running[worker] = _Running(trial_id, config, curve, seconds, now_s, now_s)
            self._epoch_ends_at(worker, trial, now_s + seconds)

    def _epoch_ends_at(self, worker: int, trial: _Running, time_s: float) -> None:
        trial.ends_s = time_s
        heapq.heappush(self.queue, (time_s, next(self.order), worker, None))

    def _epoch_ended(self, worker: int, trial: _Running) -> None:
        epoch = trial.epoch
        value = trial.curve[trial.epoch - 1]
        now_s = self.clock.now_s
        self.rows.append((now_s, trial.trial_id, epoch, value))
        started = time.perf_counter()
        continues = self.method.on_epoch(trial.trial_id, epoch, value, now_s - trial.began_s)
        self.epoch_s.append(time.perf_counter() - started)
        epochs = trial.config.get("epochs", self.black_box.epochs)  # fewer than others, if that is a choice
        if math.isfinite(value) and epoch < epochs and continues:
            trial.epoch += 1
            return self._epoch_ends_at(worker, trial, now_s + trial.epoch_seconds)
        status = "diverged" if not math.isfinite(value) else "complete" if epoch == epochs else "pruned"
        self._end(worker, trial, status, epoch)
        return self._start_trials()

    def _end(self, worker: int, trial: _Running, status: str, epochs: int) -> None:
        self.trials[trial.trial_id] = SimulatedTrial(trial.config, status, epochs)
        self.spent_s += self.clock.now_s - trial.began_s
        self.running[worker] = None
        self.idle.append(worker)
        self.method.on_end(trial.trial_id, status)


def incumbent(simulation: Simulation, mode: str) -> tuple[Floats, Floats]:
    """Return the steps at which the best finite value of any trial at any epoch got better.

    Returns times_s and values, (number of steps,) each. Both are empty if nothing finite was shown.
    """
    sign = 1.0 if mode == "max" else -1.0
    steps: list[tuple[float, float]] = []
    for time_s, _, _, value in simulation.rows:
        if math.isfinite(value) and (not steps or sign * value > sign * steps[-1][1]):
            steps.append((time_s, value))
    times, values = zip(*steps, strict=True) if steps else ((), ())
    return np.array(times, dtype=np.float64), np.array(values, dtype=np.float64)


def value_at(times: Floats, values: Floats, t: float) -> float:
    """Return the value of a step function of `incumbent` at time t, NaN before its first step."""
    index = int(np.searchsorted(times, t, side="right")) - 1
    return float(values[index]) if index >= 0 else math.nan


def p50_p99(seconds: Floats) -> tuple[float, float]:
    """Return the median and the 99th percentile, such as of `suggest_s`. NaN without any."""
    low, high = np.percentile(seconds, [50, 99]) if len(seconds) else (math.nan, math.nan)
    return float(low), float(high)
