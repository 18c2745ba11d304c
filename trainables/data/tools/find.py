"""Find which tool has annotated a folder, by what its files hold, and read them.

Only the first and the last bytes of a file are looked at, as a file of COCO may have half a gigabyte.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from trainables.data.plain_files import open_plain
from trainables.data.read_as import ReadAs
from trainables.data.scan import Scan
from trainables.data.split_names import looks_like_a_split, split_of
from trainables.data.tools.as_scan import as_scan
from trainables.data.tools.coco import read_coco
from trainables.data.tools.cvat import read_cvat
from trainables.data.tools.gathered import Gathered
from trainables.data.tools.label_studio import read_label_studio
from trainables.data.tools.label_table import LABEL_TABLE, read_label_tables
from trainables.data.tools.labelme import read_labelme
from trainables.data.tools.metadata import METADATA, read_metadata
from trainables.data.tools.recognise import (
    FOLDERS,
    is_coco,
    is_cvat,
    is_label_studio,
    is_label_table,
    is_labelme,
    is_metadata,
    is_via,
    is_via_csv,
    is_yolo,
)
from trainables.data.tools.via import read_via
from trainables.data.tools.via_csv import read_via_csv
from trainables.data.tools.yolo import CONFIGS, read_yolo
from trainables.data.walk import ends_in, is_folder, subfolders, visible
from visionsweep.core.errors import DataError
from visionsweep.core.words import below, quoted

LOOKED_AT = 2**16  # bytes at each end of a file
MOST_TRIED = 200  # files of a folder that are looked at, where none of them is a tool's
ENDINGS = (".json", ".jsonl", ".xml", ".csv", ".yaml", ".yml", ".txt")

Read = Callable[[Gathered, Sequence[Path]], None]


@dataclass(frozen=True)
class Tool:
    """How the files of a tool are recognised, and read.

    name     for messages
    ending   of its files
    is_its   whether a file is its own, by the bytes at its two ends and its name
    read     adds what files say
    a_file_each
             whether each image has a file of its own. One that is the tool's then speaks for all in its folder
    """

    name: str
    ending: str
    is_its: Callable[[bytes, str], bool]
    read: Read
    a_file_each: bool = False


TOOLS = (
    Tool("labelme", ".json", is_labelme, read_labelme, a_file_each=True),
    Tool("COCO", ".json", is_coco, read_coco),
    Tool("Label Studio", ".json", is_label_studio, read_label_studio),
    Tool("VIA", ".json", is_via, read_via),
    Tool("VIA (csv)", ".csv", is_via_csv, read_via_csv),
    *(Tool("Hugging Face's imagefolder", name, is_metadata, read_metadata) for name in METADATA),
    Tool("CVAT", ".xml", is_cvat, read_cvat),
    Tool("Roboflow", LABEL_TABLE, is_label_table, read_label_tables),
    Tool("YOLO", ".txt", is_yolo, read_yolo, a_file_each=True),
)


@dataclass(frozen=True)
class Found:
    """A tool's files in a data folder."""

    tool: Tool
    files: tuple[Path, ...]


def is_annotated(root: Path) -> bool:
    """Whether a tool has left its files in a folder."""
    return any(True for folder in _places(root) for _ in _in_folder(folder))


def all_annotations(root: Path) -> list[Found]:
    """Return the files of each tool that has annotated a folder."""
    by_tool: dict[str, Found] = {}
    for folder in _places(root):
        for found in _in_folder(folder):
            before = by_tool.get(found.tool.name)
            by_tool[found.tool.name] = Found(found.tool, (*(before.files if before else ()), *found.files))
    return list(by_tool.values())


def find_annotations(spec: str, root: Path) -> Found | None:
    """Return the files of the tool that has annotated a folder, or None. Raises DataError if several have."""
    all_found = all_annotations(root)
    if len(all_found) > 1:
        names = [found.files[0].relative_to(root).as_posix() for found in all_found]
        raise DataError(
            f"'{spec}' has annotations of {' and of '.join(found.tool.name for found in all_found)}: {quoted(names)}. "
            f"Name the file that counts: --data {below(spec, names[0])}."
        )
    return all_found[0] if all_found else None


