"""What a budget buys, in whole trainings, from seconds that were measured on this machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from search_spaces.paths import lowest, possible_values
from search_spaces.regimes import by_regime
from search_spaces.search import Search

FEW = 5  # trainings: a search that has fewer hardly chooses
KNOWN = {"probe": ("probe", "probes"), "finetune": ("full fine-tuning", "full fine-tunings")}
PLAIN = ("full training", "full trainings")
IN_GENERAL = (1200, 3600)  # seconds of the budgets that are named if none is given
ROUND = (60, 300, 600, 900, 1200, 1800, 3600, 7200, 14_400, 28_800, 43_200, 86_400, 172_800)  # budgets to name


@dataclass(frozen=True)
class Cost:
    """What a whole training of a regime takes.

    None stands for what is not known.

        seconds     of one, on average
        image_size  of those that were measured, if all had the same
        by_area     share of the seconds that grows with the image's area
    """

    seconds: float
    image_size: int | None = None
    by_area: float | None = None

    def at(self, image_size: int) -> float | None:
        """Return the seconds at another size, None if the measurements do not tell."""
        if self.image_size is None or self.by_area is None:
            return None
        return self.seconds * (1 - self.by_area + self.by_area * (image_size / self.image_size) ** 2)


@dataclass(frozen=True)
class Estimate:
    """How many whole trainings a budget buys.

    Nothing is measured here.

        costs       of each regime's whole training, by name, "" without regimes
        budget_s    the budget, None: budgets in general
        unused_s    of a budget, before the first trial and after the last
        concurrent  trials at once
        sizes       that --set image_size could take
    """

    costs: Mapping[str, Cost]
    budget_s: float | None
    unused_s: float
    concurrent: int
    sizes: Sequence[int] = ()

    def number(self, cost_s: float, budget_s: float) -> int:
        """Return how many trainings of `cost_s` seconds a budget holds."""
        return int(max(0.0, budget_s - self.unused_s) * self.concurrent / max(1e-9, cost_s))

    def sentences(self) -> list[str]:
        """Return what the budget buys, other ways to buy more, and a warning if it is little."""
        if not self.costs:
            return []
        dearest = max(self.costs, key=lambda name: self.costs[name].seconds)
        if self.budget_s is None:
            lines = [f"--budget {_short(budget_s)} buys {self._bought(budget_s)}" for budget_s in IN_GENERAL]
            return ["; ".join(lines) + "."]
        parts = [f"--budget {_short(self.budget_s)} buys {self._bought(self.budget_s)}"]
        whole_s = self.costs[dearest].seconds
        longer = [budget_s for budget_s in ROUND if budget_s >= 3 * self.budget_s]
        more_s = next((budget_s for budget_s in longer if self.number(whole_s, budget_s) >= FEW), None)
        ways = []
        if more_s is not None:
            ways.append((f"--budget {_short(more_s)}", self.number(whole_s, more_s)))
        ways += self._smaller(self.costs[dearest], self.budget_s)
        parts += [f"{way} about {number:,}" for way, number in ways if number]
        lines = ["; ".join(parts) + "."]
        num = self.number(whole_s, self.budget_s)
        if num < FEW:
            choice = " or ".join(way for way, _ in ways) or "a longer --budget"
            lines.append(f"Fewer than {FEW} {_words(dearest, FEW)} leave little to choose from: consider {choice}.")
        return lines

    def _bought(self, budget_s: float) -> str:
        numbers = {name: self.number(cost.seconds, budget_s) for name, cost in self.costs.items()}
        order = sorted(numbers, key=lambda name: -numbers[name])
        return "about " + " or ".join(f"{numbers[name]:,} {_words(name, numbers[name])}" for name in order)

    def _smaller(self, cost: Cost, budget_s: float) -> list[tuple[str, int]]:
        """Return the option for the largest size that at least halves the time, and what it buys."""
        for size in sorted(self.sizes, reverse=True):
            seconds = cost.at(size)
            if seconds is not None and seconds <= 0.5 * cost.seconds:
                return [(f"--set image_size={size}", self.number(seconds, budget_s))]
        return []


def usual_epochs(search: Search) -> dict[str, float]:
    """Return the middle of each regime's choices of epochs, by the regime's name."""
    found = {}
    for name, space in by_regime(search.full_space).items():
        choices = sorted(value for value in possible_values(space, "epochs") if isinstance(value, int))
        found[name] = float(choices[len(choices) // 2] if choices else lowest(space, "epochs") or search.epochs)
    return found


def sizes_of(search: Search) -> list[int]:
    """Return the image sizes that the search chooses from."""
    return sorted({value for value in possible_values(search.full_space, "image_size") if isinstance(value, int)})


def _words(regime: str, number: int) -> str:
    one, several = KNOWN.get(regime, (f"'{regime}' training", f"'{regime}' trainings") if regime else PLAIN)
    return one if number == 1 else several


def _short(seconds: float) -> str:
    """Return seconds as --budget takes them: 90s, 20m, 1h30m."""
    whole = round(seconds)
    if whole < 120 or whole % 60:
        return f"{whole}s"
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}h" * (hours > 0) + f"{minutes}m" * (minutes > 0)


def times_folds(config: Mapping[str, Any], num_folds: int) -> int:
    """Return how many times as long a trial takes with folds. Kept features are computed once for all of them."""
    return 1 if config.get("views") is not None else num_folds
