"""Regimes: arms of a Branch at the root of a space, whole configurations such as `probe` and `finetune`.

    space = Branch({
        "probe": {"model": {"freeze": "all"}, "optimizer": {"name": "lbfgs"}, "epochs": 1, "views": Pick(1, 2)},
        "finetune": {"model": {"freeze": Pick("none", "stage2")}, "optimizer": Branch({...}), "epochs": Pick(4, 12)},
    })
    draw(settled(space), trial)  # {"regime": "probe", "model": {"freeze": "all"}, ..., "views": 2}

So a parameter exists only in the regime where it has an effect. Such a space is stored as
`{"regime": Branch, **common}`. Common keys belong to all regimes, and no regime has one of them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Literal, TypeAlias

from search_spaces.grammar import REGIME, Branch, Float, Int, Maybe, Pick, Space, encode
from search_spaces.paths import highest, merged, set_path
from visionsweep.core.errors import ConfigError
from visionsweep.core.names import pick

EPOCHS = "epochs"

# A regime can take a value, has another plain value, or has no such parameter.
_Stance: TypeAlias = Literal["open", "against", "absent"]


def regimes_of(space: Space) -> Mapping[str, Space]:
    """Return the regimes of a space by name, {} if it has none."""
    node = space.get(REGIME)
    return node.arms if isinstance(node, Branch) else {}


def by_regime(space: Space) -> dict[str, dict[str, Any]]:
    """Return the complete space of each regime by name. A space without regimes is the only one, named ""."""
    return {name: _with_arms(space, {name: arm}) for name, arm in regimes_of(space).items()} or {"": dict(space)}


def wholes(space: Space) -> list[dict[str, Any]]:
    """Return the spaces of `by_regime` without their names."""
    return list(by_regime(space).values())


def settled(space: Space | Branch) -> dict[str, Any]:
    """Return a space as it is stored. A common key that some regime has too becomes the default of all regimes."""
    if isinstance(space, Branch):
        return {REGIME: space}
    arms = regimes_of(space)
    under = {key: node for key, node in space.items() if any(key in arm for arm in arms.values())}
    if not under:
        return dict(space)
    beside = {key: node for key, node in space.items() if key not in under}
    return {**beside, REGIME: Branch({name: merged(under, arm) for name, arm in arms.items()})}


def laid_over(space: Space, over: Space) -> dict[str, Any]:
    """Return `space` overridden by `over`, dict by dict, in the regimes that have the key (`_put`), else in common."""
    result = settled(space)
    for key, value in over.items():
        if key == REGIME:
            result = _set_regime(result, value)
        else:
            result = _put(result, [key], value, lambda part, key=key, value=value: merged(part, {key: value}))  # type: ignore[misc]
    return result


def added(space: Space, part: Space) -> dict[str, Any]:
    """Return `space` with the additions of one task.

    A regime that has a key keeps its own value. `None` there leaves the value to the schema.
    """
    arms = regimes_of(space)
    own = {key: node for key, node in part.items() if any(key in arm for arm in arms.values())}
    beside = laid_over(space, {key: node for key, node in part.items() if key not in own})
    return settled({**beside, **own})


def without_regimes(space: Space, names: Collection[str]) -> dict[str, Any]:
    """Return `space` without some of its regimes. At least one must be left."""
    return _with_arms(space, {name: arm for name, arm in regimes_of(space).items() if name not in names})


def named(space: Space, key: str) -> bool:
    """Say whether a space or one of its regimes has values for `key`."""
    return key in space or any(arm.get(key) is not None for arm in regimes_of(space).values())


def without(space: Space, key: str) -> dict[str, Any]:
    """Return `space` with `key` removed from its regimes."""
    arms = {
        name: {other: node for other, node in arm.items() if other != key} for name, arm in regimes_of(space).items()
    }
    return {**space, REGIME: Branch(arms)} if arms else dict(space)


def set_in_regimes(space: Space, path: str, value: Any) -> dict[str, Any]:
    """Return `space` with `set_path` applied in the regimes that have the path. The path `regime` selects one of them.

    Raises ConfigError as `set_path` does.
    """
    result = settled(space)
    if path == REGIME:
        return _set_regime(result, value)
    if path.startswith(f"{REGIME}."):
        raise ConfigError(f"'{path}' is no path of a configuration. Set '{REGIME}', or '{path.rpartition('.')[2]}'.")
    return _put(result, path.split("."), value, lambda part: set_path(part, path, value))


def with_regime(space: Space, config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a configuration with its regime filled in, unchanged if it names one or fits none.

    It fits a regime if it contradicts none of its plain values. The regime that expresses most of it is chosen.
    """
    fitting = [name for name, arm in regimes_of(space).items() if _stance_to(arm, config) == "open"]
    if REGIME in config or not fitting:
        return config
    named: list[dict[str, Any]] = [{**config, REGIME: name} for name in fitting]
    return max(named, key=lambda one: len(encode(space, one)))


def of_these_regimes(
    configs: Sequence[Mapping[str, Any]], before: Space, after: Space
) -> tuple[Mapping[str, Any], ...]:
    """Return those of `configs` whose regime in the space `before` is still one of the space `after`."""
    left = [*regimes_of(after), after.get(REGIME)]
    named = [(config, with_regime(before, config).get(REGIME)) for config in configs]
    return tuple(config for config, regime in named if regime is None or regime in left)


