"""Options that several commands share."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Annotated

import typer
from typer.testing import CliRunner

from launch.cli.commands import app
from launch.cli.option_groups import with_groups
from launch.python.search import search

COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]


def options_of(command: str) -> list[str]:
    return [option.opts[0] for option in COMMANDS[command].params if option.opts[0].startswith("--")]


@dataclass(frozen=True)
class Inner:
    depth: Annotated[int, typer.Option(min=0, help="How deep.")] = 1


@dataclass(frozen=True)
class Outer:
    size: Annotated[int, typer.Option(help="How large.")]
    inner: Inner = Inner()
    colour: Annotated[str, typer.Option(help="Which.")] = "red"
    left_out: Annotated[str, typer.Option(help="Not here.")] = "kept"


def test_a_group_in_a_signature_is_an_option_for_each_of_its_fields() -> None:
    seen = []

    @with_groups(without=["left_out"], instead={"size": Annotated[int, typer.Option(help="In metres.")]})
    def paint(place: str, group: Outer, colour: Annotated[str, typer.Option(help="Its own.")] = "blue") -> None:
        """Paint."""
        seen.append((place, group, colour))

    assert list(inspect.signature(paint).parameters) == ["place", "size", "depth", "colour"]
    one = typer.Typer()
    one.command()(paint)
    assert CliRunner().invoke(one, ["wall", "--size", "3", "--depth", "2"]).exit_code == 0
    assert seen == [("wall", Outer(3, Inner(2), "blue", "kept"), "blue")]
    assert CliRunner().invoke(one, ["wall", "--size", "3", "--depth", "-1"]).exit_code == 2
    said = CliRunner().invoke(one, ["--help"]).output
    assert "In metres." in said
    assert "Its own." in said
    assert "How large." not in said
    assert "left-out" not in said


def test_a_search_takes_the_same_options_wherever_it_runs() -> None:
    run = options_of("run")
    assert set(run) - {"--address"} | {"--cluster"} == set(options_of("submit"))
    assert set(options_of("check")) - {"--duplicates"} < set(run)
    reading = run[run.index("--cache-dir") : run.index("--channels") + 1]
    assert options_of("train")[-len(reading) :] == reading


def test_the_call_from_python_has_the_defaults_of_the_command() -> None:
    of_call = inspect.signature(search).parameters
    of_command = {option.name: option.default for option in COMMANDS["run"].params if option.name in of_call}
    del of_command["search"]
    assert {name: of_call[name].default for name in of_command} == of_command
