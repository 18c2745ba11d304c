import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from sklearn.utils.class_weight import compute_class_weight
from timm.loss import SoftTargetCrossEntropy
from torchvision.ops import sigmoid_focal_loss

from trainables.config.loss import LOSSES, losses_of
from trainables.config.model import ClassifierConfig
from trainables.config.optimizer import Sgd
from trainables.config.trial import TrialConfig
from trainables.losses import build_loss, inverse_frequency, positive_weight

TRAIN_TARGETS = {
    "binary": np.array([0, 0, 0, 1]),
    "multiclass": np.array([0, 0, 0, 1, 1, 2]),
    "multilabel": np.array([[1, 0, 0], [1, 1, 0], [1, 0, 0], [0, 0, 0]], dtype=np.uint8),
}
OPTIONS = {
    "cross_entropy": [{}, {"label_smoothing": 0.1}, {"class_weights": "inverse_frequency"}],
    "bce": [{}, {"label_smoothing": 0.1}, {"pos_weight": "balanced"}],
    "focal": [{}, {"gamma": 0.0}, {"gamma": 0.5}, {"gamma": 5.0}],
}
CASES = [
    (task, name, options) for task in TRAIN_TARGETS for name in losses_of(task) for options in OPTIONS[name]
]  # those of segmentation are in test_losses_pixel.py


def make_loss(task, name, options):
    config = TrialConfig(
        task=task,
        model=ClassifierConfig(backbone="resnet18"),
        optimizer=Sgd(lr=0.1),
        loss={"name": name, **options},
        epochs=1,
        batch_size=2,
    )
    return build_loss(config, TRAIN_TARGETS[task], 2 if task == "binary" else 3)


def make_batch(task):
    generator = torch.Generator().manual_seed(0)
    if task == "multiclass":
        targets = F.one_hot(torch.tensor([0, 2, 1, 0]), 3).float()
    else:
        targets = torch.randint(0, 2, (4, 1 if task == "binary" else 3), generator=generator).float()
    return torch.randn(targets.shape, generator=generator), targets


def test_the_cases_here_cover_every_loss():
    named = {name for _, name, _ in CASES}
    assert named == OPTIONS.keys() == {name for name, entry in LOSSES.items() if entry.softmax or entry.sigmoid}


@pytest.mark.parametrize(("task", "name", "options"), CASES)
def test_every_loss_falls_as_the_prediction_improves(task, name, options):
    loss = make_loss(task, name, options)
    _, targets = make_batch(task)
    values = [loss(confidence * (2 * targets - 1), targets).item() for confidence in (-2.0, -1.0, 0.0, 0.5, 1.0)]
    assert values == sorted(values, reverse=True)
    assert values[-1] < values[0]


@pytest.mark.parametrize(("task", "name", "options"), CASES)
def test_every_loss_takes_soft_targets_and_lies_between_those_of_the_hard_ones(task, name, options):
    loss = make_loss(task, name, options)
    logits, targets = make_batch(task)
    other = targets.roll(1, dims=0)
    mixed = loss(logits, 0.5 * targets + 0.5 * other).item()
    if options.get("class_weights") is None:  # weighted means have a denominator of their own
        assert mixed == pytest.approx((loss(logits, targets).item() + loss(logits, other).item()) / 2, rel=1e-4)
    assert np.isfinite(mixed)


