"""Predictions of an exported model for new images: classes or masks."""

from __future__ import annotations

import glob
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from torch import Tensor

from analysis.models.annotations import AnnotationWriter
from analysis.models.masks import MaskWriter
from analysis.models.predictor import Predictor, Seen, load_export
from trainables.data.bands import Kind, read_bands
from trainables.data.endings import is_left_out, left_out_notes
from trainables.data.reading import IMAGE_SUFFIXES, read_image
from trainables.data.there import no_such_image
from trainables.data.view import Pixels, check_aspect
from trainables.data.walk import Walk
from visionsweep.core.errors import DataError, RunError
from visionsweep.core.tasks import task_kind
from visionsweep.core.words import counted

MOST_PIXELS = 2**24  # of images in full size that wait for their masks at once
TABLES = (".csv", ".json")  # endings of a file of predictions


def predict_images(
    export_dir: Path,
    images: Sequence[Path],
    out: Path | None = None,
    batch_size: int = 32,
    *,
    flips: bool = False,
    annotations: str | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
    note: Callable[[str], None] = lambda sentence: None,
) -> list[dict[str, Any]]:
    """Return one row for each image.

    A row has `path`, `probabilities` by class and `label`, or `labels` for multilabel tasks. For segmentation it has
    `path`, the files of its mask and the `shares` of its pixels. An unreadable image has `path` and `error`.
    With `annotations`, `note` comes last and says where they are.

        export_dir  the export
        images      files, folders and patterns
        out         the folder of the masks; for a table's file, a folder beside it
        batch_size  images at a time
        flips       average the predictions of each image and its mirror image
        annotations coco, labelme or cvat: write them for that tool too, into the folder `out`
        progress    called after every batch with the number of images done, and of all
        note        called with what folders and patterns leave out
    """
    exported = load_export(export_dir, flips=flips)
    paths = list(expand(images, note))
    segments = task_kind(exported.config.task).pixels
    if out is not None and out.suffix.lower() in TABLES:
        out = out.with_name(f"{out.stem}-{'masks' if segments else 'annotations'}")
    elif not segments and out is not None and annotations is None:
        raise RunError(
            f"--out {out}: a folder is for masks, and this model is for {exported.config.task}. "
            f"Name a table, such as {out}.csv, or leave it out."
        )
    out = out or Path("predictions")
    tool = None if annotations is None else AnnotationWriter(annotations, out, exported.classes, segments=segments)
    writer = MaskWriter(out, exported.classes) if segments else None
    rows: list[dict[str, Any]] = []
    keep_mask = None if writer is None else _kept_by(writer, tool)
    keep_labels = None if tool is None else tool.add_labels
    given = [(path, None) for path in paths]
    for of_chunk in rows_of(exported, given, keep_mask, batch_size, keep_labels):
        rows += of_chunk
        progress(len(rows), len(paths))
    if tool is not None:
        note(f"Annotations of {counted(len(tool.images), 'image')} for {annotations}: {tool.write()}")
    return rows


# A path, and the pixels (H, W, 3) uint8 of an image that is no file.
Given: TypeAlias = tuple[Path, Pixels | None]
# Keeps the mask (H, W) of an image: from path, pixels and mask to what its row has of it.
KeepMask: TypeAlias = Callable[[Path, Pixels, Pixels], dict[str, Any]]


# Keeps the classes of an image: path, (height, width) and names.
KeepLabels: TypeAlias = Callable[[Path, tuple[int, int], list[Any]], object]


def rows_of(
    exported: Predictor,
    images: Sequence[Given],
    keep_mask: KeepMask | None,
    batch_size: int = 32,
    keep_labels: KeepLabels | None = None,
) -> Iterator[list[dict[str, Any]]]:
    """Yield the rows of `predict_images`, those of one batch at a time.

    keep_mask: for segmentation alone. keep_labels: for the other tasks, None keeps nothing beside the rows.
    """
    read = (_read(exported, path, pixels, whole=keep_mask is not None) for path, pixels in images)
    done = 0
    for chunk in _chunks(read, batch_size):
        good = [one for one in chunk if isinstance(one, Read)]
        said = _classify(exported, good, keep_labels) if keep_mask is None else _segment(exported, good, keep_mask)
        paths = [path for path, _ in images[done : done + len(chunk)]]
        done += len(chunk)
        yield [
            {"path": str(path), **({"error": str(one)} if isinstance(one, DataError) else next(said))}
            for path, one in zip(paths, chunk, strict=True)
        ]


@dataclass(frozen=True, eq=False)
class Read:
    """An image as the networks see it, and for segmentation also in full size, which its overlay needs."""

    path: Path
    seen: Seen
    whole: Pixels | None
    size: tuple[int, int] = (0, 0)  # (height, width)


