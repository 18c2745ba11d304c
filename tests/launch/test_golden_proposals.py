"""A space without regimes and lengths of its own is searched as before these existed."""

from __future__ import annotations

from pathlib import Path

import pytest
from scripted_search import CONDITIONAL, SQUARE, Searching, bumpy, quadratic, search

GOLDEN = {
    "square": [
        ({"a": 0.713, "b": 0.2035}, 9),
        ({"a": 0.7063, "b": 0.1839}, 9),
        ({"a": 0.6557, "b": 0.1652}, 9),
        ({"a": 0.7148, "b": 0.0668}, 1),
        ({"a": 0.7079, "b": 0.2455}, 9),
        ({"a": 0.7, "b": 0.2035}, 9),
    ],
    "conditional": [
        ({"optimizer": "adam", "optimizer/adam/lr": 0.2929, "rotate": False, "depth": 1}, 3),
        ({"optimizer": "adam", "optimizer/adam/lr": 0.3875, "rotate": True, "rotate/degrees": 12.9764, "depth": 2}, 3),
        ({"optimizer": "adam", "optimizer/adam/lr": 0.3149, "rotate": False, "depth": 3}, 9),
        (
            {
                "optimizer": "sgd",
                "optimizer/sgd/lr": 0.0439,
                "optimizer/sgd/nesterov": False,
                "rotate": False,
                "depth": 3,
            },
            9,
        ),
        (
            {
                "optimizer": "sgd",
                "optimizer/sgd/lr": 0.0159,
                "optimizer/sgd/nesterov": False,
                "rotate": False,
                "depth": 2,
            },
            1,
        ),
        ({"optimizer": "adam", "optimizer/adam/lr": 0.0, "rotate": False, "depth": 2}, 1),
    ],
}
CURVES = {"square": (SQUARE, quadratic), "conditional": (CONDITIONAL, bumpy)}


@pytest.mark.parametrize("name", GOLDEN)
def test_proposals_of_a_seed_are_those_of_version_0_4(tmp_path: Path, name: str) -> None:
    space, curve = CURVES[name]
    running = Searching(tmp_path / "run", search(space), curve, seed=3)
    for _ in range(20):
        running.step()
    for trial, (params, epochs) in zip(list(running.records.trials.values())[-6:], GOLDEN[name], strict=True):
        assert trial.params.keys() == params.keys()
        for key, value in params.items():
            same = value if isinstance(value, (str, bool)) else pytest.approx(value, rel=1e-3, abs=1e-3)
            assert trial.params[key] == same
        assert len(trial.epochs) == epochs
