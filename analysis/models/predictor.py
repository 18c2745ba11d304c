"""Predictors loaded from an export: one trial's models, or an ensemble of several trials'."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from analysis.models.ensemble_selection import FIRST_VOTE
from analysis.models.export import MEMBERS
from analysis.models.export_folder import ENSEMBLE_FILE, require_export, weight_files
from analysis.models.manifest import check_files, read_manifest
from analysis.models.pixel_mean import decide_together
from trainables.config.io import load_config
from trainables.config.trial import TrialConfig
from trainables.data.tensors import to_tensor
from trainables.data.view import Pixels, View
from trainables.device import device_here, speed_up
from trainables.ensemble import load_models
from trainables.evaluate import decide_at_size
from trainables.inference import predict_batch
from trainables.models.build import Model
from trainables.tasks import TASKS, mean_logits
from visionsweep.core.errors import RunError
from visionsweep.core.files import read_bytes, read_object, short
from visionsweep.core.tasks import task_kind
from visionsweep.core.whole_folder import mend
from visionsweep.run_dir.shapes import ensemble_problem, is_text

Seen: TypeAlias = tuple[Pixels, ...]  # an image (h, w, 3) uint8 as each network of an export sees it


@dataclass(frozen=True)
class ExportedModel:
    """The models of an export, ready to predict on `device`. Several models are epochs of one training."""

    config: TrialConfig
    classes: tuple[str, ...]
    models: list[Model]
    device: torch.device
    flips: bool = False  # test-time augmentation: average the predictions of an image and its mirror image

    def probabilities(self, images: Iterable[np.ndarray]) -> Tensor:
        """Return probabilities (N, K) float32 on the CPU for images (H, W, 3) uint8 of any sizes; K is 1 for binary."""
        return self.probabilities_of([self.seen(image) for image in images])

    def seen(self, image: Pixels) -> Seen:
        """Return an image (H, W, 3) uint8 resized for the network, all that needs to be kept of a large image."""
        return (View.of(self.config).apply(image),)

    def probabilities_of(self, seen: Sequence[Seen]) -> Tensor:
        """Return `probabilities` for the output of `seen`."""
        batch = to_tensor([image for (image,) in seen])
        return TASKS[self.config.task].probabilities(self.logits(batch)).cpu()

    def masks(self, images: Sequence[Pixels]) -> Iterator[Pixels]:
        """Yield masks (H, W) uint8 of class numbers for images (H, W, 3) uint8. For segmenters."""
        return self.masks_of([self.seen(image) for image in images], [image.shape[:2] for image in images])

    def masks_of(self, seen: Sequence[Seen], shapes: Sequence[Sequence[int]]) -> Iterator[Pixels]:
        """Yield `masks` for the output of `seen`, given the images' heights and widths."""
        for logits, size in zip(self.maps_of(seen), shapes, strict=True):
            mask: Pixels = decide_at_size(logits, size).cpu().numpy()
            yield mask

    def maps_of(self, seen: Sequence[Seen]) -> Iterator[Tensor]:
        """Yield a segmenter's logits (1, C, h, w) for each output of `seen`.

        Neighbours of one size go through the network together.
        """
        small = [image for (image,) in seen]
        for (height, width, _), group in groupby(small, key=lambda image: image.shape):
            # Whole images may be many times as large as the crops of training, which are what fits into the memory.
            most = max(1, self.config.batch_size * self.config.image_size**2 // (height * width))
            same = to_tensor(list(group))
            for start in range(0, len(same), most):
                yield from torch.split(self.logits(same[start : start + most]), 1)

    def logits(self, batch: Tensor) -> Tensor:
        """Return logits (B, K) or (B, C, h, w) for images (B, h, w, 3) uint8."""
        logits = predict_batch(self.config, self.models, batch, self.device)
        if not self.flips:
            return logits
        mirrored = predict_batch(self.config, self.models, batch.flip(2), self.device)
        if mirrored.ndim == 4:
            mirrored = mirrored.flip(3)  # a mask's pixels go back to where they were
        return mean_logits(self.config.task, [logits, mirrored])


@dataclass(frozen=True)
class ExportedEnsemble:
    """The members of an ensemble's export, ready to predict; the first one is the best alone.

    It has the interface of `ExportedModel`. `config` is the first member's, with the ensemble's threshold.
    """

    config: TrialConfig
    classes: tuple[str, ...]
    members: tuple[ExportedModel, ...]
    weights: tuple[float, ...]
    votes: bool = False  # segmenters vote on each pixel by their decisions; otherwise probabilities are averaged

    def probabilities(self, images: Iterable[np.ndarray]) -> Tensor:
        """Return the members' weighted mean (N, K) float32 on the CPU for images (H, W, 3) uint8 of any sizes."""
        return self.probabilities_of([self.seen(image) for image in images])

    def seen(self, image: Pixels) -> Seen:
        """Return an image (H, W, 3) uint8 of any size as each member sees it."""
        return tuple(pixels for member in self.members for pixels in member.seen(image))

    def probabilities_of(self, seen: Sequence[Seen]) -> Tensor:
        """Return `probabilities` for the output of `seen`."""
        return self.mean([member.probabilities_of(_of(seen, i)) for i, member in enumerate(self.members)])

    def mean(self, each: Sequence[Tensor]) -> Tensor:
        """Return the weighted mean of the members' probabilities (N, K)."""
        return torch.stack([weight * one for weight, one in zip(self.weights, each, strict=True)]).sum(0) / sum(
            self.weights
        )

    def masks(self, images: Sequence[Pixels]) -> Iterator[Pixels]:
        """Yield masks (H, W) uint8 of class numbers for images (H, W, 3) uint8."""
        return self.masks_of([self.seen(image) for image in images], [image.shape[:2] for image in images])

    def masks_of(self, seen: Sequence[Seen], shapes: Sequence[Sequence[int]]) -> Iterator[Pixels]:
        """Yield `masks` for the output of `seen`, given the images' heights and widths."""
        if self.votes:
            each = (member.masks_of(_of(seen, i), shapes) for i, member in enumerate(self.members))
            yield from map(self.vote, zip(*each, strict=True))
            return
        maps = zip(*(member.maps_of(_of(seen, i)) for i, member in enumerate(self.members)), strict=True)
        for logits, size in zip(maps, shapes, strict=True):
            mask: Pixels = decide_together(logits, self.weights, size).cpu().numpy()
            yield mask

    def vote(self, decided: Sequence[Pixels]) -> Pixels:
        """Return the class with the most weighted votes for each pixel. The first member decides ties."""
        votes = np.zeros((len(self.classes), *decided[0].shape), np.float32)
        for number, (mask, weight) in enumerate(zip(decided, self.weights, strict=True)):
            vote = weight + (FIRST_VOTE if number == 0 else 0.0)
            for one in np.unique(mask):
                votes[one][mask == one] += vote
        winner: Pixels = votes.argmax(axis=0).astype(np.uint8)
        return winner


def _of(seen: Sequence[Seen], member: int) -> list[Seen]:
    return [(pixels[member],) for pixels in seen]


Predictor: TypeAlias = ExportedModel | ExportedEnsemble


def with_flips(exported: Predictor, flips: bool) -> Predictor:
    """Return the export with test-time augmentation, or without. The weights are shared."""
    if isinstance(exported, ExportedModel):
        return replace(exported, flips=flips)
    return replace(exported, members=tuple(replace(member, flips=flips) for member in exported.members))


def load_export(export_dir: Path, device: torch.device | None = None, *, flips: bool = False) -> Predictor:
    """Load what `visionsweep export` wrote.

    Raises RunError if it is no export, its weights do not fit, or its files are not those that were exported.
    """
    mend(export_dir)  # a killed `export` may have left the old one under another name
    manifest = read_manifest(export_dir)
    loaded = _loaded(export_dir, device, flips)
    if read_manifest(export_dir) != manifest:
        raise RunError(f"{export_dir}: was exported anew while it was read. Run the command again.")
    return loaded


def _loaded(export_dir: Path, device: torch.device | None, flips: bool) -> Predictor:
    require_export(export_dir)
    weights = weight_files(export_dir)
    several = (export_dir / ENSEMBLE_FILE).is_file()
    check_files(export_dir, [export_dir / "config.yaml", export_dir / "classes.txt", *weights])
    config = load_config(export_dir / "config.yaml")
    classes = _classes(export_dir / "classes.txt")
    device = device or device_here()
    speed_up(device, fixed_shapes=not task_kind(config.task).pixels)
    if several:
        return _load_ensemble(export_dir, classes, device, flips)
    return ExportedModel(config, classes, load_models(config, len(classes), weights, device), device, flips)


def _classes(path: Path) -> tuple[str, ...]:
    """Read one class from each line.

    Lines end at "\\n" alone: splitlines() would cut a name at a form feed.
    """
    text = read_bytes(path, "Export the trial anew.").decode("utf-8", "surrogateescape")
    classes = tuple(text.removesuffix("\n").split("\n"))
    if len(set(classes)) < len(classes):
        twice = next(name for name in classes if classes.count(name) > 1)
        raise RunError(f"{path}: names the class {short(twice)} twice. Export the trial anew.")
    return classes


def _load_ensemble(export_dir: Path, classes: tuple[str, ...], device: torch.device, flips: bool) -> ExportedEnsemble:
    """Load the members of an ensemble. Raises RunError if it is damaged or incomplete."""
    ensemble = read_object(export_dir / ENSEMBLE_FILE, "Export the ensemble anew.")
    problem = ensemble_problem(ensemble)
    if problem is None and not all(is_text(one.get("folder")) for one in ensemble["members"]):
        problem = "a member has no 'folder'"
    if problem is not None:
        raise RunError(f"{export_dir / ENSEMBLE_FILE}: is damaged ({problem}). Export the ensemble anew.")
    # The last part of each path alone: an untrusted list must not lead out of the export.
    folders = [export_dir / MEMBERS / Path(one["folder"]).name for one in ensemble["members"]]
    weights = tuple(float(one["weight"]) for one in ensemble["members"])
    members = []
    for folder in folders:
        config = load_config(folder / "config.yaml")
        file = folder / "model.safetensors"
        if not file.is_file():
            raise RunError(f"{folder}: has no {file.name}. Export the ensemble anew.")
        check_files(export_dir, [export_dir / ENSEMBLE_FILE, folder / "config.yaml", file])
        members.append(ExportedModel(config, classes, load_models(config, len(classes), [file], device), device, flips))
    first = members[0].config.model_copy(update={"threshold": float(ensemble["threshold"])})
    return ExportedEnsemble(first, classes, tuple(members), weights, ensemble["combine"] == "vote")
