"""One file of labels on S3, and the folder there that holds its images."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath

from trainables.data.there import FORMATS
from trainables.data.tools.label_table import LABEL_TABLE
from trainables.data.tools.metadata import METADATA
from trainables.data.tools.recognise import FOLDERS, is_via_csv
from trainables.data.tools.yolo import CONFIGS
from visionsweep.core.s3 import Remote

BESIDE = ("images", "image", "imgs", "data")  # of FOLDERS, those that may hold the images too


def names_file(named: Remote) -> bool:
    """Whether an address has the ending of a table or of a tool's annotations."""
    ending = PurePosixPath(named.prefix).suffix.lower()
    return any(ending in one.endings for one in FORMATS.values())


def places(named: Remote) -> Iterator[tuple[Remote, str]]:
    """Yield the folders that a file's images may lie in, with the file's name in it. The file's own comes first.

    The second is the folder above 'annotations' and the like, as for a file on this machine. A bucket is not read
    whole for a folder that may hold the images itself.
    """
    own = named.parent
    yield own, named.name
    if own.prefix and own.name.lower() in FOLDERS and (own.parent.prefix or own.name.lower() not in BESIDE):
        yield own.parent, f"{own.name}/{named.name}"


def place_of(named: Remote) -> tuple[Remote, str]:
    """Return the folder that holds the images of a file, and the file's name in it.

    A table's paths are relative to its own folder. Whether VIA wrote a .csv is said by its first line. Raises
    StorageError if S3 does not answer.
    """
    own, *above = places(named)
    if not above or named.name in CONFIGS:
        return own
    is_csv = named.name.lower().endswith(".csv") and named.name not in (LABEL_TABLE, *METADATA)
    if is_csv:
        stored = own[0].hurried().read(named.name)
        if stored is None or not is_via_csv(stored.content, named.name):
            return own
    return above[0]
