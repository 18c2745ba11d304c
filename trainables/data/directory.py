"""Scan a folder: a tool's annotations, a table, folders of classes, or masks, perhaps one folder down."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from trainables.data.csv_table import scan_csv
from trainables.data.folders import has_class_folders, scan_folder
from trainables.data.mask_folders import find_layout, scan_masks
from trainables.data.plain_files import require_plain
from trainables.data.read_as import ReadAs
from trainables.data.scan import Scan, check_masks_wanted
from trainables.data.tools.find import all_annotations, find_annotations, is_table, scan_annotations
from trainables.data.unpacked import TABLE_NAME, enter
from trainables.data.walk import notes_below
from visionsweep.core.errors import DataError
from visionsweep.core.tasks import TASKS, task_kind
from visionsweep.core.words import below


def scan_directory(spec: str, root: Path, task: str | None, read_as: ReadAs) -> Scan:
    """The scan of a folder, or of the one folder in it that holds the data. Raises DataError."""
    inner_spec, inner, notes = enter(spec, root, read_as.layout)
    scan = _scan(inner_spec, inner, task, read_as)
    return replace(scan, notes=(*notes, *scan.notes))


def _scan(spec: str, path: Path, task: str | None, read_as: ReadAs) -> Scan:
    """Scan masks if they are asked for, or if there are no labels. A folder may hold both.

    What a tool wrote comes after a table and after masks, which somebody may have made of it.
    """
    table = path / TABLE_NAME
    if read_as.layout is not None or (not task_kind(task).pixels and _is_own_table(table)):
        return _without_tools(spec, path, table, task, read_as)
    if find_layout(spec, path) is None:
        found = find_annotations(spec, path)
        if found is None:
            return _without_tools(spec, path, table, task, read_as)
        return scan_annotations(spec, path, found, task, read_as)
    scan = _without_tools(spec, path, table, task, read_as)
    return replace(scan, notes=(*scan.notes, *_not_read(spec, path)))


def _without_tools(spec: str, path: Path, table: Path, task: str | None, read_as: ReadAs) -> Scan:
    if task_kind(task).pixels:
        return _masks(spec, path, read_as)
    if _is_own_table(table):
        if read_as.layout is not None:
            raise DataError(
                f"--layout {read_as.layout} is for folders of classes, but '{below(spec, TABLE_NAME)}' gives the "
                "labels. Leave the option out, or move the table away."
            )
        require_plain(below(spec, TABLE_NAME), table)
        return scan_csv(below(spec, TABLE_NAME), table, read_as)
    layout = None if read_as.layout == "classes" else find_layout(spec, path)
    if layout is None or (has_class_folders(path) and not layout.in_splits):
        return scan_folder(spec, path, read_as)
    if task in TASKS:
        check_masks_wanted(task)
    return _masks(spec, path, read_as)


def _is_own_table(table: Path) -> bool:
    """Whether there is a table of the user's own. A link that leads nowhere counts, and reading it says so."""
    return os.path.lexists(table) and is_table(table)


def _not_read(spec: str, path: Path) -> list[str]:
    """A note about the annotations of a tool beside masks, which somebody may have made of them."""
    names = [(one.tool.name, one.files[0].relative_to(path).as_posix()) for one in all_annotations(path)]
    return [
        f"The masks are read, and not the annotations of {tool}: --data {below(spec, name)} reads those."
        for tool, name in names
    ]


def _masks(spec: str, root: Path, read_as: ReadAs) -> Scan:
    """Scan masks, with notes about links and about files that are left out for their ending."""
    scan = scan_masks(spec, root, read_as)
    masks = [scan.mask_reader.name(index) for index in range(len(scan.names))] if scan.mask_reader else []
    folders = sorted({name.rpartition("/")[0].partition("/")[0] for name in (*scan.names, *masks)})
    return replace(scan, notes=(*scan.notes, *notes_below(root, [""] if "" in folders else folders)))
