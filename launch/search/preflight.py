"""Checks before any time is spent: names, weights, batch sizes, the runs folder."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from itertools import product
from pathlib import Path

import optuna

from launch.search.records import exists_already
from search_spaces.grammar import REGIME
from search_spaces.paths import highest, is_range, lowest, possible_values
from search_spaces.regimes import capped, of_these_regimes, regimes_of, wholes, without_regimes
from search_spaces.search import Search
from trainables.class_metrics import check_class_metrics
from trainables.config.architecture import SEGMENTERS
from trainables.config.bands import Bands
from trainables.config.io import parse_config
from trainables.config.parts import part_names
from trainables.config.trial import TrialConfig
from trainables.data.dataset import Dataset
from trainables.data.folds import fewest_trained
from trainables.data.view import View
from trainables.models.known import has_package, is_known
from visionsweep.core.errors import ConfigError, Contradiction, DataError, RunError
from visionsweep.core.tasks import task_kind

# A run of small networks needs about this much for its k best and its running trials.
MIN_FREE_MB = 200
LARGE_ENOUGH_PX = 224  # for every backbone's first layer
# The most sizes at which validation images are kept on the disk before any trial asks for them.
MOST_VIEWS = 16


def check_runs_dir(run_dir: Path) -> None:
    """Raise RunError if the run exists, or its folder cannot be written or is nearly full."""
    if os.path.lexists(run_dir):
        raise exists_already(run_dir)
    check_room(run_dir.parent)


def check_room(folder: Path) -> None:
    """Raise RunError if a folder for runs cannot be written or is nearly full."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(b"visionsweep")
    except OSError as error:
        raise RunError(f"{folder}: cannot be written ({error.strerror}). Choose another --runs-dir.") from None
    free_mb = shutil.disk_usage(folder).free / 2**20
    if free_mb < MIN_FREE_MB:
        raise RunError(
            f"{folder}: has {free_mb:.0f} MB free, and a run needs at least {MIN_FREE_MB} MB for its "
            "checkpoints. Free some space or choose another --runs-dir."
        )


