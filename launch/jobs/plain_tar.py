"""A reader for tar archives of plain files alone. What comes from a cluster is not trusted.

Python's `tarfile` reads links, devices, sparse files and several extensions. Its filters that keep members in a folder
have been bypassed in several of the versions supported here. What `pack` writes needs only a name, a size and the
bytes. So nothing else is accepted, and everything is bounded.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from visionsweep.core.errors import RunError
from visionsweep.core.safe_path import safe_path, shown

BLOCK = 512
MAX_FILES = 20_000  # a run has a few for each trial
MAX_BYTES = 2 * 10**9  # of all files together
MAX_HEADER_BYTES = 64 * 1024  # of a member's extended header, which holds a long name
PIECE = 2**20
FILE = b"0"
OLD_FILE = b"\0"
EXTENDED = b"x"
KINDS = {
    b"1": "a link", b"2": "a link", b"3": "a device", b"4": "a device", b"5": "a folder", b"6": "a pipe",
    b"S": "a sparse file",
}  # fmt: skip
AGAIN = "Fetch it again, and if that does not help, copy the run with rsync."


@dataclass(frozen=True)
class Member:
    """A file of the archive. Its `size` bytes follow in the stream."""

    name: str
    size: int


def write_files(tar: IO[bytes], folder: Path, origin: object) -> None:
    """Write every file of an archive below a new folder.

    Raises RunError, with a message that begins with `origin`, for anything but plain files with unique names below the
    folder. Raises OSError where a file cannot be written.
    """
    folder.mkdir()
    total = 0
    names = set[str]()
    for member in _members(tar, origin):
        total += member.size
        names.add(member.name)
        if len(names) > MAX_FILES:
            raise RunError(f"{origin}: more than {MAX_FILES} files arrived, which is the most of a run. {AGAIN}")
        if total > MAX_BYTES:
            raise RunError(f"{origin}: more than {MAX_BYTES / 1e9:.1f} GB arrived, which is the most. {AGAIN}")
        path = safe_path(folder, member.name, origin, AGAIN)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # x: never overwrite an existing file, nor write through a link.
            with path.open("xb") as out:
                _copy(tar, member, out, origin)
        except (FileExistsError, NotADirectoryError):
            raise RunError(
                f"{origin}: {shown(member.name)} arrived twice, or as a file and a folder. {AGAIN}"
            ) from None


def _members(tar: IO[bytes], origin: object) -> Iterator[Member]:
    """Yield the members. Each must be read to its end before the next one is taken."""
    name = ""
    num_headers = 0
    while (block := _exactly(tar, BLOCK, origin)).strip(b"\0"):
        kind = block[156:157]
        size = _size(block, origin)
        if kind == EXTENDED and not name:
            name = _long_name(tar, size, origin)
            num_headers = num_headers + 1
            if num_headers > MAX_FILES:
                raise RunError(f"{origin}: more than {MAX_FILES} headers arrived. {AGAIN}")
        elif kind in (FILE, OLD_FILE):
            yield Member(name or _name(block), size)
            _exactly(tar, -size % BLOCK, origin)
            name = ""
        else:
            what = KINDS.get(kind, f"a member of kind {kind!r}")
            raise RunError(f"{origin}: {shown(_name(block))} is {what}, and a run has plain files alone. {AGAIN}")


def _size(block: bytes, origin: object) -> int:
    """Return the size in a header, after a check of its checksum."""
    field = block[124:136]
    checksum = block[148:156]
    digits = field.strip(b" \0")
    given = checksum.strip(b" \0")
    if not (_is_octal(digits) and _is_octal(given)):
        raise RunError(f"{origin}: what arrived is not a tar of a run. {AGAIN}")
    # The checksum counts its own field as spaces.
    if int(given, 8) != sum(block) - sum(checksum) + len(checksum) * ord(" "):
        raise RunError(f"{origin}: a header that arrived is damaged. {AGAIN}")
    return int(digits, 8)


def _is_octal(digits: bytes) -> bool:
    return bool(digits) and not digits.strip(b"01234567")


def _name(block: bytes) -> str:
    name = block[:100].split(b"\0")[0]
    prefix = block[345:500].split(b"\0")[0]
    joined = prefix + b"/" + name if prefix and block[257:262] == b"ustar" else name
    return joined.decode("utf-8", "surrogateescape")


def _long_name(tar: IO[bytes], size: int, origin: object) -> str:
    """Return the `path` of an extended header with lines 'LENGTH KEY=VALUE', or '' where it has none."""
    if size > MAX_HEADER_BYTES:
        raise RunError(f"{origin}: a header of {size} bytes arrived, and {MAX_HEADER_BYTES} is the most. {AGAIN}")
    header = _exactly(tar, size, origin)
    _exactly(tar, -size % BLOCK, origin)
    start = 0
    name = ""
    while start < len(header):
        length = header[start : start + 8].split(b" ")[0]
        end = start + (int(length) if length.isdigit() else 0)
        key, equals, value = header[start + len(length) + 1 : end - 1].partition(b"=")
        if not equals or end > len(header) or header[end - 1 : end] != b"\n":
            raise RunError(f"{origin}: a header that arrived is damaged. {AGAIN}")
        if key == b"size" or key.startswith(b"GNU.sparse"):
            raise RunError(f"{origin}: a sparse or huge file arrived, and a run has plain files alone. {AGAIN}")
        if key == b"path":
            name = value.decode("utf-8", "surrogateescape")
        start = end
    return name


def _exactly(tar: IO[bytes], size: int, origin: object) -> bytes:
    read = tar.read(size) if size else b""
    if len(read) < size:
        raise RunError(f"{origin}: what arrived ends too soon. {AGAIN}")
    return read


def _copy(tar: IO[bytes], member: Member, out: IO[bytes], origin: object) -> None:
    left = member.size
    while left:
        left -= out.write(_exactly(tar, min(left, PIECE), origin))
