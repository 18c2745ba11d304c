"""Intervals of metrics: the metrics are the search's own, and the intervals hold what they say."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 (torch's own convention)

from analysis.figures.best_trial import Judged
from analysis.figures.resampled import scores
from analysis.models.bootstrap import confusion_of, label_intervals, label_scores, mask_intervals, wilson
from trainables.data.dataset import VOID
from trainables.pixel_scores import scores_of
from trainables.tasks import score
from visionsweep.run_dir.trials import Trial


def guessed(task: str, num_images: int, num_classes: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Return logits that are better than chance for targets (N, K), with many ties."""
    generator = torch.Generator().manual_seed(seed)
    if task == "multiclass":
        targets = F.one_hot(torch.randint(0, num_classes, (num_images,), generator=generator), num_classes).float()
    else:
        targets = (torch.rand(num_images, 1 if task == "binary" else num_classes, generator=generator) < 0.3).float()
    logits = targets + torch.randn(targets.shape, generator=generator)
    return (logits * 4).round() / 4, targets


@pytest.mark.parametrize(
    ("task", "num_classes"), [("binary", 2), ("multiclass", 3), ("multiclass", 7), ("multilabel", 6)]
)
@pytest.mark.parametrize("scale", [1, 40], ids=["", "confident"])
def test_every_image_counted_once_gives_the_searchs_metrics(task: str, num_classes: int, scale: float) -> None:
    logits, targets = guessed(task, 60, num_classes)
    if task == "multilabel":
        targets[:, 2], targets[:, 3] = 0, 1  # classes that cannot be ranked
        targets[:12], logits[6:20] = 0, -2  # images without tags, and some without a prediction
    logits[20:] *= scale
    expected = score(task, logits, targets, num_classes, 0.4)
    metrics, _ = label_scores(task, logits, targets, 0.4, np.ones((1, 60)))
    assert {name: value[0] for name, value in metrics.items()} == pytest.approx(expected, abs=2e-6)


@pytest.mark.parametrize(("task", "num_classes"), [("binary", 2), ("multiclass", 4), ("multilabel", 5)])
def test_an_image_counted_twice_is_an_image_given_twice(task: str, num_classes: int) -> None:
    logits, targets = guessed(task, 40, num_classes)
    drawn = np.random.default_rng(1).integers(0, 40, 40)
    counts = np.bincount(drawn, minlength=40).astype(float)
    expected = score(task, logits[drawn], targets[drawn], num_classes, 0.5)
    metrics, _ = label_scores(task, logits, targets, 0.5, counts[None])
    assert {name: value[0] for name, value in metrics.items()} == pytest.approx(expected, abs=2e-6)


def test_nineteen_of_twenty_intervals_hold_what_all_images_together_give() -> None:
    logits, targets = guessed("multiclass", 40_000, 4)
    truth = score("multiclass", logits, targets, 4, 0.5)
    held = {"accuracy": 0, "f1": 0, "auroc": 0}
    for start in range(0, 12_000, 400):
        part = slice(start, start + 200)
        found = label_intervals("multiclass", logits[part], targets[part], "abcd", 0.5).metrics
        for name in held:
            held[name] += found[name][0] <= truth[name] <= found[name][1]
    assert all(24 <= count <= 30 for count in held.values()), held


def test_a_small_split_is_less_sure_than_a_large_one_and_a_seed_gives_the_same_interval() -> None:
    logits, targets = guessed("binary", 800, 2)
    small = label_intervals("binary", logits[:50], targets[:50], ("no", "yes"), 0.5)
    large = label_intervals("binary", logits, targets, ("no", "yes"), 0.5)
    assert small.metrics["accuracy"][1] - small.metrics["accuracy"][0] > 2 * (
        large.metrics["accuracy"][1] - large.metrics["accuracy"][0]
    )
    assert large == label_intervals("binary", logits, targets, ("no", "yes"), 0.5)
    assert large.classes["yes"]["recall"] == large.metrics["recall"]
    assert large.classes["no"].keys() == {"precision", "recall", "f1"}


def test_masks_are_drawn_by_image_and_void_pixels_do_not_count() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, (30, 8, 8)).astype(np.uint8)
    decided = np.where(rng.random((30, 8, 8)) < 0.7, truth, 0).astype(np.uint8)
    truth[:, :2] = VOID
    confusions = np.stack([confusion_of(one, other, 3) for one, other in zip(truth, decided, strict=True)])
    assert confusions.sum() == 30 * 6 * 8
    value = scores_of(torch.from_numpy(confusions.sum(axis=0)), "abc")
    found = mask_intervals(confusions, "abc")
    assert found.metrics["miou"][0] < value["miou"] < found.metrics["miou"][1]
    assert found.classes["b"]["iou"][0] < value["iou/b"] < found.classes["b"]["iou"][1]
    assert "num_classes_iou" not in found.metrics


def test_wilsons_interval_is_the_one_in_his_tables() -> None:
    assert wilson(0.9, 10) == pytest.approx((0.5958, 0.9821), abs=1e-4)
    assert wilson(1.0, 10) == pytest.approx((0.7225, 1.0), abs=1e-4)


@pytest.mark.parametrize(("task", "num_classes"), [("binary", 2), ("multiclass", 4), ("multilabel", 5)])
def test_balanced_accuracy_is_the_same_on_the_page_and_in_an_evaluation_where_a_class_is_not_drawn(
    task: str, num_classes: int
) -> None:
    logits, targets = guessed(task, 40, num_classes)
    if task == "binary":
        truth, decided = torch.cat([1 - targets, targets], dim=1), torch.cat([logits <= 0, logits > 0], dim=1)
    else:
        truth = targets
        decided = F.one_hot(logits.argmax(1), num_classes) if task == "multiclass" else logits > 0
    judged = Judged(
        Trial("0000", {}, {}), 1, tuple("abcde")[:num_classes], tuple(map(str, range(40))), torch.sigmoid(logits).double().numpy(),
        truth.numpy() > 0.5, decided.numpy().astype(bool),
    )  # fmt: skip
    counts = np.random.default_rng(0).multinomial(40, np.full(40, 1 / 40), size=20).astype(float)
    counts[0, truth[:, 0].numpy() > 0.5] = 0  # the first class is absent
    counts[1] = 0  # and here everything is
    found = scores(judged, task, "val/balanced_accuracy", counts)
    with np.errstate(all="ignore"):
        metrics, _ = label_scores(task, logits, targets, 0.5, counts)
    assert found is not None
    assert found == pytest.approx(metrics["balanced_accuracy"], nan_ok=True)
    assert np.isfinite(found[0])
    assert np.isnan(found[1])
