"""A page of one's own photos as training will see them, before anything is trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from numpy.typing import NDArray

from analysis.figures.batches import Augmented, augmented, merge_of
from analysis.figures.overlays import thumbnail
from analysis.models.masks import class_colours
from trainables.config.trial import TrialConfig
from trainables.data.bands import shown
from trainables.data.dataset import VOID, Dataset
from trainables.data.merge import Merge
from visionsweep.core.errors import RunError
from visionsweep.core.tasks import task_kind
from visionsweep.core.text import in_words
from visionsweep.core.writing import write_whole

TEMPLATES = Path(__file__).parent / "template"
NUM_SHOWN = 12
SIZE_PX = 160
LEAST_SHARE = 0.01  # of a mixture or of a mask's pixels, to be named
WHITE = (255, 255, 255)  # void pixels: no class has this colour
MOST_NAMED = 4


@dataclass(frozen=True)
class Photo:
    """One photo of a batch: data: addresses, and the words under them. trained, masked: '' where there is none."""

    name: str
    label: str
    judged: str
    trained: str
    masked: str


@dataclass(frozen=True)
class Batch:
    """A batch of one configuration. augmentation: in words. colours: (code, class) of the masks."""

    words: str
    augmentation: str
    image_size: int
    photos: list[Photo]
    colours: list[tuple[str, str]]


def write_look(configs: Sequence[TrialConfig], dataset: Dataset, title: str, summary: str, out: Path) -> Path:
    """Write the page, with one batch for each configuration, and return its path.

    title: what is looked at. summary: a sentence on the data. Raises RunError if the page cannot be written, or no
    training photo can be read.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    text = environment.get_template("look.html").render(
        title=title,
        summary=summary,
        batches=[_batch(config, dataset) for config in configs],
        css=(TEMPLATES / "look.css").read_text(encoding="utf-8"),
    )
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        # File names may hold bytes that are no valid text.
        write_whole(out, lambda path: path.write_text(text, encoding="utf-8", errors="replace"))
    except OSError as error:
        raise RunError(f"{out}: cannot be written ({error.strerror or error}). Choose another --out.") from None
    return out


def augmentation_words(config: TrialConfig) -> str:
    """Return what is drawn for each photo: `flip (p 0.5), rotate (p 0.5, degrees 10)`."""
    parts = config.augment.model_dump(exclude_none=True)
    listed = [name + _settings(values) for name, values in parts.items()]
    return ", ".join(listed).replace("_", " ") or "nothing but a crop of the right size"


def _settings(values: dict[str, Any]) -> str:
    """Return a part's settings in brackets, '' where it has none. A policy or a mixture is named by its own name."""
    own = f" {values['name']}" if "name" in values else ""
    told = [
        f"{key} {value:.3g}" if isinstance(value, float) else f"{key} {value}"
        for key, value in values.items()
        if key != "name"
    ]
    return f"{own} ({', '.join(told)})" if told else own


def _batch(config: TrialConfig, dataset: Dataset) -> Batch:
    merge = merge_of(config, dataset.classes)
    training = dataset.indices("train").tolist()
    found = augmented(config, dataset, training, merge, NUM_SHOWN)
    classes = dataset.classes if merge is None else merge.classes
    palette = np.full((256, 3), WHITE, np.uint8)
    palette[: len(classes)] = class_colours(len(classes))
    photos = [_photo(one, found, dataset, merge, palette) for one in found]
    codes = [f"#{red:02x}{green:02x}{blue:02x}" for red, green, blue in palette[: len(classes)].tolist()]
    return Batch(
        words=in_words(config.model_dump(mode="json")),
        augmentation="" if found[0].trained is None else augmentation_words(config),
        image_size=config.image_size,
        photos=photos,
        colours=[] if merge is None else list(zip(codes, classes, strict=True)),
    )


def _photo(
    one: Augmented, batch: Sequence[Augmented], dataset: Dataset, merge: Merge | None, palette: NDArray[np.uint8]
) -> Photo:
    masked = ""
    if one.mask is not None and one.trained is not None and merge is not None:
        masked = thumbnail((0.4 * shown(one.trained) + 0.6 * palette[one.mask]).round().astype(np.uint8), SIZE_PX)
        label = _of_pixels(one.mask, merge.classes)
    else:
        label = _of_mixture(one, batch, dataset)
    return Photo(
        name=str(dataset.names[one.position]),
        label=label,
        judged=thumbnail(one.judged, SIZE_PX),
        trained="" if one.trained is None else thumbnail(one.trained, SIZE_PX),
        masked=masked,
    )


def _of_mixture(one: Augmented, batch: Sequence[Augmented], dataset: Dataset) -> str:
    """Return the label that the photo is trained with: `ants`, or `ants 70%, bees 30%` where it is mixed."""
    shares: dict[str, float] = {}
    for share, other in zip(one.mixture.tolist(), batch, strict=True):
        for name in _labels(dataset, other.position):
            shares[name] = shares.get(name, 0.0) + share
    named = {name: share for name, share in shares.items() if share >= LEAST_SHARE}
    whole = all(share > 1 - LEAST_SHARE for share in named.values())
    return ", ".join(name if whole else f"{name} {share:.0%}" for name, share in named.items()) or "none"


def _labels(dataset: Dataset, position: int) -> list[str]:
    target = dataset.targets[position]
    chosen = np.flatnonzero(target).tolist() if task_kind(dataset.task).tags else [int(target)]
    return [dataset.classes[number] for number in chosen]


def _of_pixels(mask: NDArray[np.uint8], classes: Sequence[str]) -> str:
    """Return the classes with the most pixels, and the share of what is not judged."""
    counts = np.bincount(mask.ravel(), minlength=256)
    names = {**dict(enumerate(classes)), VOID: "void"}
    common = np.argsort(-counts, kind="stable")[:MOST_NAMED].tolist()
    return ", ".join(f"{names[i]} {counts[i] / mask.size:.0%}" for i in common if counts[i] >= LEAST_SHARE * mask.size)
