"""The floor under every search: what a method could show that knew all configurations before it began.

With many workers a budget is short, and even the best configuration needs its time. A regret means little without this
floor.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from benchmarks.blackboxes import NUM_SAMPLE
from benchmarks.simulate import Simulation


def clairvoyant(black_box: Any, budget_s: float) -> Simulation:
    """Simulate all configurations of the scale (`blackboxes.measured`) at once, each on a worker of its own.

    Each runs as far as `budget_s` goes. No real search can beat this with these configurations, unless it proposes one
    better than all of them.
    """
    curves, full_s = black_box.sample(NUM_SAMPLE, np.random.default_rng(0))
    rows = [
        (seconds / black_box.epochs * epoch, f"{number:04d}", epoch, float(value))
        for number, (curve, seconds) in enumerate(zip(curves, full_s, strict=True))
        for epoch, value in enumerate(curve, start=1)
        if math.isfinite(value) and seconds / black_box.epochs * epoch <= budget_s
    ]
    nothing = np.array([])
    return Simulation(sorted(rows), {}, nothing, nothing, spent_s=budget_s, end_s=budget_s)
