"""The end of a search by its own results: its target is reached, or nothing is left to gain.

What is left to gain is known for every search that the sampler's model can judge. Its point is recorded, so that the
report can say when the search could have ended.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from launch.samplers.history import History
from launch.samplers.outlook import still_to_gain
from launch.search.target import AUTO, Target
from search_spaces.search import Search
from visionsweep.core.errors import ConfigError
from visionsweep.run_dir.run import SETTLED
from visionsweep.run_dir.trials import Trial

if TYPE_CHECKING:
    from launch.search.prepare import RunOptions  # imports torch

GROWTH = 0.1  # the model is asked again when it has so many more values
IN_A_ROW = 2  # times that the gain must be below the noise: one fit of the model may be lucky


class Ending:
    """Why a search ends before its budget.

        search      for one task, with one metric or several objectives
        target      None: the search has none
        stops       whether it ends where nothing is left to gain
        num_val     validation images
        past        trials of the run so far
        on_settled  called once, with what is known when nothing is left to gain
        seed        of the model's random candidates

    `reason` is why the search is over, None while it continues. `note` is the sentence with the numbers.
    """

    def __init__(
        self,
        search: Search,
        target: Target | None,
        stops: bool,
        num_val: int,
        past: Iterable[Trial] = (),
        on_settled: Callable[[dict[str, Any]], object] | None = None,
        seed: int = 0,
    ) -> None:
        self.objective = search.compared[0]
        self.target = target
        self.stops = stops
        self.num_val = num_val
        self.on_settled = on_settled
        # A model of one metric that is a share of one; else its noise is not known.
        self.looks = len(search.compared) == 1 and self.objective.mode == "max" and num_val > 0
        self.seed = seed
        self.reason: str | None = None
        self.note: str | None = None
        self.best: float | None = None  # of complete trials
        self._asked_at = 0  # number of values that the model had
        self._below = 0  # how often in a row the gain was below the noise
        for trial in past:
            self.look_at(trial)

    def look_at(self, trial: Trial) -> None:
        """Take note of a trial that has ended."""
        best = trial.best(self.objective.name, self.objective.mode) if trial.status == "complete" else None
        if best is not None and (self.best is None or self.objective.sign * (best[0] - self.best) > 0):
            self.best = best[0]
        value = None if self.target is None else self.target.reached_by(trial)
        if value is not None and self.reason is None:
            self.reason = f"the target {self.target} is reached"
            self.note = f"{self.reason}: trial {trial.trial_id} has {value:.4f}"

    def look_ahead(self, history: History) -> None:
        """Ask the model what is left to gain, if it has learned enough since it was asked last."""
        if not self.looks or self.best is None or history.num_ended < (1 + GROWTH) * self._asked_at + 1:
            return
        self._asked_at = history.num_ended
        gain = still_to_gain(history, self.seed, highest=1.0)
        noise = standard_error(self.best, self.num_val)
        self._below = 0 if gain is None or gain >= noise else self._below + 1
        if gain is None or self._below < IN_A_ROW:
            return
        self.looks = False
        trials = history.num_observed
        found = {"time": time.time(), "trials": trials, "gain": gain, "noise": noise, "score": self.best}
        if self.on_settled is not None:
            self.on_settled(found)
        if self.stops and self.reason is None:
            self.reason = "what is left to gain is below the noise of the validation split"
            self.note = (
                f"at most {gain:.4f} of {self.objective.name} is left to gain by the search's model, less than the "
                f"standard error of the best score, {self.best:.4f} ± {noise:.4f} on {self.num_val} images"
            )


def standard_error(score: float, num_images: int) -> float:
    """Return the standard error of a share of so many images, never 0 (Agresti and Coull 1998).

    For a mean of other scores in [0, 1] it is an upper bound, as none varies more than zeros and ones do.
    """
    share = (min(max(score, 0.0), 1.0) * num_images + 2) / (num_images + 4)
    return math.sqrt(share * (1 - share) / (num_images + 4))


def resumed_ends(
    options: RunOptions,
    search: Search,
    trials: Iterable[Trial],
    search_json: Mapping[str, Any],
    target: str | None,
    more: bool,
) -> tuple[RunOptions, str | None]:
    """Return the options of a resumed run by which it may still end, and why it is over, None if it continues.

    A run that has ended by itself continues with a new target, or with more time or trials. What ended it then no
    longer does.

        options  of the run so far
        target   asked for now, None for none
        more     whether time or trials are asked for
    """
    settled = options.stop == AUTO and SETTLED in search_json
    if target is not None:
        options = replace(options, target=target)
    if settled and (target is not None or more):
        options = replace(options, stop=None)
    elif settled:
        return options, "what is left to gain is below the noise of the validation split"
    if options.target is None:
        return options, None
    wanted = Target.of(options.target, search)
    reached = next((trial for trial in trials if wanted.reached_by(trial) is not None), None)
    if reached is None:
        return options, None
    if target is not None:
        raise ConfigError(
            f"--target {target}: trial {reached.trial_id} has it already, with {wanted.reached_by(reached):.4f}. "
            "Name a better value."
        )
    if more:
        return replace(options, target=None), None
    return options, f"the target {wanted} is reached"
