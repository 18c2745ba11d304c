"""The options of a search, which `run`, `submit` and `check` share, and those of reading data, which `train` has too.

A further option is a field here, and a line where it is used. `with_groups` makes options of the fields.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from launch.cli.option_groups import filled
from launch.cli.options import (
    Address,
    CacheDir,
    Channels,
    CpusPerTrial,
    DataOption,
    Folds,
    GpusPerTrial,
    Group,
    LabelSeparator,
    Layout,
    LearnFrom,
    Log,
    MaskValues,
    MaxConcurrent,
    NoCache,
    NoReport,
    OnBadImage,
    Pruner,
    RunsDir,
    Sampler,
    SetOption,
    Stop,
    Target,
    TaskOption,
    Test,
    WarmStart,
    absolute,
    amount,
    cache_folder,
    group_of,
)
from visionsweep.core.s3 import is_remote

if TYPE_CHECKING:
    from launch.search.prepare import RunOptions
    from search_spaces.search import Search
    from trainables.data.read_as import ReadAs

SearchArgument = Annotated[str, typer.Argument(help="A shipped search (`visionsweep spaces`) or a Python file.")]
Name = Annotated[str | None, typer.Option(help="Name of the run; default: search and time.")]
Trials = Annotated[int | None, typer.Option(min=1, help="How many configurations to try.")]
Budget = Annotated[str | None, typer.Option(help="Wall-clock for everything, such as 30m or 2h.")]
KeepTrials = Annotated[int, typer.Option(min=1, help="Best trials that keep weights and predictions.")]
Seed = Annotated[int, typer.Option(min=0, help="Of the split, the proposals and the trainings.")]


@dataclass(frozen=True)
class ReadingOptions:
    """How data is read. trainables/data/read_as.py says what each means."""

    cache_dir: CacheDir = None
    no_cache: NoCache = False
    on_bad_image: OnBadImage = "error"
    layout: Layout = None
    mask_values: MaskValues = None
    label_separator: LabelSeparator = None
    group: Group = None
    test: Test = None
    channels: Channels = None

    def folder(self) -> str | None:
        """Return the folder of decoded images, None for none."""
        return cache_folder(self.cache_dir, self.no_cache)

    def read_as(self, data: str) -> ReadAs:
        from trainables.data.read_as import ReadAs

        return ReadAs(
            self.on_bad_image,
            self.layout,
            self.mask_values,
            self.label_separator,
            group=group_of(self.group, data),
            test=self.test,
            channels=self.channels,
        )


@dataclass(frozen=True)
class SearchOptions:
    """What a search is asked for, as the command line has it. docs/running.md explains each option."""

    data: DataOption = None
    name: Name = None
    trials: Trials = None
    budget: Budget = None
    assignments: SetOption = None
    max_concurrent: MaxConcurrent = None
    cpus_per_trial: CpusPerTrial = None
    gpus_per_trial: GpusPerTrial = None
    address: Address = None
    task: TaskOption = None
    sampler: Sampler = None
    pruner: Pruner = None
    warm_start: WarmStart = None
    learn_from: LearnFrom = None
    target: Target = None
    stop: Stop = None
    log: Log = None
    keep_trials: KeepTrials = 8
    seed: Seed = 0
    runs_dir: RunsDir = "runs"
    reading: ReadingOptions = ReadingOptions()
    folds: Folds = None
    no_report: NoReport = False

    @classmethod
    def of(cls, given: Mapping[str, object]) -> SearchOptions:
        """Return the options of a command by their names on its line (`options.given`). Others keep their defaults."""
        values = {name.removeprefix("--").replace("-", "_"): value for name, value in given.items()}
        found: SearchOptions = filled(cls, {"assignments": values.get("set"), **values})
        return found

    @property
    def budget_s(self) -> float | None:
        """The budget in seconds. Raises ConfigError for a text that is no duration."""
        from launch.cli.loading import parse_duration

        return None if self.budget is None else parse_duration(self.budget)

    def loaded(self, search: str) -> Search:
        """Return a named search with what these options set in it. Raises ConfigError, DataError for too few folds."""
        from launch.cli.loading import load_search, parse_assignments
        from trainables.data.read_as import check_folds

        check_folds(self.folds)
        named = {"task": self.task, "sampler": self.sampler, "pruner": self.pruner}
        chosen = {key: value for key, value in named.items() if value is not None}
        return load_search(search).with_set({**chosen, "seed": self.seed, **parse_assignments(self.assignments or [])})

    def run_options(self, data: str) -> RunOptions:
        """Return them as a run keeps them. data: where it is, as the user or the search says. Imports torch."""
        from launch.search.prepare import RunOptions

        return RunOptions(
            data=absolute(data),
            num_trials=self.trials,
            budget_s=self.budget_s,
            max_concurrent=self.max_concurrent,
            cpus_per_trial=amount(self.cpus_per_trial),
            gpus_per_trial=amount(self.gpus_per_trial),
            seed=self.seed,
            cache_dir=self.reading.folder(),
            on_bad_image=self.reading.on_bad_image,
            layout=self.reading.layout,
            mask_values=self.reading.mask_values,
            label_separator=self.reading.label_separator,
            group=group_of(self.reading.group, data),
            test=self.reading.test,
            folds=self.folds,
            channels=self.reading.channels,
            keep_trials=self.keep_trials,
            log=self.log or [],
            target=self.target,
            stop=self.stop,
            learn_from=[source if is_remote(source) else absolute(source) for source in self.learn_from or []],
        )
