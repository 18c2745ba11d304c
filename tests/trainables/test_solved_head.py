"""A head that is solved: what scikit-learn finds, and whatever features, classes and losses come."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 (torch's own convention)
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from trainables.config.loss import Bce, CrossEntropy, Focal
from trainables.features.folds import spread_over_folds
from trainables.features.solved_head import Solved, solve_head
from trainables.losses import bce, cross_entropy, focal_sigmoid, focal_softmax


def features_of_classes(num_rows: int, num_features: int, num_classes: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Features (N, F) above zero, as pooled ones are, and classes (N,) that they tell in part."""
    draws = torch.Generator().manual_seed(seed)
    classes = torch.randint(num_classes, (num_rows,), generator=draws)
    centres = torch.randn(num_classes, 10, generator=draws)
    hidden = centres[classes] + 1.5 * torch.randn(num_rows, 10, generator=draws)
    mixed = hidden @ torch.randn(10, num_features, generator=draws)
    return (mixed + torch.randn(mixed.shape, generator=draws)).clamp(min=0), classes


def one_hot(classes: Tensor, num_classes: int) -> Tensor:
    return F.one_hot(classes, num_classes).float()


def logits(solved: Solved, features: Tensor) -> Tensor:
    return features @ solved.weight.T + solved.bias


def scaled(features: Tensor) -> np.ndarray:
    centred = features.double() - features.double().mean(0)
    found: np.ndarray = (centred / centred.square().mean().sqrt()).numpy()
    return found


@pytest.mark.parametrize("num_features", [40, 500], ids=["fewer features than rows", "more features than rows"])
@pytest.mark.parametrize("num_classes", [2, 5])
def test_a_solved_head_is_what_scikit_learn_finds(num_features: int, num_classes: int) -> None:
    features, classes = features_of_classes(150, num_features, num_classes)
    if num_classes == 2:
        solved = solve_head(features, classes[:, None].float(), F.binary_cross_entropy_with_logits, 1, l2=0.03, seed=0)
        ours = torch.sigmoid(logits(solved, features))[:, 0].numpy()
    else:
        solved = solve_head(features, one_hot(classes, num_classes), F.cross_entropy, num_classes, l2=0.03, seed=0)
        ours = logits(solved, features).softmax(1).numpy()
    theirs = LogisticRegression(C=1 / (0.03 * 150), tol=1e-8, max_iter=5000).fit(scaled(features), classes)
    expected = theirs.predict_proba(scaled(features))
    assert solved.weight.shape == (1 if num_classes == 2 else num_classes, num_features)
    assert np.abs(ours - (expected[:, 1] if num_classes == 2 else expected)).max() < 1e-3


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "smoothed": partial(cross_entropy, class_weights=None, settings=CrossEntropy(label_smoothing=0.1)),
    "weighted": partial(cross_entropy, class_weights=torch.tensor([3.0, 1.0, 0.5]), settings=CrossEntropy()),
    "focal": lambda logits, targets: focal_softmax(logits, targets, None, Focal(gamma=2.0)),
    "tags": lambda logits, targets: bce(logits, targets, torch.tensor([3.0, 1.0, 0.5]), Bce()),
    "focal tags": lambda logits, targets: focal_sigmoid(logits, targets, None, Focal(gamma=2.0)),
}


@pytest.mark.parametrize("name", LOSSES)
def test_no_small_step_away_from_a_solved_head_is_better(name: str) -> None:
    features, classes = features_of_classes(120, 30, 3)
    targets = one_hot(classes, 3)
    loss_of = LOSSES[name]
    solved = solve_head(features, targets, loss_of, 3, l2=0.01, seed=0)
    scale = features.var(0, correction=0).mean().sqrt()

    def objective(weight: Tensor, bias: Tensor) -> float:
        return float(loss_of(features @ weight.T + bias, targets) + 0.005 * (weight * scale).square().sum())

    least = objective(solved.weight, solved.bias)
    draws = torch.Generator().manual_seed(1)
    for _ in range(20):
        step = 0.01 * torch.randn(solved.weight.shape, generator=draws) / scale
        assert objective(solved.weight + step, solved.bias) > least
        assert objective(solved.weight, solved.bias + 0.01 * torch.randn(3, generator=draws)) > least


def test_the_strength_that_is_chosen_does_about_best_on_new_rows() -> None:
    features, classes = features_of_classes(900, 300, 4)
    targets = one_hot(classes, 4)
    seen, new = slice(0, 200), slice(200, None)

    def loss_on_new(l2: float | None) -> float:
        solved = solve_head(features[seen], targets[seen], F.cross_entropy, 4, l2=l2, seed=0)
        return float(F.cross_entropy(logits(solved, features[new]), targets[new]))

    tried = [loss_on_new(10.0**exponent) for exponent in range(-5, 3)]
    assert loss_on_new(None) < min(tried) * 1.03
    assert max(tried) > min(tried) * 1.5  # the strength matters here


def test_the_same_seed_chooses_the_same_strength() -> None:
    features, classes = features_of_classes(90, 50, 3)
    one, other = (solve_head(features, one_hot(classes, 3), F.cross_entropy, 3, l2=None, seed=4) for _ in range(2))
    assert one.l2 == other.l2
    assert torch.equal(one.weight, other.weight)


