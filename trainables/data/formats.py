"""Load a data set and its pixels from what the user named.

    a folder            folders.py            DIR/class/*.jpg, or DIR/train/class and DIR/val/class
    a folder of masks   mask_folders.py       DIR/images and DIR/masks, or laid out as CamVid or Pascal VOC
    a table             csv_table.py          file.csv, or a folder that holds labels.csv
    a tool's files      tools/find.py         COCO, labelme, YOLO, CVAT and others: a folder, or one file
    torchvision:NAME    torchvision_sets.py   downloaded
    s3://BUCKET/FOLDER  remote.py             any of the folders and tables, brought to this machine
    digits              digits.py             real digits that ship with scikit-learn. Also :binary and so on

A folder that is called 'digits' is './digits'.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from trainables.data.bands import BandReader
from trainables.data.cache import CachedImages, DecodedImages, Images, keep_views, open_images
from trainables.data.cache_build import Source
from trainables.data.dataset import Dataset
from trainables.data.folds import pooled, with_folds
from trainables.data.judged_part import with_judged_part
from trainables.data.mask_classes import void_notes
from trainables.data.near import named, near_sets
from trainables.data.on_demand import OnDemandImages, is_left, on_demand_images
from trainables.data.read_as import ReadAs
from trainables.data.reading import read_image
from trainables.data.remote import bring_again
from trainables.data.scan import Scan
from trainables.data.scanned import scan_data, scanned
from trainables.data.split import split_data
from trainables.data.tools.shapes import DrawnMasks
from trainables.data.view import View
from visionsweep.core.errors import DataError
from visionsweep.core.words import counted, quoted

log = logging.getLogger(__name__)

__all__ = ["load_dataset", "load_described", "read_image", "reopen_images", "scan_data"]


def load_dataset(
    spec: str,
    *,
    task: str | None = None,
    seed: int = 0,
    val_fraction: float = 0.2,
    on_bad_image: str = "error",
    layout: str | None = None,
    mask_values: str | None = None,
    label_separator: str | None = None,
    for_training: bool = True,
    val_images: int | None = None,
    on_demand: bool = False,
    group: str | None = None,
    test: str | None = None,
    channels: str | None = None,
    alike: Sequence[Sequence[str]] | None = None,
    folds: int | None = None,
    decode_within_s: float | None = None,
    short_side_px: int,
    cache_dir: Path | None,
) -> tuple[Dataset, Images]:
    """Load the data set that `spec` names, and its images with their shorter side at most `short_side_px`.

        task             None takes the natural one: binary for two classes, multiclass for more, multilabel where an
                         image can have several labels, segmentation where there are masks and no labels
        seed             of the split. It and `val_fraction` matter only where the data gives no val
        val_fraction     share of each class that is split off
        on_bad_image, layout, mask_values, label_separator, for_training, val_images, on_demand, group, test, channels,
        alike            see `ReadAs`
        folds            likewise, in place of `val_fraction`
        decode_within_s  labelled images that would take longer to decode are decoded on demand too
        cache_dir        None decodes at each access

    Raises DataError for everything that is wrong with the data, before any time is spent on training.
    """
    # Scan names and labels first. No image is decoded yet, so most errors come early.
    read_as = ReadAs(
        on_bad_image, layout, mask_values, label_separator, for_training, val_images, on_demand,
        group=group, test=test, channels=channels, alike=alike, folds=folds,
    )  # fmt: skip
    scan, copy = scanned(spec, task, read_as, cache_dir)
    folds = folds if for_training else None
    if folds is not None:
        scan = pooled(scan, folds)
        val_fraction = (1 - (read_as.test_fraction or 0)) / folds
    resolved_task = scan.task(task, for_training=for_training)
    fingerprint = scan.fingerprint()
    # Decode all images, which finds the unreadable ones, unless the set is too large.
    source = Source(scan.names, scan.reader, scan.mask_reader)
    images: CachedImages | DecodedImages | OnDemandImages
    if is_left(source, fingerprint, short_side_px, cache_dir, always=on_demand, within_s=decode_within_s):
        images = on_demand_images(source, fingerprint, short_side_px, cache_dir, on_bad_image)
    else:
        images = open_images(scan.names, scan.reader, fingerprint, short_side_px, cache_dir, scan.mask_reader)
    if folds is not None and (val_images is not None or isinstance(images, OnDemandImages)):
        raise DataError(
            f"--folds {folds} judges every image of the data, and there are too many of them to decode first. "
            "Leave out --folds: a validation split of so many images tells models apart."
        )
    if images.bad and on_bad_image == "error":
        raise DataError(_bad_image(spec, images.bad, is_drawn=isinstance(scan.mask_reader, DrawnMasks)))
    # Split by the labels, or by the classes that the decoded masks show.
    if images.pixel_counts is not None:
        scan = replace(scan, targets=np.array(images.pixel_counts[:, : len(scan.classes)]))  # (N, C) int64
    looked_at = for_training and not isinstance(images, OnDemandImages)
    files = scan.reader.as_rgb if isinstance(scan.reader, BandReader) else scan.reader
    near = near_sets(scan.names, files, fingerprint, cache_dir, alike) if looked_at else None
    split = split_data(
        _by_presence(scan),
        list(images.bad),
        seed,
        val_fraction,
        test_fraction=read_as.test_fraction if for_training else None,
        near=near,
        for_training=for_training,
    )
    why_bad = "unreadable, or with a mask that cannot be used" if scan.pixels else "unreadable"
    skipped = [scan.names[index] for index in images.bad]
    dataset = Dataset(
        spec=spec,
        task=resolved_task,
        classes=scan.classes,
        names=scan.names,
        targets=scan.targets,
        split=split.of,
        reader=scan.reader,
        fingerprint=fingerprint,
        split_origin=split.origin,
        notes=(
            *scan.notes,
            *void_notes(scan.mask_reader, images.pixel_counts),
            *([f"{counted(len(skipped), 'image')} skipped as {why_bad}: {quoted(skipped)}."] if skipped else []),
            *split.notes,
        ),
        mask_reader=scan.mask_reader,
        copy=copy,
        groups=split.groups,
        alike=named(scan.names, near),
        group=group or "",
        grouping=split.grouping,
        kept_back=split.kept_back,
        on_demand=images.on_bad if isinstance(images, OnDemandImages) else None,
    )
    if folds is not None:
        return with_folds(dataset, folds, seed), images
    settled = val_images is not None or on_demand  # fixed in a resumed run: else the search's budget decides
    return (with_judged_part(dataset, val_images, seed) if settled else dataset), images


def load_described(
    described: Mapping[str, Any],
    spec: str,
    *,
    read_as: ReadAs,
    short_side_px: int,
    cache_dir: Path | None,
    fetch: bool = True,
) -> tuple[Dataset, Images]:
    """Load the validation and test images of the data set that `Dataset.describe` recorded, now at `spec`.

    Each image is decoded at each access. All others have the split ''. fetch: see `scan_data`. Whether the data is
    still the same is for the caller to ask (`require_same`).
    """
    task = described.get("task")  # runs of older versions describe less
    scan, copy = scanned(spec, task, read_as, cache_dir, fetch, grouped=False)
    split_of = {name: split for split in ("val", "test") for name in described.get(split, ())}
    dataset = Dataset(
        spec=spec,
        task=task or scan.task(None),
        classes=scan.classes,
        names=scan.names,
        targets=scan.targets,
        split=np.array([split_of.get(name, "") for name in scan.names]),
        reader=scan.reader,
        fingerprint=scan.fingerprint(),
        split_origin=described.get("split_origin", ""),
        mask_reader=scan.mask_reader,
        copy=copy,
    )
    return dataset, DecodedImages(Source(scan.names, scan.reader, scan.mask_reader), View(short_side_px), {})


def reopen_images(dataset: Dataset, short_side_px: int, cache_dir: Path | None, views: Sequence[View] = ()) -> Images:
    """Open the images of a data set that came from another process, perhaps of another machine.

    `views`: the sizes at which the validation images will be judged, as far as they are known.

    The first process on a machine builds the cache there, and the others wait for it and map it. Remote data is
    downloaded first. Without room for a cache, images are decoded at every access: a full disk must not fail all trials
    of a machine.
    """
    if dataset.copy is not None:
        bring_again(dataset.copy)
    source = Source(dataset.names, dataset.reader, dataset.mask_reader)
    if dataset.on_demand is not None:
        return on_demand_images(source, dataset.fingerprint, short_side_px, cache_dir, dataset.on_demand)
    if cache_dir is not None:
        try:
            images = open_images(
                dataset.names, dataset.reader, dataset.fingerprint, short_side_px, cache_dir, dataset.mask_reader
            )
            keep_views(images, views, dataset.indices("val"))
            return images
        except DataError as error:
            log.warning("%s Here every image is decoded every time.", error)
    # What is unreadable was found when the data was loaded: no second pass over everything.
    bad = {
        int(i): f"image '{dataset.names[i]}' was skipped when the data was loaded" for i in dataset.indices("skipped")
    }
    return DecodedImages(source, View(short_side_px), bad)


def _by_presence(scan: Scan) -> Scan:
    """Return the scan with the targets that stratify a split: the labels, or the classes that each mask shows."""
    return replace(scan, targets=(scan.targets > 0).astype(np.uint8)) if scan.pixels else scan


def _bad_image(spec: str, bad: Mapping[int, str], *, is_drawn: bool) -> str:
    first, *rest = bad.values()
    more = f" ({len(rest)} more like it)" if rest else ""
    if first.startswith("mask "):
        what = "it" if is_drawn else "it, or classes.txt or palette.txt"
        move = f"Correct {what}, or pass --on-bad-image skip to leave out such images."
        return f"{spec}: {first}{more}. {move}"
    return f"{spec}: {first}{more}. Replace or remove it, or pass --on-bad-image skip to leave out what is unreadable."
