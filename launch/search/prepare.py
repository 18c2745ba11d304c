"""The options of a search, and whether the search and the data fit together."""

from __future__ import annotations

import tempfile
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from launch.cli.options import check_gpus_per_trial
from launch.cli.slow import said_if_slow
from launch.machines.capacity import plan
from launch.machines.cluster import MachineShare
from launch.search import preflight
from launch.search.amounts import MANY, in_amounts
from launch.search.settled import SettledSearch, settle
from search_spaces.finite import limited
from search_spaces.search import Search
from trainables.data.band_statistics import band_statistics
from trainables.data.cache import Images, keep_views
from trainables.data.dataset import Dataset
from trainables.data.folds import judged_in_turn
from trainables.data.formats import load_dataset
from trainables.data.judged_part import with_judged_part
from trainables.data.read_as import ReadAs, check_folds
from trainables.data.tools.shapes import DrawnMasks
from trainables.worker.settings import TrialSettings
from trainables.worker.stopping import Deadline
from visionsweep.core.errors import ConfigError, RunError
from visionsweep.core.words import counted
from visionsweep.run_dir.files import STOP_FILE
from visionsweep.run_dir.shapes import value_at

MOST_DECODING = 0.25  # of the budget, before the first trial; else images are decoded on demand
DECODED_ON_DEMAND = "Images are decoded when they are asked for, as decoding all first would take too long."


@dataclass(frozen=True)
class RunOptions:
    """How a search is run, as opposed to what it searches.

    The search ends with `num_trials` or `budget_s`, whichever comes first. The budget is wall-clock of all commands on
    the run together. If both are None, the search's own number of trials holds.

        data                            a folder, a file or a name
        max_concurrent                  trials at once, None: as many as fit, also on machines that join later
        cpus_per_trial, gpus_per_trial  None: by the machine; `auto`: packed by the memory that trials need
        cache_dir                       of decoded images, None: no cache
        keep_trials                     number of best trials that keep weights and predictions
        val_images, on_demand, alike    see `ReadAs`; what was settled when the run began
        log                             names of loggers (`launch/tracking/loggers.py`)
        learn_from                      earlier runs (`launch/search/learning.py`)
        target, stop                    what else ends the search (`launch/search/target.py`), None: nothing

    `ReadAs` also describes on_bad_image, layout, mask_values, label_separator, group,
    test, channels and folds.
    """

    data: str
    num_trials: int | None = None
    budget_s: float | None = None
    max_concurrent: int | None = None
    cpus_per_trial: float | Literal["auto"] | None = None
    gpus_per_trial: float | Literal["auto"] | None = None
    seed: int = 0
    cache_dir: str | None = None
    on_bad_image: str = "error"
    layout: str | None = None
    mask_values: str | None = None
    label_separator: str | None = None
    keep_trials: int = 8
    log: Sequence[str] = ()
    val_images: int | None = None
    on_demand: bool = False
    group: str | None = None
    test: str | None = None
    folds: int | None = None
    channels: str | None = None
    alike: Sequence[Sequence[str]] | None = None
    target: str | None = None
    stop: str | None = None
    learn_from: Sequence[str] = ()

    def __post_init__(self) -> None:
        check_gpus_per_trial(self.gpus_per_trial)
        check_folds(self.folds)

    @property
    def resources(self) -> tuple[float | Literal["auto"] | None, float | Literal["auto"] | None, int | None]:
        """The arguments of `plan`."""
        return self.cpus_per_trial, self.gpus_per_trial, self.max_concurrent

    @property
    def read_as(self) -> ReadAs:
        return ReadAs.of(asdict(self))

    @property
    def cache(self) -> Path | None:
        return None if self.cache_dir is None else Path(self.cache_dir)


def options_of(search_json: Mapping[str, Any]) -> RunOptions:
    """Return how a run was started. Raises RunError if its search.json does not say, or has unknown options."""
    try:
        return RunOptions(**{"alike": (), **value_at(search_json, "options")})  # runs of 0.4 did not look for them
    except TypeError as error:
        raise RunError(
            f"search.json: its options cannot be read ({str(error).partition(' ')[2]}). "
            "Use the version of visionsweep that wrote it."
        ) from None


