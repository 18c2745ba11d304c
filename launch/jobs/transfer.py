"""Transfer of a run directory from a cluster where only the dashboard's port is open.

A job's log is the only stream of any length that comes out of that port. So a job on the head writes the directory to
its log as lines of base64, with a checksum at the end. It empties its log after it has been read.

    python -m launch.jobs.transfer RUN
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import signal
import stat
import sys
import tarfile
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, cast

from launch.jobs.plain_tar import BLOCK, MAX_BYTES, MAX_FILES, write_files
from visionsweep.core.errors import RunError
from visionsweep.core.safe_path import shown
from visionsweep.core.writing import sync_folder
from visionsweep.run_dir.files import SEARCH_FILE

BEGIN = "visionsweep-parcel-begins"
END = "visionsweep-parcel-ends"
LINE = 12_288  # bytes of a line, 16,384 letters of base64: about as many as Ray passes on at a time
MAX_LINE = 2 * LINE  # letters of a line that is read
MAX_SAID = 2**24  # letters that a job may print before its archive begins
# The archive with its headers, its padding and the growth of logs meanwhile. It lies on the head's disk, a third
# larger, until it is read.
MAX_ARRIVING = MAX_BYTES + MAX_FILES * 4 * BLOCK + 10**8
READ_S = 3600  # how long an archive waits there to be read


def pack(run_dir: Path, out: IO[bytes]) -> None:
    """Write the directory as a tar of its plain files, without links. Files may grow while they are read.

    Raises RunError if it is no run directory, or too large.
    """
    if not (run_dir / SEARCH_FILE).is_file():
        raise RunError(f"{run_dir}: is not a run directory (it has no search.json).")
    files = [path for path in sorted(run_dir.rglob("*")) if path.is_file() and not path.is_symlink()]
    total = sum(path.stat().st_size for path in files)
    if len(files) > MAX_FILES:
        raise RunError(
            f"{run_dir}: has {len(files)} files, and at most {MAX_FILES} go through a dashboard. "
            "Copy it with rsync, or `visionsweep export` what you need on the cluster."
        )
    if total > MAX_BYTES:
        raise RunError(
            f"{run_dir}: takes {total / 1e9:.1f} GB, and at most {MAX_BYTES / 1e9:.1f} GB go through a dashboard. "
            "Copy it with rsync, or `visionsweep export` what you need on the cluster."
        )
    with tarfile.open(fileobj=out, mode="w|") as tar:
        for path in files:
            try:
                with path.open("rb") as file:
                    # Only what `plain_tar` accepts: no owner, no time.
                    member = tarfile.TarInfo(path.relative_to(run_dir).as_posix())
                    member.size = os.fstat(file.fileno()).st_size
                    tar.addfile(member, file)
            except FileNotFoundError:
                continue  # a checkpoint that the search has just deleted


def unpack(file: IO[bytes], target: Path) -> None:
    """Write a packed directory to `target`, which must not exist, whole or not at all. Raises RunError."""
    check_target(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as folder:
            half = Path(folder) / target.name
            write_files(file, half, target)
            if not (half / SEARCH_FILE).is_file():
                raise RunError(f"{target}: what came is not a run directory. Fetch it again.")
            half.rename(target)
            sync_folder(target.parent)
    except OSError as error:
        raise RunError(f"{target}: cannot be written ({error.strerror}). Choose another --to.") from None


def check_target(target: Path) -> None:
    if target.exists():
        raise RunError(f"{target}: exists already, and is not written over. Choose another --to, or move it away.")


def copy(run_dir: Path, target: Path) -> None:
    """Copy a run that is readable from here."""
    check_target(target)
    with tempfile.TemporaryFile() as file:
        pack(run_dir, file)
        file.seek(0)
        unpack(file, target)


def receive(pieces: Iterable[str], out: IO[bytes]) -> None:
    """Read the archive of a run from a job's log, and write the tar to `out`. pieces: the log, cut anywhere.

    Raises RunError, with what the job printed, if the archive ends early, is too long or has another checksum.
    """
    checksum = hashlib.sha256()
    inside = False
    said = ""
    num_said = 0
    num_bytes = 0
    for line in lines_of(pieces):
        if line.startswith(f"{END} "):
            if line.removeprefix(f"{END} ").strip() != checksum.hexdigest():
                raise RunError("the run directory arrived damaged: its checksum is another. Fetch it again.")
            return
        if not inside:
            inside = line == BEGIN
            said = line or said
            num_said = num_said + len(line) + 1
            if num_said > MAX_SAID:
                raise RunError("the run directory did not arrive: the job prints without an end. Fetch it again.")
            continue
        try:
            raw = base64.b64decode(line, validate=True)
        except (binascii.Error, ValueError):
            raise RunError("the run directory arrived damaged: a line is not base64. Fetch it again.") from None
        num_bytes += len(raw)
        if num_bytes > MAX_ARRIVING:
            raise RunError(f"the run directory is larger than {MAX_BYTES / 1e9:.1f} GB. Copy it with rsync.")
        checksum.update(raw)
        out.write(raw)
    why = said if said and not inside else "its log ended too soon"
    raise RunError(f"the run directory did not arrive: {why.removeprefix('visionsweep: ')}")


def lines_of(pieces: Iterable[str]) -> Iterator[str]:
    """Yield the lines of a text that is cut anywhere, without any unfinished last line, in linear time.

    Raises RunError for a line that is longer than any of an archive.
    """
    begun: list[str] = []  # parts of the line that continues in the next piece
    length = 0
    for piece in pieces:
        first, *others = piece.split("\n")
        begun.append(first)
        length += len(first)
        for other in others:
            yield _line(begun, length)
            begun = [other]
            length = len(other)
        if length > MAX_LINE:
            _line(begun, length)


def _line(begun: list[str], length: int) -> str:
    if length > MAX_LINE:
        start = "".join(begun)[:60]
        raise RunError(
            f"the run directory did not arrive: a line of more than {MAX_LINE} letters ({shown(start)}). "
            "Fetch it again, or copy the run with rsync."
        )
    return "".join(begun).removesuffix("\r")


class _Lines:
    """A file that encodes what is written to it as lines of base64, with a checksum after them."""

    def __init__(self, out: IO[str]) -> None:
        self.out = out
        self.checksum = hashlib.sha256()
        self.rest = bytearray()
        self.begun = False

    def write(self, raw: bytes) -> int:
        if not self.begun:
            self.begun = True
            self.out.write(f"{BEGIN}\n")
        self.rest += raw
        whole = len(self.rest) // LINE * LINE
        for start in range(0, whole, LINE):
            self._line(bytes(self.rest[start : start + LINE]))
        del self.rest[:whole]
        return len(raw)

    def end(self) -> None:
        self._line(bytes(self.rest))
        self.out.write(f"{END} {self.checksum.hexdigest()}\n")
        self.out.flush()

    def _line(self, raw: bytes) -> None:
        self.checksum.update(raw)
        self.out.write(base64.b64encode(raw).decode() + "\n")


def main() -> None:
    """Run the job: write the archive, wait until it has been read, and leave nothing behind."""
    lines = _Lines(sys.stdout)
    # The wait ends when the job is stopped, after it was read, or when nobody has read it in time.
    for number in (signal.SIGTERM, signal.SIGALRM):
        signal.signal(number, lambda *_: sys.exit(0))
    signal.alarm(READ_S)
    try:
        pack(Path(sys.argv[1]), cast(IO[bytes], lines))
        lines.end()
        while True:
            signal.pause()
    except RunError as error:
        print(f"visionsweep: {error}", flush=True)
        sys.exit(2)
    finally:
        if lines.begun and stat.S_ISREG(os.fstat(1).st_mode):  # the log, to which Ray lets a job write by itself
            os.ftruncate(1, 0)


if __name__ == "__main__":
    main()
