"""Metrics of segmentation against numbers worked out by hand, and against scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, confusion_matrix, jaccard_score

from trainables.data.dataset import VOID
from trainables.pixel_scores import PixelScores, scores_of
from visionsweep.core.names import METRICS_OF_TASK

CPU = torch.device("cpu")


def test_the_metrics_are_those_of_the_confusion_matrix() -> None:
    matrix = torch.tensor([[50, 10, 0], [5, 30, 0], [0, 5, 0]])  # rows truth, columns prediction
    iou = [50 / 65, 30 / 50, 0.0]
    assert scores_of(matrix, "abc") == pytest.approx(
        {
            "miou": sum(iou) / 3,
            "num_classes_iou": 3,
            "pixel_accuracy": 0.8,
            "mean_accuracy": (50 / 60 + 30 / 35 + 0) / 3,
            "fw_iou": 0.6 * iou[0] + 0.35 * iou[1],
            "iou/a": iou[0],
            "iou/b": iou[1],
            "iou/c": 0.0,
        }
    )


def test_a_class_that_is_neither_there_nor_predicted_is_left_out_of_the_mean() -> None:
    scores = scores_of(torch.tensor([[6, 2, 0], [0, 8, 0], [0, 0, 0]]), "abc")
    assert scores["miou"] == pytest.approx((6 / 8 + 8 / 10) / 2)
    assert scores["num_classes_iou"] == 2
    assert "iou/c" not in scores


def test_a_class_that_is_predicted_and_not_there_counts_as_zero() -> None:
    scores = scores_of(torch.tensor([[6, 0, 2], [0, 8, 0], [0, 0, 0]]), "abc")
    assert (scores["iou/c"], scores["num_classes_iou"]) == (0, 3)
    assert scores["mean_accuracy"] == pytest.approx((6 / 8 + 1) / 2)  # of the classes that are there


def test_they_are_scikit_learns_over_all_pixels_whatever_the_batches() -> None:
    rng = np.random.default_rng(0)
    masks = rng.integers(0, 4, (7, 9, 11))
    masks[rng.random(masks.shape) < 0.2] = VOID
    logits = torch.from_numpy(rng.normal(size=(7, 4, 9, 11))).float()
    for sizes in ([7], [1, 4, 2], [3, 3, 1]):
        scores = PixelScores("abcd", CPU)
        for one, other in zip(logits.split(sizes), torch.from_numpy(masks).split(sizes), strict=True):
            scores.update(one, other)
        values = scores.compute()
        known = masks != VOID
        truth = masks[known]
        decided = logits.argmax(1).numpy()[known]
        assert values["miou"] == pytest.approx(jaccard_score(truth, decided, average="macro"))
        assert values["fw_iou"] == pytest.approx(jaccard_score(truth, decided, average="weighted"))
        assert values["pixel_accuracy"] == pytest.approx(accuracy_score(truth, decided))
        assert (scores.matrix.numpy() == confusion_matrix(truth, decided)).all()
        plain = torch.nn.functional.cross_entropy(logits, torch.from_numpy(masks), ignore_index=VOID)
        assert values["loss"] == pytest.approx(plain.item(), rel=1e-5)


def test_the_mean_over_batches_would_be_another_number() -> None:
    """The matrix is summed, as one image may show a class that is always missed and another may not show it."""
    masks = torch.tensor([[[0, 0, 0, 1]], [[0, 0, 0, 0]]])
    logits = torch.zeros(2, 2, 1, 4)
    logits[:, 0] = 1.0
    scores = PixelScores("ab", CPU)
    scores.update(logits, masks)
    assert scores.compute()["miou"] == pytest.approx((7 / 8 + 0) / 2)
    of_batches = []
    for one in range(2):
        alone = PixelScores("ab", CPU)
        alone.update(logits[one : one + 1], masks[one : one + 1])
        of_batches.append(alone.compute()["miou"])
    assert np.mean(of_batches) == pytest.approx((0.375 + 1) / 2)


def test_a_split_that_is_all_void_has_no_metrics_and_a_loss_of_zero() -> None:
    scores = PixelScores("ab", CPU)
    scores.update(torch.randn(1, 2, 3, 3), torch.full((1, 3, 3), VOID))
    assert scores.compute() == {"loss": 0}


def test_every_metric_that_the_task_is_said_to_have_is_there() -> None:
    scores = PixelScores("ab", CPU)
    scores.update(torch.randn(1, 2, 3, 3), torch.zeros(1, 3, 3, dtype=torch.int64))
    assert {name.removeprefix("val/") for name in METRICS_OF_TASK["segmentation"]} <= scores.compute().keys()
