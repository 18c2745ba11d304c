"""Read files that somebody else may have written.

An unusable file raises one sentence that names it. It may be damaged, nested too deeply, too large, wrongly encoded,
unreadable, or not a plain file. Callers choose the error's class with `kind` and its end with `next_move`. They check
themselves what a JSON or YAML document must hold.
"""

from __future__ import annotations

import io
import json
import os
import stat
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from visionsweep.core.errors import InputError, RunError

# Several times what the largest data set of a million images makes of each.
MAX_JSON_BYTES = 512 * 2**20
MAX_LINE_BYTES = 16 * 2**20
MAX_YAML_BYTES = 2**18  # PyYAML takes seconds for this much; a configuration has a few kilobytes
MAX_YAML_NODES = 20_000  # with every alias written out
MAX_ARRAY_BYTES = 16 * 2**30  # of one npz, uncompressed
MAX_DEPTH = 64  # brackets within brackets

RESTORE = "Restore it from a copy."


class Hole(ValueError):
    """A line with zero bytes, which JSON never has. Its blocks did not reach the disk before the power failed."""


def read_bytes(
    path: Path, next_move: str = RESTORE, kind: type[InputError] = RunError, *, most: int = MAX_JSON_BYTES
) -> bytes:
    """Return the content of a plain file of at most `most` bytes. Raises `kind`."""
    with _opened(path, next_move, kind) as file:
        content = _take(path, file, most + 1, next_move, kind)
    if len(content) > most:
        raise kind(f"{path}: is larger than {most // 2**10} kB, the most that is read. {next_move}")
    return content


def read_text(
    path: Path, next_move: str = RESTORE, kind: type[InputError] = RunError, *, most: int = MAX_JSON_BYTES
) -> str:
    """Return a UTF-8 text. Raises `kind`."""
    return _decoded(read_bytes(path, next_move, kind, most=most), path, next_move, kind)


def _decoded(content: bytes, path: Path, next_move: str, kind: type[InputError]) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise kind(f"{path}: is not UTF-8 text ({error.reason} at byte {error.start}). {next_move}") from None


def check_plain(path: Path, next_move: str = RESTORE, kind: type[InputError] = RunError) -> None:
    """Raise `kind` if a path exists and is not a plain file."""
    if os.path.lexists(path):
        _opened(path, next_move, kind).close()


def read_json(path: Path, next_move: str = RESTORE, kind: type[InputError] = RunError) -> Any:
    """Return the value of a JSON document. Raises `kind`."""
    try:
        return parse_json(read_text(path, next_move, kind))
    except ValueError as error:
        raise kind(f"{path}: is damaged ({error}). {next_move}") from None


def read_object(path: Path, next_move: str = RESTORE, kind: type[InputError] = RunError) -> dict[str, Any]:
    """Return a JSON document that is an object. Raises `kind`."""
    value = read_json(path, next_move, kind)
    if not isinstance(value, dict):
        raise kind(f"{path}: must hold a JSON object, got {short(value)}. {next_move}")
    return value


def read_json_lines(path: Path, kind: type[InputError] = RunError) -> Iterator[tuple[int, Any]]:
    """Yield (number, value) of every complete line. The value of a damaged line is the ValueError that says why.

    A last line without its end is left out. A crash or a running write leaves one. A missing file has no lines.
    Raises `kind` if it is not a plain file.
    """
    if not os.path.lexists(path):
        return
    number = 0
    with _opened(path, RESTORE, kind) as file:
        while line := _take_line(path, file, kind):
            number += 1
            if len(line) > MAX_LINE_BYTES:
                while not line.endswith(b"\n") and (line := _take_line(path, file, kind)):
                    pass  # to its end
                yield number, ValueError(f"it is longer than {MAX_LINE_BYTES // 2**20} MB")
                continue
            if not line.endswith(b"\n"):
                return
            yield number, json_or_error(line)


def json_or_error(line: bytes) -> Any:
    """Return the value of a line of JSON, or the ValueError that it raises."""
    try:
        return parse_json(line.decode("utf-8"))
    except ValueError as error:  # UnicodeDecodeError is one
        return Hole("zero bytes, as a power cut leaves them") if b"\0" in line else error


def parse_json(text: str) -> Any:
    """Return the value of a JSON text. Raises ValueError, also if it is nested too deeply."""
    try:
        value = json.loads(text)
    except RecursionError:
        raise ValueError(f"nested more than {MAX_DEPTH} deep") from None
    if text.count("[") + text.count("{") > MAX_DEPTH:  # else it cannot be nested so deeply
        _check_depth(value)
    return value


def read_yaml(path: Path, next_move: str, kind: type[InputError] = RunError) -> Any:
    """Return the value of a YAML document that a person wrote, of plain values only. Raises `kind`.

    next_move  for a file that cannot be read
    """
    content = read_bytes(path, next_move, kind, most=MAX_YAML_BYTES)
    return parse_yaml(_decoded(content, path, "Save it as UTF-8.", kind), str(path), "Mend that line.", kind)


