"""The features that a cache holds already, found by their descriptions alone."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

from trainables.config.trial import TrialConfig
from trainables.data.cache import Place
from trainables.data.dataset import Dataset
from trainables.data.view import View
from trainables.features.images_key import KEY_VERSION, images_key
from visionsweep.core.errors import RunError
from visionsweep.core.files import parse_json, read_object

# Backbone, image size, how an image is fitted to it, whether it is mirrored.
KeptFeatures: TypeAlias = tuple[str, int, str, bool]

EVAL_CROP: float = TrialConfig.model_fields["eval_crop"].default


def kept_before(
    cache_dir: Path | None,
    dataset: Dataset,
    before_s: float,
    *,
    eval_crop: float = EVAL_CROP,
    threads: int | None = None,
) -> frozenset[KeptFeatures]:
    """Return the features of all training images that were kept before a time, and of all validation images too.

    Mirrored ones are of training images alone. No row of features is read.

        cache_dir  None where nothing is kept
        before_s   seconds of time.time()
        eval_crop  of the trials that would use them
        threads    of such a trial, on whose number features of a CPU depend; None: any number
    """
    if cache_dir is None:
        return frozenset()
    store = Place(cache_dir.absolute(), dataset.fingerprint).folder("features")
    found: dict[str, set[KeptFeatures]] = {"train": set(), "val": set()}
    of_split = {
        images_key(dataset.indices(split), {})["images"]: split for split in found if len(dataset.indices(split))
    }
    for path in store.glob("*/meta.json"):
        with contextlib.suppress(OSError, RunError, ValueError, KeyError, TypeError):  # damaged, or deleted meanwhile
            key = parse_json(read_object(path)["key"])
            split = of_split.get(key["images"])
            usable = threads is None or key["machine"].get("threads", threads) == threads
            name = _name(key["backbone"], key["pixels"], eval_crop)
            early = path.stat().st_mtime < before_s
            if split is not None and name is not None and usable and early and key["version"] == KEY_VERSION:
                found[split].add(name)
    judged = "val" in of_split.values()
    return frozenset(one for one in found["train"] if one[3] or not judged or one in found["val"])


def _name(backbone: str, pixels: Mapping[str, Any], eval_crop: float) -> KeptFeatures | None:
    """Return what a key's pixels show, None for drawn pictures and for other crops."""
    if "mirrored" not in pixels:
        return None
    view = View(pixels["side"], pixels["squash"], pixels["crop"])
    fit = "squash" if view.squash else "crop"
    size = view.side if view.squash else view.crop
    if size is None or view != View.of_classifier(size, fit, eval_crop):
        return None
    return backbone, size, fit, pixels["mirrored"]
