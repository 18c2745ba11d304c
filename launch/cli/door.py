"""Standard output and error of a command.

They may be closed while it works: `run ... | head`, a terminal that is gone. Later output is then dropped, and the
command continues. Passwords in addresses are masked in everything that is written.
"""

from __future__ import annotations

import errno
import io
import sys
from typing import Any

from visionsweep.core.masked import masked

GONE = (errno.EPIPE, errno.EIO, errno.EBADF)  # the reader has ended, or the terminal was closed


class _File(io.FileIO):
    """A file whose writes never fail because the reader is gone."""

    gone = False

    def write(self, data: Any) -> int:
        if not self.gone:
            try:
                return super().write(data)
            except OSError as error:
                if error.errno not in GONE:
                    raise
                self.gone = True
        return len(data)


class _Door(io.TextIOWrapper):
    def __init__(self, stream: io.TextIOWrapper) -> None:
        self.file = _File(stream.fileno(), "w", closefd=False)
        super().__init__(
            io.BufferedWriter(self.file),
            encoding=stream.encoding,
            errors=stream.errors,
            line_buffering=stream.line_buffering,
            write_through=stream.write_through,
        )

    def write(self, text: str) -> int:
        super().write(masked(text))
        return len(text)


def open_doors() -> None:
    """Replace sys.stdout and sys.stderr if they are this process's own.

    They stay replaced until the process ends, as the last words of a crash go through them too.
    """
    for name, own in (("stdout", sys.__stdout__), ("stderr", sys.__stderr__)):
        stream = getattr(sys, name)
        if stream is own and isinstance(stream, io.TextIOWrapper):
            stream.flush()
            setattr(sys, name, _Door(stream))


def nobody_reads() -> bool:
    """Whether standard output was closed by its reader, so that a command that only shows something may end."""
    return isinstance(sys.stdout, _Door) and sys.stdout.file.gone
