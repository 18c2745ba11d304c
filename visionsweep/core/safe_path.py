"""Validation of untrusted names: of objects on S3, of an archive's members, of trials in somebody's records.

An untrusted name becomes a path here and nowhere else. Only names of files below the folder pass. Links are not
checked, because such names are joined only to folders of our own.
"""

from __future__ import annotations

from pathlib import Path

from visionsweep.core.errors import InputError, RunError

MAX_PART_BYTES = 255  # what file systems take
MAX_NAME_BYTES = 1024  # what S3 takes


def safe_path(
    folder: Path, name: str, origin: object, next_move: str = "Rename or remove it.", kind: type[InputError] = RunError
) -> Path:
    """Return the path of `name` below `folder`.

    name       untrusted, relative, with slashes between its parts
    origin     where the name was read, for the message
    next_move  what the user can do about it

    Raises `kind`, in one sentence, if the name is not that of a file below a folder.
    """
    if (problem := name_problem(name)) is not None:
        raise kind(f"{origin}: something there is called {shown(name)}, {problem}. {next_move}")
    return folder / name


def trial_folder(run_dir: Path, room: str, trial_id: str) -> Path:
    """Return the folder of a trial in a run's folder `room`: checkpoints, predictions or judged.

    The trial's name comes from records, so it is untrusted.
    """
    return safe_path(run_dir / room, trial_id, run_dir, "Restore the run from a copy.")


def name_problem(name: str) -> str | None:
    """Say why a name cannot be that of a file below a folder. Return None if it can."""
    parts = name.split("/")
    if not name:
        return "which is no name"
    if not parts[0]:
        return "which is absolute"
    if ".." in parts:
        return "which leads out of its folder"
    if "" in parts or "." in parts:
        return "which has an empty part"
    if "\0" in name:
        return "which has a zero byte in it"
    if "\\" in name:  # separates folders on other systems
        return "which has a backslash in it"
    if any(0xD800 <= ord(letter) < 0xDC80 or 0xDCFF < ord(letter) < 0xE000 for letter in name):
        return "which has half of a character in it"  # JSON can hold one, and no file name
    if any(len(part.encode("utf-8", "surrogateescape")) > MAX_PART_BYTES for part in parts):
        return f"which has a part of more than {MAX_PART_BYTES} bytes"
    if len(name.encode("utf-8", "surrogateescape")) > MAX_NAME_BYTES:
        return f"which has more than {MAX_NAME_BYTES} bytes"
    return None


def shown(name: str) -> str:
    """Return a name as a message shows it: quoted, escaped, in one line of at most 120 characters."""
    text = repr(name)
    return text if len(text) <= 120 else f"{text[:117]}..."
