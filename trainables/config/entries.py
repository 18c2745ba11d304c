"""The entries of the tables of what a configuration can name, and fields whose class is looked up in such a table.

A kind of things is one dict, such as `LOSSES` in `loss.py`. A new thing needs one line there, which names the class of
its settings and its function. All types, lists of names and sentences derive from the dict whenever they are used. So
what is added to it later counts too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache, reduce
from operator import or_
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, GetCoreSchemaHandler, TypeAdapter
from pydantic_core import CoreSchema, core_schema

from trainables.config.base import Part
from visionsweep.core.functions import Place, function_at


class Named(Part):
    """Settings whose `name`, a Literal in each class, is their key in the table."""

    if TYPE_CHECKING:  # every class declares its own, after or before its other fields
        name: str


@dataclass(frozen=True)
class Entry:
    """One line of a table.

    part      class of the settings, or an annotated union of classes
    function  does it. 'module:name' is imported when it is first called, so that a configuration is parsed without
              torch. None if something else asks for the settings by their field
    """

    part: Any
    function: Place | None

    def load(self) -> Callable[..., Any]:
        """Return the function."""
        assert self.function is not None
        return function_at(self.function)


class ParsedBy:
    """The annotation of a field that a function parses, by what a table has then.

    parts  returns the classes that the field may hold then
    """

    def __init__(self, parse: Callable[[Any], Part], parts: Callable[[], tuple[type[Part], ...]]) -> None:
        self.parse = parse
        self.parts = parts

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self.parse)


class OneOf(ParsedBy):
    """The annotation of a field that holds one of the tables' parts, chosen by its `name`."""

    def __init__(self, *tables: Mapping[str, Entry]) -> None:
        def parts() -> tuple[type[Part], ...]:
            return tuple(entry.part for table in tables for entry in table.values())

        super().__init__(lambda values: _union(parts()).validate_python(values), parts)


@lru_cache(maxsize=64)
def _union(parts: tuple[type[Part], ...]) -> TypeAdapter[Part]:
    union: Any = Annotated[reduce(or_, parts), Field(discriminator="name")]
    return TypeAdapter(union)
