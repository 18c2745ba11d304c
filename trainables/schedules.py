"""Learning-rate schedules: pure functions of the epoch. The factor they return multiplies the base learning rate."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence

from trainables.config.schedule import (
    SCHEDULES,
    Constant,
    Cosine,
    CosineThenMultiStep,
    MultiStep,
    Piecewise,
    SchedulePart,
)
from visionsweep.core.names import pick

WARMUP_START = 0.01  # not zero: a first step that changes nothing would be wasted

# Milestones as (numerator, denominator) of the training, so that whole epochs come out exact.
SPACINGS = {
    "doubling": ((1, 16), (1, 8), (1, 4), (1, 2), (15, 16)),
    "late": ((3, 5), (4, 5), (9, 10)),
}


def lr_factor(schedule: SchedulePart, epoch: float, epochs: int) -> float:
    """Return the factor in [0, 1] of the base learning rate at `epoch` (progress from 0, fractional within an epoch).

    Warm-up is a factor of its own. It rises linearly to 1 over `warmup_epochs`. The schedule runs on the plain epoch
    axis, so that the two meet without a jump.
    """
    factor: float = pick(SCHEDULES, schedule.name, "schedule").load()(schedule, epoch, epochs)
    return _warmup(epoch, schedule.warmup_epochs) * factor


def constant(schedule: Constant, epoch: float, epochs: int) -> float:
    return 1.0


def cosine(schedule: Cosine, epoch: float, epochs: int) -> float:
    """Cosine annealing without restarts (Loshchilov & Hutter 2017, arXiv:1608.03983). After a period it rises again."""
    return _half_wave(epoch / (schedule.period_epochs or epochs), schedule.final_fraction)


def multistep(schedule: MultiStep, epoch: float, epochs: int) -> float:
    milestones = schedule.milestones if schedule.milestones is not None else _spread(schedule.spacing, 0, epochs)
    return schedule.gamma ** _num_passed(milestones, epoch)


def cosine_then_multistep(schedule: CosineThenMultiStep, epoch: float, epochs: int) -> float:
    switch_epoch = schedule.switch_fraction * epochs
    if epoch < switch_epoch:
        return _half_wave(epoch / switch_epoch, schedule.final_fraction)
    milestones = _spread(schedule.spacing, switch_epoch, epochs)
    return schedule.final_fraction * schedule.gamma ** _num_passed(milestones, epoch)


def piecewise(schedule: Piecewise, epoch: float, epochs: int) -> float:
    if schedule.boundaries:
        return schedule.fractions[bisect_right(schedule.boundaries, epoch)]
    piece = min(int(epoch * schedule.num_pieces / epochs), schedule.num_pieces - 1)  # the end belongs to the last one
    return schedule.fractions[0] * schedule.factor**piece


def _warmup(epoch: float, warmup_epochs: float) -> float:
    if epoch >= warmup_epochs:
        return 1.0
    return WARMUP_START + (1 - WARMUP_START) * epoch / warmup_epochs


def _half_wave(progress: float, floor: float) -> float:
    """1 at progress 0, `floor` at 1, back at 1 at 2."""
    return floor + (1 - floor) * (1 + math.cos(math.pi * progress)) / 2


def _spread(spacing: str, start: float, end: float) -> tuple[float, ...]:
    return tuple(start + (end - start) * part / whole for part, whole in SPACINGS[spacing])


def _num_passed(milestones: Sequence[float], epoch: float) -> int:
    return sum(epoch >= milestone for milestone in milestones)
