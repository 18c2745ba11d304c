"""Data on S3, downloaded once per machine into the cache folder, where it is a folder like any other.

    CACHE/s3/photos-<address>-<listing>/     all files, in the folders that their keys name: there when it is complete
    CACHE/s3/photos-<address>-<listing>.partial/    a download that runs, or was killed and will be resumed

<listing> is a hash of names, sizes and etags, so data that changed remotely gets another folder. The first process
downloads under a lock while others wait. Older folders stay: a search may still be reading them.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import shutil
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from filelock import FileLock

from trainables.data.cache import NEXT_MOVE, default_cache_dir
from trainables.data.dataset import RemoteCopy
from trainables.data.remote_file import names_file, place_of, places
from visionsweep.core.errors import DataError
from visionsweep.core.s3 import Listed, Remote, parse_remote

NUM_CONNECTIONS = 16
DIGITS = 16  # of the hash of a listing
RESERVE_BYTES = 200 * 2**20  # left free on the disk

log = logging.getLogger(__name__)


def bring(spec: str, cache_dir: Path | None) -> RemoteCopy:
    """Download the folder, or the table or annotations with the folder of their images, that `spec` names.

    cache_dir: None means the default cache folder, as the files must be somewhere even if images are not cached. Raises
    StorageError if S3 does not answer, and DataError if there is nothing, or no room for it.
    """
    source, file = _place(parse_remote(spec))
    listing = _listing(source)
    if not listing or (file and file not in listing):
        what = "folder" if not file else "table" if file.lower().endswith(".csv") else "file"
        raise DataError(f"no data in '{spec}': the bucket has no such {what}. Check its name.")
    folder = _folder((cache_dir or default_cache_dir()).expanduser().absolute() / "s3", source, listing)
    if not folder.is_dir():
        _bring(source, listing, folder)
    return RemoteCopy(source.uri, folder, folder / file)


def brought(spec: str, cache_dir: Path | None) -> RemoteCopy:
    """Return the newest copy of the data that an earlier `bring` left on this machine, without a request.

    S3 may have changed since. Raises DataError if there is no copy.
    """
    named = parse_remote(spec)
    home = (cache_dir or default_cache_dir()).expanduser().absolute() / "s3"
    copies = [
        RemoteCopy(source.uri, folder, folder / file)
        for source, file in ((named, ""), *(places(named) if names_file(named) else ()))
        for folder in home.glob(f"{_address(source)}-" + "[0-9a-f]" * DIGITS)
        if (folder / file).exists()
    ]
    if not copies:
        raise DataError(f"{spec} is not on this machine.")
    return max(copies, key=lambda copy: copy.folder.stat().st_mtime)


def bring_images(spec: str) -> RemoteCopy:
    """Download one image, or all in a folder, into the default cache folder. Raises like `bring`."""
    named = parse_remote(spec)
    source = named
    listing = _listing(named)
    name = ""
    if not listing:
        source = named.parent
        name = named.name
        listing = {found: one for found, one in source.listing(name).items() if found == name}
    if not listing:
        raise DataError(f"no images in '{spec}': the bucket has no such image or folder. Check its name.")
    folder = _folder(default_cache_dir().absolute() / "s3", source, listing)
    if not folder.is_dir():
        _bring(source, listing, folder)
    return RemoteCopy(source.uri, folder, folder / name)


def bring_again(copy: RemoteCopy) -> None:
    """Download a copy again, on another machine or after the cache was emptied.

    Raises DataError if the data has changed.
    """
    if copy.folder.is_dir():
        return
    source = parse_remote(copy.uri)
    listing = _listing(source)
    if _folder(copy.folder.parent, source, listing) != copy.folder:
        raise DataError(f"{copy.uri} has changed since the search read it. Restore it, or start a new run.")
    _bring(source, listing, copy.folder)


def _place(named: Remote) -> tuple[Remote, str]:
    """Return the folder to download, and the name in it of the file that was named, '' for the folder itself."""
    if not names_file(named):
        return named, ""
    source, file = place_of(named)
    is_folder = not source.hurried().listing(file).get(file) and named.hurried().listing()
    return (named, "") if is_folder else (source, file)


def _listing(source: Remote) -> dict[str, Listed]:
    """Return the listing of a folder on S3.

    Raises StorageError for names that cannot be files below a folder, and DataError for a name that is a file and a
    folder.
    """
    listing = source.hurried().listing()
    for name in listing:
        parts = name.removesuffix("/").split("/")
        above = ("/".join(parts[:depth]) for depth in range(1, len(parts)))
        if (clash := next((one for one in above if one in listing), None)) is not None:
            raise DataError(f"{source.uri}: '{clash}' is a file and a folder at once. Rename or remove one of them.")
    return listing


def _folder(home: Path, source: Remote, listing: Mapping[str, Listed]) -> Path:
    lines = (f"{name}\0{one.size}\0{one.etag}\n" for name, one in sorted(listing.items()))
    contents = hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()[:DIGITS]
    return home / f"{_address(source)}-{contents}"


def _address(source: Remote) -> str:
    readable = re.sub(r"[^A-Za-z0-9._-]", "_", source.name)[:40]
    return f"{readable}-{hashlib.sha256(source.uri.encode()).hexdigest()[:8]}"


def _bring(source: Remote, listing: Mapping[str, Listed], folder: Path) -> None:
    partial = folder.with_name(f"{folder.name}.partial")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_name(f"{folder.name}.lock")):
            if folder.is_dir():  # another process brought it while this one waited
                return
            for leftover in partial.rglob(".*.partial"):
                leftover.unlink()
            # A file here is whole, and of this very listing: its folder is named by it.
            missing = {name: one for name, one in listing.items() if not (partial / name).exists()}
            num_bytes = sum(one.size for one in missing.values())
            _check_space(source, folder, num_bytes)
            log.info("downloading %d files (%.2f GB) of %s, once", len(missing), num_bytes / 1e9, source)
            _download(source, missing, partial)
            os.sync()
            partial.rename(folder)
    except (OSError, NotImplementedError) as error:  # NotImplementedError: a file system without locks
        raise DataError(f"{source.uri} cannot be stored in '{folder.parent}': {error}. {NEXT_MOVE}") from error


def _download(source: Remote, wanted: Mapping[str, Listed], partial: Path) -> None:
    def one(name: str) -> None:
        if name.endswith("/"):  # a marker of a folder that may be empty
            (partial / name).mkdir(parents=True, exist_ok=True)
        elif not source.download(name, partial, wanted[name].etag):
            raise DataError(f"{source.uri}: '{name}' has changed while it was downloaded. Try again when it is still.")

    partial.mkdir(exist_ok=True)
    with ThreadPoolExecutor(NUM_CONNECTIONS) as pool:
        try:
            for _ in pool.map(one, wanted):
                pass
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _check_space(source: Remote, folder: Path, num_bytes: int) -> None:
    free = shutil.disk_usage(folder.parent).free - RESERVE_BYTES
    if num_bytes > free:
        raise DataError(
            f"{source.uri} takes {num_bytes / 1e9:.2f} GB, and '{folder.parent}' has {max(0, free) / 1e9:.2f} GB to "
            f"spare. Free some space, or name another place with --cache-dir."
        )