def _read(exported: Predictor, path: Path, pixels: Pixels | None, whole: bool) -> Read | DataError:
    """Return the image, or the error: one broken file must not cost the predictions of the others."""
    try:
        image = _pixels_of(exported, path) if pixels is None else pixels
        if whole:
            check_aspect(image.shape, str(path))
    except DataError as error:
        return error
    return Read(path, exported.seen(image), image if whole else None, (image.shape[0], image.shape[1]))


def _pixels_of(exported: Predictor, path: Path) -> Pixels:
    bands = exported.config.model.bands
    return read_image(path) if bands is None else read_bands(path, Kind(bands.channels, bands.dtype))


def _chunks(images: Iterator[Read | DataError], size: int) -> Iterator[list[Read | DataError]]:
    """Yield images to predict together: `size` of them, or as many as hold MOST_PIXELS in full size."""
    chunk = list[Read | DataError]()
    pixels = 0
    for one in images:
        chunk.append(one)
        if isinstance(one, Read) and one.whole is not None:
            pixels += one.whole.shape[0] * one.whole.shape[1]
        if len(chunk) == size or pixels >= MOST_PIXELS:
            yield chunk
            chunk = []
            pixels = 0
    if chunk:
        yield chunk


def _classify(exported: Predictor, images: Sequence[Read], keep_labels: KeepLabels | None) -> Iterator[dict[str, Any]]:
    if images:
        each = exported.probabilities_of([one.seen for one in images])
        for one, probabilities in zip(images, each, strict=True):
            decided = _decide(exported, probabilities)
            if keep_labels is not None:
                keep_labels(one.path, one.size, decided.get("labels", [decided.get("label")]))
            yield decided


def _kept_by(writer: MaskWriter, tool: AnnotationWriter | None) -> KeepMask:
    """Return what writes a mask as a file, and for the annotation tool."""

    def keep(path: Path, image: Pixels, mask: Pixels) -> dict[str, Any]:
        if tool is not None:
            tool.add_mask(path, mask)
        return writer.write(path, image, mask)

    return keep


def _segment(exported: Predictor, images: Sequence[Read], keep_mask: KeepMask) -> Iterator[dict[str, Any]]:
    whole = [(one.path, one.whole) for one in images if one.whole is not None]
    masks = exported.masks_of([one.seen for one in images], [image.shape[:2] for _, image in whole])
    for (path, image), mask in zip(whole, masks, strict=True):
        counts = np.bincount(mask.reshape(-1), minlength=len(exported.classes)) / mask.size
        shares = {name: round(float(share), 6) for name, share in zip(exported.classes, counts, strict=True) if share}
        yield {**keep_mask(path, image, mask), "shares": shares}


def _decide(exported: Predictor, probabilities: Tensor) -> dict[str, Any]:
    """Return the decision in the task's own form, with every class's probability."""
    values = [float(value) for value in probabilities]
    classes = exported.classes
    threshold = exported.config.threshold
    if task_kind(exported.config.task).one_output:
        values = [1 - values[0], values[0]]
        label: dict[str, Any] = {"label": classes[int(values[1] > threshold)]}
    elif task_kind(exported.config.task).softmax:
        label = {"label": classes[int(np.argmax(values))]}
    else:
        label = {"labels": [name for name, value in zip(classes, values, strict=True) if value > threshold]}
    return {**label, "probabilities": {name: round(value, 6) for name, value in zip(classes, values, strict=True)}}


def expand(images: Sequence[Path], note: Callable[[str], None]) -> Iterator[Path]:
    """Yield the image files of files, folders and patterns. Raises DataError where there is none."""
    for path in images:
        if path.is_dir():
            walk = Walk(path, [path])
            found = [path / name for name in walk.files(path, IMAGE_SUFFIXES)]
            notes = walk.notes()
            nothing = f"{path}: has no images ({', '.join(IMAGE_SUFFIXES)})."
            move = "Name another folder or files."
        elif path.exists():
            yield path
            continue
        elif glob.has_magic(str(path)):  # the shell does not expand a pattern that is quoted, or too long
            matched = [Path(name) for name in sorted(glob.glob(str(path.expanduser()), recursive=True))]
            found = [name for name in matched if name.suffix.lower() in IMAGE_SUFFIXES]
            endings = (name.suffix.lower() for name in matched)
            notes = left_out_notes(Counter(ending for ending in endings if is_left_out(ending)))
            nothing = f"{path}: no image matches this pattern."
            move = "Name image files or folders of them."
        else:
            raise no_such_image(str(path))
        if not found:
            raise DataError(" ".join([nothing, *(notes or [move])]))
        for sentence in notes:
            note(f"{path}: {sentence}")
        yield from found
