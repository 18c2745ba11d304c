"""Location of a run: a folder, or a folder on S3 with a working copy in this machine's cache folder.

CACHE/runs/<address>/NAME/    the working copy: the records, and below scratch/ what a trial here is writing
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from visionsweep.core.errors import RunError, StorageError
from visionsweep.core.names import did_you_mean
from visionsweep.core.s3 import Remote, is_remote, parse_remote
from visionsweep.core.s3_client import endpoint
from visionsweep.run_dir.files import SEARCH_FILE
from visionsweep.run_dir.trials import read_search


@dataclass(frozen=True)
class RunLocation:
    """Location of a run.

    folder  where the driver works
    remote  the run on S3, None where the folder itself is the run
    """

    folder: Path
    remote: Remote | None = None


def location_of(run: str, cache_dir: Path | None) -> RunLocation:
    """Return the location of a run, given by its folder or address. Raises StorageError for an address that is none."""
    if not is_remote(run):
        return RunLocation(Path(run))
    remote = parse_remote(run)
    if remote.name in (".", "..") or not remote.prefix:
        raise StorageError(
            f"a run on S3 is s3://BUCKET/FOLDER/NAME, got '{run}'. For example s3://my-bucket/runs/mine."
        )
    address = hashlib.sha256(f"{endpoint()} {remote.parent.uri}".encode()).hexdigest()[:16]
    return RunLocation(home(cache_dir) / address / remote.name, remote)


def new_location(runs_dir: str, name: str, cache_dir: Path | None) -> RunLocation:
    return location_of(
        f"{runs_dir.rstrip('/')}/{name}" if is_remote(runs_dir) else str(Path(runs_dir) / name), cache_dir
    )


def local_run(run: str) -> Path:
    """Return the folder of a run that a command works with, not only reads. Raises RunError for one on S3."""
    if is_remote(run):
        raise RunError(f"{run}: is on S3, and this works in a folder. Bring it home first: `visionsweep fetch {run}`.")
    return Path(run)


def require_run(run: str) -> None:
    """Raise RunError or StorageError if there is no such run."""
    location = location_of(run, None)
    if location.remote is None:
        read_search(location.folder)
        return
    remote = location.remote.hurried()
    names = remote.parent.folders()  # raises for a missing bucket, where `exists` finds nothing
    if not remote.exists(SEARCH_FILE):
        hint = did_you_mean(remote.name, names) if names else "`visionsweep run --runs-dir` makes one."
        raise RunError(f"{remote}: is not a run (it has no search.json). {hint}")


def home(cache_dir: Path | None) -> Path:
    """Return the folder for working copies and views of runs on S3."""
    from trainables.data.cache import default_cache_dir  # and with it OpenCV, for which a local run need not wait

    return (cache_dir or default_cache_dir()).expanduser().absolute() / "runs"
