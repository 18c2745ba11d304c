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

Conditional parameters are nested. An arm's parameters exist only when the arm was drawn. They have the arm in their
name (`optimizer/sgd/lr`), so that a sampler learns the rates of SGD and Adam separately. Everything else in a space
(numbers, strings, lists) is a plain value.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from visionsweep.core.errors import ConfigError

Scalar: TypeAlias = bool | int | float | str | None
Space: TypeAlias = Mapping[str, Any]

REGIME = "regime"


@dataclass(frozen=True)
class Float:
    """A real number in [low, high]. `log` draws its logarithm uniformly, `step` puts it on a grid."""

    low: float
    high: float
    log: bool = False
    step: float | None = None

    def __post_init__(self) -> None:
        _check_range(self, (int, float), "numbers. Change them.")
        if self.step is not None and (self.log or not 0 < self.step < math.inf):
            raise ConfigError(f"{self}: a step must be positive and cannot be combined with log=True. Drop one.")


@dataclass(frozen=True)
class Int:
    """A whole number in [low, high], both ends included."""

    low: int
    high: int
    log: bool = False
    step: int = 1

    def __post_init__(self) -> None:
        _check_range(self, int, "whole numbers. Change them, or use Float.")
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
    """Off (drawn as None) or on, with parameters, or a Branch, that exist only then."""

    space: Space | Branch

    def __post_init__(self) -> None:
        if not isinstance(self.space, (Mapping, Branch)):
            raise ConfigError(
                f"Maybe takes a mapping of parameters or a Branch, got {self.space!r}. Use Pick(None, ...) for a value."
            )


@dataclass(frozen=True)
class Branch:
    """One of several arms, each with parameters of its own, drawn as {"name": arm, **parameters}."""

    arms: Mapping[str, Space]

    def __post_init__(self) -> None:
        if not isinstance(self.arms, Mapping):
            raise ConfigError(
                f"Branch takes a mapping of arms to their parameters, got {self.arms!r}. Use Pick for plain values."
            )
        if not self.arms:
            raise ConfigError("Branch({}) has no arms. Give it at least one.")
        for arm, space in self.arms.items():
            if not isinstance(arm, str):
                raise ConfigError(f"an arm of a Branch is named by a string, got {arm!r}. Put it in quotes.")
            if not isinstance(space, Mapping):
                raise ConfigError(
                    f"arm '{arm}' of a Branch must be a mapping of parameters, got {space!r}. "
                    "Name the parameter, or write {} for an arm without any."
                )


class SuggestsValues(Protocol):
    """The interface of a trial that `draw` needs. optuna.Trial has it."""

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float: ...
    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int: ...
    def suggest_categorical(self, name: str, choices: Any) -> Any: ...


def draw(space: Space, trial: SuggestsValues, prefix: str = "") -> dict[str, Any]:
    """Draw one configuration, the nested dict of `space` with every range replaced by a value."""
    drawn: dict[str, Any] = {}
    for key, node in space.items():
        value = _draw_node(node, trial, prefix + key)
        # A regime's parts are parts of the whole: {"regime": "probe", "model": {...}}.
        drawn |= {key: value.pop("name"), **value} if _has_regimes(prefix + key, node) else {key: value}
    return drawn


def _has_regimes(name: str, node: Any) -> bool:
    return name == REGIME and isinstance(node, Branch)


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
            return _draw_node(space, trial, name_inside(space, name))
        case Branch(arms):
            arm = trial.suggest_categorical(name, list(arms))
            return {"name": arm, **draw(arms[arm], trial, f"{name}/{arm}/")}
        case Mapping():
            return draw(node, trial, f"{name}/")
        case _:
            return node


def name_inside(space: Any, name: str) -> str:
    # A Branch inside a Maybe is a parameter of its own and needs its own name.
    return name if isinstance(space, Mapping) else f"{name}/on"


def encode(space: Space, config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the flat parameters under which `draw` would have drawn `config`.

    Parameters that `config` lacks, or has outside their range, are left out. The caller draws them.
    """
    flat: dict[str, Any] = {}
    for key, node in space.items():
        if key in config:
            value = {**config, "name": config[key]} if _has_regimes(prefix + key, node) else config[key]
            flat.update(_encode_node(node, value, prefix + key))
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
            return {name: True, **_encode_node(space, value, name_inside(space, name))}
        case Branch(arms):
            arm = value.get("name") if isinstance(value, Mapping) else None
            if not isinstance(arm, str) or arm not in arms:
                return {}
            return {name: arm, **encode(arms[arm], value, f"{name}/{arm}/")}
        case Mapping() if isinstance(value, Mapping):
            return encode(node, value, f"{name}/")
        case _:
            return {}


def walk(space: Space, prefix: str = "", when: str = "") -> Iterator[tuple[str, Any, str]]:
    """Yield every (parameter name, range or plain value, condition in words) of a space, in the order of `draw`."""
    for key, node in space.items():
        yield from _walk_node(node, prefix + key, when)


def _walk_node(node: Any, name: str, when: str) -> Iterator[tuple[str, Any, str]]:
    match node:
        case Maybe(space):
            yield name, Pick(False, True), when
            yield from _walk_node(space, name_inside(space, name), name)
        case Branch(arms):
            yield name, Pick(*arms), when
            for arm, space in arms.items():
                yield from walk(space, f"{name}/{arm}/", f"{name} = {arm}")
        case Mapping():
            yield from walk(node, f"{name}/", when)
        case _:
            yield name, node, when


def _check_range(node: Float | Int, kind: type | tuple[type, ...], kind_in_words: str) -> None:
    no_step = isinstance(node, Float) and node.step is None
    for value in (node.low, node.high, *(() if no_step else (node.step,))):
        if not isinstance(value, kind) or isinstance(value, bool):
            raise ConfigError(f"{node}: low, high and step must be {kind_in_words}")
    if not (math.isfinite(node.low) and math.isfinite(node.high) and node.low <= node.high):
        raise ConfigError(f"{node}: low must not be above high, and both must be finite. Swap or mend them.")
    if node.log and node.low <= 0:
        raise ConfigError(f"{node}: log=True needs low > 0. Raise low or drop log.")
