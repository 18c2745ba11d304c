"""Whether what a user named as data is there at all, before anything is read or heavy is imported."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from visionsweep.core.errors import DataError
from visionsweep.core.functions import Place
from visionsweep.core.names import did_you_mean
from visionsweep.core.s3 import is_remote
from visionsweep.core.words import quoted

BUILT_IN = ("digits", "digits:binary", "digits:multilabel", "digits:segmentation")
OF_TORCHVISION = "torchvision:"
FETCHED = ("s3://", OF_TORCHVISION)  # data that is brought to this machine from elsewhere
ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".zst", ".7z", ".rar")


@dataclass(frozen=True)
class FileFormat:
    """A format of one file that names images, or holds them.

    endings  in small letters
    scan     function of (spec, path, task, `ReadAs`) that returns a `Scan`. 'module:name' is imported when it is called
    """

    endings: tuple[str, ...]
    scan: Place


# The first with a file's ending reads it. Layouts of folders are in `directory.py`, files of tools in `tools/find.py`.
FORMATS: dict[str, FileFormat] = {
    "table": FileFormat((".csv",), "trainables.data.scanned:scan_table"),
    "annotations": FileFormat(
        (".json", ".jsonl", ".xml", ".yaml", ".yml"), "trainables.data.tools.find:scan_annotation_file"
    ),
}


def format_of(path: Path) -> FileFormat | None:
    """Return the format of a file's ending, None for an unknown one."""
    return next((one for one in FORMATS.values() if path.suffix.lower() in one.endings), None)


def require_there(spec: str, path: Path | None = None) -> None:
    """Raise DataError where `spec` is neither a name that we know nor a folder or table on this machine.

    path    where it lies, None: where `spec` says; what is on S3 or comes from torchvision is not looked for
    """
    if path is None:
        if spec in BUILT_IN or spec.startswith(OF_TORCHVISION) or is_remote(spec):
            return
        path = Path(spec).expanduser()
    try:
        if path.is_dir() or (path.exists() and format_of(path) is not None):
            return
        is_file = path.is_file()
    except OSError as error:
        raise DataError(f"'{spec}' cannot be read: {error.strerror or error}. Check its path and rights.") from error
    if is_file and path.suffix.lower() in ARCHIVES:
        raise DataError(f"'{spec}' is an archive, and data is a folder or a .csv table. Unpack it and name the folder.")
    if is_file:
        from trainables.data.folders import LAYOUTS

        raise DataError(
            f"'{spec}' is a file, but neither a folder nor a .csv table nor a tool's annotations. {LAYOUTS}"
        )
    raise DataError(f"no data in '{spec}': there is no such folder or table. {_nearest(spec, path)}")


def no_such_image(image: str) -> DataError:
    """The error for an image file that is not there."""
    return DataError(f"{image}: no such image. Name image files or folders of them.")


def _nearest(spec: str, path: Path) -> str:
    try:
        beside = [entry.name for entry in path.parent.iterdir()]
    except OSError:  # there is no such folder either, or it may not be listed
        beside = []
    guess = did_you_mean(path.name, beside) if beside else ""
    if guess.startswith("Did"):
        return guess
    guess = did_you_mean(spec, [*BUILT_IN, "torchvision:CIFAR10"])
    known = (*BUILT_IN, "torchvision:NAME")
    return guess if guess.startswith("Did") else f"Name a folder, a .csv table or one of {quoted(known)}."
