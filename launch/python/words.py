"""The command that a call of `visionsweep.search` stands for: its arguments as words of the command line."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from launch.cli.options import check_gpus_per_trial
from search_spaces.search import Search
from search_spaces.serial import search_to_json
from visionsweep.core.errors import ConfigError
from visionsweep.core.files import short

THROUGH_CLIENT = "ray://"
LEAST_CPUS = 0.01
AT_LEAST = {"trials": 1, "max_concurrent": 1, "keep_trials": 1, "seed": 0}


def checked_counts(counts: Mapping[str, int | None]) -> None:
    """Raise ConfigError for a number that its option does not take."""
    for name, value in counts.items():
        if value is None:
            continue
        if not isinstance(value, int) or isinstance(value, bool) or value < AT_LEAST[name]:
            raise ConfigError(
                f"{name} must be a whole number of at least {AT_LEAST[name]}, got {short(value)}. Change it."
            )


def checked_share(name: str, value: object) -> None:
    """Raise ConfigError for a share of a machine that `--cpus-per-trial` and `--gpus-per-trial` do not take."""
    if name == "gpus_per_trial":
        check_gpus_per_trial(value)
    elif value not in (None, "auto") and (
        not isinstance(value, (int, float)) or isinstance(value, bool) or not LEAST_CPUS <= value < float("inf")
    ):
        raise ConfigError(f"{name} takes 'auto' or a number of at least {LEAST_CPUS}, got {short(value)}. Change it.")


def check_address(address: str | None) -> None:
    """Raise ConfigError for Ray's client: what searches behind it is a job, not a process of the caller's."""
    if address is not None and address.startswith(THROUGH_CLIENT):
        raise ConfigError(
            f"from Python a search joins a Ray cluster by 'auto' or HOST:PORT, got '{address}'. "
            "Behind Ray's client it is a job: `visionsweep submit`."
        )


def in_units(budget: str | float | None) -> str | None:
    """Return a budget as `--budget` takes it. A number is seconds."""
    return f"{budget:f}s" if isinstance(budget, (int, float)) else budget


def options_as_words(options: Mapping[str, Any]) -> list[str]:
    """Return options by their names in Python as words: `runs_dir="a"` is `--runs-dir=a`.

    None and False are left out, True is the option alone, and a list is the option several times.
    """
    words = []
    for name, value in options.items():
        option = f"--{name.replace('_', '-')}"
        if value is None or value is False:
            continue
        if value is True:
            words.append(option)
            continue
        several = isinstance(value, Sequence) and not isinstance(value, str)
        words += [f"{option}={one}" for one in (value if several else [value])]
    return words


def assignments(values: Mapping[str, Any]) -> list[str]:
    """Return plain values as `--set` takes them: JSON, which is YAML, so that a text is never a number."""
    return [f"{key}={json.dumps(value)}" for key, value in values.items()]


def is_plain(value: Any) -> bool:
    """Whether `--set` can say a value. A range or a part of a space goes into the search itself."""
    return value is None or isinstance(value, (bool, int, float, str))


def search_file(search: Search) -> str:
    """Return the text of a file that `visionsweep run FILE.json` takes for this search."""
    try:
        return json.dumps({"search": search_to_json(search)}, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"the search holds a value that is neither a range nor plain data ({error}). "
            "Use numbers, texts, lists and dicts."
        ) from None


def paths_of(runs: object) -> list[str]:
    """Return what `--warm-start` takes: for a run, a handle, a path or a recipe, or for several of them."""
    if runs is None:
        return []
    listed: Iterable[Any] = runs if isinstance(runs, (list, tuple)) else [runs]
    return [str(getattr(one, "run_dir", None) or os.fspath(one)) for one in listed]
