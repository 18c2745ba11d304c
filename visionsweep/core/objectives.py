"""Objectives: a search compares trials by one metric, or by several objectives at once."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from visionsweep.core.errors import ConfigError
from visionsweep.core.names import COSTS, check_metric, did_you_mean, mode_of
from visionsweep.core.tasks import TASKS

# The metric of a search that names none: (metric, mode) by task.
DEFAULT_OBJECTIVE: dict[str, tuple[str, str]] = {name: (task.compared, "max") for name, task in TASKS.items()}


@dataclass(frozen=True)
class Objective:
    """A metric of a validated epoch (`val/f1`), or a cost of the trial (`latency_ms`)."""

    name: str
    mode: Literal["max", "min"]

    @property
    def sign(self) -> int:
        """+1 if higher is better, -1 if lower is."""
        return sign_of(self.mode)


def sign_of(mode: str) -> int:
    """Return +1 for the mode max, by which higher is better, and -1 for min."""
    return 1 if mode == "max" else -1


def value_of(row: Mapping[str, Any], name: str) -> float | None:
    """Return a metric or a cost of an epoch's row. Metrics are in a nested dict, or in one flattened by Ray."""
    if name in row:
        return row[name]  # type: ignore[no-any-return]
    value: float | None = row.get("metrics", {}).get(name, row.get(f"metrics/{name}"))
    return value


def measured(row: Mapping[str, Any], objectives: Sequence[Objective]) -> list[float] | None:
    """Return an epoch's value of each objective, None if one of them is missing or not finite."""
    values = []
    for objective in objectives:
        value = value_of(row, objective.name)
        if value is None or not math.isfinite(value):
            return None
        values.append(float(value))
    return values


def outcome(row: Mapping[str, Any], objectives: Sequence[Objective]) -> tuple[float, ...] | None:
    """Return the values of `measured` with signs such that higher is better."""
    values = measured(row, objectives)
    return None if values is None else tuple(one.sign * value for one, value in zip(objectives, values, strict=True))


def parse_objectives(texts: Sequence[str], task: str) -> tuple[Objective, ...]:
    """Return the objectives of texts such as `["val/f1", "-latency_ms"]`.

    A minus means that lower is better. Losses and costs need none. The first objective chooses the best epoch of a
    trial, so it must be a metric. Raises ConfigError for an unknown name, one that `task` does not have, one named
    twice, and a cost in front.
    """
    found = []
    for text in texts:
        name = text.removeprefix("-")
        if name not in COSTS:
            if not name.startswith("val/"):
                raise ConfigError(f"unknown objective '{text}'. {did_you_mean(name, (*COSTS, 'val/...'))}")
            check_metric(name, task, "objective")
        found.append(Objective(name, "min" if text.startswith("-") else mode_of(name)))
    names = [objective.name for objective in found]
    if len(set(names)) < len(names):
        raise ConfigError(f"an objective counts once, got {', '.join(texts)}. Leave the second one out.")
    if names[0] in COSTS:
        raise ConfigError(
            f"the first objective says which epoch of a trial is its best, and '{texts[0]}' is a cost. "
            "Put a metric first, such as val/f1."
        )
    return tuple(found)