def prepared(search: Search, options: RunOptions, began: float | None = None) -> tuple[SettledSearch, Dataset]:
    """Return the search, settled for its data, and the data. Raises InputError for everything wrong with either.

    began: when the budget began to count, of time.monotonic(), None: now.
    """
    began = time.monotonic() if began is None else began
    preflight.check_weights(search)
    preflight.check_packing(search, "auto" in (options.cpus_per_trial, options.gpus_per_trial))
    is_known = search.task != "classification"  # else the task is known with the data, and names are checked then
    if is_known:
        search = search.for_task(search.task)
        preflight.check_names(search)
    preflight.check_folds(search, options.folds)
    within_s = None if options.budget_s is None else options.budget_s * MOST_DECODING
    dataset, images = _read(search, options, within_s)
    if search.task == "classification" and isinstance(dataset.mask_reader, DrawnMasks):
        raise ConfigError(
            f"'{dataset.spec}' has areas that were drawn, for segmentation, and the search is for classification. Pass "
            "--task multilabel to learn which classes an image shows, or choose another search (`visionsweep spaces`)."
        )
    if not is_known:
        preflight.check_names(search.for_task(dataset.task))
    bands = band_statistics(dataset, images)
    if bands is not None:
        search = search.with_set({"model.bands": bands.model_dump(mode="json")})
        preflight.check_first_layers(search, bands)
    settled, notes = settle(search, dataset)
    if options.budget_s is not None and len(dataset.names) > MANY and dataset.folds is None:
        with said_if_slow("measuring how fast trials are"):
            left_s = options.budget_s - (time.monotonic() - began)
            settled, cut_notes = in_amounts(
                settled, dataset, options.budget_s, left_s, lambda: plan(*options.resources)[0]
            )
            notes = (*notes, *cut_notes)
    if dataset.on_demand is not None:
        notes = (*notes, DECODED_ON_DEMAND)
    with said_if_slow("reading the data"):
        if dataset.folds is None:
            dataset = with_judged_part(dataset, settled.val_images, options.seed)
        for positions in judged_in_turn(dataset):
            keep_views(images, settled.views, positions)
    return settled, replace(dataset, notes=(*dataset.notes, *notes))


def as_settled(options: RunOptions, search: Search, dataset: Dataset) -> RunOptions:
    """Return the options with what `prepared` settled, by which a resumed run reads the data again."""
    on_demand = dataset.on_demand is not None
    return replace(options, val_images=search.val_images, on_demand=on_demand, alike=dataset.alike)


def load_data(search: SettledSearch, options: RunOptions) -> Dataset:
    """Return the data of a run that has begun."""
    dataset, images = _read(search, options, None)
    with said_if_slow("reading the data"):
        for positions in judged_in_turn(dataset):
            keep_views(images, search.views, positions)
    return dataset


def _read(search: Search, options: RunOptions, decode_within_s: float | None) -> tuple[Dataset, Images]:
    task = None if search.task == "classification" else search.task
    with said_if_slow("reading the data"):
        return load_dataset(
            options.data,
            task=task,
            seed=options.seed,
            **options.read_as.options(),
            short_side_px=preflight.short_side_px(search),
            cache_dir=options.cache,
            decode_within_s=decode_within_s,
        )


def fewer(search: Search, num_trials: int | None) -> list[str]:
    """Return a note if the space has fewer configurations than trials were asked for."""
    most = limited(search, num_trials)
    if most is None or most == num_trials:
        return []
    return [f"The space has {counted(most, 'configuration')}, and each is tried once: the search ends after them."]


def trial_settings(
    search: SettledSearch,
    options: RunOptions,
    run_dir: Path,
    run_uri: str | None,
    share: MachineShare,
    deadline: float | None,
) -> TrialSettings:
    """Return the settings of all trials. run_uri: of a run on S3. deadline: of time.monotonic()."""
    stop_file = run_dir / STOP_FILE
    if run_uri is not None:  # machines share no folder: each looks for the file in its own
        stop_file = Path(tempfile.gettempdir()) / f"visionsweep-stop-{uuid.uuid4().hex}"
    return TrialSettings(
        run_dir=run_dir,
        metric=search.metric or "",
        mode=search.mode or "max",
        short_side_px=search.short_side_px,
        views=search.views,
        cache_dir=options.cache,
        cpus=max(1, int(share.cpus)),
        gpu_share=share.gpus,
        num_workers=share.num_workers,
        deadline=None if deadline is None else Deadline.of(deadline),
        stop_file=stop_file,
        run_uri=run_uri,
    )
