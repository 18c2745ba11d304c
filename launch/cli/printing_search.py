"""Searches for people to read: what they compare, and what they may try and when."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from rich.console import Console
from rich.table import Table

from search_spaces.grammar import REGIME, Float, Int, Pick, Space, walk
from search_spaces.paths import lowest
from search_spaces.regimes import added, readable, within
from search_spaces.search import Search
from search_spaces.shipped import SEARCHES
from visionsweep.core.objectives import DEFAULT_OBJECTIVE


def print_searches(console: Console) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("search", "task", "trials", "epochs", "parameters", "what it is for"):
        table.add_column(column)
    for name, search in SEARCHES.items():
        num_ranges = len(_ranges(search))
        table.add_row(
            name, search.task, str(search.num_trials), str(search.epochs), str(num_ranges), search.description
        )
    console.print(table)
    console.print("`visionsweep spaces NAME` describes one; `visionsweep run NAME --data DIR` starts it.", style="dim")


def print_search(name: str, search: Search, console: Console) -> None:
    """Print what a search compares, and what it may try and when."""
    console.print(f"{name}: {search.description}", style="bold", soft_wrap=True)
    goals = ", ".join(f"{DEFAULT_OBJECTIVE[task][0]} ({task})" for task in search.tasks)
    compared = ", ".join(search.objectives) or search.metric or goals
    console.print(f"task {search.task}; compares {compared}", soft_wrap=True)
    console.print(
        f"{_lengths(search)} epochs a full trial; compared from epoch {search.grace_epochs} on, the best "
        f"1/{search.reduction_factor} of each rung is promoted; {search.num_trials or 50} trials unless told "
        f"otherwise; sampler {search.sampler}, pruner {search.pruner}\n",
        soft_wrap=True,
    )
    table = Table(box=None, pad_edge=False, header_style="bold")
    of_all = list(walk(search.full_space))
    longest = max((len(readable(parameter)) for parameter, _, _ in of_all), default=0)
    for column, width in {"parameter": min(longest, console.width // 2), "values": 0, "only when": 0}.items():
        table.add_column(column, overflow="fold", min_width=width)
    for parameter, node, when in of_all:
        table.add_row(readable(parameter), _in_range_words(node), _condition(parameter, when))
    for task, part in search.space_by_task.items():
        for parameter, node, when in (row for row in walk(_with(search, part)) if row not in of_all):
            of_task = ", ".join(filter(None, (f"{task} data", _condition(parameter, when))))
            table.add_row(readable(parameter), _in_range_words(node), of_task)
    console.print(table)


def _condition(parameter: str, when: str) -> str:
    """Return when a parameter is used, without the regime if the parameter's name says it."""
    return "" if within(parameter)[0] and when.startswith(f"{REGIME} = ") else within(when)[1]


def _with(search: Search, part: Space) -> Space:
    """Return the whole space, with what a task adds in the regimes that take it."""
    return replace(search, space=added(search.space, part)).full_space


def _lengths(search: Search) -> str:
    """Return the epochs of full trials: `12`, or `1 to 12` if they differ."""
    shortest = lowest(search.full_space, "epochs") or search.epochs
    return f"{shortest:g} to {search.epochs}" if shortest < search.epochs else str(search.epochs)


def _ranges(search: Search) -> set[str]:
    spaces = [search.full_space, *(_with(search, part) for part in search.space_by_task.values())]
    return {name for space in spaces for name, node, _ in walk(space) if isinstance(node, (Float, Int, Pick))}


def _in_range_words(node: Any) -> str:
    match node:
        case Float(low, high, log, step) | Int(low, high, log, step):
            grid = "" if step is None or (isinstance(node, Int) and step == 1) else f", in steps of {step:g}"
            return f"{low:g} to {high:g}{', on a log scale' if log else ''}{grid}"
        case Pick(choices=(False, True)):
            return "off, on"
        case Pick(choices=choices):
            return ", ".join(map(str, choices))
    return f"always {node}"