def check_names(search: Search) -> None:
    """Raise ConfigError for an invalid configuration, an unknown backbone, or a space without a valid configuration.

    Draws three hundred configurations at random. What they miss, the searcher finds when it happens.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    problem: Contradiction | None = None
    num_valid = 0
    for _ in range(300):
        # The searcher draws parameters that contradict each other again. Any other mistake is an error, in whatever arm
        # it stands.
        try:
            config = parse_config(search.draw(study.ask()), "the search")
            num_valid += 1
            _check_copies(search, config)
        except Contradiction as error:
            problem = error
    if problem is not None and not num_valid:
        raise ConfigError(f"no configuration of the search is valid; one of them: {problem}")
    unknown = [backbone for backbone in _backbones(search) if not is_known(backbone)]
    if unknown:
        from trainables.models.backbones import check_backbone  # imports timm, which knows them all

        for backbone in unknown:
            check_backbone(backbone)


def _check_copies(search: Search, config: TrialConfig) -> None:
    if search.pruner == "pbt" and config.optimizer.name == "lbfgs":
        raise ConfigError(
            "--pruner pbt trains copies of the best trials further, and optimizer lbfgs solves a head in one go: "
            "choose another pruner, or take lbfgs out of the space (in classification-cpu: --set regime=finetune)."
        )


def check_first_layers(search: Search, bands: Bands) -> None:
    """Raise ConfigError for a backbone of the space that takes no images of these channels."""
    import torch

    from trainables.models.weights import load_weights

    for backbone in _backbones(search):
        with torch.device("meta"):  # shapes alone: no memory, and hardly any time
            load_weights(backbone, "none", LARGE_ENOUGH_PX, bands)


def check_packing(search: Search, packed: bool) -> None:
    """Raise ConfigError for a pruner whose trials take turns: a share lasts as long as a trial trains."""
    if packed and search.pruner == "pbt":
        raise ConfigError(
            "--pruner pbt has trials take turns, and auto packs trials that train until they end. "
            "Give --gpus-per-trial or --cpus-per-trial a number, or choose another pruner."
        )


def check_folds(search: Search, num_folds: int | None) -> None:
    """Raise ConfigError for a pruner that knows epochs alone, or for a search that judges a part of val."""
    if num_folds is None:
        return
    if search.pruner not in ("asha", "none"):
        raise ConfigError(
            f"--folds {num_folds} needs a pruner that compares trials of as many folds: asha or none, "
            f"got {search.pruner}. Leave out --folds, or choose another --pruner."
        )
    if search.val_images is not None:
        raise ConfigError(
            f"--folds {num_folds} judges every image, and val_images {search.val_images} judges a part of them. "
            "Leave out one of the two."
        )


def check_weights(search: Search) -> None:
    """Raise WeightsError if ImageNet weights are asked for and cannot be had for a backbone of the space.

    Raises ConfigError for a path of weights that does not exist, or a folder that lacks those of a backbone.
    """
    space = search.full_space
    weights = possible_values(space, "model.weights") or [_default_weights()]
    parts = dict.fromkeys(part for name in _backbones(search) for part in part_names(name))
    if "imagenet" in weights and not all(map(has_package, parts)):
        from trainables.models.weights import require_weights  # imports timm, which knows where weights are

        require_weights(_backbones(search))
    for place in map(str, weights):
        if place in ("imagenet", "none"):
            continue
        if not Path(place).exists():
            raise ConfigError(f"model.weights: no such file '{place}'. Give imagenet, none or the path of a file.")
        from trainables.models.weights_file import file_of  # imports torch, as above

        missing = [part for part in parts if file_of(part, place) is None]
        if missing:
            raise ConfigError(
                f"model.weights: folder '{place}' has no weights for {', '.join(missing)}. Add "
                f"{missing[0]}.safetensors or {missing[0]}/model.safetensors, and the like, or set "
                "model.backbone to one that it has."
            )


def with_fitting_regimes(search: Search) -> tuple[Search, tuple[str, ...]]:
    """Return the search without regimes of adapters whose only backbone has nothing to adapt, and a sentence for each.

    A space of several backbones is left as it is. Raises ConfigError if no regime is left.
    """
    unfit: dict[str, str] = {}
    for whole in wholes(search.full_space):
        backbones = possible_values(whole, "model.backbone")
        if len(backbones) == 1 and any(possible_values(whole, "model.adapter.name")):
            from trainables.models.classifiers import check_adapted  # builds the network, with torch

            try:
                check_adapted(str(backbones[0]))
            except ConfigError as error:
                unfit[str(whole.get(REGIME, ""))] = str(error)
    if not unfit:
        return search, ()
    if unfit.keys() >= set(regimes_of(search.space)):
        raise ConfigError(next(iter(unfit.values())))
    space = without_regimes(search.space, unfit)
    left = replace(search, space=space, warm_start=of_these_regimes(search.warm_start, search.space, space))
    return left, tuple(f"Regime {name} is left out: {why.partition('. ')[0]}." for name, why in unfit.items())


def with_fitting_batches(search: Search, dataset: Dataset) -> tuple[Search, tuple[str, ...]]:
    """Return the search without batches larger than the training set, and a sentence if any were left out.

    Values that are all too large are left as they are.
    """
    num_train = fewest_trained(dataset)
    fitting = replace(search, space=capped(search.space, "batch_size", num_train))
    before, after = (highest(one.full_space, "batch_size") for one in (search, fitting))
    if before == after:
        return search, ()
    return fitting, (
        f"Batches of up to {before:g} images are left out, and {after:g} are the most: the training set has "
        f"{num_train}.",
    )


def check_data(search: Search, dataset: Dataset) -> None:
    """Raise DataError if a batch of the space does not fit the training set.

    Raises ConfigError if classes are merged, or a class's IoU is looked at, that the data does not have.
    """
    if task_kind(search.task).pixels:
        _check_classes(search, dataset)
    largest = int(highest(search.full_space, "batch_size"))
    num_train = fewest_trained(dataset)
    if largest > num_train:
        raise DataError(
            f"the search tries batches of up to {largest} images, and the training set has {num_train}. "
            f"Fix a smaller one, such as --set batch_size={max(1, min(16, num_train // 4))}, or add images."
        )


def short_side_px(search: Search) -> int:
    """Return the size at which images are stored, so that all trials can train on them.

    It is the largest training size, plus what the centre crop at evaluation cuts off. For segmentation it is the
    largest size at which the network sees the images.
    """
    fields = TrialConfig.model_fields
    space = search.full_space
    largest = highest(space, "image_size") or float(fields["image_size"].default)
    if task_kind(search.task).pixels:
        return round(max(largest, highest(space, "short_side")))
    return round(largest / (lowest(space, "eval_crop") or float(fields["eval_crop"].default)))


def views(search: Search) -> list[View]:
    """Return the views in which the trials of a search see validation images, for one pass of decoding.

    Empty if a size is drawn from a range, or if there are more than MOST_VIEWS. What a trial needs is then built when
    it needs it.
    """
    third = "short_side" if task_kind(search.task).pixels else "eval_crop"
    names = ("image_size", "fit_image", third)
    if any(is_range(search.full_space, name) for name in names):
        return []
    fields = TrialConfig.model_fields
    found = list[View]()
    view = View.of_segmenter if task_kind(search.task).pixels else View.of_classifier
    for space in wholes(search.full_space):
        values = [possible_values(space, name) or [fields[name].default] for name in names]
        found += [view(*each) for each in product(*values)]
    found = list({one.key: one for one in found}.values())
    return found if len(found) <= MOST_VIEWS else []


def _backbones(search: Search) -> list[str]:
    """Return every backbone of the space by timm's name, including those that an architecture brings."""
    space = search.full_space
    named = [str(name) for name in possible_values(space, "model.backbone") if name is not None]
    architectures = possible_values(space, "model.architecture.name")
    brought = [SEGMENTERS[str(name)].backbone for name in architectures if str(name) in SEGMENTERS]
    return [*named, *(name for name in brought if name is not None)]


def _check_classes(search: Search, dataset: Dataset) -> None:
    merge = search.full_space.get("merge", {})
    if not isinstance(merge, Mapping) or not all(isinstance(old, (list, tuple)) for old in merge.values()):
        raise ConfigError(
            f"merge must map each new class to a list of old ones, the same for all trials, got {merge!r}. "
            "For example --set 'merge={vehicle: [car, truck]}'."
        )
    check_class_metrics(
        dataset,
        merge,
        metric=[objective.name for objective in search.compared],
        early_stopping_metric=possible_values(search.full_space, "early_stopping_metric"),
        ensemble_metric=possible_values(search.full_space, "ensemble_metric"),
    )


def _default_weights() -> str:
    from trainables.config.model import ClassifierConfig

    return str(ClassifierConfig.model_fields["weights"].default)
