"""Scan what the user named, in whatever format: names, labels and groups, before anything is decoded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from trainables.data.bands import with_channels
from trainables.data.cache import default_cache_dir
from trainables.data.class_names import class_name_notes
from trainables.data.csv_table import scan_csv
from trainables.data.dataset import RemoteCopy
from trainables.data.digits import scan_digits, scan_even_odd, scan_scene_masks, scan_scenes
from trainables.data.directory import scan_directory
from trainables.data.groups import with_groups
from trainables.data.plain_files import require_plain
from trainables.data.read_as import ReadAs
from trainables.data.remote import bring, brought
from trainables.data.scan import Scan
from trainables.data.there import BUILT_IN, OF_TORCHVISION, format_of, require_there
from trainables.data.tools.find import is_table, scan_annotation_file
from trainables.data.torchvision_sets import scan_torchvision
from visionsweep.core.errors import DataError
from visionsweep.core.functions import function_at
from visionsweep.core.s3 import is_remote

SCANNERS = dict(zip(BUILT_IN, (scan_digits, scan_even_odd, scan_scenes, scan_scene_masks), strict=True))
READ_AS = ReadAs()


def scan_data(
    spec: str,
    *,
    task: str | None = None,
    read_as: ReadAs = READ_AS,
    cache_dir: Path | None,
    fetch: bool = True,
    grouped: bool = True,
) -> Scan:
    """Scan what `spec` names, without decoding it. Arguments are those of `load_dataset`.

        fetch    whether data that is not on this machine may be downloaded
        grouped  whether groups are read too, which matter where something is split

    Raises DataError.
    """
    return scanned(spec, task, read_as, cache_dir, fetch, grouped)[0]


def scanned(
    spec: str, task: str | None, read_as: ReadAs, cache_dir: Path | None, fetch: bool = True, grouped: bool = True
) -> tuple[Scan, RemoteCopy | None]:
    """Scan the data, downloaded first if it is remote. Return its local copy too, or None."""
    copy = (bring if fetch else brought)(spec, cache_dir) if is_remote(spec) else None
    path = Path(spec).expanduser() if copy is None else copy.path
    scan = _scan(spec, path, task, read_as, cache_dir, fetch)
    scan = with_channels(scan, spec, read_as.channels, tells=grouped)
    if grouped:
        scan = with_groups(scan, spec, path, read_as)
    return replace(scan, notes=(*scan.notes, *class_name_notes(spec, scan.classes))), copy


def _scan(spec: str, path: Path, task: str | None, read_as: ReadAs, cache_dir: Path | None, fetch: bool) -> Scan:
    if spec in SCANNERS:
        return SCANNERS[spec]()
    if spec.startswith(OF_TORCHVISION):
        root = (cache_dir or default_cache_dir()).expanduser().absolute() / "torchvision"
        return scan_torchvision(spec.removeprefix(OF_TORCHVISION), root, task, fetch=fetch)
    require_there(spec, path)
    try:
        if path.is_dir():
            return scan_directory(spec, path, task, read_as)
        require_plain(spec, path)
        file_format = format_of(path)
        assert file_format is not None  # by `require_there`
        scan: Scan = function_at(file_format.scan)(spec, path, task, read_as)
        return scan
    except OSError as error:
        raise DataError(f"'{spec}' cannot be read: {error.strerror or error}. Check its path and rights.") from error


def scan_table(spec: str, path: Path, task: str | None, read_as: ReadAs) -> Scan:
    """Scan a .csv table of the user's own, or one that an annotation tool wrote."""
    return scan_csv(spec, path, read_as) if is_table(path) else scan_annotation_file(spec, path, task, read_as)
