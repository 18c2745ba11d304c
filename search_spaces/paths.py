"""Dotted paths into a space: the values possible there, and setting others (`--set optimizer.name=sgd`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from search_spaces.grammar import REGIME, Branch, Float, Int, Maybe, Pick, Space
from visionsweep.core.errors import ConfigError
from visionsweep.core.names import did_you_mean


def possible_values(space: Space, path: str) -> list[Any]:
    """Return the plain values that the dotted `path` of a configuration can take, [] if it is a range or absent."""
    values: list[Any] = []
    for node in _at(space, path):
        if isinstance(node, Pick):
            values += node.choices
        elif not isinstance(node, (Float, Int, Maybe, Branch, Mapping)):
            values.append(node)
    return values


def highest(space: Space, path: str) -> float:
    """Return the largest number that the dotted `path` can take, 0 if the space does not name it."""
    return max((_highest(node) for node in _at(space, path)), default=0)


def lowest(space: Space, path: str) -> float | None:
    """Return the smallest number that the dotted `path` can take, None if the space names none."""
    found = [value for node in _at(space, path) if (value := _lowest(node)) is not None]
    return min(found, default=None)


def is_range(space: Space, path: str) -> bool:
    """Say whether the dotted `path` can take values of a range."""
    return any(isinstance(node, (Float, Int)) for node in _at(space, path))


def _at(space: Space, path: str) -> Iterator[Any]:
    """Yield the nodes at a dotted path, in every regime."""
    parts = path.split(".")
    regimes = space.get(REGIME)
    if isinstance(regimes, Branch):
        if parts == [REGIME]:
            yield Pick(*regimes.arms)
            return
        for arm in regimes.arms.values():
            yield from _nodes(arm, parts)
    yield from _nodes(space, parts)


def _nodes(node: Any, parts: Sequence[str]) -> Iterator[Any]:
    """Yield the nodes at a path, one for each arm that leads there."""
    if not parts:
        yield node
        return
    match node:
        case Maybe(space=inside):
            yield from _nodes(inside, parts)
        case Branch(arms=arms):
            for name, arm in arms.items():
                yield from _nodes({"name": name, **arm}, parts)
        case Mapping() if parts[0] in node:
            yield from _nodes(node[parts[0]], parts[1:])


def _highest(node: Any) -> float:
    match node:
        case Float(_, high) | Int(_, high):
            return high
        case Pick(choices=choices):
            return max((choice for choice in choices if isinstance(choice, (int, float))), default=0)
        case bool() | None:
            return 0
        case int() | float():
            return node
    return 0


def _lowest(node: Any) -> float | None:
    match node:
        case Float(low, _) | Int(low, _):
            return low
        case Pick(choices=choices):
            return min((choice for choice in choices if isinstance(choice, (int, float))), default=None)
        case bool() | None:
            return None
        case int() | float():
            return node
    return None


def merged(space: Space, fixed: Space) -> dict[str, Any]:
    """Return `space` overridden by `fixed`, dict by dict. A fixed value replaces a range."""
    result = dict(space)
    for key, value in fixed.items():
        below = result.get(key)
        both_nest = isinstance(below, Mapping) and isinstance(value, Mapping)
        result[key] = merged(below, value) if both_nest else value  # type: ignore[arg-type]
    return result


def set_path(space: Space, path: str, value: Any) -> dict[str, Any]:
    """Return `space` with the dotted `path` set to `value`.

    `optimizer.name=sgd` replaces a Branch by one arm and keeps the arm's ranges. A parameter of the arms is set in
    every arm that has it. A path through a Maybe switches it on. Raises ConfigError for a path through a plain value.
    """
    head, _, rest = path.partition(".")
    result = dict(space)
    if not rest:
        result[head] = value
        return result
    below = result.get(head, {})
    if isinstance(below, Branch):
        below = _set_in_branch(below, head, rest, value)
    elif isinstance(below, Maybe):
        inside = below.space
        below = (
            set_path(inside, rest, value) if isinstance(inside, Mapping) else _set_in_branch(inside, head, rest, value)
        )
    elif below is None or isinstance(below, Mapping):
        below = set_path(below or {}, rest, value)
    else:
        raise ConfigError(f"'{head}' is the plain value {below!r}; it has no '{rest}'. Set '{head}' itself.")
    result[head] = below
    return result


def _set_in_branch(branch: Branch, key: str, path: str, value: Any) -> dict[str, Any] | Branch:
    if path == "name":
        if not isinstance(value, str) or value not in branch.arms:
            raise ConfigError(f"'{key}' has no arm '{value}'. {did_you_mean(str(value), branch.arms)}")
        return {"name": value, **branch.arms[value]}
    # Set a parameter of the arms in every arm that has it.
    head = path.partition(".")[0]
    if not any(head in arm for arm in branch.arms.values()):
        names = sorted({name for arm in branch.arms.values() for name in arm})
        raise ConfigError(f"no arm of '{key}' has a parameter '{head}'. {did_you_mean(head, [*names, 'name'])}")
    return Branch({arm: set_path(space, path, value) if head in space else space for arm, space in branch.arms.items()})


def check_names(node: Any, where: str) -> None:
    """Raise ConfigError for a parameter, at any depth of a space, that is not named by a string."""
    match node:
        case Maybe(space):
            check_names(space, where)
        case Branch(arms):
            check_names(arms, where)
        case Mapping():
            for key, below in node.items():
                if not isinstance(key, str):
                    raise ConfigError(f"{where}: a parameter is named by a string, got {key!r}. Put it in quotes.")
                check_names(below, f"{where}.{key}")
