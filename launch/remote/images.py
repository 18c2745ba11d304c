"""Images that are here, on S3, or some of each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from trainables.data.dataset import RemoteCopy
from trainables.data.remote import bring_images
from visionsweep.core.s3 import is_remote


def brought(images: Sequence[str]) -> tuple[list[Path], list[RemoteCopy]]:
    """Return paths for files, folders, patterns and addresses, and the copies made for them. Raises StorageError."""
    copies = {one: bring_images(one) for one in images if is_remote(one)}
    return [copies[one].path if one in copies else Path(one) for one in images], list(copies.values())


def by_address(rows: Iterable[dict[str, Any]], copies: Sequence[RemoteCopy]) -> None:
    """Replace the local paths of copied images by their addresses in rows of predictions."""
    for copy in copies:
        for row in rows:
            for key in ("path", "error"):
                if key in row:
                    row[key] = row[key].replace(str(copy.folder), copy.uri)