def test_every_row_has_a_prediction_by_a_head_that_has_not_seen_it() -> None:
    features, classes = features_of_classes(200, 60, 3)
    targets = one_hot(classes, 3)
    solved = solve_head(features, targets, F.cross_entropy, 3, l2=None, seed=0)
    assert solved.unseen is not None
    folds = spread_over_folds(targets, None, 5, 0, 10**9)
    for fold in range(5):
        out = folds == fold
        without = solve_head(features[~out], targets[~out], F.cross_entropy, 3, l2=solved.l2 * 1.25, seed=0)
        expected = logits(without, features[out])
        error = (solved.unseen[out] - expected).square().mean() / expected.var()
        with_it = (logits(solved, features[out]) - expected).square().mean() / expected.var()
        assert error < with_it / 2  # not the head of all rows
    own = float(F.cross_entropy(logits(solved, features), targets))
    assert float(F.cross_entropy(solved.unseen, targets)) > 1.1 * own
    assert solve_head(features, targets, F.cross_entropy, 3, l2=0.1, seed=0).unseen is None


def test_views_of_an_image_share_a_fold_and_noise_is_not_learnt_by_heart() -> None:
    draws = torch.Generator().manual_seed(0)
    noise = torch.randn(60, 200, generator=draws)
    twice = torch.cat([noise, noise + 0.01])
    targets = one_hot(torch.randint(2, (60,), generator=draws), 2).repeat(2, 1)
    images = torch.arange(60).repeat(2)
    apart = solve_head(twice, targets, F.cross_entropy, 2, l2=None, seed=0)
    together = solve_head(twice, targets, F.cross_entropy, 2, l2=None, seed=0, groups=images)
    assert apart.l2 < together.l2 / 20  # each row is predicted by its copy


def test_a_class_without_images_gets_a_small_finite_probability() -> None:
    features, classes = features_of_classes(80, 20, 2)
    solved = solve_head(features, one_hot(classes, 3), F.cross_entropy, 3, l2=None, seed=0)
    shares = logits(solved, features).softmax(1)
    assert torch.isfinite(solved.bias).all()
    assert 0 < float(shares[:, 2].max()) < 0.01
    tags = torch.stack([classes.float(), torch.zeros(80)], dim=1)
    solved = solve_head(features, tags, F.binary_cross_entropy_with_logits, 2, l2=None, seed=0)
    assert 0 < float(torch.sigmoid(logits(solved, features))[:, 1].max()) < 0.01


def test_constant_columns_and_half_precision_do_no_harm() -> None:
    features, classes = features_of_classes(80, 20, 3)
    padded = torch.cat([features, torch.full((80, 2), 7.3), torch.zeros(80, 1)], dim=1)
    plain = solve_head(features, one_hot(classes, 3), F.cross_entropy, 3, l2=0.1, seed=0)
    solved = solve_head(padded, one_hot(classes, 3), F.cross_entropy, 3, l2=0.1, seed=0)
    assert torch.equal(solved.weight[:, 20:], torch.zeros(3, 3))
    assert torch.allclose(logits(solved, padded), logits(plain, features), atol=1e-3)
    halved = solve_head(features.bfloat16(), one_hot(classes, 3), F.cross_entropy, 3, l2=0.1, seed=0)
    assert halved.weight.dtype == torch.float32


@pytest.mark.parametrize("num_rows", [1, 2, 3])
def test_few_images_or_equal_ones_have_a_head_too(num_rows: int) -> None:
    features = torch.rand(num_rows, 8)
    targets = one_hot(torch.arange(num_rows) % 2, 2)
    for given in (features, torch.ones(num_rows, 8)):
        solved = solve_head(given, targets, F.cross_entropy, 2, l2=None, seed=0)
        assert torch.isfinite(solved.weight).all()
        assert torch.isfinite(solved.bias).all()


def test_what_asks_can_stop_it() -> None:
    def ask() -> None:
        raise KeyboardInterrupt

    features, classes = features_of_classes(40, 10, 2)
    with pytest.raises(KeyboardInterrupt):
        solve_head(features, one_hot(classes, 2), F.cross_entropy, 2, l2=None, seed=0, ask=ask)


def test_folds_spread_every_class_and_keep_groups_whole() -> None:
    classes = torch.tensor([0] * 50 + [1] * 10 + [2] * 5)
    folds = spread_over_folds(one_hot(classes, 3), None, 5, seed=1, most_rows=1000)
    for index, expected in ((0, 10), (1, 2), (2, 1)):
        assert torch.bincount(folds[classes == index], minlength=5).tolist() == [expected] * 5
    groups = torch.arange(65) // 2
    folds = spread_over_folds(one_hot(classes, 3), groups, 5, seed=1, most_rows=1000)
    assert all(len(set(folds[groups == group].tolist())) == 1 for group in groups)
    some = spread_over_folds(one_hot(classes, 3), None, 5, seed=1, most_rows=30)
    assert int((some >= 0).sum()) == 30
    assert set(some[classes == 2].tolist()) >= {-1}
    assert {0, 1, 2} == set(classes[some >= 0].tolist())
