"""What is left of a run's budget when it is gone on with.

Wall-clock counts while a command works on the run (`analysis/sessions.py`).
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from analysis.words import duration

if TYPE_CHECKING:
    from launch.prepare import RunOptions  # imports torch, which `status` needs not wait for

ENDED = "ended"  # in search.json: why a run is over that neither its budget nor its number of trials has ended
LEAST = 0.05  # of a budget; where less is left it is spent, and what was interrupted is let go on to its end


def began_at(started: float) -> float:
    """The monotonic time of what was at `started` by the clock on the wall, as it stands now."""
    return time.monotonic() - (time.time() - started)


def closing_s(budget_s: float) -> float:
    """Ending Ray and printing the ranking take a few seconds, which belong to the budget too."""
    return min(4.0, budget_s / 10)


def gone_on_with(
    options: RunOptions, num_proposed: int, spent_s: float, more_trials: int, budget_s: float | None
) -> tuple[RunOptions, RunOptions]:
    """What ends this sitting, and the run's options from now on: their budget is that of all sittings together.

    options: the run's so far. more_trials, budget_s: what was asked for. Where nothing was, the rest of the run's
    budget is used; where that is spent, what was interrupted is trained to its end, and nothing is proposed.
    """
    if more_trials or budget_s is not None:
        num_trials = (options.num_trials or num_proposed) + more_trials if more_trials else options.num_trials
        sitting = replace(options, num_trials=num_trials, budget_s=budget_s)
        return sitting, replace(sitting, budget_s=None if budget_s is None else spent_s + budget_s)
    if options.budget_s is None:
        return options, options
    left_s = options.budget_s - spent_s
    if left_s - closing_s(options.budget_s) > LEAST * options.budget_s:
        return replace(options, budget_s=left_s), options
    return replace(options, num_trials=num_proposed, budget_s=None), options


def said_of(sitting: RunOptions, options: RunOptions) -> str | None:
    """What a user is told of a run's budget when it is gone on with; None where there is none to speak of."""
    if options.budget_s is None or sitting.budget_s == options.budget_s:
        return None
    if sitting.budget_s is not None:
        return f"{duration(sitting.budget_s)} of the budget of {duration(options.budget_s)} is left."
    return (
        f"The budget of {duration(options.budget_s)} is spent: what was interrupted goes on to its end, and nothing "
        "new is tried. --budget 30m or --trials +20 gives it more."
    )


def ended_because(all_tried: str) -> str:
    """A search that is over before its budget, in a sentence."""
    return f"The search has ended: {all_tried}. Widen the space in a new run to try more."
