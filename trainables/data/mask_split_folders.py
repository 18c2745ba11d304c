"""Find folders that may be the splits of masked data, wherever masks lie beside their images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from trainables.data.mask_pairs import MASK_ENDING
from trainables.data.masks import MASK_SUFFIXES, looks_like_a_mask
from trainables.data.reading import IMAGE_SUFFIXES
from trainables.data.split_names import looks_like_a_split, split_of
from trainables.data.walk import ends_in, subfolders, visible
from visionsweep.core.words import under

IMAGE_FOLDERS = ("images", "image", "imgs", "img", "img_dir")
MASK_FOLDERS = (
    "masks", "mask", "labels", "label", "annotations", "annotation", "ann_dir", "gt", "ground_truth", "groundtruth",
)  # fmt: skip
MASK_ENDINGS = ("annot", "_annot", "_masks", "_mask", "_labels", "masks")  # of train's masks, in 'trainannot'

Find = Callable[[Path], list["Part"]]


@dataclass(frozen=True)
class Part:
    """A folder that may be a split's, called `name`. `masks` is None if it has none."""

    name: str
    images: str
    masks: str | None


def beside(root: Path) -> list[Part]:
    """Find train/ + trainannot/."""
    names = folders(root)
    of_masks = {name: name + ending for name in names for ending in MASK_ENDINGS if name + ending in names}
    of_masks |= {
        name: name[:-6] + "masks" for name in names if name.lower().endswith("images") and name[:-6] + "masks" in names
    }
    of_masks = {
        name: masks for name, masks in of_masks.items()
        if masks.endswith("annot") or holds_masks(root / masks)
    }  # fmt: skip
    if not any(map(split_of, of_masks)):
        return []
    rest = [name for name in names if name not in of_masks.values()]
    return [
        Part(name, name, of_masks.get(name))
        for name in rest
        if name in of_masks or split_of(name) or looks_like_a_split(name)
    ]


def inside_pair(root: Path) -> list[Part]:
    """Find images/train/ + masks/train/."""
    pair = pair_in(root, "")
    if pair is None:
        return []
    images, masks = pair
    of_masks = {name.lower(): f"{masks}/{name}" for name in folders(root / masks)}
    return [Part(name, f"{images}/{name}", of_masks.get(name.lower())) for name in folders(root / images)]


def inside_split(root: Path) -> list[Part]:
    """Find train/images/ + train/masks/."""
    parts = []
    for name in folders(root):
        pair = pair_in(root, name)
        if pair is not None:
            parts.append(Part(name, *pair))
        elif split_of(name) or looks_like_a_split(name):
            images = next((f for f in folders(root / name) if f.lower() in IMAGE_FOLDERS), None)
            if images is not None:
                parts.append(Part(name, f"{name}/{images}", None))
    return parts


def same_folder(root: Path) -> list[Part]:
    """Find train/x.jpg + train/x_mask.png."""
    parts = []
    for name in folders(root):
        has_masks = has_masks_among(root / name)
        if has_masks or ((split_of(name) or looks_like_a_split(name)) and holds(root / name, IMAGE_SUFFIXES)):
            parts.append(Part(name, name, name if has_masks else None))
    return parts


def has_masks_among(folder: Path) -> bool:
    """Whether a folder's own files are images with x_mask.png among them."""
    ends = [Path(file).stem.lower().endswith(MASK_ENDING) for file in holds(folder, IMAGE_SUFFIXES)]
    return any(ends) and not all(ends)


def leftover(root: Path, parts: Sequence[Part], find: Find) -> tuple[list[str], list[str]]:
    """Return the folders and images beside the splits' folders that belong to no part."""
    where = Path(parts[0].images).parent.as_posix() if find is inside_pair else ""
    used = {folder for part in parts for folder in (part.images, part.masks) if folder}
    paths = {under(where, name): name for name in folders(root / where)}
    unused = [name for path, name in paths.items() if not any(f"{one}/".startswith(f"{path}/") for one in used)]
    return unused, holds(root / where, IMAGE_SUFFIXES)


def pair_in(root: Path, base: str) -> tuple[str, str] | None:
    """A folder's folders of images and of masks, relative to the root.

    A folder that is not called masks counts only where it holds masks: 'labels' may hold boxes, or photos.
    """
    names = {name.lower(): name for name in folders(root / base)}
    images = next((names[name] for name in IMAGE_FOLDERS if name in names), None)
    for name in MASK_FOLDERS:
        if images is None or name not in names:
            continue
        if name in ("masks", "mask") or holds_masks(root / base / names[name]):
            return under(base, images), under(base, names[name])
    return None


def holds_masks(folder: Path) -> bool:
    """Whether the first image in a folder, or in the folders in it, looks like a mask."""
    for inner in (folder, *(folder / name for name in folders(folder))):
        found = holds(inner, MASK_SUFFIXES)
        if found:
            return looks_like_a_mask(inner / found[0])
    return False


def folders(folder: Path) -> list[str]:
    return subfolders(folder) if folder.is_dir() else []


def holds(folder: Path, suffixes: tuple[str, ...]) -> list[str]:
    """A folder's own files of these suffixes, sorted."""
    return [entry.name for entry in visible(folder) if ends_in(entry.name, suffixes)]
