"""Several models' predictions together: what they score, and which of them are chosen."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from analysis.models.ensemble_selection import (
    LabelMembers,
    PixelMembers,
    label_members,
    pixel_members,
    score_ensemble,
    select_members,
)
from trainables.data.dataset import VOID
from trainables.pixel_scores import scores_of
from trainables.tasks import LABEL_TASKS, score

RNG = np.random.default_rng(0)


def test_a_mean_of_probabilities_scores_as_the_epochs_of_an_ensemble_do() -> None:
    """`ensemble: 2` in a configuration averages the probabilities of two epochs: two members, once each."""
    logits = [RNG.normal(size=(40, 5)).astype(np.float32) for _ in range(2)]
    targets = RNG.integers(0, 5, 40)
    members = label_members("multiclass", list("abcde"), logits, targets, [0.5, 0.5])
    mean = torch.stack([torch.from_numpy(one).softmax(1) for one in logits]).mean(0)
    expected = score("multiclass", mean.log(), members.targets, 5, 0.5)
    found = score_ensemble(members, [0, 1])
    assert found == pytest.approx({f"val/{name}": value for name, value in expected.items()}, abs=1e-5)


def test_weights_count_and_thresholds_are_averaged() -> None:
    # Two models, two images that look alike to them, two tags.
    probabilities = torch.tensor([[[0.3, 0.29]] * 2, [[0.9, 0.29]] * 2])
    members = LabelMembers("multilabel", 2, probabilities, torch.tensor([[1.0, 0.0]] * 2), (0.2, 0.5))
    assert score_ensemble(members, [0])["val/f1"] == pytest.approx(2 / 3)  # both tags, by its own threshold
    assert score_ensemble(members, [0, 0, 1])["val/f1"] == pytest.approx(1.0)  # 0.5 and 0.29 against 0.3
    assert score_ensemble(members, [1, 0])["val/loss"] == pytest.approx(-(np.log(0.6) + np.log(0.71)) / 2, rel=1e-4)


@pytest.mark.parametrize("task", ["binary", "multiclass", "multilabel"])
def test_confident_members_are_ranked_as_alone(task: str) -> None:
    """Sums of float32 probabilities would tie all images that a model is sure of."""
    stored = RNG.integers(0, 2, (80, 4)) if task == "multilabel" else RNG.integers(0, 2, 80)
    num_classes = 2 if task == "binary" else 4
    targets = LABEL_TASKS[task].encode(stored, num_classes)
    logits = (40 * RNG.normal(size=targets.shape) + 20 * targets.numpy()).astype(np.float32)
    members = label_members(task, list("abcd")[:num_classes], [logits, logits], stored, [0.5, 0.5])
    alone = score(task, torch.from_numpy(logits), targets, num_classes, 0.5)
    assert score_ensemble(members, [0, 1]) == pytest.approx(
        {f"val/{name}": value for name, value in alone.items()}, rel=1e-4
    )
    half = np.arange(40)
    assert score_ensemble(members.of_images(half), [0]) == pytest.approx(
        score_ensemble(members.of_images(half), [0, 1]), rel=1e-6
    )


def test_greedy_takes_what_helps_and_leaves_what_does_not() -> None:
    targets = RNG.integers(0, 3, 300)
    truth = np.eye(3)[targets]

    def model(knows: np.ndarray, noise: float) -> np.ndarray:
        return (6 * truth * knows[:, None] + RNG.normal(size=(300, 3)) * noise).astype(np.float32)

    first = model(targets != 2, 1.0)  # knows two of three classes
    second = model(targets != 0, 1.1)
    useless = model(np.zeros(300), 2.0)
    members = label_members("multiclass", list("abc"), [first, second, useless], targets, [0.5] * 3)
    chosen = select_members(members, lambda metrics: metrics["accuracy"], "accuracy", 6)
    assert chosen[0] in (0, 1), "the best alone comes first"
    assert set(chosen) == {0, 1}
    assert score_ensemble(members, chosen)["val/accuracy"] > max(
        score_ensemble(members, [i])["val/accuracy"] for i in range(3)
    )
    # A lower loss is better by the given value.
    chosen = select_members(members, lambda metrics: -metrics["loss"], "loss", 4)
    assert score_ensemble(members, chosen)["val/loss"] < min(score_ensemble(members, [i])["val/loss"] for i in range(3))


def test_what_does_not_help_at_the_end_is_left_out() -> None:
    targets = np.array([0, 1] * 10)
    perfect = np.eye(2, dtype=np.float32)[targets] * 9
    members = label_members("multiclass", list("ab"), [perfect, -perfect], targets, [0.5] * 2)
    assert select_members(members, lambda metrics: metrics["accuracy"], "accuracy", 8) == [0]


def masks(num_models: int, num_classes: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Models that are right on most pixels of three images, and the truth with its void."""
    truths = [RNG.integers(0, num_classes, size).astype(np.uint8) for size in ((9, 7), (5, 5), (8, 6))]
    flat = np.concatenate([truth.ravel() for truth in truths])
    wrong = [RNG.random(flat.size) < 0.4 for _ in range(num_models)]
    models = [np.where(one, RNG.integers(0, num_classes, flat.size), flat).astype(np.uint8) for one in wrong]
    for truth in truths:
        truth[0, :3] = VOID
    return models, truths


# With 200 classes the combinations of twelve models are more than 64 bits can number.
@pytest.mark.parametrize(("num_models", "num_classes"), [(3, 4), (12, 200)])
def test_pixels_that_are_alike_count_together_and_nothing_is_lost(num_models: int, num_classes: int) -> None:
    models, truths = masks(num_models, num_classes)
    classes = tuple(f"c{i}" for i in range(num_classes))
    members = pixel_members(classes, models, truths)
    true = np.concatenate([truth.ravel() for truth in truths])
    counted = true != VOID
    assert int(members.pixels.sum()) == counted.sum()
    chosen = [1, 0, 2, 2]
    votes = np.zeros((true.size, num_classes))
    for place, member in enumerate(chosen):
        votes[np.arange(true.size), models[member]] += 1.5 if place == 0 else 1  # the first decides between equals
    matrix = np.zeros((num_classes, num_classes))
    np.add.at(matrix, (true[counted], votes.argmax(1)[counted]), 1)
    expected = scores_of(torch.from_numpy(matrix), classes)
    assert score_ensemble(members, chosen) == pytest.approx({f"val/{name}": value for name, value in expected.items()})


def test_a_half_of_the_images_is_judged_by_its_own_pixels() -> None:
    models, truths = masks(2, 3)
    classes = ("a", "b", "c")
    whole = pixel_members(classes, models, truths)
    size = truths[0].size
    alone = pixel_members(classes, [model[size : size + 25] for model in models], [truths[1]])
    half = whole.of_images(np.array([1]))
    assert isinstance(half, PixelMembers)
    assert score_ensemble(half, [0, 1, 1]) == score_ensemble(alone, [0, 1, 1])


def test_a_vote_of_many_is_better_than_one_of_them() -> None:
    models, truths = masks(7, 4)
    members = pixel_members(tuple("abcd"), models, truths)
    chosen = select_members(members, lambda metrics: metrics["miou"], "miou", 7)
    assert score_ensemble(members, chosen)["val/miou"] > score_ensemble(members, chosen[:1])["val/miou"] + 0.1
