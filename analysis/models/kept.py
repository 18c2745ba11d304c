"""A run's kept models, read from its files, as members of an ensemble."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from analysis.models.ensemble_selection import Members, label_members, pixel_members
from trainables.config.io import parse_config
from trainables.config.trial import TrialConfig
from trainables.data.loader import TrialData
from trainables.features.probe import UNSEEN
from trainables.out_of_fold import out_of_fold_logits
from trainables.targets import classes_and_labels, output_classes
from visionsweep.core.errors import RunError
from visionsweep.core.tasks import task_kind
from visionsweep.run_dir.files import (
    PREDICTIONS,
    epoch_of,
    kept_files,
    out_of_fold_file,
    predictions_file,
    read_predictions,
    trial_folder,
    weights_file,
)
from visionsweep.run_dir.rank import ranked
from visionsweep.run_dir.run import Run


@dataclass(frozen=True, eq=False)
class Kept:
    """An epoch of a trial whose weights and predictions are kept.

    value       its score on the whole validation split
    latency_ms  to predict one image, None where the run did not measure it
    competes    whether its trial was trained to the end, as the best trial of a run is
    """

    trial_id: str
    epoch: int
    config: TrialConfig
    value: float
    predictions: dict[str, np.ndarray]
    latency_ms: float | None = None
    competes: bool = True


def kept_models(run: Run, num_trials: int | None = None) -> list[Kept]:
    """Return every kept epoch of the best trials that have one, the best epoch first.

    `num_trials` limits them to the kept epochs of that many best trials. Raises RunError if predictions cannot be read.
    """
    found: list[Kept] = []
    trials = 0
    for trial in ranked(run.trials, run.objectives):
        values = trial.values(run.metric)
        epochs = [
            epoch
            for path in kept_files(trial_folder(run.run_dir, PREDICTIONS, trial.trial_id))
            if (epoch := epoch_of(path)) in values and weights_file(run.run_dir, trial.trial_id, epoch).is_file()
        ]
        if not epochs:
            continue
        config = parse_config(trial.config, f"trial {trial.trial_id}")
        latency = trial.values("latency_ms")
        found += [
            Kept(
                trial.trial_id,
                one,
                config,
                values[one],
                read_predictions(predictions_file(run.run_dir, trial.trial_id, one)),
                latency.get(one),
                trial.status == "complete",
            )
            for one in epochs
        ]
        trials += 1
        if trials == num_trials:
            break
    return sorted(found, key=lambda one: -run.sign * one.value)


def with_out_of_fold(run: Run, data: TrialData, kept: Sequence[Kept]) -> list[Kept]:
    """Return the models that have predictions of the training images too, by models that have not seen them.

    They are the best kept epoch of each trial that completed its folds. All models are returned as they are if there
    are no folds, or fewer than two such models. Raises RunError if predictions cannot be read.
    """
    if data.dataset.folds is None:
        return list(kept)
    found = []
    for number, one in enumerate(kept):
        if any(one.trial_id == better.trial_id for better in kept[:number]):
            continue
        path = out_of_fold_file(run.run_dir, one.trial_id)
        unseen = out_of_fold_logits(path, data.dataset)
        if unseen is not None:
            found.append(replace(one, predictions={**one.predictions, UNSEEN: unseen}))
    return found if len(found) > 1 else list(kept)


def alike(data: TrialData, kept: Sequence[Kept], notes: list[str]) -> list[Kept]:
    """Return the models that predict the same classes as the first. A note says how many do not.

    `kept` has at least one model. Raises RunError if predictions are not those of this data.
    """
    dataset = data.dataset
    classes = output_classes(kept[0].config, dataset.classes)
    found = [one for one in kept if output_classes(one.config, dataset.classes) == classes]
    if len(found) < len(kept):
        notes.append(f"{len(kept) - len(found)} models merge the classes in another way than the best, and stay out.")
    num_images = len(dataset.indices("val"))
    for one in found:
        num = len(one.predictions[task_kind(dataset.task).stored[0]])
        if num != num_images:
            raise RunError(
                f"trial {one.trial_id}, epoch {one.epoch}: has predictions of {num} validation images, and the data "
                f"has {num_images}. Restore the data as it was."
            )
    return found


def side_by_side(data: TrialData, kept: Sequence[Kept], ask: Callable[[], object] = lambda: None) -> Members:
    """Return predictions of compatible models as members. ask: called before every mask, raises to stop."""
    dataset = data.dataset
    config = kept[0].config
    positions = dataset.indices("val")
    classes = output_classes(config, dataset.classes)
    if task_kind(dataset.task).pixels:
        _, merge, _ = classes_and_labels(config, data)

        def truths() -> Iterator[np.ndarray]:
            for position in positions:
                ask()
                yield merge.table[data.images.mask(int(position))]  # type: ignore[union-attr]

        return pixel_members(classes, [one.predictions["masks"] for one in kept], truths())
    logits = [one.predictions["logits"] for one in kept]
    thresholds = [one.config.threshold for one in kept]
    return label_members(dataset.task, classes, logits, dataset.targets[positions], thresholds)
