"""Lock of a run on S3, so that one driver at a time works on it: an object that its holder rewrites every few seconds.

It is created and taken over with conditional writes (If-None-Match, If-Match), which Amazon's S3 and MinIO have. Of two
drivers that start together, one is refused. A holder that is silent for STALE_S, by S3's clock, has lost the lock. One
whose process has ended on this machine has lost it at once.

The lock is best effort if a machine freezes for longer than that and then continues. It notices at its next heartbeat,
and may send a few seconds of records until then. A server without conditional writes refuses a second driver as well,
but not one that starts in the same second.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from visionsweep.core.errors import RunError, StorageError
from visionsweep.core.files import parse_json
from visionsweep.core.s3 import Remote

LOCK_FILE = "lock.json"
BEAT_S = 10.0
STALE_S = 45.0


class RemoteLock:
    """A lock that is held from `acquire` until `release`. `lost` says why it is not held any more."""

    def __init__(self, run: Remote) -> None:
        self.run = run
        self.owner = uuid.uuid4().hex
        self.lost = ""
        self.beaten = 0.0  # the last heartbeat by time.time(), which continues while a laptop sleeps
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._beat, name="run-lock", daemon=True)

    def acquire(self, say: Callable[[str], object]) -> None:
        """Take the lock, after a wait if its holder is silent. Raises RunError if another process holds it."""
        began = time.monotonic()
        first = ""
        while True:
            held = self.run.read(LOCK_FILE)
            if held is None:
                taken = self._write(new=True)
            else:
                holder = _holder(held.content)
                first = first or held.etag
                if first != held.etag:  # it has given a sign of life since
                    raise self._refused(holder)
                if not (_has_ended(holder) or held.age_s > STALE_S):
                    if time.monotonic() - began < 1:
                        last = f"process {holder.get('pid')} on {holder.get('node')}"
                        say(f"{self.run.uri}: {last} was at it {held.age_s:.0f} s ago; waiting whether it still is.")
                    time.sleep(1)
                    continue
                taken = self._write(replacing=held.etag)
            if taken:
                self.thread.start()
                return

    def refresh(self) -> None:
        """Write a heartbeat. Raises RunError if another process has taken the run over, StorageError without S3."""
        held = self.run.read(LOCK_FILE)
        if held is None or _holder(held.content).get("owner") != self.owner:
            self.lost = self.lost or str(self._refused({} if held is None else _holder(held.content)))
            raise RunError(self.lost)
        self._write(replacing=held.etag)

    def require(self) -> None:
        """Check the lock before a write. Raises RunError if it is lost, StorageError where that is not known."""
        if self.lost:
            raise RunError(self.lost)
        if time.time() - self.beaten > STALE_S / 2:
            self.refresh()

    def release(self) -> None:
        self.ended.set()
        self.thread.join()
        with suppress(StorageError, RunError):
            self.refresh()
            self.run.delete([LOCK_FILE])

    def _write(self, *, new: bool = False, replacing: str | None = None) -> bool:
        about = {"owner": self.owner, "machine": _machine(), "node": socket.gethostname(), "pid": os.getpid()}
        content = json.dumps({**about, "time": time.time()}).encode()
        began = time.time()
        try:
            written = self.run.write(LOCK_FILE, content, new=new, replacing=replacing)
        except StorageError as error:
            if "NotImplemented" not in str(error):  # a server that has no conditional writes
                raise
            written = self.run.write(LOCK_FILE, content)
        if written:
            self.beaten = began
        return written

    def _beat(self) -> None:
        while not self.ended.wait(BEAT_S):
            with suppress(StorageError):  # S3 may answer the next time
                try:
                    self.refresh()
                except RunError:
                    return

    def _refused(self, holder: dict[str, Any]) -> RunError:
        who = f"process {holder['pid']} on {holder['node']}" if "pid" in holder else "another process"
        return RunError(f"{self.run.uri}: {who} is working on this run. Wait for it, or stop it with Ctrl-C.")


def at_work(run: Remote) -> bool:
    """Return whether a process holds the lock of a run. Raises StorageError if S3 does not answer."""
    held = run.read(LOCK_FILE)
    return held is not None and held.age_s <= STALE_S and not _has_ended(_holder(held.content))


def _holder(content: bytes) -> dict[str, Any]:
    with suppress(ValueError):
        found = parse_json(content.decode())
        if isinstance(found, dict):
            return found
    return {}


def _has_ended(holder: dict[str, Any]) -> bool:
    """Return whether the holder was a process of this machine that has ended."""
    if holder.get("machine") != _machine() or not isinstance(holder.get("pid"), int):
        return False
    try:
        os.kill(holder["pid"], 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


def _machine() -> str:
    """Return an id of this boot of this machine, as seen from this container: process ids are unique within it."""
    parts = [socket.gethostname()]
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts.append(os.readlink("/proc/self/ns/pid"))
    return " ".join(parts)
