"""visionsweep's own sampler: one model of all rungs proposes what should be best at full training.

Most trials of a search are those that ASHA stops early. Plain TPE takes their last value as if it were final. This
sampler also gives its model the fidelity of each value (BOHB keeps one model per rung for that, Falkner et al. 2018).
It assumes that running trials will give what the model expects. Diverged trials count as the worst value seen.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState

from launch.samplers.candidates import Candidates, nearness
from launch.samplers.cost_model import CostModel, WholeCosts
from launch.samplers.encoding import Encoder, Rows, fix
from launch.samplers.gp import (
    GaussianProcess,
    Prior,
    expected_improvement,
    fit,
    perturb_hyperparameters,
)
from launch.samplers.history import History, Ladder, Vector
from launch.samplers.learned import Learned, observations
from launch.samplers.scalarization import ScalarizedImprovement, by_ranks
from launch.samplers.warm_prior import WarmPrior
from search_spaces.grammar import REGIME, Space
from visionsweep.core.objectives import Objective

RANDOM_SHARE = 0.1  # of the proposals, so that no region is abandoned because of the model alone
CHOICES_SHARE = 0.4  # of the model's proposals, in a space that has choices: see `_drawn_choices`
MAX_OBSERVED = 240  # what the model is conditioned on, however long the history: keeps a proposal near 20 ms
MAX_FITTED = 120  # what its length scales are fitted on
MAX_RUNNING = 64
# see `nearness`; NEARNESS scales the penalty on the log gain
MAX_DISTANCE = 0.36
NEARNESS = 8.0
COST = 1.0  # how much cheaper trials count: the gain is divided by (seconds of a trial) to this power


class FidelitySampler(optuna.samplers.BaseSampler):
    """An Optuna sampler that maximizes expected improvement at full training, per second of training.

        space       the search space
        ladder      the rungs
        objectives  what is compared; with several, each proposal draws random weights, which covers the Pareto front
        seed        of all random draws
        warm_start  flat parameters of the first trials

    Trials of a warm start are learned from like any other. In a space with regimes, or with a choice of length, they
    are its prior too (WarmPrior). The sampler's own initial points begin after them. So a bad warm start does not use
    up the first points that cover the space.

    A proposal depends only on the seed, its number and the study's trials. A study that is rebuilt from the records
    continues as if it had never stopped.
    """

    def __init__(
        self,
        space: Space,
        ladder: Ladder,
        objectives: Sequence[Objective],
        seed: int,
        warm_start: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        self.encoder = Encoder(space)
        self.seed = seed
        self.history = History(self.encoder, ladder, objectives)
        self.num_objectives = len(objectives)
        # Trials before the model is used: enough to tell a slope from noise, few enough for a small budget.
        self.least_observed = min(12, 2 * len(self.encoder) + 2)
        self.num_given = len(warm_start)
        self.lengths = self.history.lengths
        self.prior = WarmPrior(self.encoder, self.lengths, warm_start)
        self.regime = self.encoder.column.get(REGIME, -2)
        near_root = (self.encoder.parents < 0) | (self.encoder.parents == self.regime)
        self.choices = np.flatnonzero(near_root & (self.encoder.choices > 1)).tolist()
        self.chosen: dict[int, dict[str, Any]] = {}
        # number of values used, and the fitted hyperparameters, by the number of runs on other data
        self._fitted: dict[int, tuple[int, list[Vector]]] = {}
        # The number of the next proposal and of the attempt at it; None means the study's own numbering.
        self.stream: tuple[int, int] | None = None
        self.spent: frozenset[str] = frozenset()  # regimes of which every configuration was tried
        self.fits: Callable[[Rows], NDArray[np.bool_]] | None = None  # whether rows fit into the budget; None: all do
        # of earlier runs: what this proposal hears of them, all of them, and those on the same data
        self.learned: Learned | None = None
        self.all_learned: Learned | None = None
        self.same_learned: Learned | None = None
        self.nothing_fits = False  # whether no draw fitted at the last proposal

    def propose_only(self, fits: Callable[[Rows], NDArray[np.bool_]]) -> None:
        """Propose, from now on, what fits into a budget. fits: of rows (n, num_parameters), (n,) bool."""
        self.fits = fits

    def begin(self, number: int, attempt: int, spent: frozenset[str] = frozenset()) -> None:
        """Hear what is proposed next.

        number   of the trial
        attempt  at it, from 0
        spent    regimes of which every configuration was tried
        """
        self.stream = (number, attempt)
        self.spent = spent

    def learn(self, learned: Learned | None, same: Learned | None) -> None:
        """Hear, before the first proposal, what trials of earlier runs have shown. same: those on the same data alone.

        Every second proposal hears nothing of other data. However much that misleads, half of the search stays as good
        as one that nothing was taught.
        """
        self.all_learned = learned
        self.same_learned = same

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        self.chosen[trial.number] = self._propose(study, trial.number) if len(self.encoder) else {}

    def after_trial(
        self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        self.chosen.pop(trial.number, None)

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return {}

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return {}

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        chosen = self.chosen.get(trial.number, {})
        if param_name in chosen:
            return chosen[param_name]
        # A warm start fixed an arm that the proposal did not have: its parameters are drawn at random.
        number, attempt = self.stream or (trial.number, 0)
        seed = int(np.random.default_rng([self.seed, number, attempt, len(trial.params)]).integers(2**31))
        blank = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
        return blank.ask({param_name: param_distribution}).params[param_name]

    def cost(self) -> CostModel:
        """Return the cost model of an epoch, as of the last proposal."""
        return CostModel(self.encoder, *self.history.costs(MAX_OBSERVED))

    def _propose(self, study: optuna.Study, proposing: int) -> dict[str, Any]:
        number, attempt = self.stream or (proposing, 0)
        rng = np.random.default_rng([self.seed, number, attempt])
        self.history.update(study.get_trials(deepcopy=False), proposing)
        self.learned = self.same_learned if number % 2 else self.all_learned
        num_known = self.history.num_observed + (0 if self.learned is None else self.learned.num_trials)
        if num_known < self.least_observed:
            row = self._quasi_random(max(0, number - self.num_given) + 2**16 * attempt, rng)
        elif rng.random() < RANDOM_SHARE:
            row = self._drawn(rng, 1, self._only_open(rng))[0]
        else:
            row = self._most_promising(rng)
        self.nothing_fits = False
        candidates = self._candidates
        if not candidates.fitting(row[None])[0]:  # replaced by a random one that does
            pool = candidates.that_fit(rng, self._only_open(rng))
            self.nothing_fits = not len(pool)
            row = row if self.nothing_fits else pool[0]
        return self.encoder.decode(row)

    @property
    def _candidates(self) -> Candidates:
        return Candidates(self.encoder, self._drawn, self.fits)

    def _drawn(self, rng: np.random.Generator, num: int, fixed: Mapping[int, float]) -> Rows:
        """Return random configurations (num, num_parameters) of the prior, with the value of some columns fixed."""
        return self._of_prior(rng.random((num, len(self.encoder))), rng, fixed)

    def _of_prior(self, points: Rows, rng: np.random.Generator, fixed: Mapping[int, float]) -> Rows:
        pulled = self.prior.pull(fix(points, fixed), rng, self.history.num_ended_in_regimes)
        return self.encoder.settle(fix(pulled, fixed))

    @property
    def num_others(self) -> int:
        """How many earlier runs on other data the model knows."""
        return 0 if self.learned is None else self.learned.num_others

    def _here(self, features: Rows) -> Rows:
        """Return features (n, F) of configurations as the model takes them, without a mark: on this search's data."""
        return np.pad(features, ((0, 0), (0, self.num_others)))

    def _hyper(self) -> list[Vector]:
        """Return the hyperparameters of each objective's model.

        They are refitted when the number of values has grown by a twentieth. The fit uses a prefix of the history that
        any rebuilt history has too.
        """
        total = self.history.num_ended
        if not total and self.learned is None:
            return [Prior(len(self.encoder)).mean] * self.num_objectives
        first = max(total - total % max(1, total // 20), min(total, 1))
        if self.num_others not in self._fitted or self._fitted[self.num_others][0] != first:
            rng = np.random.default_rng([self.seed, first])
            alike = functools.partial(by_ranks, weights=np.ones(self.num_objectives))
            observed = observations(
                self.encoder, self.learned, *self.history.observations(MAX_FITTED, rng, alike, first)
            )
            self._fitted[self.num_others] = first, [fit(one) for one in observed]
        return self._fitted[self.num_others][1]

    def _only_open(self, rng: np.random.Generator) -> dict[int, float]:
        """Return a random regime that still has untried configurations, as column and value.

        Empty while no regime is exhausted, and when all of them are.
        """
        if not self.spent:
            return {}
        names = self.encoder.parameters[self.regime].range.choices  # type: ignore[union-attr]
        left = [number for number, name in enumerate(names) if name not in self.spent]
        return {self.regime: (int(rng.choice(left)) + 0.5) / len(names)} if left else {}

    def _quasi_random(self, number: int, rng: np.random.Generator) -> Rows:
        """Return the number-th point of a scrambled Sobol sequence, which covers the space more evenly than chance.

        `rng` draws what the prior keeps of a warm start.
        """
        from scipy.stats import qmc  # most of a second, which a search's own first trials need not wait for

        sobol = qmc.Sobol(len(self.encoder), seed=self.seed)
        if number:  # fast_forward(0) overflows in SciPy 1.17
            sobol.fast_forward(number)
        row: Rows = self._of_prior(sobol.random(1), rng, self._only_open(rng))[0]
        return row

    def _drawn_choices(self, rng: np.random.Generator) -> dict[int, float]:
        """Return a random half of the space's choices with random values, by column; in most proposals none.

        The model soon prefers one combination of choices so clearly that it proposes no other. Backbones that take
        longer to become good would then never be seen with rates that suit them. Where the choices are drawn, the model
        proposes the rest, so that each choice is tried with what is known by then.
        """
        if not self.choices or rng.random() >= CHOICES_SHARE:
            return {}
        drawn = [column for column in self.choices if rng.random() < 0.5]
        counts = self.encoder.choices[drawn]
        values = dict(zip(drawn, (rng.integers(counts) + 0.5) / counts, strict=True))
        return self.prior.pull_choices(values, rng, self.history.num_ended_in_regimes)

    def _most_promising(self, rng: np.random.Generator) -> Rows:
        # Condition one model per objective on the history; running trials count as their expected values.
        several = self.num_objectives > 1
        weights = rng.dirichlet(np.ones(self.num_objectives)) if several else np.ones(1)
        good = functools.partial(by_ranks, weights=weights)
        rows, *outcomes = self.history.observations(MAX_OBSERVED, rng, good)
        observed = observations(self.encoder, self.learned, rows, *outcomes)
        known = rows if self.learned is None else np.concatenate([rows, self.learned.rows])
        features = self._here(self.encoder.features(known)[0])
        models = [
            GaussianProcess(one, perturb_hyperparameters(hyper, one.num_parameters, rng))
            for one, hyper in zip(observed, self._hyper(), strict=True)
        ]
        expectations = np.stack([model.predict(features)[0] for model in models], axis=1)
        running = self.history.running(MAX_RUNNING)
        running_features = self._here(self.encoder.features(running)[0])
        for model in models:
            model.believe(running_features, np.ones(len(running)))
        scalarized = ScalarizedImprovement(models, expectations, weights, rng) if several else None
        expected = expectations[:, 0] if scalarized is None else scalarized.seen
        # What an earlier run has tried may be tried here: its model is not among this run's.
        tried = np.concatenate([features[: len(rows)], running_features])
        # Draw the distance within which a candidate counts as a repetition. A small one refines what is good, a large
        # one asks for something else. Its unit is the spacing of that many evenly spread points, which hardly changes
        # beyond 8 dimensions.
        dimensions = min(len(self.encoder), 8)
        num_known = len(features) + len(running)
        distance = rng.random() * MAX_DISTANCE * math.sqrt(dimensions) * num_known ** (-1 / dimensions)
        drawn = self._drawn_choices(rng)
        fixed = {**drawn, **self._only_open(rng)}
        cost = WholeCosts(self.cost(), self.lengths, *self.history.costs(MAX_OBSERVED))

        def worth(candidates: Rows) -> Rows:
            features = self.encoder.features(candidates)[0]
            seen = self._here(features)
            repeated = NEARNESS * nearness(seen, tried, distance)
            given = self.prior.log_weight(candidates, self.history.num_ended_in_regimes)
            if drawn and scalarized is None:  # the gain is tiny there, and would prefer the least known of the rest
                return models[0].predict(seen)[0] + given - repeated
            if scalarized is None:
                gain = expected_improvement(*models[0].predict(seen), float(expected.max()))
            else:
                gain = scalarized.gain(seen)
            return gain - COST * cost.log_seconds(candidates, features) + given - repeated

        best = known[np.argsort(-expected, kind="stable")[:10]]
        return self._candidates.best(rng, best, fixed, worth)
