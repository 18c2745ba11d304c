"""--target and --stop: what ends a search before its budget and its number of trials."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from search_spaces.search import Search
from visionsweep.core.errors import ConfigError
from visionsweep.core.names import check_metric, mode_of
from visionsweep.core.tasks import tasks_of
from visionsweep.run_dir.trials import Trial

AUTO = "auto"  # the one value of --stop


@dataclass(frozen=True)
class Target:
    """A value of a metric that ends the search, once a trial that trained to its end has it at its best epoch."""

    metric: str
    mode: Literal["max", "min"]
    value: float

    @classmethod
    def of(cls, text: str, search: Search) -> Target:
        """Return the target of METRIC=VALUE, or of a value of the search's own metric.

        search: for one task. Raises ConfigError for what is neither, and for a metric that the task does not have.
        """
        metric, value = _parsed(text)
        own = search.compared[0]
        if metric is None or metric == own.name:
            found = cls(own.name, own.mode, value)
        else:
            check_metric(metric, search.task, "metric of --target")
            found = cls(metric, mode_of(metric), value)
        if found.mode == "max" and value > 1:
            raise ConfigError(
                f"--target {text}: {found.metric} is at most 1, so nothing would reach {value:g}. "
                f"For 95%, write --target {found.metric}=0.95."
            )
        return found

    def __str__(self) -> str:
        return f"{self.metric} {'>=' if self.mode == 'max' else '<='} {self.value:g}"

    def reached_by(self, trial: Trial) -> float | None:
        """Return the value by which a trial reached the target, None where it did not."""
        best = trial.best(self.metric, self.mode) if trial.status == "complete" else None
        if best is None or (best[0] < self.value if self.mode == "max" else best[0] > self.value):
            return None
        return best[0]


def check_ends(search: Search, target: str | None, stop: str | None) -> None:
    """Raise ConfigError for a target, or a value of --stop, that a search cannot end by.

    The search may be for any classification task: a metric that one of its tasks has is then accepted.
    """
    if stop is not None:
        _check_stop(search, stop)
    if target is None:
        return
    problems: list[ConfigError] = []
    for task in tasks_of(search.task):
        try:
            Target.of(target, search.for_task(task))
            return
        except ConfigError as error:
            problems.append(error)
    raise problems[0]


def _check_stop(search: Search, stop: str) -> None:
    if stop != AUTO:
        raise ConfigError(f"--stop takes {AUTO}, got '{stop}'. Without it the budget or --trials ends the search.")
    if search.sampler != "fidelity":
        raise ConfigError(
            f"--stop {AUTO} asks the model of the sampler fidelity, and the search's is '{search.sampler}'. Leave "
            "--sampler out, or end the search by --target."
        )
    if len(search.objectives) > 1:
        raise ConfigError(
            f"--stop {AUTO} is for one metric, and the search compares {', '.join(search.objectives)}. "
            "End it by --target."
        )
    metric = search.metric or next(iter(search.objectives), "")
    if metric.endswith("loss"):
        raise ConfigError(
            f"--stop {AUTO} knows the noise of scores between 0 and 1, and the search compares {metric}. "
            "End it by --target, or compare a score."
        )


def _parsed(text: str) -> tuple[str | None, float]:
    metric, equals, number = text.rpartition("=")
    try:
        value = float(number)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or bool(equals) != bool(metric):
        raise ConfigError(
            f"--target takes METRIC=VALUE, or a value of the search's own metric, got '{text}'. "
            "For example --target val/accuracy=0.95."
        )
    return metric or None, value
