"""From the command line to a Search: shipped names, the user's files, --set, durations."""

from __future__ import annotations

import importlib.util
import re
import shlex
import sys
import time
from pathlib import Path
from typing import Any

from launch.cli.hidden import neighbour_that_hides
from search_spaces.search import Search
from search_spaces.serial import search_from_json
from search_spaces.shipped import SEARCHES
from trainables.config.io import number_from_text
from visionsweep.core.errors import ConfigError, InputError, RunError
from visionsweep.core.files import parse_yaml, read_object, short
from visionsweep.core.names import pick

MAX_NAME_LETTERS = 200
MAX_NAME_BYTES = 240  # file systems take 255, and what stands beside a run gets a suffix
_UNITS = {"s|sec|secs|seconds?": 1, "m|min|mins|minutes?": 60, "h|hr|hrs|hours?": 3600, "d|days?": 86400}


def load_search(name: str) -> Search:
    """Return a shipped search by name, SEARCH of a Python file, or the search of a run's search.json.

    A Python file is the user's own code and is run. A .json is data.
    """
    if name.endswith(".json"):
        return _of_run(Path(name))
    if not name.endswith(".py"):
        if name not in SEARCHES and Path(name).exists():
            raise ConfigError(
                f"the first argument of a search is its name, and '{name}' is data. For a laptop: "
                f"visionsweep run classification-cpu --data {shlex.quote(name)} (segmentation-cpu for masks)."
            )
        return pick(SEARCHES, name, "search")
    path = Path(name)
    if not path.is_file():
        raise ConfigError(f"{path}: no such file. Name a Python file with SEARCH = Search(...), or a shipped search.")
    spec = importlib.util.spec_from_file_location("visionsweep_user_search", path)
    assert spec is not None, path
    assert spec.loader is not None, path
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.parent.resolve()))  # the file may import its neighbours
    try:
        spec.loader.exec_module(module)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    except Exception as error:
        line = _line_in(error, path)
        raise ConfigError(f"{path}{line}: {type(error).__name__}: {error}. Mend the file.") from None
    finally:
        sys.path.pop(0)
    hidden = neighbour_that_hides(path)
    if hidden is not None:
        raise ConfigError(hidden)
    search = getattr(module, "SEARCH", None)
    if not isinstance(search, Search):
        raise ConfigError(f"{path}: must define SEARCH = Search(...), and SEARCH is {search!r}. Add it.")
    return search


def _of_run(path: Path) -> Search:
    told = read_object(path, "Name a run's search.json.", ConfigError)
    if not isinstance(told.get("search"), dict):
        raise ConfigError(f"{path}: must hold a search as a run's search.json does, and has none. Name another file.")
    try:
        return search_from_json(told["search"])
    except RunError as error:
        raise ConfigError(f"{path}: {str(error).removeprefix('search.json: ')}") from None


def data_of(name: str, search: Search, data: str | None) -> str:
    """What the command line names, else what the search itself does. Raises ConfigError where neither does."""
    if data == "":
        raise ConfigError("--data is empty. Name a folder of images, a .csv table, or digits.")
    chosen = data or search.data
    if not chosen:
        raise ConfigError(f"the search '{name}' names no data. Add --data DIR.")
    return chosen


def parse_assignments(assignments: list[str]) -> dict[str, Any]:
    """Parse `--set key=value` pairs.

    Values are read as YAML, so 3, 1e-3 and true are no strings. A word such as none is one.
    """
    parsed = {}
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals or not key:
            raise ConfigError(f"--set takes key=value, got '{assignment}'. For example --set image_size=128.")
        try:
            value = parse_yaml(text, key, "")
        except InputError:
            value = text
        parsed[key] = number_from_text(value)
    return parsed


def parse_duration(text: str) -> float:
    """Seconds of '90s', '30m', '1.5h', '2d', '1h30m', or '5 min'."""
    parts = re.findall(r"(\d+(?:\.\d+)?)([a-z]+)", text.lower().replace(" ", ""))
    lengths = [next((s for units, s in _UNITS.items() if re.fullmatch(units, unit)), None) for _, unit in parts]
    if not parts or None in lengths or "".join(map("".join, parts)) != text.lower().replace(" ", ""):
        meant = f" Did you mean {text}m (minutes) or {text}h?" if re.fullmatch(r"\d+(\.\d+)?", text) else ""
        raise ConfigError(
            f"a budget is a number with a unit (s, m, h or d), got '{text}'. For example 30m or 1h30m.{meant}"
        )
    seconds = sum(float(number) * (length or 0) for (number, _), length in zip(parts, lengths, strict=True))
    if seconds <= 0:
        raise ConfigError(f"a budget must be longer than nothing, got '{text}'. For example 30m.")
    return seconds


def default_name(search_name: str) -> str:
    """Return the name of the search with the time: `classification-cpu-20260131-101500`."""
    return f"{Path(search_name).stem}-{time.strftime('%Y%m%d-%H%M%S')}"


def check_name(name: str) -> str:
    """Return a run name that is one folder name, of printable letters. Raises ConfigError.

    Terminals, YAML comments and web pages show it, and a file system has to hold it.
    """
    if not name or name in (".", "..") or "/" in name or "\\" in name:
        raise ConfigError(
            f"a run name is one folder name without slashes, got '{name}'. Use --runs-dir for the folder."
        )
    odd = next((letter for letter in name if not letter.isprintable()), None)
    if odd is not None:  # line ends, control characters, and bytes that are no UTF-8
        raise ConfigError(
            f"a run name has printable letters only, got {short(name)} with {odd!a}. Choose another --name."
        )
    num_bytes = len(name.encode())
    if len(name) > MAX_NAME_LETTERS or num_bytes > MAX_NAME_BYTES:
        raise ConfigError(
            f"a run name has at most {MAX_NAME_LETTERS} letters and {MAX_NAME_BYTES} bytes, got {len(name)} letters "
            f"and {num_bytes} bytes. Choose a shorter --name."
        )
    return name


def _line_in(error: Exception, path: Path) -> str:
    if isinstance(error, SyntaxError):
        return f", line {error.lineno}"
    trace = error.__traceback__
    line = ""
    while trace is not None:
        if Path(trace.tb_frame.f_code.co_filename).resolve() == path.resolve():
            line = f", line {trace.tb_lineno}"
        trace = trace.tb_next
    return line
