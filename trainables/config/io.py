"""Configurations from dicts and YAML, with pydantic's errors in plain sentences.

Errors about unknown keys, wrong types and values out of bounds name the key, the value and the nearest valid name.
"""

from __future__ import annotations

import re
import types
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from trainables.config.entries import ParsedBy
from trainables.config.model import ClassifierConfig, SegmenterConfig, kind_of_model
from trainables.config.trial import TrialConfig
from visionsweep.core.errors import ConfigError, Contradiction
from visionsweep.core.files import read_yaml, short
from visionsweep.core.names import did_you_mean


def parse_config(values: Mapping[str, Any], origin: str = "the configuration") -> TrialConfig:
    """Parse a configuration.

    Raises ConfigError that names `origin`, the key, the value and the next move. It is a Contradiction if every value
    is valid by itself.
    """
    try:
        return TrialConfig.model_validate(_as_strict(values))
    except ConfigError as error:  # a validator looked up an unknown name
        raise ConfigError(f"{origin}: {error}") from None
    except ValidationError as error:
        problems = error.errors()
        # Our own validators, which look at several fields at once, are pydantic's only value errors.
        kind = Contradiction if all(problem["type"] == "value_error" for problem in problems) else ConfigError
        raise kind("\n".join(f"{origin}: {_in_words(problem, values)}" for problem in problems)) from None


def load_config(path: Path) -> TrialConfig:
    """Read a YAML configuration, such as that of an export. Raises ConfigError."""
    return parse_config(read_config(path), str(path))


def read_config(path: Path) -> dict[str, Any]:
    """Return the mapping of a YAML configuration, not parsed yet. Raises ConfigError."""
    values = read_yaml(path, "Name a YAML configuration.", ConfigError)
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: must hold a mapping of keys to values. `visionsweep export` writes such a file.")
    for key in values:
        if not isinstance(key, str):
            raise ConfigError(f"{path}: a key is a word, got {short(key)}. Change it.")
    return values


def dump_config(config: TrialConfig) -> str:
    """Return YAML that `load_config` reads back to an equal configuration."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)


def without_leftovers(values: Mapping[str, Any], path: str, asked: Collection[str]) -> dict[str, Any]:
    """Return `values`, with another arm chosen at `path` ('optimizer.name'), without keys that this arm does not know.

    asked  dotted paths that were set by hand; their keys stay, and parsing refuses those that do not fit
    """
    parts = path.split(".")[:-1]
    node: Any = values
    for part in parts:
        node = node.get(part) if isinstance(node, Mapping) else None
    known = _known_keys(TrialConfig, parts, values)
    if not known or not isinstance(node, Mapping):  # parsing reports a part that does not exist
        return dict(values)
    by_hand = {one.split(".")[len(parts)] for one in asked if one.split(".")[: len(parts)] == parts != one.split(".")}
    return _replaced(values, parts, {key: node[key] for key in node if key in known or key in by_hand})


def _replaced(values: Mapping[str, Any], parts: list[str], node: Any) -> dict[str, Any]:
    """Return `values` with `node` at the existing path `parts`."""
    head, *rest = parts
    return {**values, head: _replaced(values[head], rest, node) if rest else node}


def _as_strict(value: Any) -> Any:
    """Convert what YAML cannot express but strict parsing needs: lists to tuples, and texts like 1e-3 to numbers."""
    if isinstance(value, Mapping):
        return {key: _as_strict(item) for key, item in value.items()}
    if isinstance(value, list):
        return tuple(_as_strict(item) for item in value)
    return number_from_text(value)


def number_from_text(value: Any) -> Any:
    """Return texts like 1e-3 as numbers, everything else unchanged. YAML 1.1 reads them as strings."""
    is_number = isinstance(value, str) and re.fullmatch(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+", value)
    return float(value) if is_number else value


def _in_words(problem: Any, values: Mapping[str, Any]) -> str:
    """Return one of pydantic's errors as a sentence."""
    location = [str(part) for part in problem["loc"]]
    # Pydantic puts the arm of a union into the location, but the user wrote no such key.
    shown = [part for i, part in enumerate(location) if not _is_arm(location[:i], part, values)]
    key = ".".join(shown)
    got = problem["input"]
    match problem["type"]:
        case "extra_forbidden":
            known = _known_keys(TrialConfig, shown[:-1], values)
            below = [] if len(shown) > 1 else _paths_to(key)
            if below:
                return f"unknown key '{key}'. It stands in {below[0].rpartition('.')[0]}: write {' or '.join(below)}."
            return f"unknown key '{key}'. {did_you_mean(shown[-1], known)}"
        case "missing":
            return f"'{key}' is missing. Add it."
        case "union_tag_invalid":
            context = problem["ctx"]
            known = [name.strip(" '") for name in context["expected_tags"].split(",")]
            return f"unknown {key} '{context['tag']}'. {did_you_mean(str(context['tag']), known)}"
        case "union_tag_not_found":
            return f"'{key}' must say which it is with a 'name'. Add {key}.name."
        case "literal_error":
            known = [name.strip(" '") for name in problem["ctx"]["expected"].replace(" or ", ",").split(",")]
            return f"'{key}' is {got!r}. {did_you_mean(str(got), known)}"
        case "model_type" | "model_attributes_type" | "dict_type" if shown and not isinstance(got, Mapping):
            return f"'{key}' is {got!r}, and has parts of its own. {_part_to_set(shown, got)}"
        case "value_error":
            return f"{problem['ctx']['error']}. Change one of them."
        case _:
            rule = problem["msg"][0].lower() + problem["msg"][1:]
            return f"'{key}' is {got!r}: {rule}. Change it." if key else f"{rule}, got {got!r}. Change it."


