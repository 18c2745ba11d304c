"""Classes of new images from an exported model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from search_spaces.errors import DataError, RunError
from trainables.config import TrialConfig
from trainables.config_io import load_config
from trainables.data.augment import eval_transform
from trainables.data.folders import images_below
from trainables.data.reading import IMAGE_SUFFIXES, read_image
from trainables.inference import autocast, to_input
from trainables.models.classifiers import Classifier, build_classifier
from trainables.tasks import TASKS


@dataclass(frozen=True)
class ExportedModel:
    """A model from an export, ready to predict on `device`."""

    config: TrialConfig
    classes: tuple[str, ...]
    model: Classifier
    device: torch.device

    @torch.no_grad()
    def probabilities(self, images: Iterable[np.ndarray]) -> Tensor:
        """Images (H, W, 3) uint8 of any sizes -> (N, K) float32 on the CPU; K is 1 for binary."""
        transform = eval_transform(self.config)
        batch = torch.from_numpy(np.stack([transform(image=image)["image"] for image in images]))
        with autocast(self.config, self.device):
            logits = self.model(to_input(batch, self.model, self.config, self.device))
        return TASKS[self.config.task].probabilities(logits.float()).cpu()


def load_export(export_dir: Path, device: torch.device | None = None) -> ExportedModel:
    """Load what `visionsweep export` wrote. Raises RunError where it is no export, or its weights do not fit."""
    missing = [
        name for name in ("config.yaml", "model.safetensors", "classes.txt") if not (export_dir / name).is_file()
    ]
    if missing:
        raise RunError(
            f"{export_dir}: is not an export (it has no {missing[0]}). `visionsweep export RUN --out DIR` writes one."
        )
    config = load_config(export_dir / "config.yaml")
    # One class a line, and a line ends at "\n" alone: splitlines() would cut a name at a form feed.
    text = (export_dir / "classes.txt").read_bytes().decode("utf-8", "surrogateescape")
    classes = tuple(text.removesuffix("\n").split("\n"))
    device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    # Every weight comes from the file: nothing is fetched, whatever the training started from.
    from_scratch = config.model.model_copy(update={"weights": "none"})
    model = build_classifier(from_scratch, TASKS[config.task].num_outputs(len(classes)), config.image_size)
    try:
        model.load_state_dict(load_file(export_dir / "model.safetensors"))
    except Exception as error:
        first = str(error).splitlines()[0]
        raise RunError(
            f"{export_dir}/model.safetensors: does not fit config.yaml ({first}). Export the trial anew."
        ) from None
    return ExportedModel(config, classes, model.to(device).eval(), device)


def predict_images(export_dir: Path, images: list[Path], batch_size: int = 32) -> list[dict[str, Any]]:
    """One row per image: path, and for multilabel `labels`, else `label`; `probabilities` by class."""
    exported = load_export(export_dir)
    paths = list(_expand(images))
    rows = []
    for start in range(0, len(paths), batch_size):
        chunk = paths[start : start + batch_size]
        for path, probabilities in zip(
            chunk, exported.probabilities([read_image(path) for path in chunk]), strict=True
        ):
            rows.append({"path": str(path), **_decide(exported, probabilities)})
    return rows


def _decide(exported: ExportedModel, probabilities: Tensor) -> dict[str, Any]:
    """The decision in the task's own form, with every class's probability."""
    values = [float(value) for value in probabilities]
    classes, threshold = exported.classes, exported.config.threshold
    if exported.config.task == "binary":
        values = [1 - values[0], values[0]]
        label: dict[str, Any] = {"label": classes[int(values[1] > threshold)]}
    elif exported.config.task == "multiclass":
        label = {"label": classes[int(np.argmax(values))]}
    else:
        label = {"labels": [name for name, value in zip(classes, values, strict=True) if value > threshold]}
    return {**label, "probabilities": {name: round(value, 6) for name, value in zip(classes, values, strict=True)}}


def _expand(images: list[Path]) -> Iterator[Path]:
    for path in images:
        if path.is_dir():
            found = images_below(path, path)
            if not found:
                raise DataError(f"{path}: has no images ({', '.join(IMAGE_SUFFIXES)}). Name another folder or files.")
            yield from (path / name for name in found)
        elif path.is_file():
            yield path
        else:
            raise DataError(f"{path}: no such image. Name image files or folders of them.")