def scan_annotations(spec: str, root: Path, found: Found, task: str | None, read_as: ReadAs) -> Scan:
    """Scan the images that a tool's files name. Raises DataError for everything that is wrong with the files."""
    gathered = Gathered(spec, root, read_as.on_bad_image == "skip")
    found.tool.read(gathered, found.files)
    return as_scan(gathered, task)


def scan_annotation_file(spec: str, file: Path, task: str | None, read_as: ReadAs) -> Scan:
    """Scan the images that one file names. They lie below its folder, or beside it where it is in 'annotations'."""
    if file.name in CONFIGS:  # YOLO's own way to name a data set
        folder = spec.rpartition("/")[0] or "."
        found = find_annotations(folder, file.parent)
        if found is None or found.tool.read is not read_yolo:
            raise DataError(f"'{spec}': its folder has no label files of YOLO. Name the folder of the data.")
        return scan_annotations(folder, file.parent, found, task, read_as)
    content = _ends(file)
    tool = next((one for one in TOOLS if ends_in(file.name, (one.ending,)) and one.is_its(content, file.name)), None)
    if tool is None:
        names = ", ".join(dict.fromkeys(one.name for one in TOOLS))
        raise DataError(
            f"'{spec}' is not a file of annotations that is known ({names}). Name another file or a folder."
        )
    root = file.parent
    folder = spec.rpartition("/")[0] or "."
    if root.name.lower() in FOLDERS:
        root = root.parent
        folder = folder.rpartition("/")[0] or ("." if folder == root.name else f"{folder}/..")
    return scan_annotations(folder, root, Found(tool, (file,)), task, read_as)


def is_table(file: Path) -> bool:
    """Whether a file is a table of the user's own, not one that a tool wrote."""
    if not ends_in(file.name, (".csv",)) or file.name in (LABEL_TABLE, *METADATA):
        return False
    return not is_via_csv(_ends(file), file.name)  # an unreadable one is the user's own: reading it says why


def _places(root: Path) -> Iterator[Path]:
    """Yield the folders in which tools leave their files: the root, and those of splits and parts."""
    yield root
    for name in filter(_may_hold_files, subfolders(root)):
        yield root / name
        for inner in filter(_may_hold_files, subfolders(root / name)):
            yield root / name / inner


def _may_hold_files(name: str) -> bool:
    return name.lower() in FOLDERS or split_of(name) is not None or looks_like_a_split(name)


def _in_folder(folder: Path) -> Iterator[Found]:
    """Yield the tools that have files in a folder, with those files."""
    entries = [entry.name for entry in visible(folder) if ends_in(entry.name, ENDINGS) and not is_folder(entry)]
    seen: dict[str, list[Path]] = {}
    tools: dict[str, Tool] = {}
    for tried, name in enumerate(entries):
        if tried == MOST_TRIED and not seen:
            return
        sure = next((tool for tool in tools.values() if tool.a_file_each and ends_in(name, (tool.ending,))), None)
        content = b"" if sure else _ends(folder / name)
        for tool in TOOLS:
            if tool is sure or (not sure and ends_in(name, (tool.ending,)) and tool.is_its(content, name)):
                seen.setdefault(tool.name, []).append(folder / name)
                tools[tool.name] = tool
                break
    for name, files in seen.items():
        yield Found(tools[name], tuple(files))


def _ends(file: Path) -> bytes:
    """Return the first and the last bytes of a file, none of one that cannot be read: reading it will say why."""
    try:
        with open_plain(file) as opened:
            head = opened.read(LOOKED_AT)
            opened.seek(0, 2)
            size = opened.tell()
            if size <= LOOKED_AT:
                return head
            opened.seek(max(LOOKED_AT, size - LOOKED_AT))
            return head + opened.read(LOOKED_AT)
    except OSError:
        return b""
