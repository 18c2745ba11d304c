"""What a running search's budget buys, said once, as soon as its first epochs are measured."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from launch.search.estimate import Cost, Estimate, sizes_of, times_folds, usual_epochs
from search_spaces.grammar import REGIME

if TYPE_CHECKING:
    from launch.search.settled import SettledSearch

MOST_WAITING = 1 / 3  # of the budget, after which the estimate does not wait for every regime


@dataclass
class _Seen:
    """A trial's latest epoch.

    times: how many times as long the trial takes with folds.
    seconds, waited_s: of that epoch. start_s: of the compilation before the first one.
    settled: False for the first of several, whose seconds include the start.
    """

    regime: str
    seconds: float
    waited_s: float
    image_size: int | None
    settled: bool
    times: int
    start_s: float = 0.0


@dataclass
class Estimating:
    """The estimate of a running search.

    All times are those of `now`.

        began     when the budget began to count
        deadline  when trials must be over
        ends_s    when everything must be over
        folds     that a complete trial is judged on, 1 without any
    """

    search: SettledSearch
    budget_s: float
    began: float
    deadline: float
    ends_s: float
    concurrent: int
    say: Callable[[str], object]
    now: Callable[[], float] = time.monotonic
    folds: int = 1
    seen: dict[str, _Seen] = field(default_factory=dict)
    first_s: float | None = None  # from the budget's beginning to the first trial's
    done: bool = False

    def look(self, trial_id: str, config: Mapping[str, Any], result: Mapping[str, Any]) -> None:
        """Take an epoch's result, and say what the budget buys once enough is known."""
        if self.done or result.get("fold", 1) > 1:  # whose seconds are of all its epochs
            return
        seconds = float(result["seconds"])
        start_s = float(result.get("start_s") or 0.0)
        if self.first_s is None:
            self.first_s = max(0.0, self.now() - self.began - seconds - start_s)
        settled = result["epoch"] > 1 or result.get("status") == "complete" or "fold" in result
        waited_s = float(result.get("waited_s") or 0.0)
        size = config.get("image_size")
        times = times_folds(config, self.folds)
        start_s = max(start_s, self.seen[trial_id].start_s if trial_id in self.seen else 0.0)
        self.seen[trial_id] = _Seen(str(config.get(REGIME, "")), seconds, waited_s, size, settled, times, start_s)
        lengths = usual_epochs(self.search)
        known = {one.regime for one in self.seen.values() if one.settled}
        if known >= set(lengths) or (known and self.now() - self.began > MOST_WAITING * self.budget_s):
            self.done = True
            for sentence in self.estimate(lengths).sentences():
                self.say(sentence)

    def estimate(self, lengths: Mapping[str, float]) -> Estimate:
        """Return the estimate from trials past their first epoch. lengths: epochs of each regime's trainings."""
        costs = {}
        for regime, epochs in lengths.items():
            trials = [one for one in self.seen.values() if one.regime == regime and one.settled]
            if not trials:
                continue
            total = sum(one.seconds for one in trials)
            waited = sum(one.waited_s for one in trials) / max(1e-9, total)
            sizes = {one.image_size for one in trials}
            size = sizes.pop() if len(sizes) == 1 else None
            trial_s = (total * epochs + sum(one.start_s for one in trials)) / len(trials)  # each fold compiles anew
            costs[regime] = Cost(
                trial_s * max(one.times for one in trials),
                size,
                1 - waited if 0 < waited < 1 else None,
            )
        unused_s = (self.first_s or 0.0) + max(0.0, self.ends_s - self.deadline)
        return Estimate(costs, self.budget_s, unused_s, self.concurrent, sizes_of(self.search))
