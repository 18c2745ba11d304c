"""Groups of options: a dataclass in a command's signature stands for an option per field.

Typer reads a command's parameters. Here several commands share them, and each option stands in one place.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import MISSING, fields, is_dataclass
from inspect import Parameter
from typing import Any, get_type_hints

Command = Callable[..., None]
NOTHING: Mapping[str, object] = {}


def with_groups(without: Collection[str] = (), instead: Mapping[str, object] = NOTHING) -> Callable[[Command], Command]:
    """Decorate a command, so that a dataclass in its signature becomes the options that are its fields.

        without  fields that are no options of this command, and keep their defaults
        instead  by field, another annotation, such as one with its own help

    Options stand in the order of the signature and of the fields. A field that the command names itself stands where
    the command has it, and its value is in the group too. A dataclass in a dataclass is opened likewise.
    """

    def decorated(command: Command) -> Command:
        own = inspect.signature(command, eval_str=True).parameters
        groups = {name: one.annotation for name, one in own.items() if is_dataclass(one.annotation)}
        taken = {*without, *own}
        parameters: list[Parameter] = []
        for name, one in own.items():
            if name in groups:
                parameters += _options(groups[name], taken, instead)
            else:
                parameters.append(one.replace(kind=Parameter.KEYWORD_ONLY))

        @functools.wraps(command, assigned=("__module__", "__name__", "__qualname__", "__doc__"))
        def called(**values: Any) -> None:
            whole = {name: filled(kind, values) for name, kind in groups.items()}
            command(**{name: values[name] for name in own if name in values}, **whole)

        called.__annotations__ = {}
        called.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # what typer reads
        return called

    return decorated


def _options(group: Any, taken: Collection[str], instead: Mapping[str, object]) -> Iterator[Parameter]:
    hints = get_type_hints(group, include_extras=True)
    for one in fields(group):
        if is_dataclass(hints[one.name]):
            yield from _options(hints[one.name], taken, instead)
        elif one.name not in taken:
            kind = instead.get(one.name, hints[one.name])
            default = Parameter.empty if one.default is MISSING else one.default
            yield Parameter(one.name, Parameter.KEYWORD_ONLY, default=default, annotation=kind)


def filled(group: Any, values: Mapping[str, Any]) -> Any:
    """Return a group with the values of its fields, and of the groups in it. Others keep their defaults."""
    hints = get_type_hints(group)
    inner = {name: filled(kind, values) for name, kind in hints.items() if is_dataclass(kind)}
    return group(**inner, **{one.name: values[one.name] for one in fields(group) if one.name in values})
