"""Open only plain files, as reading a named pipe or a device may never end."""

from __future__ import annotations

import os
import stat
from io import BufferedReader
from pathlib import Path

from visionsweep.core.errors import DataError

MOST_BYTES = 8 * 2**30  # no image is larger: Pillow's own limit on pixels comes far before
KINDS = (
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISDIR, "a folder"),
)


class NotPlain(OSError):
    """A path is not a plain file. An OSError, which callers that open files expect."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.strerror = what


def open_plain(path: Path | str) -> BufferedReader:
    """Open a plain file for reading. Raises OSError, also for a path that is no plain file."""
    check_plain(path)
    return open(path, "rb")


def require_plain(spec: str, path: Path) -> None:
    """Raise DataError, in which the file is called `spec`, for what is no plain file or cannot be reached."""
    try:
        check_plain(path)
    except OSError as error:
        raise DataError(f"'{spec}' cannot be read: {error.strerror}. Replace it, or check its rights.") from error


def check_plain(path: Path | str) -> None:
    """Raise OSError, without opening it, where a path is missing or leads to something else than a plain file."""
    status = os.stat(path)
    kind = next((name for is_kind, name in KINDS if is_kind(status.st_mode)), None)
    if kind is not None:
        raise NotPlain(f"it is {kind}, not a file")
    if status.st_size == 0:  # what the system makes up, such as /proc/kmsg, has no size and may have no end
        raise NotPlain("the file is empty")
    if status.st_size > MOST_BYTES:
        raise NotPlain(f"it has {status.st_size / 2**30:,.0f} GiB, and no image is larger than {MOST_BYTES >> 30} GiB")
