"""The grammar of a search space: Float, Int, Pick, Maybe, Branch, and plain dicts that nest them.

    space = {
        "optimizer": Branch({
            "sgd": {"lr": Float(1e-3, 0.3, log=True), "momentum": Float(0.8, 0.99)},
            "adam": {"lr": Float(1e-5, 1e-2, log=True)},
        }),
        "augment": {"rotate": Maybe({"degrees": Float(5, 30)})},
        "batch_size": Pick(16, 32, 64),
    }
    draw(space, optuna_trial)
    # {"optimizer": {"name": "adam", "lr": 3e-4}, "augment": {"rotate": None}, "batch_size": 32}

A conditional parameter is nesting: an arm's parameters exist only when the arm was drawn, and carry the
arm in their name (`optimizer/sgd/lr`), so that what SGD teaches about its rate is not told to Adam.
Everything else in a space (numbers, strings, lists) is taken as it stands.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from search_spaces.errors import ConfigError
from search_spaces.names import did_you_mean

Scalar: TypeAlias = bool | int | float | str | None
Space: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True)
class Float:
    """A real number in [low, high]; `log` draws its logarithm uniformly, `step` puts it on a grid."""

    low: float
    high: float
    log: bool = False
    step: float | None = None

    def __post_init__(self) -> None:
        _check_range(self, positive_needed=self.log)
        if self.step is not None and (self.log or self.step <= 0):
            raise ConfigError(f"{self}: a step must be positive and cannot be combined with log=True. Drop one.")


@dataclass(frozen=True)
class Int:
    """A whole number in [low, high], both ends included."""

    low: int
    high: int
    log: bool = False
    step: int = 1

    def __post_init__(self) -> None:
        _check_range(self, positive_needed=self.log)
        if self.step < 1 or (self.log and self.step != 1):
            raise ConfigError(f"{self}: a step must be at least 1 and cannot be combined with log=True. Drop one.")


class Pick:
    """One of several plain values (numbers, strings, booleans, None)."""

    __slots__ = ("choices",)

    def __init__(self, *choices: Scalar) -> None:
        if not choices:
            raise ConfigError("Pick() has nothing to pick from. Give it at least one value.")
        for choice in choices:
            if not isinstance(choice, (bool, int, float, str, type(None))):
                raise ConfigError(
                    f"Pick takes numbers, strings, booleans and None, not {choice!r}. Use Branch for structured arms."
                )
        self.choices = choices

    def __repr__(self) -> str:
        return f"Pick({', '.join(map(repr, self.choices))})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Pick) and self.choices == other.choices

    def __hash__(self) -> int:
        return hash(self.choices)


@dataclass(frozen=True)
class Maybe:
    """Off (drawn as None) or on, with the parameters (or the Branch) that exist only then."""

    space: Space | Branch


@dataclass(frozen=True)
class Branch:
    """One of several arms, each with parameters of its own; drawn as {"name": arm, **parameters}."""

    arms: Mapping[str, Space]

    def __post_init__(self) -> None:
        if not self.arms:
            raise ConfigError("Branch({}) has no arms. Give it at least one.")


Range: TypeAlias = Float | Int | Pick


class SuggestsValues(Protocol):
    """What `draw` needs of a trial; an optuna.Trial has it."""

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float: ...
    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int: ...
    def suggest_categorical(self, name: str, choices: Any) -> Any: ...


def draw(space: Space, trial: SuggestsValues, prefix: str = "") -> dict[str, Any]:
    """Draw one configuration: the nested dict of `space` with every range replaced by a value."""
    drawn: dict[str, Any] = {}
    for key, node in space.items():
        drawn[key] = _draw_node(node, trial, prefix + key)
    return drawn


def _draw_node(node: Any, trial: SuggestsValues, name: str) -> Any:
    match node:
        case Float(low, high, log, step):
            return trial.suggest_float(name, low, high, step=step, log=log)
        case Int(low, high, log, step):
            return trial.suggest_int(name, low, high, step=step, log=log)
        case Pick():
            return trial.suggest_categorical(name, list(node.choices))
        case Maybe(space):
            if not trial.suggest_categorical(name, [False, True]):
                return None
            return _draw_node(space, trial, _name_inside(space, name))
        case Branch(arms):
            arm = trial.suggest_categorical(name, list(arms))
            return {"name": arm, **draw(arms[arm], trial, f"{name}/{arm}/")}
        case Mapping():
            return draw(node, trial, f"{name}/")
        case _:
            return node


def _name_inside(space: Any, name: str) -> str:
    # A Branch inside a Maybe is a parameter of its own and needs its own name.
    return name if isinstance(space, Mapping) else f"{name}/on"


def encode(space: Space, config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The inverse of `draw`, as far as it goes: the flat parameters under which `config` would have been drawn.

    What `config` does not say, or says outside the range, is left out, to be drawn by whoever asks.
    """
    flat: dict[str, Any] = {}
    for key, node in space.items():
        if key in config:
            flat.update(_encode_node(node, config[key], prefix + key))
    return flat


