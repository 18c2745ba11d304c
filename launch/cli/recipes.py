"""Recipes on the command line: a list of them, or one of them or a file as the configuration to train."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table

from launch.cli.loading import parse_assignments
from search_spaces.paths import set_path
from search_spaces.recipes import RECIPES, recipe
from trainables.config.io import load_config, parse_config, read_config, without_leftovers
from trainables.config.trial import TrialConfig
from visionsweep.core.errors import ConfigError
from visionsweep.core.names import pick


@dataclass(frozen=True)
class About:
    """A recipe's docstring. `sections` are Source, Result, Settings, Chosen and Run, each in one line."""

    summary: str
    sections: Mapping[str, str]
    text: str


def about(name: str) -> About:
    """Return a recipe's docstring. Raises ConfigError with the nearest right name if there is no such recipe."""
    text = inspect.cleandoc(pick(RECIPES, name, "recipe").__doc__ or "")
    head, *rest = re.split(r"^([A-Z][a-z]+): ", text, flags=re.MULTILINE)
    words = [" ".join(section.split()) for section in rest[1::2]]
    return About(" ".join(head.split()), dict(zip(rest[::2], words, strict=True)), text)


def configuration(config_file: Path | None, recipe_name: str | None, assignments: list[str]) -> TrialConfig:
    """Return the configuration of a file or a recipe, changed by `assignments` (path.to.part=value).

    Another `name` (optimizer.name=adam) keeps what both kinds have. What only the old kind has is dropped. Raises
    ConfigError unless exactly one of the two is named, and for what the schema refuses.
    """
    if config_file is not None and recipe_name is not None:
        raise ConfigError(f"train takes a CONFIG or --recipe, got {config_file} and {recipe_name}. Leave one away.")
    if config_file is not None:
        parsed = load_config(config_file)  # a file must be complete by itself, and its errors name it alone
        if not assignments:
            return parsed
        values = read_config(config_file)
        origin = str(config_file)
    elif recipe_name is not None:
        values = recipe(recipe_name)
        origin = f"recipe {recipe_name}"
    else:
        raise ConfigError("train takes a CONFIG or --recipe, got neither. `visionsweep recipes` lists the recipes.")
    asked = parse_assignments(assignments)
    for path in sorted(asked, key=lambda path: path.count(".")):  # a whole before its parts, whatever the order given
        values = set_path(values, path, asked[path])
    for path in asked:
        if path.endswith(".name"):
            values = without_leftovers(values, path, asked)
    return parse_config(values, f"{origin} with --set" if assignments else origin)


def show(name: str | None, as_yaml: bool, console: Console) -> None:
    """Print all recipes as a table, or one of them: in full, or as YAML alone on standard output."""
    if not as_yaml:
        print_recipes(console) if name is None else print_recipe(name, console)
    elif name is None:
        raise ConfigError("--yaml prints one recipe, and none is named. `visionsweep recipes` lists them.")
    else:
        print(to_yaml(name), end="")


def to_yaml(name: str) -> str:
    """Return the recipe as a file for `visionsweep train`."""
    return yaml.safe_dump(recipe(name), sort_keys=False)


def print_recipes(console: Console) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("recipe", "task", "model", "the report's result", "what it is"):
        table.add_column(column, no_wrap=column == "recipe")
    for name in RECIPES:
        description = about(name)
        values = recipe(name)
        table.add_row(
            name, values["task"], _model(values["model"]), description.sections["Result"], description.summary
        )
    console.print(table)
    console.print(
        "`visionsweep recipes NAME` tells where one comes from; `visionsweep train --recipe NAME --data DIR` trains.",
        style="dim",
    )


def print_recipe(name: str, console: Console) -> None:
    console.print(f"{name}: {about(name).text}", soft_wrap=True)
    console.print(f"\n{to_yaml(name).rstrip()}", soft_wrap=True)


def _model(model: Mapping[str, Any]) -> str:
    if "architecture" in model:
        parts = [model["architecture"]["name"], model["backbone"]]
    else:
        parts = [model["backbone"], model["head"]["name"]]
    return " + ".join(part for part in parts if part not in (None, "linear"))
