"""A space and a search as JSON, so that a run can be resumed without the file that defined its search."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from search_spaces.grammar import Branch, Float, Int, Maybe, Pick
from search_spaces.search import Search
from visionsweep.core.errors import ConfigError, RunError
from visionsweep.core.files import one_line


def to_json(node: Any) -> Any:
    """Return a node as JSON. Ranges become objects with one `$` key, and everything else is unchanged."""
    match node:
        case Float(low, high, log, step):
            return {"$float": {"low": low, "high": high, "log": log, "step": step}}
        case Int(low, high, log, step):
            return {"$int": {"low": low, "high": high, "log": log, "step": step}}
        case Pick(choices=choices):
            return {"$pick": list(choices)}
        case Maybe(space):
            return {"$maybe": to_json(space)}
        case Branch(arms):
            return {"$branch": to_json(arms)}
        case Mapping():
            return {key: to_json(value) for key, value in node.items()}
        case list() | tuple():
            return [to_json(value) for value in node]
        case _:
            return node


def from_json(node: Any) -> Any:
    """Return the node of `to_json`'s result. Tuples come back as lists."""
    match node:
        case {"$float": parts}:
            return Float(**parts)
        case {"$int": parts}:
            return Int(**parts)
        case {"$pick": choices}:
            return Pick(*choices)
        case {"$maybe": space}:
            return Maybe(from_json(space))
        case {"$branch": arms}:
            return Branch(from_json(arms))
        case dict():
            return {key: from_json(value) for key, value in node.items()}
        case list():
            return [from_json(value) for value in node]
        case _:
            return node


def search_to_json(search: Search) -> dict[str, Any]:
    return {field.name: to_json(getattr(search, field.name)) for field in fields(search)}


def search_from_json(values: Mapping[str, Any]) -> Search:
    """Return the search. Raises RunError if a run's search.json is damaged, or has the fields of another version."""
    try:
        return Search(**{key: from_json(value) for key, value in values.items()})
    except (ConfigError, TypeError, ValueError, AttributeError, LookupError, ArithmeticError) as error:
        raise RunError(f"search.json: 'search' cannot be read ({one_line(error)}). Restore it from a copy.") from None
