"""The machines of a cluster as they join and leave while a search goes on: how much there is of them now.

A machine that joins is asked what every machine was asked at the start (`agreement.py`), and counts once it fits. One
that does not is named, and no trial that is proposed from then on goes there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import ray

from launch.machines.agreement import Finding, Shared, in_words, look_at_node
from launch.machines.cluster import MAX_TRIALS, Worth, started_here
from launch.machines.nodes import ANSWER_S, Node, Survey

LOOK_EVERY_S = 2.0


@dataclass
class _Asked:
    node: Mapping[str, Any]
    survey: Survey
    task: Any
    since: float


class Machines:
    """worth: of one of ray.nodes(), and the memory of its smallest GPU in GB or None where that was looked at before.
    say: tells the user a sentence.

    All machines that are there now count: they were looked at before the search began.
    """

    def __init__(
        self,
        shared: Shared,
        worth: Callable[[Mapping[str, Any], float | None], Worth],
        say: Callable[[str], object],
    ) -> None:
        self.shared, self.worth, self.say = shared, worth, say
        self.known = {node["NodeID"]: worth(node, None) for node in _alive()}
        self.asked: dict[str, _Asked] = {}
        self.avoided: dict[str, str] = {}  # ids of those that do not fit, with their addresses
        self.total, self.looked = self._add_up(), time.monotonic()

    def now(self) -> Worth:
        """Of all that are alive and fit; looked at again every LOOK_EVERY_S."""
        if time.monotonic() - self.looked >= LOOK_EVERY_S:
            with suppress(Exception):  # a head that does not answer, or a full disk, is told by others, and passes
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
        worth = Worth(0) if node.problem else self.worth(resources, node.gpu_memory_gb)
        fatal = [finding for finding in look_at_node(node) if finding.fatal]
        if worth.why_none and not fatal:
            fatal = [Finding(f"{node.address}: {worth.why_none}", "")]
        if fatal:
            self.avoided[node_id] = node.address
            self.say("A machine has joined the cluster and is not used.\n" + "\n".join(map(in_words, fatal)))
            return
        self.known[node_id] = worth
        more = "1 more trial" if worth.trials == 1 else f"{worth.trials} more trials"
        self.say(f"{node.address} has joined the cluster: {more} at once.")

    def _add_up(self, alive: Mapping[str, object] | None = None) -> Worth:
        there = (worth for node_id, worth in self.known.items() if alive is None or node_id in alive)
        return sum(there, Worth(0))

    def close(self) -> None:
        """Take away what the machines that have not answered were asked with."""
        for asked in self.asked.values():
            asked.survey.end()


def _alive() -> Iterator[Mapping[str, Any]]:
    return (node for node in ray.nodes() if node["Alive"])


def at_once_on(machines: Machines, max_concurrent: int | None) -> Callable[[], int]:
    """How many trials are to be live now. max_concurrent: what the user allows.

    On a cluster somebody who names a number gets it also where not so many fit yet: what waits is how Ray's autoscaler
    knows that it has to start machines.
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
