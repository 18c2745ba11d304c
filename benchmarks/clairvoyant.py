"""The floor under every search: what a method could show that knew all configurations before it began.

With many workers a budget is short, and even the best configuration needs its time; a regret says little without this.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from blackboxes import NUM_SAMPLE

from launch.simulate import Simulation


def clairvoyant(black_box: Any, budget_s: float) -> Simulation:
    """The configurations by which the scale is known (`blackboxes.measured`), all begun at once, each on a worker
    of its own, as far as `budget_s` goes. No real search is as good with these; one that proposes something better
    than the best of them may be.
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
