"""Probe of a machine, run there in a Ray task: whether it can do what data and runs on S3 need."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from launch.remote.location import RunLocation
from trainables.data.dataset import Dataset
from visionsweep.core.errors import StorageError
from visionsweep.core.s3 import Remote, parse_remote


@dataclass(frozen=True)
class Storage:
    """What a run needs of S3.

    read, write  addresses of folders on S3
    folders      folders of each machine, where data and runs on S3 have their copies
    """

    read: Sequence[str] = ()
    write: Sequence[str] = ()
    folders: Sequence[Path] = ()


def storage_of(dataset: Dataset, location: RunLocation) -> Storage:
    read = [] if dataset.copy is None else [dataset.copy.uri]
    write = [] if location.remote is None else [location.remote.parent.uri]
    folders = [] if dataset.copy is None else [dataset.copy.folder.parent]
    folders += [] if location.remote is None else [location.folder.parent]
    return Storage(read, write, folders)


def problems(storage: Storage) -> tuple[str, ...]:
    """Return what this machine cannot do, in sentences."""
    found = []
    asked = [(uri, list_in) for uri in storage.read] + [(uri, probe_writing) for uri in storage.write]
    for uri, look in asked:
        try:
            look(parse_remote(uri).hurried())
        except StorageError as error:
            found.append(str(error))
    for path in storage.folders:
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            found.append(f"{path}: cannot be written ({error.strerror}). Name another place with --cache-dir.")
    return tuple(found)


def list_in(folder: Remote) -> None:
    """Raise StorageError if this machine cannot list a folder on S3."""
    folder.folders()


def probe_writing(folder: Remote) -> None:
    """Raise StorageError if this machine cannot write, read and delete in a folder on S3."""
    probe = f".visionsweep-probe-{uuid.uuid4().hex}"
    folder.write(probe, b"visionsweep")
    folder.read(probe)
    folder.delete([probe])
