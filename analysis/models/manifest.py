"""The files of an export with their digests: `manifest.json`, which reveals a mixture of two exports.

    {"version": 1, "files": {"config.yaml": {"bytes": 812, "sha256": "..."}, ...}}

It shows that the files belong together. It is no signature, since anyone who can write to the folder can change both.
An export of a version before 0.5 has none, and is loaded unchecked.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from visionsweep.core.errors import RunError
from visionsweep.core.files import read_object
from visionsweep.core.safe_path import safe_path, shown
from visionsweep.core.whole_folder import new_folder
from visionsweep.run_dir.shapes import is_object, is_text

MANIFEST = "manifest.json"
# The files that decide what a model predicts, and how good it is claimed to be.
CHECKED = (
    "config.yaml", "classes.txt", "metrics.json", "data.json", "ensemble.json", "model.safetensors",
    "model-*.safetensors", "members/*/config.yaml", "members/*/model.safetensors",
)  # fmt: skip
# Files that may be changed or deleted without another model: the card, and what other programs read.
UNCHECKED = ("README.md", "requirements.txt", "model.onnx", "model.pt2", "partial-model.*")
EXPORT_ANEW = "Export the trial anew."


@contextlib.contextmanager
def written_whole(out: Path) -> Iterator[Path]:
    """Yield a new folder that becomes the export `out`, with its manifest, when the block has ended.

    A kill or a full disk at any moment leaves either the old export or the new one. Raises RunError if `out` cannot be
    written, or holds other things.
    """
    check_out(out)
    partial = None
    try:
        with new_folder(out, write_manifest, lambda path: not _foreign(path)) as folder:
            partial = str(folder)
            yield folder
    except OSError as error:
        named = os.fsdecode(error.filename) if isinstance(error.filename, (str, bytes)) else None
        if named is not None and partial is not None and not named.startswith((partial, os.path.realpath(out))):
            raise RunError(f"{named}: cannot be read ({error.strerror}). {EXPORT_ANEW}") from None
        raise RunError(f"{out}: cannot be written ({error.strerror}). Choose another --out.") from None


def check_out(out: Path) -> None:
    """Raise RunError if `out` holds anything that is no export, or that its replacement would delete."""
    if not os.path.lexists(out):
        return
    try:
        if not out.is_dir() or (any(out.iterdir()) and not (out / "config.yaml").exists()):
            raise RunError(f"{out}: holds something that is not an export. Choose another --out.")
        if foreign := _foreign(out):
            others = f" and {len(foreign) - 1} more" if len(foreign) > 1 else ""
            raise RunError(
                f"{out}: holds {shown(foreign[0])}{others}, which no export wrote, and an export is replaced as a "
                "whole. Move it away, or choose another --out."
            )
    except OSError as error:
        raise RunError(f"{out}: cannot be read ({error.strerror}). Choose another --out.") from None
    where = Path(os.path.realpath(out))
    if Path(os.path.realpath(".")).is_relative_to(where):
        raise RunError(f"{out}: is the folder that you are in, which is replaced as a whole. Name another.")
    if where.is_mount():
        raise RunError(f"{out}: is a mounted disk, which cannot be replaced as a whole. Name a folder in it.")


def write_manifest(folder: Path) -> None:
    """Write the digests of all files of a folder to its manifest."""
    files = {name: _digest(folder / name) for name in _files(folder) if name != MANIFEST}
    (folder / MANIFEST).write_text(json.dumps({"version": 1, "files": files}, indent=1) + "\n")


def read_manifest(export_dir: Path) -> dict[str, dict[str, Any]] | None:
    """Return the manifest's entry of each file, or None without a manifest. Raises RunError if it is damaged."""
    path = export_dir / MANIFEST
    if not os.path.lexists(path):
        return None
    files: Any = read_object(path, EXPORT_ANEW).get("files")
    if not is_object(files) or not all(is_object(one) and is_text(one.get("sha256")) for one in files.values()):
        raise RunError(f"{path}: is damaged (it states no digest of each file). {EXPORT_ANEW}")
    return dict(files)


def check_files(export_dir: Path, used: Iterable[Path]) -> None:
    """Raise RunError if the files in use, or those that describe them, are not the ones that were exported."""
    manifest = read_manifest(export_dir)
    if manifest is None:
        return
    for name in (path.relative_to(export_dir).as_posix() for path in used):
        if name not in manifest:
            raise RunError(f"{export_dir / name}: does not belong to this export ({MANIFEST}). {EXPORT_ANEW}")
    for name, wanted in manifest.items():
        path = safe_path(export_dir, name, export_dir / MANIFEST, EXPORT_ANEW)
        if not any(fnmatchcase(name, pattern) for pattern in CHECKED) or not os.path.lexists(path):
            continue
        if _digest(path) != wanted:
            raise RunError(
                f"{path}: is not the file that was exported (its digest in {MANIFEST} is another). {EXPORT_ANEW} "
                f"If you changed it yourself, delete {MANIFEST}."
            )


def _digest(path: Path) -> dict[str, Any]:
    if not path.is_file():  # reading a pipe would wait forever
        raise RunError(f"{path}: is no plain file. {EXPORT_ANEW}")
    try:
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            return {"bytes": file.tell(), "sha256": sha256}
    except OSError as error:
        raise RunError(f"{path}: cannot be read ({error.strerror}). {EXPORT_ANEW}") from None


def _files(folder: Path) -> list[str]:
    """Return the names of everything below the folder that is no folder, sorted."""
    found = (Path(root, name) for root, _, names in os.walk(folder) for name in names)
    return sorted(path.relative_to(folder).as_posix() for path in found)


def _foreign(folder: Path) -> list[str]:
    """Return the names of files and folders that no export writes."""
    known = (*CHECKED, *UNCHECKED, MANIFEST)
    folders = {"members", *(f"members/{path.name}" for path in folder.glob("members/*") if path.is_dir())}
    below = (Path(root, name) for root, names, _ in os.walk(folder) for name in names)
    odd = [name for path in below if (name := path.relative_to(folder).as_posix()) not in folders]
    return sorted([*odd, *(name for name in _files(folder) if not any(_matches(name, one) for one in known))])


def _matches(name: str, pattern: str) -> bool:
    """Return whether a name matches a pattern with equally many slashes: fnmatch's * also matches slashes."""
    return name.count("/") == pattern.count("/") and fnmatchcase(name, pattern)
