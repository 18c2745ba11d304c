"""Losses of segmentation: what every one of them keeps to, and class weights from pixel counts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from trainables.config.io import parse_config
from trainables.config.loss import LOSSES, losses_of
from trainables.data.dataset import VOID
from trainables.losses import Loss, build_loss
from trainables.losses_pixel import inverse_frequency, median_frequency

COUNTS = np.array([[60, 30, 0], [80, 0, 10]])  # two masks, three classes
OPTIONS = {
    "cross_entropy": [
        {},
        {"label_smoothing": 0.1},
        {"class_weights": "inverse_frequency"},
        {"class_weights": "median_frequency"},
        {"reduction": "sum"},
    ],
    "focal": [{}, {"gamma": 0.0}, {"gamma": 0.5}],
    "dice": [{}, {"ce_weight": 0.5}],
    "lovasz": [{}, {"ce_weight": 0.5}],
}
CASES = [(name, options) for name in losses_of("segmentation") for options in OPTIONS[name]]


def make_loss(name: str, options: dict[str, object]) -> Loss:
    config = {
        "task": "segmentation",
        "model": {"architecture": {"name": "unet"}, "backbone": "resnet18"},
        "optimizer": {"name": "sgd", "lr": 0.1},
        "loss": {"name": name, **options},
        "epochs": 1,
        "batch_size": 2,
    }
    return build_loss(parse_config(config), COUNTS, 3)


def masks(void_rows: int = 2) -> torch.Tensor:
    """Return (2, 8, 6) int64 with a few rows of void."""
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randint(0, 3, (2, 8, 6), generator=generator)
    drawn[:, :void_rows] = VOID
    return drawn


def logits_for(targets: torch.Tensor, confidence: float) -> torch.Tensor:
    """Return logits that are right with that confidence, and arbitrary where the target is void."""
    known = F.one_hot(targets.clamp(max=2), 3).permute(0, 3, 1, 2).float()
    return confidence * (2 * known - 1)


def test_the_cases_here_cover_every_loss() -> None:
    assert {name for name, _ in CASES} == OPTIONS.keys() == {name for name, entry in LOSSES.items() if entry.pixels}


@pytest.mark.parametrize(("name", "options"), CASES)
def test_every_loss_falls_as_the_prediction_improves(name: str, options: dict[str, object]) -> None:
    loss = make_loss(name, options)
    targets = masks()
    values = [loss(logits_for(targets, confidence), targets).item() for confidence in (-2.0, -1.0, 0.0, 0.5, 1.0)]
    assert values == sorted(values, reverse=True)
    assert values[-1] < values[0]


@pytest.mark.parametrize(("name", "options"), CASES)
def test_void_pixels_change_neither_the_loss_nor_the_gradients(name: str, options: dict[str, object]) -> None:
    loss = make_loss(name, options)
    targets = masks()
    generator = torch.Generator().manual_seed(1)
    one = torch.randn(2, 3, 8, 6, generator=generator)
    other = one.clone()
    other[:, :, :2] = 50 * torch.randn(2, 3, 2, 6, generator=generator)
    values = []
    gradients = []
    for logits in (one.requires_grad_(), other.requires_grad_()):
        value = loss(logits, targets)
        value.backward()
        values.append(value.item())
        gradients.append(logits.grad)
    assert values[0] == pytest.approx(values[1], rel=1e-5)
    assert torch.allclose(gradients[0][:, :, 2:], gradients[1][:, :, 2:], atol=1e-6)
    assert not gradients[0][:, :, :2].any()


@pytest.mark.parametrize(("name", "options"), CASES)
def test_a_batch_that_is_all_void_contributes_nothing_and_breaks_nothing(name: str, options: dict[str, object]) -> None:
    logits = torch.randn(2, 3, 8, 6, requires_grad=True)
    value = make_loss(name, options)(logits, torch.full((2, 8, 6), VOID))
    value.backward()
    assert value.item() == 0
    assert logits.grad is not None
    assert not logits.grad.any()


@pytest.mark.parametrize(("name", "options"), CASES)
def test_an_image_that_is_all_void_leaves_the_loss_of_the_others_alone(name: str, options: dict[str, object]) -> None:
    loss = make_loss(name, options)
    targets = masks(void_rows=0)
    logits = torch.randn(2, 3, 8, 6, generator=torch.Generator().manual_seed(2))
    alone = loss(logits[:1], targets[:1]).item()
    targets[1] = VOID
    assert loss(logits, targets).item() == pytest.approx(alone, rel=1e-5)


@pytest.mark.parametrize(("name", "options"), CASES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_loss_has_finite_gradients_at_extreme_logits(
    name: str, options: dict[str, object], dtype: torch.dtype
) -> None:
    targets = masks()
    for confidence in (-80.0, 80.0):
        logits = logits_for(targets, confidence).to(dtype).requires_grad_()
        value = make_loss(name, options)(logits, targets)
        value.backward()
        assert torch.isfinite(value)
        assert logits.grad is not None
        assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("options", OPTIONS["cross_entropy"])
def test_cross_entropy_is_torchs_own(options: dict[str, object]) -> None:
    targets = masks()
    logits = torch.randn(2, 3, 8, 6, generator=torch.Generator().manual_seed(3))
    weights = {"inverse_frequency": inverse_frequency, "median_frequency": median_frequency}
    expected = F.cross_entropy(
        logits,
        targets,
        weights[str(options["class_weights"])](COUNTS) if "class_weights" in options else None,
        ignore_index=VOID,
        reduction=str(options.get("reduction", "mean")),
        label_smoothing=float(str(options.get("label_smoothing", 0))),
    )
    assert make_loss("cross_entropy", options)(logits, targets).item() == pytest.approx(expected.item(), rel=1e-5)


def test_focal_without_focusing_is_cross_entropy() -> None:
    targets = masks()
    logits = torch.randn(2, 3, 8, 6)
    plain = make_loss("cross_entropy", {})(logits, targets).item()
    assert make_loss("focal", {"gamma": 0.0})(logits, targets).item() == pytest.approx(plain, rel=1e-5)


def test_a_perfect_prediction_of_some_of_the_classes_has_no_dice_loss_left() -> None:
    targets = torch.zeros(1, 8, 6, dtype=torch.int64)  # two of the three classes are not there
    assert make_loss("dice", {})(logits_for(targets, 50.0), targets).item() == pytest.approx(0, abs=1e-5)
    assert make_loss("dice", {})(logits_for(targets, -50.0), targets).item() == pytest.approx(1, abs=1e-5)


def test_dice_is_its_formula_over_the_classes_that_are_there() -> None:
    targets = masks()
    logits = torch.randn(2, 3, 8, 6, generator=torch.Generator().manual_seed(1))
    targets[targets == 2] = 0  # the third class is not there
    known = targets != VOID
    p = logits.softmax(1)
    overlaps = []
    for number in range(2):
        truth = (targets == number)[known].float()
        predicted = p[:, number][known]
        overlaps.append(2 * (truth * predicted).sum() / (truth.sum() + predicted.sum()))
    expected = 1 - torch.stack(overlaps).mean()
    assert make_loss("dice", {})(logits, targets).item() == pytest.approx(expected.item(), rel=1e-5)


def test_lovasz_is_its_authors_extension_of_the_jaccard_loss() -> None:
    """Errors in falling order are weighed by how much each lowers the index (Berman et al. 2018, algorithm 1)."""
    targets = masks()
    logits = torch.randn(2, 3, 8, 6, generator=torch.Generator().manual_seed(1))
    targets[targets == 2] = 0
    known = targets != VOID
    p = logits.softmax(1)
    losses = []
    for number in range(2):  # of the classes that are there
        truth = (targets == number)[known].float()
        errors, order = (truth - p[:, number][known]).abs().sort(descending=True)
        missed = truth[order].cumsum(0)
        false = (1 - truth[order]).cumsum(0)
        lost = 1 - (truth.sum() - missed) / (truth.sum() + false)
        losses.append((errors * torch.diff(lost, prepend=torch.zeros(1))).sum())
    expected = torch.stack(losses).mean()
    assert make_loss("lovasz", {})(logits, targets).item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_focal_is_its_formula_over_the_pixels_that_count(gamma: float) -> None:
    targets = masks()
    logits = torch.randn(2, 3, 8, 6, generator=torch.Generator().manual_seed(1))
    known = targets != VOID
    p = logits.softmax(1).gather(1, targets.clamp(max=2)[:, None])[:, 0][known]
    expected = (-((1 - p) ** gamma) * p.log()).mean()
    assert make_loss("focal", {"gamma": gamma})(logits, targets).item() == pytest.approx(expected.item(), rel=1e-5)


def test_inverse_frequency_weighs_rare_classes_more_with_a_mean_of_one() -> None:
    weights = inverse_frequency(COUNTS)
    assert weights.mean().item() == pytest.approx(1)
    assert torch.allclose(weights * torch.tensor([140.0, 30.0, 10.0]), (weights[0] * 140).expand(3))


def test_median_frequency_counts_only_the_images_that_show_a_class() -> None:
    frequencies = np.array([140 / 180, 30 / 90, 10 / 90])
    assert median_frequency(COUNTS).numpy() == pytest.approx(np.median(frequencies) / frequencies)


@pytest.mark.parametrize("weigh", [inverse_frequency, median_frequency])
def test_a_class_that_no_mask_shows_weighs_one(weigh) -> None:  # type: ignore[no-untyped-def]
    weights = weigh(np.array([[10, 0, 30]]))
    assert weights[1] == 1
    assert torch.isfinite(weights).all()
    assert weigh(np.zeros((2, 3), np.int64)).tolist() == [1, 1, 1]