def parse_yaml(text: str, origin: str, next_move: str, kind: type[InputError] = RunError) -> Any:
    """Return the value of a YAML text that comes from `origin`. Raises `kind`."""
    import yaml  # which most commands need not wait for

    loader = None
    try:
        loader = yaml.SafeLoader(io.StringIO(text))  # refuses control characters at once
        node = loader.get_single_node()
        if node is None:
            return None
        _count_nodes(node, {}, 0)
        return loader.construct_document(node)
    except RecursionError:
        raise kind(f"{origin}: is nested more than {MAX_DEPTH} deep. {next_move}") from None
    # Its constructors raise whatever int(), a date or a regular expression does on nonsense.
    except (yaml.YAMLError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError) as error:
        raise kind(f"{origin}: is not valid YAML ({one_line(error)}). {next_move}") from None
    finally:
        if loader is not None:
            loader.dispose()


def read_npz(
    path: Path,
    next_move: str = "Delete it.",
    kind: type[InputError] = RunError,
    *,
    only: Collection[str] | None = None,
) -> dict[str, np.ndarray]:
    """Return the arrays of an npz by name. Raises `kind`, also for pickled objects and for names that it lacks.

    only  names to read, None reads all
    """
    with _opened(path, next_move, kind) as file:
        try:
            with np.load(file, allow_pickle=False) as stored:
                if sum(member.file_size for member in stored.zip.infolist()) > MAX_ARRAY_BYTES:
                    raise ValueError(f"more than {MAX_ARRAY_BYTES // 2**30} GB of arrays")
                return {name: stored[name] for name in (stored.files if only is None else only)}
        # A damaged archive raises a dozen kinds: of zipfile, zlib, struct, ast and numpy.
        except Exception as error:
            raise kind(f"{path}: cannot be read ({one_line(error)}). {next_move}") from None


def one_line(error: object) -> str:
    """Return the message of an error in one line of at most 200 characters."""
    message = " ".join(str(error).split())[:200]
    return message or type(error).__name__


def utf8(text: str) -> str:
    """Return a text that can be encoded. File names, and messages with them, may hold bytes that are not UTF-8."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def short(value: object) -> str:
    """Return a value as a message shows it, in at most 60 characters."""
    shown = ascii(value) if isinstance(value, (str, int, float, bool, type(None))) else f"a {type(value).__name__}"
    return shown if len(shown) <= 60 else f"{shown[:57]}..."


def _opened(path: Path, next_move: str, kind: type[InputError]) -> io.BufferedReader:
    """Open a plain file. O_NONBLOCK keeps a pipe without a writer from blocking for ever."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        why = error.strerror if isinstance(error, OSError) else error
        raise kind(f"{path}: cannot be read ({why}). {next_move}") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        is_folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        os.close(descriptor)
        raise kind(f"{path}: is {'a folder' if is_folder else 'no plain file'}, and must be a file. {next_move}")
    return os.fdopen(descriptor, "rb")


def _take(path: Path, file: io.BufferedReader, size: int, next_move: str, kind: type[InputError]) -> bytes:
    try:
        # `read` allocates as many bytes as it is asked for, and the bounds are half a gigabyte.
        return file.read(min(size, os.fstat(file.fileno()).st_size + 1))
    except OSError as error:
        raise kind(f"{path}: cannot be read ({error.strerror}). {next_move}") from None


def _take_line(path: Path, file: io.BufferedReader, kind: type[InputError]) -> bytes:
    try:
        return file.readline(MAX_LINE_BYTES + 1)
    except OSError as error:
        raise kind(f"{path}: cannot be read ({error.strerror}). {RESTORE}") from None


def _check_depth(value: Any) -> None:
    """Raise ValueError if a value is nested too deeply. It goes level by level, without recursion."""
    level = [value]
    for _ in range(MAX_DEPTH):
        inner = [one.values() if isinstance(one, dict) else one for one in level if isinstance(one, (dict, list))]
        level = [item for items in inner for item in items if isinstance(item, (dict, list))]
        if not level:
            return
    raise ValueError(f"nested more than {MAX_DEPTH} deep")


def _count_nodes(node: Any, counted: dict[int, int], depth: int) -> int:
    """Return the number of nodes with every alias expanded. A few lines of aliases can stand for billions.

    Raises ValueError for too many, and for a node that contains itself.
    """
    if depth > MAX_DEPTH:
        raise ValueError(f"nested more than {MAX_DEPTH} deep")
    if id(node) not in counted:
        parts = node.value if isinstance(node.value, list) else []
        inner = [one for part in parts for one in (part if isinstance(part, tuple) else (part,))]
        counted[id(node)] = 1 + sum(_count_nodes(one, counted, depth + 1) for one in inner)
        if counted[id(node)] > MAX_YAML_NODES:
            raise ValueError(f"more than {MAX_YAML_NODES} values")
    return counted[id(node)]
