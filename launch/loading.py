"""From what the command line says to a Search: shipped names, the user's files, --set, durations."""

from __future__ import annotations

import importlib.util
import re
import sys
import time
from pathlib import Path
from typing import Any

import yaml

from search_spaces.errors import ConfigError
from search_spaces.names import pick
from search_spaces.search import Search
from search_spaces.shipped import SEARCHES
from trainables.config_io import number_from_text

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def load_search(name: str) -> Search:
    """A shipped search by name, or SEARCH from a Python file. The file is the user's own code and is run."""
    if not name.endswith(".py"):
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
    search = getattr(module, "SEARCH", None)
    if not isinstance(search, Search):
        raise ConfigError(f"{path}: must define SEARCH = Search(...), and SEARCH is {search!r}. Add it.")
    return search


def data_of(name: str, search: Search, data: str | None) -> str:
    """What the command line names, else what the search itself does. Raises ConfigError where neither does."""
    chosen = data or search.data
    if not chosen:
        raise ConfigError(f"the search '{name}' names no data. Add --data DIR.")
    return chosen


def parse_assignments(assignments: list[str]) -> dict[str, Any]:
    """`--set key=value` pairs; values are read as YAML: 3, 1e-3, true, none-like strings stay strings."""
    parsed = {}
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals or not key:
            raise ConfigError(f"--set takes key=value, got '{assignment}'. For example --set image_size=128.")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError:
            value = text
        parsed[key] = number_from_text(value)
    return parsed


def parse_duration(text: str) -> float:
    """Seconds of '90s', '30m', '1.5h', '2d', or '1h30m'."""
    parts = re.findall(r"(\d+(?:\.\d+)?)([smhd])", text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ConfigError(f"a budget is a number with a unit (s, m, h or d), got '{text}'. For example 30m or 1h30m.")
    seconds = sum(float(number) * _SECONDS[unit] for number, unit in parts)
    if seconds <= 0:
        raise ConfigError(f"a budget must be longer than nothing, got '{text}'. For example 30m.")
    return seconds


def default_name(search_name: str) -> str:
    """The search and the time: `classification-cpu-20260131-101500`."""
    return f"{Path(search_name).stem}-{time.strftime('%Y%m%d-%H%M%S')}"


def check_name(name: str) -> str:
    """A run name is one folder name."""
    if not name or name in (".", "..") or "/" in name or "\\" in name:
        raise ConfigError(
            f"a run name is one folder name without slashes, got '{name}'. Use --runs-dir for the folder."
        )
    return name


def _line_in(error: Exception, path: Path) -> str:
    if isinstance(error, SyntaxError):
        return f", line {error.lineno}"
    trace, line = error.__traceback__, ""
    while trace is not None:
        if Path(trace.tb_frame.f_code.co_filename).resolve() == path.resolve():
            line = f", line {trace.tb_lineno}"
        trace = trace.tb_next
    return line
