"""Format of a run's files: search.json, and the lines of trials.jsonl and epochs.jsonl.

Unknown keys are allowed, because a newer version may have written them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from visionsweep.core.errors import RunError
from visionsweep.core.files import RESTORE, short, utf8
from visionsweep.core.names import COSTS

STATUSES = ("complete", "pruned", "failed", "diverged", "oom", "interrupted")
MAX_EPOCHS = 10**6
LAST_TIME_S = 2.0**36  # in the year 4147

Check = Callable[[Any], bool]


def is_trial_id(value: Any) -> bool:
    """Whether it has four digits or more. Folders are named by it."""
    return isinstance(value, str) and re.fullmatch(r"[0-9]{4,12}", value) is not None


def is_text(value: Any) -> bool:
    return isinstance(value, str)


def is_plain(value: Any) -> bool:
    """Whether it can be the value of a parameter."""
    return value is None or isinstance(value, bool) or is_number(value) or (is_text(value) and utf8(value) == value)


def is_object(value: Any) -> bool:
    return isinstance(value, dict)


def is_number(value: Any) -> bool:
    """Whether it is a finite number that a float can hold."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return math.isfinite(value) if isinstance(value, float) else abs(value) < 2**1000


def is_duration(value: Any) -> bool:
    return is_number(value) and value >= 0


def is_time(value: Any) -> bool:
    """Whether it can be seconds since the Unix epoch."""
    return is_number(value) and 0 <= value < LAST_TIME_S


def is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53


def is_epoch(value: Any) -> bool:
    return is_count(value) and 1 <= value <= MAX_EPOCHS


def is_config(value: Any) -> bool:
    """Whether it is a configuration, as far as it is read before it is parsed."""
    return is_object(value) and is_epoch(value.get("epochs", 1))


def is_share(value: Any) -> bool:
    """Whether it is a share of a GPU or a machine (`trainables/worker/resources.py`)."""
    return is_object(value) and all(isinstance(one, bool) or is_number(one) for one in value.values())


def none_or(check: Check) -> Check:
    return lambda value: value is None or check(value)


def list_of(check: Check) -> Check:
    return lambda value: isinstance(value, list) and all(map(check, value))


def object_of(check: Check) -> Check:
    return lambda value: isinstance(value, dict) and all(map(check, value.values()))


def either(*checks: Check) -> Check:
    return lambda value: any(check(value) for check in checks)


# Required keys by event, beside `event` and `trial_id`. Unknown events are allowed.
EVENTS: Mapping[str, Mapping[str, Check]] = {
    "proposed": {"params": object_of(is_plain), "config": is_config},
    "started": {},
    "measured": {"memory_mb": is_duration},
    "outgrown": {"memory_mb": is_duration},
    "noted": {"note": is_text},
    "ended": {"status": lambda value: isinstance(value, str) and value in STATUSES, "reason": is_text},
}
EVENT_IF_THERE: Mapping[str, Check] = {
    "time": is_time,
    "origin": is_text,
    "share": none_or(is_share),
    "epochs": is_count,
}

EPOCH: Mapping[str, Check] = {
    "trial_id": is_trial_id,
    "epoch": is_epoch,
    "metrics": object_of(none_or(is_number)),
    "seconds": is_duration,
}
EPOCH_IF_THERE: Mapping[str, Check] = {
    "time": is_time,
    "images_per_s": none_or(is_number),
    "lr": none_or(is_number),
    "l2": none_or(is_number),
    "start_s": is_duration,
    "fold": lambda value: is_count(value) and value > 0,
    "fold_values": list_of(none_or(is_number)),
    **dict.fromkeys(COSTS, none_or(is_number)),
    "node": none_or(is_text),
    "pid": none_or(is_count),
    "device": none_or(is_text),
}

is_targets = list_of(either(is_count, list_of(is_count)))
is_resumption = either(is_time, lambda value: is_object(value) and is_time(value.get("time")))  # before 0.5: the time

