"""The budget of a run that is resumed.

Wall-clock counts only while a command works on the run (`visionsweep/run_dir/sessions.py`).
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from visionsweep.core.text import duration

if TYPE_CHECKING:
    from launch.search.prepare import RunOptions  # imports torch, which `status` does not need

ENDED = "ended"  # key of search.json: why a run is over before its budget and its number of trials
LEAST = 0.05  # of a budget: with less left it counts as spent, and interrupted trials train to their end


def began_at(started: float) -> float:
    """Return the monotonic time of wall-clock time `started`, by both clocks as they stand now."""
    return time.monotonic() - (time.time() - started)


def closing_s(budget_s: float) -> float:
    """Return the seconds for ending Ray and printing the ranking, which belong to the budget too."""
    return min(4.0, budget_s / 10)


def resume_options(
    options: RunOptions, num_proposed: int, spent_s: float, more_trials: int, budget_s: float | None
) -> tuple[RunOptions, RunOptions]:
    """Return the options of this session, and the options to store in the run.

    The stored budget is the total over all sessions. If nothing was asked for, the session gets the rest of the run's
    budget. If that is spent, interrupted trials are trained to their end, and nothing is proposed.

        options       of the run so far
        num_proposed  trials proposed so far
        spent_s       wall-clock of all sessions so far
        more_trials   further trials asked for, 0 for none
        budget_s      budget asked for, None for none
    """
    if more_trials or budget_s is not None:
        num_trials = (options.num_trials or num_proposed) + more_trials if more_trials else options.num_trials
        session = replace(options, num_trials=num_trials, budget_s=budget_s)
        return session, replace(session, budget_s=None if budget_s is None else spent_s + budget_s)
    if options.budget_s is None:
        return options, options
    left_s = options.budget_s - spent_s
    if left_s - closing_s(options.budget_s) > LEAST * options.budget_s:
        return replace(options, budget_s=left_s), options
    return replace(options, num_trials=num_proposed, budget_s=None), options


def budget_note(session: RunOptions, options: RunOptions) -> str | None:
    """Return a sentence on the budget of a resumed run, None if there is nothing to say."""
    if options.budget_s is None or session.budget_s == options.budget_s:
        return None
    if session.budget_s is not None:
        return f"{duration(session.budget_s)} of the budget of {duration(options.budget_s)} is left."
    return (
        f"The budget of {duration(options.budget_s)} is spent: interrupted trials are trained to their end, and "
        "nothing new is tried. --budget 30m or --trials +20 gives it more."
    )


def reached_because(note: str) -> str:
    """Return the sentence for a search that is over by its own results."""
    return f"The search has ended: {note}. --budget 30m, --trials +20 or another --target in `resume` continues it."


def ended_because(all_tried: str) -> str:
    """Return the sentence for a search that is over before its budget."""
    return f"The search has ended: {all_tried}. Widen the space in a new run to try more."
