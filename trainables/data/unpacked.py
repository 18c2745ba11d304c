"""Find the data in an unpacked archive: the root may hold a single folder, several levels deep."""

from __future__ import annotations

import os
from pathlib import Path

from trainables.data.mask_folders import find_layout
from trainables.data.split_names import split_of
from trainables.data.tools.find import is_annotated
from trainables.data.walk import ends_in, images_in, is_folder, subfolders, visible
from visionsweep.core.errors import DataError
from visionsweep.core.words import below, counted, quoted, under

TABLE_NAME = "labels.csv"


def enter(spec: str, root: Path, layout: str | None = None) -> tuple[str, Path, tuple[str, ...]]:
    """Go down as long as a folder holds nothing but one folder with the data.

    Returns the messages' name for the data's own root, that root, and notes if it is not the folder that was named.
    `layout` as in `ReadAs`: one folder of groups is entered, one group is not. Raises DataError where a table beside
    the folder may hold the labels.
    """
    inner = root
    steps = list[str]()
    strays = list[str]()
    seen = {os.path.realpath(root)}
    while (name := _only_folder(below(spec, *steps), inner)) and (real := os.path.realpath(inner / name)) not in seen:
        seen.add(real)  # a link may lead back
        if not _is_laid_out(below(spec, *steps, name), inner / name):
            is_one_group = layout == "groups" and not any(
                subfolders(inner / name / one) for one in subfolders(inner / name)
            )
            if is_one_group or not _holds_classes(inner / name, name):
                break
            tables = [entry.name for entry in visible(inner) if ends_in(entry.name, (".csv",)) and not is_folder(entry)]
            if tables:
                where = below(spec, *steps)
                raise DataError(
                    f"'{where}' holds {quoted(tables)} and one folder, '{name}'. Name what holds the labels: "
                    f"--data {below(where, tables[0])} or --data {below(where, name)}."
                )
        strays += [under("/".join(steps), image) for image in images_in(inner)]
        steps.append(name)
        inner = inner / name
    if not steps:
        return spec, root, ()
    note = f"'{spec}' holds one folder, and the data is read from there: '{'/'.join(steps)}'."
    beside = [f"{counted(len(strays), 'image')} left out, beside that folder: {quoted(strays)}."] if strays else []
    return below(spec, *steps), inner, (note, *beside)


def _only_folder(spec: str, folder: Path) -> str:
    """Return the name of the only subfolder, or '' if there is not exactly one or the folder is itself a data set."""
    names = subfolders(folder)
    return names[0] if len(names) == 1 and not _is_laid_out(spec, folder) else ""


def _is_laid_out(spec: str, folder: Path) -> bool:
    """Whether a folder is a data set itself: it has a table, masks, or a tool's annotations."""
    return os.path.lexists(folder / TABLE_NAME) or find_layout(spec, folder) is not None or is_annotated(folder)


def _holds_classes(folder: Path, name: str) -> bool:
    """Whether a folder can hold folders of classes, or one that does. A 'train' with classes is a split already."""
    inside = subfolders(folder)
    if len(images_in(folder)) > len(inside):  # it is a class, with some of its images in deeper folders
        return False
    if split_of(name) is not None:
        return any(split_of(inner) == "train" and subfolders(folder / inner) for inner in inside)
    return len(inside) > 1 or any(_holds_classes(folder / inner, inner) for inner in inside)