@pytest.mark.parametrize(("task", "name", "options"), CASES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_every_loss_has_finite_gradients_at_extreme_logits(task, name, options, dtype):
    loss = make_loss(task, name, options)
    _, targets = make_batch(task)
    for sign in (-1, 1):
        extreme = (sign * 30_000 * (2 * targets - 1)).to(dtype).requires_grad_()
        value = loss(extreme, targets.to(dtype))
        value.backward()
        assert value.dtype == torch.float32
        assert torch.isfinite(value)
        assert torch.isfinite(extreme.grad).all()


@pytest.mark.parametrize("options", OPTIONS["cross_entropy"])
def test_cross_entropy_is_torchs(options):
    logits, targets = make_batch("multiclass")
    weight = inverse_frequency(np.eye(3)[TRAIN_TARGETS["multiclass"]]) if "class_weights" in options else None
    expected = F.cross_entropy(
        logits, targets.argmax(dim=1), weight=weight, label_smoothing=options.get("label_smoothing", 0.0)
    )
    assert torch.allclose(make_loss("multiclass", "cross_entropy", options)(logits, targets), expected)


@pytest.mark.parametrize("task", ["binary", "multilabel"])
def test_bce_is_torchs(task):
    logits, targets = make_batch(task)
    weight = positive_weight(TRAIN_TARGETS[task])
    plain = make_loss(task, "bce", {})
    balanced = make_loss(task, "bce", {"pos_weight": "balanced"})
    assert torch.allclose(plain(logits, targets), F.binary_cross_entropy_with_logits(logits, targets))
    expected = F.binary_cross_entropy_with_logits(logits, targets, pos_weight=weight)
    assert torch.allclose(balanced(logits, targets), expected)


def test_smoothed_bce_moves_targets_towards_a_half():
    logits, targets = make_batch("multilabel")
    expected = F.binary_cross_entropy_with_logits(logits, targets * 0.8 + 0.1)
    assert torch.allclose(make_loss("multilabel", "bce", {"label_smoothing": 0.2})(logits, targets), expected)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_focal_of_independent_outputs_is_torchvisions_without_alpha(gamma):
    logits, targets = make_batch("multilabel")
    expected = sigmoid_focal_loss(logits, targets, alpha=-1, gamma=gamma, reduction="mean")
    assert torch.allclose(make_loss("multilabel", "focal", {"gamma": gamma})(logits, targets), expected)


def test_focal_of_exclusive_classes_without_focus_is_cross_entropy():
    logits, targets = make_batch("multiclass")
    expected = F.cross_entropy(logits, targets)
    assert torch.allclose(make_loss("multiclass", "focal", {"gamma": 0.0})(logits, targets), expected)


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_focal_of_exclusive_classes_is_its_formula(gamma):
    logits, targets = make_batch("multiclass")
    p = (logits.softmax(1) * targets).sum(1)
    expected = (-((1 - p) ** gamma) * p.log()).mean()
    assert torch.allclose(make_loss("multiclass", "focal", {"gamma": gamma})(logits, targets), expected)


def test_cross_entropy_of_soft_targets_is_timms():
    logits, hard = make_batch("multiclass")
    soft = 0.7 * hard + 0.3 * hard.flip(0)
    found = make_loss("multiclass", "cross_entropy", {})(logits, soft)
    assert torch.allclose(found, SoftTargetCrossEntropy()(logits, soft))


def test_class_weights_are_scikit_learns_but_for_their_scale():
    targets = np.repeat([0, 1, 2], [50, 7, 3])
    balanced = torch.from_numpy(compute_class_weight("balanced", classes=np.arange(3), y=targets)).float()
    weights = inverse_frequency(np.bincount(targets)[None])
    assert torch.allclose(weights, balanced / balanced.mean())


def test_focal_of_two_exclusive_classes_is_that_of_their_difference():
    logits, targets = make_batch("binary")
    config = {"gamma": 2.0}
    pair = torch.cat([torch.zeros_like(logits), logits], dim=1)
    both = torch.cat([1 - targets, targets], dim=1)
    assert torch.allclose(
        make_loss("multiclass", "focal", config)(pair, both), make_loss("binary", "focal", config)(logits, targets)
    )


def test_class_weights_are_inverse_to_frequency_with_mean_one_and_spare_absent_classes():
    weights = inverse_frequency(np.eye(3)[np.array([0, 0, 0, 1])])
    assert weights[1] / weights[0] == pytest.approx(3)
    assert weights[:2].mean() == pytest.approx(1)
    assert weights[2] == 1


def test_balanced_weights_are_negatives_over_positives_and_one_where_there_are_none_of_either():
    always = np.array([[1, 0, 1], [1, 0, 0], [1, 0, 0], [1, 0, 0]], dtype=np.uint8)
    assert positive_weight(always).tolist() == [1, 1, 3]
    assert positive_weight(np.array([0, 0, 0, 1])).tolist() == [3]


def test_a_loss_moves_its_weights_along():
    loss = make_loss("multilabel", "bce", {"pos_weight": "balanced"}).to("meta")
    assert loss.weight.device.type == "meta"