# search.json by path. Everything may be missing, as in runs of earlier versions: `value_at` raises for what is needed.
SEARCH: Mapping[str, Check] = {
    "name": is_text,
    "started": is_time,
    "ended": is_text,
    "resumed": list_of(is_resumption),
    "command": none_or(list_of(is_text)),
    "versions": object_of(is_text),
    "machine": is_object,
    "search": is_object,
    "search.task": is_text,
    "search.metric": is_text,
    "search.mode": lambda value: value in ("max", "min"),
    "search.epochs": is_epoch,
    "search.objectives": list_of(is_text),
    "data": is_object,
    "data.task": is_text,
    "data.spec": is_text,
    "data.classes": list_of(is_text),
    "data.fingerprint": is_text,
    "data.counts": object_of(is_count),
    "data.val": list_of(is_text),
    "data.test": list_of(is_text),
    "data.val_targets": none_or(is_targets),
    "data.val_groups": none_or(list_of(is_count)),
    "data.split_origin": is_text,
    "data.notes": list_of(is_text),
    "data.unjudged": is_text,
    "data.group": is_text,
    "data.grouping": is_text,
    "data.folds": is_count,
    "data.kept_back": lambda value: isinstance(value, bool),
    "options": is_object,
    "options.data": is_text,
    "options.num_trials": none_or(is_count),
    "options.budget_s": none_or(is_duration),
    "options.max_concurrent": none_or(is_count),
    "options.cpus_per_trial": none_or(either(is_duration, is_text)),
    "options.gpus_per_trial": none_or(either(is_duration, is_text)),
    "options.seed": is_count,
    "options.cache_dir": none_or(is_text),
    "options.on_bad_image": is_text,
    **dict.fromkeys(("options.layout", "options.mask_values", "options.label_separator"), none_or(is_text)),
    **dict.fromkeys(("options.group", "options.test", "options.channels"), none_or(is_text)),
    "options.alike": none_or(list_of(list_of(is_text))),
    "options.val_images": none_or(is_count),
    "options.folds": none_or(is_count),
    "options.on_demand": lambda value: isinstance(value, bool),
    "options.keep_trials": is_count,
    "options.log": list_of(is_text),
}


COMBINE = ("mean probability", "vote", "mean weights")  # the last of a soup
ENSEMBLE: Mapping[str, Check] = {
    "combine": lambda value: value in COMBINE,
    "threshold": lambda value: is_number(value) and 0 <= value <= 1,
    "members": lambda value: list_of(is_object)(value) and len(value) > 0,
}
MEMBER: Mapping[str, Check] = {
    "trial_id": is_trial_id,
    "epoch": is_epoch,
    "weight": lambda value: is_number(value) and 0 < value < 2**53,
    "value": is_number,
}


def event_problem(row: Any) -> str | None:
    """Return why a line of trials.jsonl is invalid, or None."""
    if not is_object(row):
        return f"it must be a JSON object, got {short(row)}"
    if not is_trial_id(row.get("trial_id")):
        return f"a trial_id is four digits or more, got {short(row.get('trial_id'))}"
    if not is_text(row.get("event")):
        return f"'event' is {short(row.get('event'))}"
    return _problem(row, EVENTS.get(row["event"], {}), EVENT_IF_THERE)


def epoch_problem(row: Any) -> str | None:
    """Return why a line of epochs.jsonl is invalid, or None."""
    if not is_object(row):
        return f"it must be a JSON object, got {short(row)}"
    return _problem(row, EPOCH, EPOCH_IF_THERE)


def search_problems(search: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield (path, value) of everything in search.json with the wrong shape."""
    for path, check in SEARCH.items():
        *parents, key = path.split(".")
        node: Any = search
        for parent in parents:
            node = node.get(parent)
            if not isinstance(node, dict):  # missing, or reported already
                node = {}
        if key in node and not check(node[key]):
            yield path, node[key]


def value_at(search: Mapping[str, Any], path: str) -> Any:
    """Return the value at a dotted path of search.json. Raises RunError if there is none."""
    node: Any = search
    for key in path.split("."):
        if not isinstance(node, Mapping) or key not in node:
            raise RunError(f"search.json: has no {path}, which this needs. {RESTORE}")
        node = node[key]
    return node


def cache_dir_of(search: Mapping[str, Any]) -> Path | None:
    """Return the cache folder of decoded images in search.json, or None."""
    named = search.get("options", {}).get("cache_dir")
    return Path(named) if named else None


def ensemble_problem(ensemble: Mapping[str, Any]) -> str | None:
    """Return why ensemble.json, of a run or of an export, is invalid, or None."""
    for name, check in ENSEMBLE.items():
        if not check(ensemble.get(name)):
            return f"'{name}' is {short(ensemble.get(name))}"
    return next((problem for one in ensemble["members"] if (problem := _problem(one, MEMBER, {}))), None)


def _problem(row: Mapping[str, Any], needed: Mapping[str, Check], if_there: Mapping[str, Check]) -> str | None:
    for key, check in needed.items():
        if key not in row:
            return f"it has no '{key}'"
        if not check(row[key]):
            return f"'{key}' is {short(row[key])}"
    wrong = (key for key, check in if_there.items() if key in row and not check(row[key]))
    return next((f"'{key}' is {short(row[key])}" for key in wrong), None)
