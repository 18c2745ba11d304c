"""Copying a run directory home: from a folder that is readable here, from S3, or through a cluster's dashboard."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path

from launch.jobs import jobs, transfer
from launch.remote.open_run import bring_run
from visionsweep.core.s3 import is_remote, parse_remote
from visionsweep.core.safe_path import safe_path
from visionsweep.run_dir.files import SEARCH_FILE


def fetch_run(run: str, cluster: str | None, folder: Path) -> Path:
    """Copy a run directory into `folder`, under its own name, and return its path. Raises InputError.

    run: a directory or an address on S3. With a cluster: a directory on it, or the job that wrote it.
    """
    if is_remote(run):
        return _fetch_from_s3(run, folder)
    if cluster is None and os.path.isfile(Path(run) / SEARCH_FILE):
        target = _target(folder, Path(run).resolve().name, run)
        transfer.copy(Path(run), target)
        return target
    url = jobs.cluster_url(cluster)
    if Path(run).is_absolute():
        transfer.check_target(_target(folder, Path(run).name, run))  # before any request
    client = jobs.connect(url)
    run_dir = run if Path(run).is_absolute() else jobs.find(client, url, run).metadata[jobs.RUN_DIR]
    target = _target(folder, Path(run_dir).name, "the job")
    transfer.check_target(target)
    job = jobs.send(client, url, f"fetch-{target.name}", ["launch.jobs.transfer", run_dir], {}, {})
    try:
        with tempfile.TemporaryFile() as file, jobs.asking(url):
            transfer.receive(jobs.follow(client, job), file)
            file.seek(0)
            transfer.unpack(file, target)
    finally:
        with suppress(Exception):  # the transfer is complete, or its own error is being raised
            jobs.stop(client, url, job)
    return target


def _target(folder: Path, name: str, origin: str) -> Path:
    return safe_path(folder, name, origin, "Name the run's own directory.")


def _fetch_from_s3(run: str, folder: Path) -> Path:
    remote = parse_remote(run)
    target = _target(folder, remote.name, run)
    transfer.check_target(target)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=f".{target.name}-") as half:
        bring_run(remote, Path(half) / target.name)
        (Path(half) / target.name).rename(target)
    return target
