"""The number of configurations of a space, and each of them by its number.

    num_configurations({"a": Pick(1, 2), "b": Maybe({"c": Int(1, 3)})})  # 2 * (1 + 3) = 8
    configuration(space, 5)  # {"a": 2, "b": True, "b/c": 1}, the flat parameters that `draw` names

Configurations are not listed, so that a space of a million costs no more than a small one.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

from search_spaces.grammar import Branch, Float, Int, Maybe, Pick, Space, draw, name_inside
from search_spaces.search import Search

SAME_DIGITS = 12  # 0.3 in a file and 0.1 + 0.2 from a sampler are one value


def num_configurations(space: Space) -> int | None:
    """Return the number of distinct configurations, None if a Float without a step makes them infinitely many."""
    counts = [_count(node) for node in space.values()]
    return None if None in counts else math.prod(count for count in counts if count is not None)


def configuration(space: Space, number: int, prefix: str = "") -> dict[str, Any]:
    """Return the flat parameters of one configuration of a finite space. `number` counts from 0."""
    flat: dict[str, Any] = {}
    for key, node in space.items():
        number, own = divmod(number, _count(node) or 1)
        flat.update(_nth(node, own, prefix + key))
    return flat


def configurations(space: Space) -> Iterator[dict[str, Any]]:
    """Yield every configuration of a finite space, nested as `draw` returns it."""
    for number in range(num_configurations(space) or 0):
        yield drawn_as(space, configuration(space, number))


def drawn_as(space: Space, params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the configuration that `space` has under these flat parameters, the inverse of `encode`."""
    return draw(space, _Given(params))


def identity(config: Any) -> str:
    """Return a text that is the same for equal configurations.

    Neither the order of keys nor the difference between 1 and 1.0 matters.
    """
    return json.dumps(_plain(config), sort_keys=True, default=str)


def limited(search: Search, num_trials: int | None) -> int | None:
    """Return the most trials of a run, the lesser of `num_trials` and the number of configurations. None is no limit.

    PBT is not limited by configurations, because its copies share one.
    """
    total = None if search.pruner == "pbt" else num_configurations(search.full_space)
    return min((number for number in (num_trials, total) if number is not None), default=None)


def _count(node: Any) -> int | None:
    match node:
        case Float(low, high, _, step):
            if step is None:
                return 1 if low == high else None
            return int((Decimal(str(high)) - Decimal(str(low))) // Decimal(str(step))) + 1
        case Int(low, high, _, step):
            return (high - low) // step + 1
        case Pick():
            return len(_distinct(node))
        case Maybe(space):
            inside = _count(space)
            return None if inside is None else 1 + inside
        case Branch(arms):
            counts = [num_configurations(arm) for arm in arms.values()]
            return None if None in counts else sum(count for count in counts if count is not None)
        case Mapping():
            return num_configurations(node)
        case _:
            return 1


def _nth(node: Any, number: int, name: str) -> dict[str, Any]:
    match node:
        case Float(low, _, _, step):
            exact = Decimal(str(low)) + number * Decimal(str(step or 0))
            return {name: float(exact)}
        case Int(low, _, _, step):
            return {name: low + number * step}
        case Pick():
            return {name: _distinct(node)[number]}
        case Maybe(space):
            return {name: True, **_nth(space, number - 1, name_inside(space, name))} if number else {name: False}
        case Branch(arms):
            for arm, space in arms.items():
                count = num_configurations(space) or 0
                if number < count:
                    return {name: arm, **configuration(space, number, f"{name}/{arm}/")}
                number -= count
        case Mapping():
            return configuration(node, number, f"{name}/")
    return {}


def _distinct(pick: Pick) -> list[Any]:
    return list({identity(choice): choice for choice in reversed(pick.choices)}.values())[::-1]


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(below) for key, below in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(below) for below in value]
    if isinstance(value, float) and math.isfinite(value):
        return int(value) if value.is_integer() else float(f"{value:.{SAME_DIGITS}g}")
    return value


class _Given:
    """A trial that suggests the values that it was given."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.values = values

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        return float(self.values[name])

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        return int(self.values[name])

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        return self.values[name]