def _encode_node(node: Any, value: Any, name: str) -> dict[str, Any]:
    match node:
        case Float(low, high):
            inside = isinstance(value, (int, float)) and not isinstance(value, bool) and low <= value <= high
            return {name: float(value)} if inside else {}
        case Int(low, high):
            inside = isinstance(value, int) and not isinstance(value, bool) and low <= value <= high
            return {name: value} if inside else {}
        case Pick(choices=choices):
            return {name: value} if value in choices else {}
        case Maybe(space):
            if value is None:
                return {name: False}
            return {name: True, **_encode_node(space, value, _name_inside(space, name))}
        case Branch(arms):
            arm = value.get("name") if isinstance(value, Mapping) else None
            if arm not in arms:
                return {}
            return {name: arm, **encode(arms[str(arm)], value, f"{name}/{arm}/")}
        case Mapping() if isinstance(value, Mapping):
            return encode(node, value, f"{name}/")
        case _:
            return {}


def walk(space: Space, prefix: str = "", when: str = "") -> Iterator[tuple[str, Any, str]]:
    """Every (parameter name, range or plain value, condition in words) of a space, in the order of `draw`."""
    for key, node in space.items():
        yield from _walk_node(node, prefix + key, when)


def _walk_node(node: Any, name: str, when: str) -> Iterator[tuple[str, Any, str]]:
    match node:
        case Maybe(space):
            yield name, Pick(False, True), when
            yield from _walk_node(space, _name_inside(space, name), name)
        case Branch(arms):
            yield name, Pick(*arms), when
            for arm, space in arms.items():
                yield from walk(space, f"{name}/{arm}/", f"{name} = {arm}")
        case Mapping():
            yield from walk(node, f"{name}/", when)
        case _:
            yield name, node, when


def possible_values(space: Space, path: str) -> list[Any]:
    """The plain values that the dotted `path` of a drawn configuration can take; [] where it is a range or absent."""
    node: Any = space
    for part in path.split("."):
        if not isinstance(node, Mapping) or part not in node:
            return []
        node = node[part]
    if isinstance(node, Pick):
        return list(node.choices)
    return [] if isinstance(node, (Float, Int, Maybe, Branch, Mapping)) else [node]


def highest(space: Space, path: str) -> float:
    """The largest number that the dotted `path` can take, 0 where the space does not name it."""
    node: Any = space
    for part in path.split("."):
        node = node.get(part) if isinstance(node, Mapping) else None
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


def merged(space: Space, fixed: Space) -> dict[str, Any]:
    """`space` with `fixed` laid over it, dict by dict; a fixed value replaces a range."""
    result = dict(space)
    for key, value in fixed.items():
        below = result.get(key)
        both_nest = isinstance(below, Mapping) and isinstance(value, Mapping)
        result[key] = merged(below, value) if both_nest else value  # type: ignore[arg-type]
    return result


def set_path(space: Space, path: str, value: Any) -> dict[str, Any]:
    """`space` with the dotted `path` set to `value`; a ConfigError where the path leads through a plain value.

    A Branch or Maybe on the way is replaced by the value's own dict, so `optimizer.name=sgd` fixes the arm
    and keeps the arm's ranges.
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
        if value not in branch.arms:
            raise ConfigError(f"'{key}' has no arm '{value}'. {did_you_mean(str(value), branch.arms)}")
        return {"name": value, **branch.arms[value]}
    # A parameter of the arms: fix it in every arm that has it.
    head = path.partition(".")[0]
    if not any(head in arm for arm in branch.arms.values()):
        names = sorted({name for arm in branch.arms.values() for name in arm})
        raise ConfigError(f"no arm of '{key}' has a parameter '{head}'. {did_you_mean(head, [*names, 'name'])}")
    return Branch({arm: set_path(space, path, value) if head in space else space for arm, space in branch.arms.items()})


def _check_range(node: Float | Int, positive_needed: bool) -> None:
    if not (math.isfinite(node.low) and math.isfinite(node.high) and node.low <= node.high):
        raise ConfigError(f"{node}: low must not be above high, and both must be finite. Swap or mend them.")
    if positive_needed and node.low <= 0:
        raise ConfigError(f"{node}: log=True needs low > 0. Raise low or drop log.")
