"""Computation that a training needs, known before the first trial: passes of images through a backbone.

Fine-tuning a large backbone at 224 px takes many times as long as a probe of a small one at 128 px. That is known
before either was tried. A ridge regression over a few trials of another kind would not guess it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np

from launch.samplers.encoding import Rows
from launch.samplers.history import Vector
from launch.samplers.lengths import Lengths
from search_spaces.grammar import REGIME, Space
from search_spaces.regimes import by_regime

# Cost of a backward pass in forward passes, by how much of the backbone is frozen. That of a whole backbone costs two,
# and the early stages, which have the largest maps, cost most of it.
BACKWARD = {"none": 2.0, "stage1": 1.6, "stage2": 1.2, "stage3": 0.8, "all": 0.0}

# EfficientNet-Lite0 takes 0.77 giga-FLOPs an image, and a core of a server computes about 50 images a second.
GFLOPS_PER_S_OF_A_CORE = 40.0

SIDE_PX = 224  # of the images for which a backbone's FLOPs are counted
Kept: TypeAlias = tuple[str, Any, Any, bool]  # features: backbone, image size, fit, whether mirrored


@dataclass(frozen=True)
class Known:
    """What is known of a search before its first trial.

    num_train, num_val  images
    gflops              giga-FLOPs of a forward pass of one image of 224 px through a backbone, by its name
    kept                features that lay in the cache before the search's first trial
    gflops_per_s        a trial's usual speed, while no trial has shown it
    """

    num_train: int
    num_val: int
    gflops: Callable[[str], float]
    kept: Collection[Kept] = frozenset()
    gflops_per_s: float = GFLOPS_PER_S_OF_A_CORE


@dataclass
class Work:
    """Giga-FLOPs of an epoch, comparable within a space.

    space    the search space
    lengths  of the space
    known    images and backbones
    """

    space: Space
    lengths: Lengths
    known: Known
    _seen: dict[tuple[int, bytes], dict[str, Any]] = field(default_factory=dict)

    def of(self, rows: Rows, kept: Collection[Kept] = ()) -> Vector:
        """Return the giga-FLOPs of an epoch (n,) of rows (n, num_parameters). kept: features that are cached."""
        found = np.zeros(len(rows))
        for number, asked in enumerate(self._asked(rows)):
            size = (asked["image_size"] or SIDE_PX) / SIDE_PX
            for part in (asked["backbone"] or "").split("+"):
                passes = self._passes(part, asked, kept)
                found[number] += passes * self.known.gflops(part) * size**2
        return found

    def keeps(self, row: Rows) -> set[Kept]:
        """Return the features that a training (num_parameters,) caches for others."""
        (asked,) = self._asked(row[None])
        if asked["freeze"] != "all":  # a first head is solved on features of the training images alone
            return set()
        mirrored = (False, True)[: min(asked["views"] or 1, 2)]
        return {_name(part, asked, other) for part in (asked["backbone"] or "").split("+") for other in mirrored}

    def _passes(self, part: str, asked: Mapping[str, Any], kept: Collection[Kept]) -> float:
        """Return the number of passes of images in an epoch, in forward passes."""
        num_train = self.known.num_train
        most = asked["epoch_images"]
        if asked["freeze"] == "all":  # on features
            num_views = int(asked["views"] or 1)
            missing = [view for view in range(num_views) if view > 1 or _name(part, asked, view == 1) not in kept]
            learnt = min(num_train, most or num_train)
            return float(len(missing) * learnt + (self.known.num_val if 0 in missing else 0))
        seen = max(num_train * (asked["repeat"] or 1), asked["least_epoch_images"] or 0)
        seen = min(seen, most or seen)
        return float(seen * (1 + BACKWARD.get(asked["freeze"], 2.0)) + self.known.num_val)

    def _asked(self, rows: Rows) -> Iterator[dict[str, Any]]:
        """Yield the values of the relevant parameters for each row."""
        for row, regime in zip(rows, self.lengths.regime_of(rows), strict=True):
            nodes, columns = self._places[regime]
            key = regime, row[list(columns.values())].tobytes()
            if key not in self._seen:
                present = {name: column for name, column in columns.items() if not np.isnan(row[column])}
                values = {name: self.lengths.encoder.value(column, row[column]) for name, column in present.items()}
                self._seen[key] = {**nodes, **values}
            yield self._seen[key]

    @cached_property
    def _places(self) -> list[tuple[dict[str, Any], dict[str, int]]]:
        """For each regime, the constant values of its space and the columns of its open parameters."""
        found = []
        column = self.lengths.encoder.column
        for regime, whole in by_regime(self.space).items():
            nodes = {name: _node(whole, path) for name, path in PATHS.items()}
            # A parameter stands in the regime, or beside the regimes for all of them.
            places = {name: (f"{REGIME}/{regime}/{path}", path) for name, path in PATHS.items()}
            columns = {name: column[where] for name, both in places.items() for where in both if where in column}
            found.append((nodes, columns))
        return found


PATHS = {
    "backbone": "model/backbone",
    "freeze": "model/freeze",
    "image_size": "image_size",
    "fit_image": "fit_image",
    "views": "views",
    "repeat": "repeat",
    "epoch_images": "epoch_images",
    "least_epoch_images": "least_epoch_images",
}


def _node(arm: Space, path: str) -> Any:
    """Return a constant of a space, None where it leaves a choice or has none."""
    node: Any = arm
    for part in path.split("/"):
        node = node.get(part) if isinstance(node, Mapping) else None
    return node if isinstance(node, (str, int, float)) else None


def _name(part: str, asked: Mapping[str, Any], mirrored: bool) -> Kept:
    return part, asked["image_size"], asked["fit_image"] or "crop", mirrored  # crop is the schema's own choice
