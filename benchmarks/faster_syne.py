"""Syne Tune's CQR and BORE with the same answers in less time: bit for bit, which `tests/benchmarks/` compares.

    install()

CQR fits five times a hundred trees for a proposal, and scikit-learn's checks of each tree take far longer than the
tree. BORE encodes its 500 candidates number by number and asks its classifier about them one by one. Both draw their
candidates' values through arrays of length one.

Here trees are built without the checks, candidates are encoded and classified at once, and numbers drawn as numbers.
Ten seeds of both then take hours and not days.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from sklearn._loss.loss import PinballLoss
from sklearn.ensemble import GradientBoostingRegressor
from sklearn.tree._criterion import MSE
from sklearn.tree._splitter import BestSplitter
from sklearn.tree._tree import DepthFirstTreeBuilder, Tree

checked_fit_stages = GradientBoostingRegressor._fit_stages


@functools.cache
def install() -> None:
    """Replace the slow functions in this process."""
    GradientBoostingRegressor._fit_stages = fit_stages
    searchers = "syne_tune.optimizer.schedulers.searchers"
    bore = importlib.import_module(f"{searchers}.bore.bore").Bore
    bore.suggest = faster(bore.suggest)
    surrogate = importlib.import_module(f"{searchers}.conformal.surrogate.surrogate_model").SurrogateModel
    surrogate._update_candidates = functools.wraps(surrogate._update_candidates)(update_candidates)


class Stage:
    """The parts of a DecisionTreeRegressor that a prediction needs."""

    def __init__(self, tree: Tree) -> None:
        self.tree_ = tree

    def _validate_X_predict(self, X: Any, check_input: bool) -> np.ndarray:  # noqa: N802, N803, scikit-learn's names
        return np.ascontiguousarray(X, dtype=np.float32)


def fit_stages(
    self: GradientBoostingRegressor,
    X: np.ndarray,  # noqa: N803, scikit-learn's name
    y: np.ndarray,
    raw_predictions: np.ndarray,
    sample_weight: np.ndarray,
    random_state: np.random.RandomState,
    *validation: Any,
) -> int:
    """Replace `_fit_stages` of scikit-learn 1.9 for a quantile loss with equal weights and other defaults.

    It leaves out the training score of every stage, which nobody reads. Other losses and weights go to scikit-learn's
    own.
    """
    if not isinstance(self._loss, PinballLoss) or np.any(sample_weight != 1.0):
        stages: int = checked_fit_stages(self, X, y, raw_predictions, sample_weight, random_state, *validation)
        return stages
    samples, features = X.shape
    weights = np.asarray(sample_weight, dtype=np.float64)
    raw = raw_predictions[:, 0]
    quantile = self._loss.closs.quantile
    one_output = np.array([1], dtype=np.intp)
    for stage in range(self.n_estimators):
        negative_gradient = np.where(y >= raw, quantile, quantile - 1.0).reshape(-1, 1)
        splitter = BestSplitter(MSE(1, samples), features, self.min_samples_leaf, 0.0, random_state, None)
        tree = Tree(features, one_output, 1)
        DepthFirstTreeBuilder(
            splitter, self.min_samples_split, self.min_samples_leaf, 0.0, self.max_depth, self.min_impurity_decrease
        ).build(tree, X, negative_gradient, weights, None)
        leaves = tree.apply(X)
        values = tree.value[:, 0, 0]
        quantiles_of(y - raw, leaves, quantile, values)
        raw += self.learning_rate * values.take(leaves)
        self.estimators_[stage, 0] = Stage(tree)
    return int(self.n_estimators)


def quantiles_of(residuals: np.ndarray, leaves: np.ndarray, quantile: float, values: np.ndarray) -> None:
    """Write into `values` the quantile of the residuals in each leaf.

    It is the first residual in ascending order with at least that share of the leaf at or below it. So it equals
    `sklearn.utils.stats._weighted_percentile` for equal weights.

    residuals, leaves (the node of each sample): (samples,). values: (nodes,).
    """
    counts = np.bincount(leaves, minlength=len(values))
    ranks = np.clip(np.ceil(100 * quantile / 100 * counts).astype(int) - 1, 0, None)
    ascending = residuals[np.lexsort((residuals, leaves))]
    used = counts > 0
    values[used] = ascending[(np.cumsum(counts) - counts + ranks)[used]]


def faster(suggest: Callable[..., Mapping[str, Any] | None]) -> Callable[..., Mapping[str, Any] | None]:
    """Return `Bore.suggest` with one call of the classifier for all candidates of its random search."""

    @functools.wraps(suggest)
    def suggest_at_once(self: Any, **kwargs: Any) -> Mapping[str, Any] | None:
        if self.acq_optimizer != "rs" or self.points_to_evaluate or len(self.inputs) < self.init_random:
            return suggest(self, **kwargs)
        at_random = self.random_state.rand() < self.random_prob
        if at_random or not self._train_model(self.inputs, self.targets):
            config: Mapping[str, Any] = self._get_random_config()
            return config
        candidates: dict[tuple[Any, ...], Mapping[str, Any]] = {}
        repeated = 0
        draw_config = drawing(self.config_space)
        while len(candidates) < self.feval_acq and repeated <= 10_000:
            candidate = draw_config(np.random)
            key = tuple(candidate.values())
            repeated = repeated + 1 if key in candidates else 0
            candidates.setdefault(key, candidate)
        asked = list(candidates.values())
        return asked[int(self._loss(encoded(self._hp_ranges, asked)).argmin())]

    return suggest_at_once


def encoded(ranges: Any, configs: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """Return the results of `ranges.to_ndarray`, (configs, features), computed parameter by parameter."""
    columns = []
    for one in ranges._hp_ranges:
        values = [config[one.name] for config in configs]
        numbers = getattr(one, "_continuous_range", one)  # of integers
        scaling = SCALINGS.get(type(getattr(numbers, "scaling", None)).__name__)
        if scaling is None or not hasattr(numbers, "lower_internal"):
            columns.append(np.stack([one.to_ndarray(value) for value in values]))
            continue
        low = numbers.lower_internal
        high = numbers.upper_internal
        internal = scaling(np.array(values, dtype=np.float64))
        columns.append(np.clip((internal - low) / ((high - low) or 1.0), 0.0, 1.0)[:, None])
    return np.hstack(columns)


SCALINGS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "LinearScaling": lambda values: values,
    "LogScaling": np.log,
}


def update_candidates(self: Any, n_candidates: int = 2000) -> None:
    """Replace `SurrogateModel._update_candidates`."""
    draw_config = drawing(self.config_space)
    self.config_candidates = [draw_config(self.random_state) for _ in range(n_candidates)]
    self.df_candidates = self._configs_to_df(self.config_candidates)


Draw = Callable[[Any], Any]  # of `numpy.random` or a RandomState


def drawing(space: Mapping[str, Any]) -> Callable[[Any], dict[str, Any]]:
    """Return the draw of `{name: domain.sample(random_state=state)}` as a function of `state`."""
    draws = {name: draw(domain) if hasattr(domain, "sample") else domain for name, domain in space.items()}
    return lambda state: {name: draw(state) if callable(draw) else draw for name, draw in draws.items()}


def draw(domain: Any) -> Draw:
    kind = type(domain).__name__, type(domain.get_sampler()).__name__
    if kind == ("Categorical", "_Uniform"):
        categories = domain.categories
        return lambda state: categories[state.randint(0, len(categories))]
    low, high = getattr(domain, "lower", 1), getattr(domain, "upper", 1)
    if kind == ("Float", "_Uniform"):
        return lambda state: float(state.uniform(low, high))
    if kind == ("Integer", "_Uniform"):
        return lambda state: int(state.randint(low, high + 1))
    log_low, log_high = np.log(low), np.log(high)
    if kind == ("Float", "_LogUniform"):
        return lambda state: float(np.exp(state.uniform(log_low, log_high)))
    if kind == ("Integer", "_LogUniform"):
        return lambda state: round(float(np.exp(state.uniform(log_low, log_high))))
    return lambda state: domain.sample(random_state=state)
