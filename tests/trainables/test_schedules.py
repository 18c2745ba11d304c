"""Schedules are pure: fed with epochs, no training."""

import math
from itertools import pairwise

import pytest
import torch

from trainables.config.schedule import SCHEDULES, Constant, Cosine, CosineThenMultiStep, MultiStep, Piecewise
from trainables.schedules import lr_factor

EXAMPLES = {
    "constant": Constant(),
    "cosine": Cosine(final_fraction=0.01),
    "multistep": MultiStep(),
    "cosine_then_multistep": CosineThenMultiStep(),
    "piecewise": Piecewise(boundaries=(4, 40), fractions=(0.1, 1.0, 0.01)),
}


def test_every_schedule_has_an_example_here():
    assert EXAMPLES.keys() == SCHEDULES.keys()


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("warmup_epochs", [0.0, 0.5, 3.0])
def test_every_schedule_stays_above_zero_and_at_most_one(name, warmup_epochs):
    schedule = EXAMPLES[name].model_copy(update={"warmup_epochs": warmup_epochs})
    factors = [lr_factor(schedule, step / 7, 80) for step in range(80 * 7)]
    assert all(0 < factor <= 1 for factor in factors)


@pytest.mark.parametrize("name", SCHEDULES)
def test_warm_up_rises_linearly_and_meets_the_schedule_where_it_ends(name):
    warm = EXAMPLES[name].model_copy(update={"warmup_epochs": 4.0})
    cold = EXAMPLES[name]
    ratios = [lr_factor(warm, epoch, 80) / lr_factor(cold, epoch, 80) for epoch in (0, 1, 2, 3, 4, 5)]
    steps = [after - before for before, after in pairwise(ratios[:5])]
    assert ratios[0] == pytest.approx(0.01)
    assert steps == pytest.approx([steps[0]] * 4)
    assert ratios[4:] == [1, 1]


def test_cosine_follows_torch_down_and_up_again():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    reference = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=10, eta_min=0.1)
    for epoch in range(25):
        factor = lr_factor(Cosine(period_epochs=10, final_fraction=0.1), epoch, 25)
        assert factor == pytest.approx(optimizer.param_groups[0]["lr"])
        optimizer.step()
        reference.step()


def by_torch(make, epochs):
    """The factors of one of torch's schedulers, epoch by epoch."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    reference = make(optimizer)
    found = []
    for _ in range(epochs):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        reference.step()
    return found


@pytest.mark.parametrize("epochs", [1, 2, 7, 10, 30, 59, 80])
@pytest.mark.parametrize("spacing", ["doubling", "late"])
def test_multistep_is_torchs_at_its_milestones(epochs, spacing):
    parts = {"doubling": (1 / 16, 1 / 8, 1 / 4, 1 / 2, 15 / 16), "late": (0.6, 0.8, 0.9)}[spacing]
    milestones = [math.ceil(round(part * epochs, 9)) for part in parts]  # torch steps at whole epochs
    expected = by_torch(lambda one: torch.optim.lr_scheduler.MultiStepLR(one, milestones, gamma=0.3), epochs)
    schedule = MultiStep(gamma=0.3, spacing=spacing)
    first = 0.3 ** sum(milestone == 0 for milestone in milestones)
    assert [lr_factor(schedule, epoch, epochs) for epoch in range(epochs)] == pytest.approx(
        [first * value for value in expected]
    )


def test_piecewise_is_torchs_lambda_and_its_equal_pieces_are_torchs_steps():
    fractions = {0: 1.0, 4: 0.5, 9: 0.05}
    expected = by_torch(
        lambda one: torch.optim.lr_scheduler.LambdaLR(
            one, lambda now: fractions[max(n for n in fractions if n <= now)]
        ),
        12,
    )
    schedule = Piecewise(boundaries=(4, 9), fractions=(1.0, 0.5, 0.05))
    assert [lr_factor(schedule, epoch, 12) for epoch in range(12)] == pytest.approx(expected)
    expected = by_torch(lambda one: torch.optim.lr_scheduler.StepLR(one, 5, gamma=0.4), 20)
    schedule = Piecewise(num_pieces=4, factor=0.4)
    assert [lr_factor(schedule, epoch, 20) for epoch in range(20)] == pytest.approx(expected)


def test_warm_up_is_torchs_linear_one():
    expected = by_torch(lambda one: torch.optim.lr_scheduler.LinearLR(one, 0.01, 1.0, total_iters=6), 10)
    schedule = Constant(warmup_epochs=6.0)
    assert [lr_factor(schedule, epoch, 10) for epoch in range(10)] == pytest.approx(expected)


def test_cosine_ends_at_its_final_fraction_when_no_period_is_given():
    assert lr_factor(Cosine(final_fraction=0.2), 60, 60) == pytest.approx(0.2)
    assert lr_factor(Cosine(), 59.9, 60) > 0


def test_doubling_milestones_have_the_shape_of_5_10_20_40_75_of_80():
    changes = [epoch for epoch in range(1, 80) if _drops_at(MultiStep(spacing="doubling"), epoch, 80)]
    assert changes == [5, 10, 20, 40, 75]


def test_late_milestones_lie_at_three_fifths_four_fifths_and_nine_tenths():
    changes = [epoch for epoch in range(1, 30) if _drops_at(MultiStep(spacing="late"), epoch, 30)]
    assert changes == [18, 24, 27]


def test_named_milestones_win_over_the_spacing():
    schedule = MultiStep(gamma=0.5, milestones=(2.0, 3.0))
    assert [lr_factor(schedule, epoch, 100) for epoch in (0, 1.9, 2, 3, 99)] == [1, 1, 0.5, 0.25, 0.25]


def test_cosine_then_multistep_switches_at_its_floor_and_steps_over_the_rest():
    schedule = CosineThenMultiStep(switch_fraction=0.5, final_fraction=0.1, gamma=0.5, spacing="late")
    assert lr_factor(schedule, 0, 100) == 1
    assert lr_factor(schedule, 49.999, 100) == pytest.approx(0.1, abs=1e-6)
    assert lr_factor(schedule, 50, 100) == pytest.approx(0.1)
    assert [lr_factor(schedule, epoch, 100) for epoch in (79, 80, 90, 95)] == pytest.approx([0.1, 0.05, 0.025, 0.0125])


def test_piecewise_takes_each_fraction_from_its_boundary_on():
    schedule = Piecewise(boundaries=(1, 5), fractions=(0.1, 1.0, 0.5))
    assert [lr_factor(schedule, epoch, 9) for epoch in (0, 0.99, 1, 4.99, 5, 8)] == [0.1, 0.1, 1, 1, 0.5, 0.5]


def _drops_at(schedule, epoch, epochs):
    return not math.isclose(lr_factor(schedule, epoch, epochs), lr_factor(schedule, epoch - 1e-6, epochs))
