"""Classes of new images, or their masks, from an exported model."""

from __future__ import annotations

import glob
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

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

MOST_WHOLE = 8  # images that wait for their masks at once, as large as the camera made them
TABLES = (".csv", ".json")  # what a file of predictions may end in

if TYPE_CHECKING:
    from analysis.ensemble_export import ExportedEnsemble


@dataclass(frozen=True)
class ExportedModel:
    """The models of an export, ready to predict on `device`; several are an ensemble of one training's epochs."""

    config: TrialConfig
    classes: tuple[str, ...]
    models: list[Model]
    device: torch.device

    flips: bool = False  # test-time augmentation: what is said is the mean of an image's and its mirror image's

    def probabilities(self, images: Iterable[np.ndarray]) -> Tensor:
        """Images (H, W, 3) uint8 of any sizes -> (N, K) float32 on the CPU; K is 1 for binary."""
        transform = eval_transform(self.config)
        batch = torch.from_numpy(np.stack([transform(image=image)["image"] for image in images]))
        return TASKS[self.config.task].probabilities(self._logits(batch)).cpu()

    def masks(self, images: Sequence[npt.NDArray[np.uint8]]) -> Iterator[npt.NDArray[np.uint8]]:
        """Images (H, W, 3) uint8 -> (H, W) uint8 class numbers of each in turn, of a segmenter.

        Neighbours that the network sees at one size go through it together.
        """
        transform = eval_transform(self.config)
        small = [transform(image=image)["image"] for image in images]
        sizes = iter(image.shape[:2] for image in images)
        for (height, width, _), group in groupby(small, key=lambda image: image.shape):
            # Whole images may be many times as large as the crops of training, which are what fits into the memory.
            most = max(1, self.config.batch_size * self.config.image_size**2 // (height * width))
            same = torch.from_numpy(np.stack(list(group)))
            for start in range(0, len(same), most):
                logits = self._logits(same[start : start + most])
                for i in range(len(logits)):
                    mask: npt.NDArray[np.uint8] = decide_at_size(logits[i : i + 1], next(sizes)).cpu().numpy()
                    yield mask

    def _logits(self, batch: Tensor) -> Tensor:
        """(B, K) or (B, C, h, w) from images (B, h, w, 3) uint8."""
        logits = predict_batch(self.config, self.models, batch, self.device)
        if not self.flips:
            return logits
        task = TASKS[self.config.task]
        mirrored = predict_batch(self.config, self.models, batch.flip(2), self.device)
        if mirrored.ndim == 4:
            mirrored = mirrored.flip(3)  # a mask's pixels go back to where they were
        return task.to_logits((task.probabilities(logits) + task.probabilities(mirrored)) / 2)


def load_export(
    export_dir: Path, device: torch.device | None = None, *, flips: bool = False
) -> ExportedModel | ExportedEnsemble:
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

        return load_ensemble(export_dir, classes, device, flips)
    return ExportedModel(config, classes, load_models(config, len(classes), weights, device), device, flips)


def predict_images(
    export_dir: Path,
    images: Sequence[Path],
    out: Path | None = None,
    batch_size: int = 32,
    *,
    flips: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[dict[str, Any]]:
    """One row per image: path, and for multilabel `labels`, for segmentation the files of its mask below `out` and
    the `shares` of its pixels, else `label`; `probabilities` by class. Where it cannot be read: path and `error`.

    images: files, folders and patterns. out: the folder of the masks; of a table's file it is one beside it. flips:
    the mean of each image's prediction and its mirror image's. progress: told after every batch how many are done, of
    how many.
    """
    exported = load_export(export_dir, flips=flips)
    paths = list(_expand(images))
    segments = exported.config.task == "segmentation"
    if out is not None and out.suffix.lower() in TABLES:
        out = out.with_name(f"{out.stem}-masks")
    elif not segments and out is not None:
        raise RunError(
            f"--out {out}: a folder is for masks, and this model is for {exported.config.task}. "
            f"Name a table, such as {out}.csv, or leave it out."
        )
    writer = MaskWriter(out or Path("predictions"), exported.classes) if segments else None
    if segments:
        batch_size = min(batch_size, MOST_WHOLE)
    rows: list[dict[str, Any]] = []
    for start in range(0, len(paths), batch_size):
        chunk = paths[start : start + batch_size]
        read = [_read(path) for path in chunk]
        good = [(path, image) for path, image in zip(chunk, read, strict=True) if not isinstance(image, DataError)]
        said = _segment(exported, good, writer) if writer else _classify(exported, good)
        for path, image in zip(chunk, read, strict=True):
            answer = {"error": str(image)} if isinstance(image, DataError) else next(said)
            rows.append({"path": str(path), **answer})
        progress(len(rows), len(paths))
    return rows


def _read(path: Path) -> npt.NDArray[np.uint8] | DataError:
    """The image, or why there is none: one broken file must not cost the answers for the others."""
    try:
        return read_image(path)
    except DataError as error:
        return error


Images = Sequence[tuple[Path, npt.NDArray[np.uint8]]]
Exported: TypeAlias = "ExportedModel | ExportedEnsemble"


def _classify(exported: Exported, images: Images) -> Iterator[dict[str, Any]]:
    if images:
        for probabilities in exported.probabilities(image for _, image in images):
            yield _decide(exported, probabilities)


def _segment(exported: Exported, images: Images, writer: MaskWriter) -> Iterator[dict[str, Any]]:
    for (path, image), mask in zip(images, exported.masks([image for _, image in images]), strict=True):
        counts = np.bincount(mask.reshape(-1), minlength=len(exported.classes)) / mask.size
        shares = {name: round(float(share), 6) for name, share in zip(exported.classes, counts, strict=True) if share}
        yield {**writer.write(path, image, mask), "shares": shares}


def _decide(exported: Exported, probabilities: Tensor) -> dict[str, Any]:
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


def _expand(images: Sequence[Path]) -> Iterator[Path]:
    for path in images:
        if path.is_dir():
            found = images_below(path, path)
            if not found:
                raise DataError(f"{path}: has no images ({', '.join(IMAGE_SUFFIXES)}). Name another folder or files.")
            yield from (path / name for name in found)
        elif path.is_file():
            yield path
        elif glob.has_magic(str(path)):  # the shell leaves a pattern as it is where it is quoted, or too long
            matched = sorted(glob.glob(str(path.expanduser()), recursive=True))
            wanted = [Path(name) for name in matched if Path(name).suffix.lower() in IMAGE_SUFFIXES]
            if not wanted:
                raise DataError(f"{path}: no image matches this pattern. Name image files or folders of them.")
            yield from wanted
        else:
            raise DataError(f"{path}: no such image. Name image files or folders of them.")
