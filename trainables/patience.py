"""Early stopping of a training that no longer improves."""

from __future__ import annotations

import math
from collections.abc import Mapping

from trainables.config.trial import TrialConfig
from trainables.state import TrainState
from visionsweep.core.names import mode_of
from visionsweep.core.objectives import sign_of


def stop_early(config: TrialConfig, state: TrainState, metrics: Mapping[str, float]) -> str:
    """Return the reason to stop before config.epochs, or ''. `state` counts the epochs without a gain."""
    if config.early_stopping_patience is None:
        return ""
    value = metrics.get(config.early_stopping_metric, math.nan)
    best = state.best_watched
    sign = sign_of(mode_of(config.early_stopping_metric))
    if best is None or math.isnan(best):  # patience begins with the first value
        state.best_watched = None if math.isnan(value) else value
        state.epochs_without_gain = 0
        return ""
    if sign * value > sign * best:  # false for a missing value, which counts as an epoch without a gain
        state.best_watched = value
        state.epochs_without_gain = 0
        return ""
    state.epochs_without_gain += 1
    if state.epochs_without_gain < config.early_stopping_patience or state.epoch == config.epochs:
        return ""
    return f"early stopping: no better {config.early_stopping_metric} for {config.early_stopping_patience} epochs"
