"""Rows of features, computed once per machine and memory-mapped by all of its processes.

A folder is named after the hash of its key (`feature_key.py`) and holds

rows.bin     the rows (N, F) in C order, in the type they were computed in
meta.json    the key, shape, type and checksum

It is built under another name and renamed when it is complete. Without room on disk, rows stay in the process's memory.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import logging
import os
import shutil
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from torch import Tensor

from trainables.data.cache_stack import NOT_WHOLE, sync
from visionsweep.core.errors import RunError
from visionsweep.core.files import read_object

MOST_OF_DISK = 0.5  # of free space and features together; the other half is for decoded images and checkpoints
BLOCK = 2**24  # bytes that are checked at once
POLL_S = 0.5  # how often a process that waits for another's features asks whether to stop
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}

log = logging.getLogger(__name__)

Chunks = Callable[[], Iterator[Tensor]]


def kept_rows(
    store: Path | None,
    key: Mapping[str, Any],
    num_rows: int,
    chunks: Chunks,
    *,
    most_in_memory: int,
    ask: Callable[[], None] = lambda: None,
) -> Tensor | None:
    """Return the rows (N, F) of a key, on the CPU, from the store or computed and kept there.

    store           folder, None keeps them in memory
    key             all that the rows depend on (`feature_key.py`)
    num_rows        N
    chunks          computes the rows in chunks, in their order
    most_in_memory  bytes that may be held if the store cannot take them
    ask             called while another process computes them, raises to stop the waiting

    None if neither the store nor the memory has room.
    """
    if store is not None:
        text = json.dumps(key, sort_keys=True)
        folder = store / hashlib.sha256(text.encode()).hexdigest()[:24]
        found = _opened(folder, text, num_rows)  # before the lock: the store may be on a read-only disk
        if found is not None:
            return found
        try:
            with _locked(folder, ask):
                found = _opened(folder, text, num_rows)  # another process may have built it while this one waited
                return _built(folder, text, num_rows, chunks()) if found is None else found
        except (OSError, NotImplementedError) as error:  # NotImplementedError: a file system without locks
            log.warning("features cannot be kept in '%s': %s. They are held in memory.", store, error)
    return _in_memory(num_rows, chunks(), most_in_memory)


def _opened(folder: Path, key: str, num_rows: int) -> Tensor | None:
    """Return the mapped rows, None if they are missing or damaged."""
    try:
        meta = read_object(folder / "meta.json")
        file, (count, width), dtype = folder / "rows.bin", meta["shape"], DTYPES[meta["dtype"]]
        right = meta["key"] == key and count == num_rows
        if not right or file.stat().st_size != count * width * dtype.itemsize or _checksum(file) != meta["checksum"]:
            return None
        rows = torch.from_file(str(file), shared=False, size=num_rows * width, dtype=dtype)
    except (*NOT_WHOLE, RunError, RuntimeError):
        return None
    with contextlib.suppress(OSError):  # the most recently used features are deleted last
        os.utime(folder)
    return rows.reshape(num_rows, width)


def _checksum(file: Path) -> int:
    found = 0
    with file.open("rb") as stream:
        while block := stream.read(BLOCK):
            found = zlib.crc32(block, found)
    return found


@contextlib.contextmanager
def _locked(folder: Path, ask: Callable[[], None]) -> Iterator[None]:
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder.with_name(f"{folder.name}.lock"))
    while True:
        try:
            lock.acquire(timeout=POLL_S)
            break
        except Timeout:
            ask()
    try:
        yield
    finally:
        lock.release()


def _built(folder: Path, key: str, num_rows: int, chunks: Iterator[Tensor]) -> Tensor:
    """Compute the rows into a folder, and return them mapped. Raises OSError if the disk has no room for them."""
    for leftover in folder.parent.glob(f"{folder.name}.tmp-*"):
        shutil.rmtree(leftover)  # of a killed process: the holder of the lock is the only one building
    scratch = folder.with_name(f"{folder.name}.tmp-{os.getpid()}")
    scratch.mkdir()
    try:
        first = next(chunks)
        _make_room(folder.parent, num_rows * first[0].nbytes)
        checksum = 0
        with (scratch / "rows.bin").open("wb") as file:
            for chunk in _after(first, chunks):
                raw = chunk.contiguous().view(torch.uint8).numpy().data
                file.write(raw)
                checksum = zlib.crc32(raw, checksum)
        shape = [num_rows, first.shape[1]]
        dtype = str(first.dtype).removeprefix("torch.")
        meta = {"key": key, "shape": shape, "dtype": dtype, "checksum": checksum}
        (scratch / "meta.json").write_text(json.dumps(meta))
        for path in (scratch / "rows.bin", scratch / "meta.json", scratch):
            sync(path)
        if folder.exists():
            shutil.rmtree(folder)  # damaged, or it would have been opened
        os.rename(scratch, folder)
        sync(folder.parent)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)  # a partial folder must not fill the disk
        raise
    found = _opened(folder, key, num_rows)
    if found is None:
        raise OSError(errno.EIO, "what was written there cannot be read back")
    return found


def _make_room(store: Path, needed: int) -> None:
    """Delete the least recently used features until there is room for `needed` bytes.

    Processes that have them mapped can still read them. Raises OSError if there is not enough room.
    """
    folders = sorted((path for path in store.iterdir() if (path / "meta.json").is_file()), key=_last_used)
    sizes = [_size(folder) for folder in folders]
    free = shutil.disk_usage(store).free
    most = int(MOST_OF_DISK * (free + sum(sizes)))
    if needed > most:
        raise OSError(errno.ENOSPC, f"they take {needed / 1e6:,.1f} MB, and {free / 1e6:,.1f} MB are free")
    held = sum(sizes)
    for folder, size in zip(folders, sizes, strict=True):
        if held + needed <= most:
            break
        shutil.rmtree(folder, ignore_errors=True)
        held -= size


def _last_used(folder: Path) -> float:
    with contextlib.suppress(OSError):  # another process deleted it
        return folder.stat().st_mtime
    return 0.0


def _size(folder: Path) -> int:
    with contextlib.suppress(OSError):
        return (folder / "rows.bin").stat().st_size
    return 0


def _in_memory(num_rows: int, chunks: Iterator[Tensor], most: int) -> Tensor | None:
    first = next(chunks)
    if num_rows * first[0].nbytes > most:
        return None
    rows = torch.empty((num_rows, *first.shape[1:]), dtype=first.dtype)
    filled = 0
    for chunk in _after(first, chunks):
        rows[filled : filled + len(chunk)] = chunk
        filled += len(chunk)
    return rows


def _after(first: Tensor, others: Iterator[Tensor]) -> Iterator[Tensor]:
    yield first
    yield from others
