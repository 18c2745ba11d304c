"""A search as frozen data: the space, the fixed values, the metric, the length of a trial."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from search_spaces.grammar import Branch, Space, SuggestsValues, draw, encode
from search_spaces.paths import check_names, highest, set_path
from search_spaces.regimes import (
    added,
    laid_over,
    named,
    of_these_regimes,
    set_in_regimes,
    settled,
    with_epochs_set,
    with_own_epochs,
    with_regime,
    without,
)
from visionsweep.core.errors import ConfigError
from visionsweep.core.names import CLASS_IOU, METRICS, PRUNERS, RUNGS, SAMPLERS, check_metric, mode_of, pick
from visionsweep.core.objectives import DEFAULT_OBJECTIVE, Objective, parse_objectives
from visionsweep.core.rungs import GRACE_S, milestones, milestones_s
from visionsweep.core.tasks import tasks_of

# Fields of the search that `--set` takes. Every other key is a path of the configuration.
SETTABLE = (
    "task", "metric", "mode", "objectives", "epochs", "grace_epochs", "reduction_factor",
    "sampler", "pruner", "rungs", "grace_seconds", "val_images",
)  # fmt: skip


@dataclass(frozen=True)
class Search:
    """One search, complete but for its data.

    task              binary, multiclass, multilabel, segmentation, or classification, which is any of the first three
    space             nested dict of ranges (see `search_spaces.grammar`), or a Branch of such dicts (`regimes.py`)
    space_by_task     additions to the space for one task
    fixed             values that replace those of the space
    metric, mode      the compared metric, e.g. `val/f1` and `max`; None takes the task's (DEFAULT_OBJECTIVE)
    objectives        several objectives, such as ["val/f1", "-latency_ms"] (`objectives.parse_objectives`); the first
                      is the metric
    epochs            of a full trial, or of the longest if the space has `epochs`
    grace_epochs      epochs at the first rung
    reduction_factor  of ASHA, see below
    sampler           proposes configurations, one of SAMPLERS
    pruner            ends trials early, one of PRUNERS
    rungs             compare trials at the same share of their epochs (`epochs`), after the same time (`seconds`), or
                      at the same share among trials with epochs of similar cost (`tiers`)
    grace_seconds     seconds at the first rung of `seconds`
    warm_start        configurations tried first, as far as the space can express them
    data, num_trials  used if the command line names none
    val_images        most validation images, the same for all trials; None chooses by the budget

    Trials are compared at `grace_epochs`, then at every `reduction_factor`-fold of it, where the best
    1/reduction_factor continues (ASHA, Li et al. 2018, arXiv:1810.05934). A shorter trial is compared at the same
    shares of its own length. A grace of one epoch is measurably harmful on real curves, because early epochs rank
    learning rates instead of models. Before `grace_epochs` a trial ends only if it is worse than every trial that
    passed that rung was at the same epoch (`launch.pruners.early_stopping`).
    """

    task: str
    space: Mapping[str, Any]
    space_by_task: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    fixed: Mapping[str, Any] = field(default_factory=dict)
    metric: str | None = None
    mode: Literal["max", "min"] | None = None
    objectives: Sequence[str] = ()
    epochs: int = 30
    grace_epochs: int = 4
    reduction_factor: int = 3
    sampler: str = "fidelity"
    pruner: str = "asha"
    rungs: Literal["epochs", "seconds", "tiers"] = "epochs"
    grace_seconds: float = GRACE_S
    warm_start: Sequence[Mapping[str, Any]] = ()
    data: str | None = None
    num_trials: int | None = None
    val_images: int | None = None
    description: str = ""

    def __post_init__(self) -> None:
        pick({name: name for name in (*DEFAULT_OBJECTIVE, "classification")}, self.task, "task")
        if isinstance(self.space, Branch):
            object.__setattr__(self, "space", settled(self.space))
        _check_shapes(self)
        for name in ("epochs", "grace_epochs", "reduction_factor", "num_trials", "val_images"):
            value = getattr(self, name)
            least = 2 if name == "reduction_factor" else 1
            unset = value is None and name in ("num_trials", "val_images")
            if not unset and (not isinstance(value, int) or isinstance(value, bool) or value < least):
                raise ConfigError(f"{name} must be a whole number of at least {least}, got {value!r}. Change it.")
        for kind, known in (("sampler", SAMPLERS), ("pruner", PRUNERS), ("rungs", RUNGS)):
            pick({name: name for name in known}, getattr(self, kind), kind)
        if isinstance(self.grace_seconds, bool) or not 0 < float(self.grace_seconds) < float("inf"):
            raise ConfigError(f"grace_seconds must be a positive number, got {self.grace_seconds!r}. Change it.")
        if self.metric is not None and not str(self.metric).startswith(CLASS_IOU):
            pick({name: name for name in METRICS}, self.metric, "metric")
        if self.mode not in (None, "max", "min"):
            raise ConfigError(f"mode must be 'max' or 'min', got {self.mode!r}. Losses take 'min', scores 'max'.")
        if self.mode is not None and self.metric is None:
            raise ConfigError(
                f"mode '{self.mode}' says which way a metric is better, and no metric is named. "
                "Set metric too, such as val/loss, or leave mode out."
            )
        _check_objectives(self)
        _check_lengths(self)
        if isinstance(self.data, os.PathLike):
            object.__setattr__(self, "data", os.fspath(self.data))
        if not isinstance(self.data, (str, type(None))):
            raise ConfigError(f"data must be a path or a name, got {self.data!r}. Put it in quotes.")

    def for_task(self, task: str) -> Search:
        """Return this search for data of `task`, with task, metric and mode filled in and the task's space added.

        Raises ConfigError if the search is for another task, or its metric is not one of the task.
        """
        if task not in self.tasks:
            raise ConfigError(
                f"the search is for {' or '.join(self.tasks)} data, and this data is {task}. "
                "Choose another search (`visionsweep spaces` lists them) or other data."
            )
        metric, mode = DEFAULT_OBJECTIVE[task]
        if self.objectives:
            first = parse_objectives(self.objectives, task)[0]
            metric = first.name
            mode = first.mode
        elif self.metric is not None:
            check_metric(self.metric, task)
            metric = self.metric
            mode = self.mode or mode_of(self.metric)
        return replace(
            self,
            task=task,
            metric=metric,
            mode=mode,  # type: ignore[arg-type]
            space=added(self.space, self.space_by_task.get(task, {})),
            space_by_task={},
        )

    def with_set(self, assignments: Mapping[str, Any]) -> Search:
        """Return this search with `--set key=value` applied to fields of the search, or paths of the configuration.

        Raises ConfigError for a path through a plain value. `TrialConfig` refuses unknown paths.
        """
        fields = {key: value for key, value in assignments.items() if key in SETTABLE}
        if isinstance(fields.get("epochs"), int):
            parts = {"space": self.space, "fixed": self.fixed}
            fields |= {name: with_epochs_set(part, fields["epochs"]) for name, part in parts.items()}
        search = replace(self, **fields)  # all at once: a mode is refused without its metric
        for key, value in assignments.items():
            if key in fields:
                continue
            head = key.partition(".")[0]
            in_task_only = any(head in part for part in search.space_by_task.values())
            if in_task_only and not named(search.space, head):
                # Set it for every task and regime, so that it is not lost when the data's task is known.
                search = replace(search, space=without(search.space, head))
                parts = {task: search.space_by_task.get(task, {}) for task in DEFAULT_OBJECTIVE}
                search = replace(search, space_by_task=_set_where_it_fits(parts, key, value))
            else:
                space = set_in_regimes(laid_over(search.space, search.fixed), key, value)
                search = replace(search, space=space, fixed={})
        return replace(search, warm_start=of_these_regimes(self.warm_start, self.space, search.space))

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks that its data may have. The data decides."""
        return tasks_of(self.task)

    @property
    def compared(self) -> tuple[Objective, ...]:
        """The objectives that trials are compared by, or the metric alone. The search must be one `for_task`."""
        alone = (Objective(self.metric or "", self.mode or "max"),)
        return parse_objectives(self.objectives, self.task) if self.objectives else alone

    @property
    def full_space(self) -> dict[str, Any]:
        """The space that `draw` draws from, with the fixed values, the task and the epochs."""
        return with_own_epochs(laid_over(self.space, {**self.fixed, "task": self.task}), self.epochs)

    @property
    def rung_at(self) -> tuple[float, ...]:
        """Where trials are compared, rising: seconds if `rungs` says so, else epochs of the longest trial."""
        if self.rungs == "seconds":
            return tuple(milestones_s(self.grace_seconds, self.reduction_factor))
        return tuple(milestones(self.grace_epochs, self.reduction_factor, self.epochs))

    def draw(self, trial: SuggestsValues) -> dict[str, Any]:
        """Draw a configuration, as `trainables.config.trial.TrialConfig` parses it."""
        return draw(self.full_space, trial)

    def encode(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """Return the flat parameters under which this search would have drawn `config` (see `grammar.encode`)."""
        space = self.full_space
        return encode(space, with_regime(space, config))


def _check_shapes(search: Search) -> None:
    for name in ("space", "space_by_task", "fixed"):
        _check_mapping(name, getattr(search, name))
        check_names(getattr(search, name), name)
    for task, space in search.space_by_task.items():
        pick(DEFAULT_OBJECTIVE, task, "task of space_by_task")
        _check_mapping(f"space_by_task['{task}']", space)
    if not isinstance(search.warm_start, Sequence) or isinstance(search.warm_start, str):
        raise ConfigError(f"warm_start must be a list of configurations, got {search.warm_start!r}. Write [{{...}}].")
    for number, config in enumerate(search.warm_start):
        _check_mapping(f"warm_start[{number}]", config)


def _check_lengths(search: Search) -> None:
    longest = highest(search.full_space, "epochs")
    if longest > search.epochs:
        raise ConfigError(
            f"the space has trials of up to {longest:g} epochs, and epochs={search.epochs} is to be the longest. "
            f"Set epochs={longest:g}, or shorten them."
        )


def _check_objectives(search: Search) -> None:
    texts = search.objectives
    if isinstance(texts, str) or not isinstance(texts, Sequence) or not all(isinstance(text, str) for text in texts):
        raise ConfigError(f"objectives must be a list of names, got {texts!r}. Write [val/f1, -latency_ms].")
    if search.task in DEFAULT_OBJECTIVE and texts:  # else they are checked in `for_task`, when the data is known
        metric = parse_objectives(texts, search.task)[0].name
        if search.metric not in (None, metric):
            raise ConfigError(
                f"metric '{search.metric}' and objectives whose first is '{metric}' contradict each other. Name one."
            )
    if len(texts) > 1 and not SAMPLERS[search.sampler].several:
        several = [name for name, sampler in SAMPLERS.items() if sampler.several]
        raise ConfigError(
            f"sampler '{search.sampler}' knows one objective, and {len(texts)} are asked for. "
            f"Take one of {', '.join(several)}."
        )


def _check_mapping(name: str, value: Any) -> None:
    if not isinstance(value, Mapping):
        raise ConfigError(f"{name} must be a mapping of names to values, got {value!r}. Write a dict: {{...}}.")


def _set_where_it_fits(parts: Mapping[str, Space], key: str, value: Any) -> dict[str, Space]:
    """Return the tasks' parts with `key` set in each.

    A task whose part refuses it, as `loss.name=bce` in one of three, gets the plain value. The schema refuses that with
    a message if the data is of that task. Raises ConfigError if all parts refuse it.
    """
    done: dict[str, Space] = {}
    problem: ConfigError | None = None
    for task, part in parts.items():
        try:
            done[task] = set_path(part, key, value)
        except ConfigError as error:
            problem = error
    if problem is not None and not any(key.partition(".")[0] in parts[task] for task in done):
        raise problem
    head = key.partition(".")[0]
    return {task: done.get(task) or set_path({**part, head: {}}, key, value) for task, part in parts.items()}
