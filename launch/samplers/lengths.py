"""How long the full training of a configuration is, where the space has a choice of lengths."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from launch.samplers.encoding import Encoder, Rows
from search_spaces.grammar import REGIME, Space
from search_spaces.regimes import EPOCHS, regimes_of


class Lengths:
    """The number of epochs that each configuration is trained for.

    space    `Search.full_space`
    encoder  of that space
    longest  epochs of a configuration for which the space gives none
    """

    def __init__(self, space: Space, encoder: Encoder, longest: int) -> None:
        self.encoder = encoder
        self.longest = longest
        self.places = list(_places(space))
        self.regimes = list(regimes_of(space))

    @property
    def vary(self) -> bool:
        """Whether trainings of the space differ in length."""
        nodes = [node for _, _, node in self.places]
        return any(node != nodes[0] or not isinstance(node, int) for node in nodes)

    @property
    def num_regimes(self) -> int:
        """Number of regimes, 1 in a space without any."""
        return max(1, len(self.regimes))

    def of(self, rows: Rows) -> NDArray[np.float64]:
        """Return the epochs (n,) of rows (n, num_parameters)."""
        found = np.full(len(rows), float(self.longest))
        for regime, name, node in self.places:
            here = self.regime_of(rows) == (self.regimes.index(regime) if regime else 0)
            if name not in self.encoder.column:
                found[here] = node
                continue
            column = self.encoder.column[name]
            known = np.flatnonzero(here & ~np.isnan(rows[:, column]))
            found[known] = [self.encoder.value(column, unit) for unit in rows[known, column]]
        return found

    def of_params(self, params: Mapping[str, Any]) -> int:
        """Return the epochs of one configuration, given its flat parameters."""
        return int(self.of(self.encoder.encode(params)[None])[0])

    def shares(self, rows: Rows) -> NDArray[np.float64]:
        """Return the epochs (n,) as a fraction of the longest training."""
        return self.of(rows) / self.longest

    def regime_of(self, rows: Rows) -> NDArray[np.int_]:
        """Return the index of each row's regime (n,), 0 in a space without regimes."""
        if not self.regimes:
            return np.zeros(len(rows), dtype=int)
        drawn = np.nan_to_num(rows[:, self.encoder.column[REGIME]])  # a record of another space may have none
        return np.floor(drawn * len(self.regimes)).astype(int)


def _places(space: Space) -> Iterator[tuple[str, str, Any]]:
    """Yield where a space sets `epochs`: (regime, name of the parameter, range or plain value)."""
    if EPOCHS in space:
        yield "", EPOCHS, space[EPOCHS]
    for name, arm in regimes_of(space).items():
        if EPOCHS in arm:
            yield name, f"{REGIME}/{name}/{EPOCHS}", arm[EPOCHS]
