"""Predictions for images that are here, on S3, or some of each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from analysis.predict import predict_images
from trainables.data.remote import bring_images
from trainables.s3 import is_remote


def predict_at(export_dir: Path, images: Sequence[str], out: Path | None) -> list[dict[str, Any]]:
    """As `predict_images`, for files, folders and addresses; a row's path is the image's address where it has one."""
    copies = [bring_images(named) for named in images if is_remote(named)]
    waiting = iter(copies)
    rows = predict_images(export_dir, [next(waiting).path if is_remote(one) else Path(one) for one in images], out)
    for copy in copies:
        for row in rows:
            for key in ("path", "error"):
                if key in row:
                    row[key] = row[key].replace(str(copy.folder), copy.uri)
    return rows
