"""Known names, and their lookup in a table with a suggestion for an unknown one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal, TypeVar

from visionsweep.core.errors import ConfigError
from visionsweep.core.functions import Place
from visionsweep.core.tasks import TASKS, task_kind

T = TypeVar("T")

# The metrics of a validated epoch. Scripts may rely on their names.
METRICS_OF_TASK: dict[str, tuple[str, ...]] = {name: task.metrics for name, task in TASKS.items()}
CLASS_IOU = "val/iou/"  # prefix of a class's name, which is checked once the data is known
# The costs of every trial: milliseconds for one image, number of weights, MB, seconds times the share of a GPU.
COSTS = ("latency_ms", "parameters", "peak_memory_mb", "gpu_seconds")
METRICS = tuple(dict.fromkeys(name for names in METRICS_OF_TASK.values() for name in names))


@dataclass(frozen=True)
class Sampler:
    """A sampler's function, where it stands, and whether it takes several objectives."""

    function: Place
    several: bool = True


# Samplers propose configurations. Functions of (search, seed, number of trials before) return Optuna's BaseSampler.
SAMPLERS: dict[str, Sampler] = {
    "fidelity": Sampler("launch.samplers.samplers:fidelity"),
    "tpe": Sampler("launch.samplers.samplers:tpe"),
    "random": Sampler("launch.samplers.samplers:random"),
    "quasirandom": Sampler("launch.samplers.samplers:quasirandom"),
    "gp": Sampler("launch.samplers.samplers:gp", several=False),
    "cmaes": Sampler("launch.samplers.samplers:cmaes", several=False),
    "nsga2": Sampler("launch.samplers.samplers:nsga2"),
    "stock": Sampler("launch.samplers.samplers:stock"),
}
# Pruners end trials early. Functions of (search, surroundings) return Ray's TrialScheduler.
PRUNERS: dict[str, Place] = {
    "asha": "launch.pruners.pruning:asha",
    "stock": "launch.pruners.ray_pruners:stock_asha",
    "hyperband": "launch.pruners.ray_pruners:hyperband",
    "median": "launch.pruners.ray_pruners:median_stopping",
    "pbt": "launch.pruners.pbt:PbtScheduler",
    "none": "launch.pruners.pruning:no_pruning",
}
RUNGS = ("epochs", "seconds", "tiers")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a sentence that suggests the nearest known name, or lists the known names if none is near."""
    names = [str(one) for one in known]
    # People write the beginning of a name ('val/acc'), swap letters, or leave a prefix out ('lite0'), in this order.
    is_long = len(str(name)) > 2
    near = (
        sorted((one for one in names if is_long and one.startswith(str(name))), key=len)
        or get_close_matches(str(name), names, n=1, cutoff=0.6)
        or [one for one in names if is_long and str(name) in one]
    )
    if near:
        return f"Did you mean '{near[0]}'?"
    listed = ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")
    return f"Known: {listed}."


def pick(table: Mapping[str, T], name: str, kind: str) -> T:
    """Return `table[name]`. Raises ConfigError with the nearest known name if there is none."""
    if not isinstance(name, str) or name not in table:  # a value read from YAML may be a list
        raise ConfigError(f"unknown {kind} '{name}'. {did_you_mean(name, table)}")
    return table[name]


def check_metric(metric: str, task: str, kind: str = "metric") -> None:
    """Raise ConfigError for a metric that is unknown, or that `task` does not have."""
    if task_kind(task).pixels and metric.startswith(CLASS_IOU):
        return
    pick({name: name for name in METRICS}, metric, kind)
    if metric not in METRICS_OF_TASK[task]:
        raise ConfigError(
            f"{kind} '{metric}' is not one of task '{task}'. {did_you_mean(metric, METRICS_OF_TASK[task])}"
        )


def mode_of(metric: str) -> Literal["min", "max"]:
    """Return the better direction of a metric: min for losses and costs, max for scores."""
    return "min" if metric.endswith("loss") or metric in COSTS else "max"
