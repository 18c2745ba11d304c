"""Membership: the machines of a cluster as they join and leave during a search, and the capacity that they add.

A machine that joins is checked as every machine was at the start (`compatibility.py`), and counts once it is
compatible. An incompatible one is reported, and later proposals do not run there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import ray

from launch.machines.cluster import MAX_TRIALS, Slots, started_here
from launch.machines.compatibility import Finding, Shared, in_words, look_at_node
from launch.machines.nodes import ANSWER_S, Node, Survey

LOOK_EVERY_S = 2.0


@dataclass
class _Asked:
    node: Mapping[str, Any]
    survey: Survey
    task: Any
    since: float


class Machines:
    """The machines that are in the cluster now.

        shared  what the machines must see alike
        slots   maps a node of ray.nodes() and its smallest GPU's memory in GB to its capacity;
                None for the memory where it was checked before
        say     prints a sentence to the user

    Machines that are present at the start count at once, because they were checked before the search.
    """

    def __init__(
        self,
        shared: Shared,
        slots: Callable[[Mapping[str, Any], float | None], Slots],
        say: Callable[[str], object],
    ) -> None:
        self.shared = shared
        self.slots = slots
        self.say = say
        self.known = {node["NodeID"]: slots(node, None) for node in _alive()}
        self.asked: dict[str, _Asked] = {}
        self.avoided: dict[str, str] = {}  # ids of those that do not fit, with their addresses
        self.total = self._add_up()
        self.looked = time.monotonic()

    def now(self) -> Slots:
        """Return the capacity of all machines that are alive and compatible, checked again every LOOK_EVERY_S."""
        if time.monotonic() - self.looked >= LOOK_EVERY_S:
            with suppress(Exception):  # a silent head or a full disk passes, or is reported elsewhere
                self._look()
            self.looked = time.monotonic()
        return self.total

    def _look(self) -> None:
        alive = {node["NodeID"]: node for node in _alive()}
        for node_id in alive.keys() - self.known.keys() - self.asked.keys() - self.avoided.keys():
            survey = self.shared.asking()
            survey.begin()
            self.asked[node_id] = _Asked(alive[node_id], survey, survey.ask(alive[node_id]), time.monotonic())
        for node_id, asked in list(self.asked.items()):
            answered, _ = ray.wait([asked.task], timeout=0)
            if answered or node_id not in alive or time.monotonic() - asked.since > ANSWER_S:
                del self.asked[node_id]
                node = asked.survey.answer(asked.node, asked.task)
                asked.survey.end()
                if node_id in alive:  # else it has left again
                    self._settle(node_id, asked.node, node)
        self.total = self._add_up(alive)

    def _settle(self, node_id: str, resources: Mapping[str, Any], node: Node) -> None:
        slots = Slots(0) if node.problem else self.slots(resources, node.gpu_memory_gb)
        fatal = [finding for finding in look_at_node(node) if finding.fatal]
        if slots.why_none and not fatal:
            fatal = [Finding(f"{node.address}: {slots.why_none}", "")]
        if fatal:
            self.avoided[node_id] = node.address
            self.say("A machine has joined the cluster and is not used.\n" + "\n".join(map(in_words, fatal)))
            return
        self.known[node_id] = slots
        more = "1 more trial" if slots.trials == 1 else f"{slots.trials} more trials"
        self.say(f"{node.address} has joined the cluster: {more} at once.")

    def _add_up(self, alive: Mapping[str, object] | None = None) -> Slots:
        there = (slots for node_id, slots in self.known.items() if alive is None or node_id in alive)
        return sum(there, Slots(0))

    def close(self) -> None:
        """Remove the probe files of machines that have not answered."""
        for asked in self.asked.values():
            asked.survey.end()


def _alive() -> Iterator[Mapping[str, Any]]:
    return (node for node in ray.nodes() if node["Alive"])


def at_once_on(machines: Machines, max_concurrent: int | None) -> Callable[[], int]:
    """Return a function that gives the number of trials to run now. max_concurrent: the user's limit, or None.

    On a cluster an explicit limit is used even where fewer trials fit yet. Waiting trials are what makes Ray's
    autoscaler start machines.
    """
    if max_concurrent is not None and not started_here():
        fit = machines.now().trials
        if fit < max_concurrent:
            machines.say(
                f"{fit} of the {max_concurrent} trials of --max-concurrent fit now: the others wait for machines. "
                "Leave it out where none will come: then as many run as fit."
            )
        return lambda: max_concurrent
    return lambda: max(1, min(machines.now().trials, max_concurrent or MAX_TRIALS))
