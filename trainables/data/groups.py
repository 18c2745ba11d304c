"""What belongs together and so stays on one side of every split: a table's column, a file, or a pattern on names."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from trainables.data.csv_read import Row, read_table
from trainables.data.group_cells import GROUPS_FILE, grouped, is_column, stem_of
from trainables.data.group_hints import group_notes
from trainables.data.plain_files import require_plain
from trainables.data.read_as import ReadAs, is_group_file
from trainables.data.scan import Scan
from trainables.data.unpacked import enter
from visionsweep.core.errors import DataError
from visionsweep.core.words import counted, quoted

COLUMN = "group"
WITH_BRACKETS = r"Put brackets round what names of a group have in common, such as --group '(.*)_\d+'."


def with_groups(scan: Scan, spec: str, path: Path, read_as: ReadAs) -> Scan:
    """Return the scan with the groups that --group gives, if it is a file or a pattern, or a note that asks.

    path: where the data lies. Raises DataError for a pattern or file that does not fit the names.
    """
    group = read_as.group
    if scan.groups is not None or not read_as.for_training:
        return scan
    if group is None:
        return replace(scan, notes=(*scan.notes, *group_notes(scan, path)))
    if is_group_file(group):
        return _of_file(scan, spec, path, group, read_as)
    if is_column(group):
        raise DataError(
            f"--group {group}: '{spec}' is not a table with such a column. Name a file {GROUPS_FILE} with the columns "
            rf"image and {COLUMN}, or a pattern on names such as '(.*)_\d+'."
        )
    return _of_pattern(scan, group)


def find_group_file(group: str, path: Path, layout: str | None = None) -> Path | None:
    """Return the file that --group names: beside the data, or else as it is. None if there is none."""
    folders = [path if path.is_dir() else path.parent]
    if path.is_dir():
        folders.append(enter(str(path), path, layout)[1])
    places = [*(folder / group for folder in folders), Path(group).expanduser()]
    return next((place for place in places if place.is_file()), None)


def _of_pattern(scan: Scan, pattern: str) -> Scan:
    """Match names without ending, and without folders unless the pattern has a slash."""
    compiled = re.compile(pattern)
    if not compiled.groups:
        raise DataError(f"--group '{pattern}' says nothing of what names have in common. {WITH_BRACKETS}")
    whole = "/" in pattern
    shown = [str(PurePosixPath(name).with_suffix("")) if whole else stem_of(name) for name in scan.names]
    found = [compiled.search(name) for name in shown]
    if not any(found):
        raise DataError(
            f"--group '{pattern}' matches no name, such as '{shown[0]}'. It is looked for in names without their "
            f"{'ending' if whole else 'folders and ending'}. Correct it."
        )
    cells = ["\0".join(part or "" for part in match.groups()) if match else "" for match in found]
    return grouped(scan, cells, f"'{pattern}'", "the pattern does not match")


def _of_file(scan: Scan, spec: str, path: Path, group: str, read_as: ReadAs) -> Scan:
    file = find_group_file(group, path, read_as.layout)
    if file is None:
        raise DataError(
            f"--group {group}: there is no such file, neither beside the data nor there. Write one with the columns "
            f"image and {COLUMN}."
        )
    require_plain(group, file)
    columns, rows, _ = read_table(group, file)
    others = [name for name in columns if name != "image"]
    column = COLUMN if COLUMN in others else others[0] if len(others) == 1 else None
    if column is None:
        raise DataError(
            f"{group}, line 1: which column is the group? It has {quoted(others) or 'none beside image'}. "
            f"Call it '{COLUMN}'."
        )
    given = _by_name(group, rows, column)
    cells = _cells_of(scan, group, given)
    unused = len(given) - len(scan.names)
    found = grouped(scan, cells, Path(group).name, "the file leaves it empty")
    if unused <= 0:
        return found
    note = f"{counted(unused, 'row')} of {Path(group).name} not used: the data has no such image."
    return replace(found, notes=(*found.notes, note))


def _by_name(group: str, rows: Sequence[Row], column: str) -> dict[str, str]:
    given: dict[str, str] = {}
    for row in rows:
        name = PurePosixPath(row.cells["image"].replace("\\", "/")).as_posix()
        cell = row.cells[column]
        if given.setdefault(name, cell) != cell:
            raise DataError(
                f"{group}, line {row.line}: image '{name}' is in group '{given[name]}' already, here in '{cell}'. "
                "Keep one of the rows."
            )
    return given


def _cells_of(scan: Scan, group: str, given: Mapping[str, str]) -> list[str]:
    """Return each image's group. The file may leave out folders where names without them are unique."""
    missing = [name for name in scan.names if name not in given]
    if not missing:
        return [given[name] for name in scan.names]
    bare = [PurePosixPath(name).name for name in scan.names]
    if len(set(bare)) == len(bare) and all(name in given for name in bare):
        return [given[name] for name in bare]
    raise DataError(
        f"{group} says nothing of {counted(len(missing), 'image')}: {quoted(missing)}. Add a row for each, with its "
        "path as the data has it. An image that belongs to no other may have a group of its own."
    )