def _paths_to(name: str) -> list[str]:
    """Where the schema has a key of that name below another one: of 'lr' ['optimizer.lr']."""
    return [
        f"{top}.{name}"
        for top, field in TrialConfig.model_fields.items()
        if any(name in model.model_fields for model in _models_of(field))
    ]


def _part_to_set(path: list[str], got: Any) -> str:
    """What to write instead of a plain value for a key that has parts."""
    key = ".".join(path)
    parts = _known_keys(TrialConfig, path, {}) or ["name"]
    if "name" in parts and isinstance(got, str):
        return f"Say which one it is by its name: {key}.name={got}."
    return f"Set one of them, such as {key}.{'name' if 'name' in parts else parts[0]}."


def _is_arm(parents: list[str], part: str, values: Mapping[str, Any]) -> bool:
    node: Any = values
    for parent in parents:
        node = node.get(parent, node) if isinstance(node, Mapping) else node
    if parents == ["model"]:
        return part == kind_of_model(node)
    return isinstance(node, Mapping) and node.get("name") == part and part not in node


def _known_keys(model: Any, path: list[str], values: Any) -> list[str]:
    """Return the keys that the schema has at a path, [] if it has no such part. The given 'name' chooses an arm."""
    for part in path:
        values = values.get(part) if isinstance(values, Mapping) else None
        name = values.get("name") if isinstance(values, Mapping) else None
        arms = _models_of(model.model_fields[part]) if part in model.model_fields else []
        if not arms:
            return []
        if part == "model":
            model = SegmenterConfig if kind_of_model(values) == "segmenter" else ClassifierConfig
        else:
            model = next((arm for arm in arms if _name_of(arm) == name), arms[0])
    return list(model.model_fields)


def _models_of(field: FieldInfo) -> list[Any]:
    """Return the classes that a field may hold."""
    looked_up = [annotation for annotation in field.metadata if isinstance(annotation, ParsedBy)]
    return list(looked_up[0].parts()) if looked_up else _models_in(field.annotation)


def _models_in(annotation: Any) -> list[Any]:
    if get_origin(annotation) in (Union, types.UnionType, Annotated):
        return [model for argument in get_args(annotation) for model in _models_in(argument)]
    return [annotation] if isinstance(annotation, type) and issubclass(annotation, BaseModel) else []


def _name_of(model: Any) -> str | None:
    return model.model_fields["name"].default if "name" in model.model_fields else None
