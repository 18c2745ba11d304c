"""Classes of new images, or their masks, from an exported model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from analysis.export import weight_files
from analysis.masks import MaskWriter
from search_spaces.errors import DataError, RunError
from trainables.config import TrialConfig
from trainables.config_io import load_config
from trainables.data.augment import eval_transform
from trainables.data.folders import images_below
from trainables.data.reading import IMAGE_SUFFIXES, read_image
from trainables.ensemble import load_models
from trainables.evaluate import decide_at_size
from trainables.inference import predict_batch
from trainables.models.build import Model
from trainables.tasks import TASKS

if TYPE_CHECKING:
    from analysis.ensemble_export import ExportedEnsemble


@dataclass(frozen=True)
class ExportedModel:
    """The models of an export, ready to predict on `device`; several are an ensemble of one training's epochs."""

    config: TrialConfig
    classes: tuple[str, ...]
    models: list[Model]
    device: torch.device

    def probabilities(self, images: Iterable[np.ndarray]) -> Tensor:
        """Images (H, W, 3) uint8 of any sizes -> (N, K) float32 on the CPU; K is 1 for binary."""
        transform = eval_transform(self.config)
        batch = torch.from_numpy(np.stack([transform(image=image)["image"] for image in images]))
        logits = predict_batch(self.config, self.models, batch, self.device)
        return TASKS[self.config.task].probabilities(logits).cpu()

    def mask(self, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Image (H, W, 3) uint8 -> (H, W) uint8 class numbers, of a segmenter."""
        small = eval_transform(self.config)(image=image)["image"]
        logits = predict_batch(self.config, self.models, torch.from_numpy(small[None].copy()), self.device)
        mask: npt.NDArray[np.uint8] = decide_at_size(logits, image.shape[:2]).cpu().numpy()
        return mask


def load_export(export_dir: Path, device: torch.device | None = None) -> ExportedModel | ExportedEnsemble:
    """Load what `visionsweep export` wrote. Raises RunError where it is no export, or its weights do not fit."""
    weights, several = weight_files(export_dir), (export_dir / "ensemble.json").is_file()
    missing = [name for name in ("config.yaml", "classes.txt") if not (export_dir / name).is_file()]
    missing += [] if weights or several else ["model.safetensors"]
    if missing:
        raise RunError(
            f"{export_dir}: is not an export (it has no {missing[0]}). `visionsweep export RUN --out DIR` writes one."
        )
    config = load_config(export_dir / "config.yaml")
    # One class a line, and a line ends at "\n" alone: splitlines() would cut a name at a form feed.
    text = (export_dir / "classes.txt").read_bytes().decode("utf-8", "surrogateescape")
    classes = tuple(text.removesuffix("\n").split("\n"))
    device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if several:
        from analysis.ensemble_export import load_ensemble  # which is made of what stands here

        return load_ensemble(export_dir, classes, device)
    return ExportedModel(config, classes, load_models(config, len(classes), weights, device), device)


def predict_images(
    export_dir: Path, images: list[Path], out: Path | None = None, batch_size: int = 32
) -> list[dict[str, Any]]:
    """One row per image: path, and for multilabel `labels`, for segmentation the files of its mask below `out` and
    the `shares` of its pixels, else `label`; `probabilities` by class. Where it cannot be read: path and `error`."""
    exported = load_export(export_dir)
    paths = list(_expand(images))
    if exported.config.task == "segmentation":
        return _segment(exported, paths, out or Path("predictions"))
    if out is not None:
        raise RunError(f"--out {out}: is for masks, and this model is for {exported.config.task}. Leave it out.")
    rows: list[dict[str, Any]] = []
    for start in range(0, len(paths), batch_size):
        chunk = paths[start : start + batch_size]
        read = [_read(path) for path in chunk]
        images_read = [image for image in read if not isinstance(image, DataError)]
        decided = iter(exported.probabilities(images_read) if images_read else ())
        for path, image in zip(chunk, read, strict=True):
            if isinstance(image, DataError):
                rows.append({"path": str(path), "error": str(image)})
            else:
                rows.append({"path": str(path), **_decide(exported, next(decided))})
    return rows


def _read(path: Path) -> npt.NDArray[np.uint8] | DataError:
    """The image, or why there is none: one broken file must not cost the answers for the others."""
    try:
        return read_image(path)
    except DataError as error:
        return error


def _segment(exported: ExportedModel | ExportedEnsemble, paths: list[Path], out: Path) -> list[dict[str, Any]]:
    writer = MaskWriter(out, exported.classes)
    rows: list[dict[str, Any]] = []
    for path in paths:
        image = _read(path)
        if isinstance(image, DataError):
            rows.append({"path": str(path), "error": str(image)})
            continue
        mask = exported.mask(image)
        counts = np.bincount(mask.reshape(-1), minlength=len(exported.classes)) / mask.size
        shares = {name: round(float(share), 6) for name, share in zip(exported.classes, counts, strict=True) if share}
        rows.append({"path": str(path), **writer.write(path, image, mask), "shares": shares})
    return rows


def _decide(exported: ExportedModel | ExportedEnsemble, probabilities: Tensor) -> dict[str, Any]:
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