def with_own_epochs(space: Space, epochs: int) -> dict[str, Any]:
    """Return `space` with a length for every trial, its own or `epochs`."""
    arms = regimes_of(space)
    if EPOCHS in space or not any(EPOCHS in arm for arm in arms.values()):
        return {**space, EPOCHS: space.get(EPOCHS, epochs)}
    return {**space, REGIME: Branch({name: {EPOCHS: epochs, **arm} for name, arm in arms.items()})}


def with_epochs_set(space: Space, epochs: int) -> dict[str, Any]:
    """Return `space` with `epochs` in place of its longest length and of each choice of lengths.

    Plain shorter lengths, such as the single epoch of a probe, stay.
    """
    longest = highest(space, EPOCHS)
    return _changed(space, EPOCHS, lambda own: min(own, epochs) if isinstance(own, int) and own < longest else epochs)


def capped(space: Space, key: str, most: int) -> dict[str, Any]:
    """Return `space` without values of `key` above `most`, unless none would be left. Plain values stay."""

    def lower(node: Any) -> Any:
        match node:
            case Pick(choices=choices):
                fitting = [choice for choice in choices if isinstance(choice, int) and choice <= most]
                return Pick(*fitting) if fitting else node
            case Int(low, high, log, step) if low <= most < high:
                return Int(low, most, log, step)
        return node

    return _changed(space, key, lower)


def _changed(space: Space, key: str, change: Callable[[Any], Any]) -> dict[str, Any]:
    """Return `space` with the node under `key` changed, in common and in each regime that has it."""

    def part(space: Space) -> dict[str, Any]:
        return {**space, key: change(space[key])} if key in space else dict(space)

    result = part(space)
    arms = regimes_of(space)
    return {**result, REGIME: Branch({name: part(arm) for name, arm in arms.items()})} if arms else result


def within(name: str) -> tuple[str, str]:
    """Return a parameter's regime, "" for none, and its name there."""
    root, _, below = name.partition("/")
    regime, slash, rest = below.partition("/")
    return (regime, rest) if root == REGIME and slash else ("", name)


def readable(text: str) -> str:
    """Return a parameter's name, or a condition on one, as shown to users: `probe: model/freeze`."""
    regime, rest = within(text)
    return f"{regime}: {rest}" if regime else rest


def _with_arms(space: Space, arms: Mapping[str, Space]) -> dict[str, Any]:
    beside = {key: node for key, node in space.items() if key != REGIME}
    if len(arms) > 1:
        return {**beside, REGIME: Branch(arms)}
    ((name, arm),) = arms.items()
    return {**beside, REGIME: name, **arm}


def _set_regime(space: Space, value: Any) -> dict[str, Any]:
    arms = regimes_of(space)
    if isinstance(value, Branch):
        return settled({**space, REGIME: value})
    if not arms and value != space.get(REGIME):
        raise ConfigError(f"regime '{value}' is not of this search, whose trials all train alike. Leave it out.")
    return _with_arms(space, {value: pick(arms, value, "regime")}) if arms else dict(space)


def _put(space: Space, parts: Sequence[str], value: Any, put: Callable[[Space], dict[str, Any]]) -> dict[str, Any]:
    """Return `space` with `put` applied to each regime that can take the value, or in common if none has its key.

    A regime with another plain value is left out if some other regime can take the value. So a value narrows a search
    to the regimes in which it makes sense. If no regime can take it, those with another value are overruled.
    """
    arms = regimes_of(space)
    stances = {name: _stance(arm, parts, value) for name, arm in arms.items() if parts[0] in arm}
    if not stances:
        return put(space)
    taking = next(stance for stance in ("open", "against", "absent") if stance in stances.values())
    kept = {name: arm for name, arm in arms.items() if taking != "open" or stances.get(name) != "against"}
    return _with_arms(space, {name: put(arm) if stances.get(name) == taking else arm for name, arm in kept.items()})


def _stance(node: Any, parts: Sequence[str], value: Any) -> _Stance:
    if not parts:
        return _stance_to(node, value)
    head, *rest = parts
    match node:
        case Maybe(space):
            return _stance(space, parts, value)
        case Branch(arms) if parts == ["name"]:
            return "open" if value in arms else "against"
        case Branch(arms):
            found = [_stance(arm, parts, value) for arm in arms.values() if head in arm]
            return next((stance for stance in ("open", "against") if stance in found), "absent")
        case Mapping() if head in node:
            return _stance(node[head], rest, value)
        case Mapping():  # with a name it is one arm of a Branch, and has all its parameters
            return "absent" if "name" in node else "open"
    return "against"


def _stance_to(node: Any, value: Any) -> _Stance:
    match node:
        case _ if isinstance(value, (Float, Int, Pick, Maybe, Branch)):
            return "open"
        case Float() | Int() | Pick() | Maybe():
            return "open"
        case Branch(arms):
            named = value.get("name") if isinstance(value, Mapping) else None
            return "open" if named is None or named in arms else "against"
        case Mapping() if isinstance(value, Mapping):
            against = any(_stance_to(node[key], value[key]) == "against" for key in node if key in value)
            return "against" if against else "open"
    return "open" if node == value else "against"
