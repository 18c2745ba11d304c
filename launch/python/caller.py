"""What passes between a Python that called `visionsweep.search` and the command that it started.

The command writes the error that ended it to a file, so that the caller raises the same one. It also ends
when the caller does, even if that was killed: it reads a pipe whose other end the caller holds.
"""

from __future__ import annotations

import json
import os
import signal
import threading
from pathlib import Path

from visionsweep.core import errors
from visionsweep.core.errors import VisionsweepError
from visionsweep.core.files import read_object

ERROR_FILE = "VISIONSWEEP_ERROR_FILE"
CALLER_PIPE = "VISIONSWEEP_CALLER_PIPE"


def tell_caller(error: VisionsweepError) -> None:
    """Write the error to the caller's file, if Python called this command."""
    path = os.environ.get(ERROR_FILE)
    if path:
        Path(path).write_text(json.dumps({"kind": type(error).__name__, "message": str(error)}))


def end_with_caller() -> None:
    """Have this command end as after Ctrl-C when its caller has ended, if Python called it."""
    number = os.environ.pop(CALLER_PIPE, "")
    if not number.isdecimal():
        return
    pipe = int(number)
    os.set_inheritable(pipe, False)  # Ray's processes must not hold it
    threading.Thread(target=_wait_for_end, args=(pipe,), name="caller", daemon=True).start()


def _wait_for_end(pipe: int) -> None:
    os.read(pipe, 1)  # nothing is ever written: it returns when the other end is closed
    os.kill(os.getpid(), signal.SIGTERM)


def told_error(path: Path) -> VisionsweepError | None:
    """Return the error that the command wrote, of its own class, or None if it wrote none."""
    if not path.is_file() or not path.stat().st_size:
        return None
    told = read_object(path)
    kind = getattr(errors, str(told.get("kind")), VisionsweepError)
    while kind.__init__ is not VisionsweepError.__init__:  # takes more than its sentence
        kind = kind.__base__
    error: VisionsweepError = kind(str(told.get("message")))
    return error
