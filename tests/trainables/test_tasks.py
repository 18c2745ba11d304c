"""The metrics against scikit-learn's, computed class by class here."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    balanced_accuracy_score,
    precision_recall_fscore_support,
    roc_auc_score,
    top_k_accuracy_score,
)

from trainables.ranking import mean_in_logs
from trainables.tasks import LABEL_TASKS, TASKS, mean_logits, score
from visionsweep.core.names import METRICS_OF_TASK

N = 97
C = 7
PRF = ("precision", "recall", "f1")


def random_case(task: str, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, np.ndarray]:
    """Return logits (N, K), targets (N, K) float, and the targets as a data set stores them."""
    rng = np.random.default_rng(seed)
    if task == "multilabel":
        stored: Any = (rng.random((N, C)) < rng.uniform(0.1, 0.6, C)).astype(np.uint8)
    else:
        stored = rng.integers(0, 2 if task == "binary" else C, N)
    targets = LABEL_TASKS[task].encode(stored, C)
    noise = torch.from_numpy(rng.normal(0, 1.5, targets.shape)).float()
    return targets * 2 - 1 + noise, targets, stored


def prf(average: str, wanted: np.ndarray, decided: np.ndarray) -> dict[str, float]:
    # Per image, an empty prediction of no labels is right. Over the whole split, a class without anything counts zero.
    zero_division = 1 if average == "samples" else 0
    values = precision_recall_fscore_support(wanted, decided, average=average, zero_division=zero_division)[:3]
    return dict(zip(PRF, map(float, values), strict=True))


def ranking(function: Callable[..., float], wanted: np.ndarray, probabilities: np.ndarray) -> float:
    """The mean over the classes that have both positives and negatives."""
    columns = [c for c in range(wanted.shape[1]) if 0 < wanted[:, c].sum() < len(wanted)]
    return float(np.mean([function(wanted[:, c], probabilities[:, c]) for c in columns]))


def close(values: dict[str, float]) -> Any:
    return pytest.approx(values, abs=1e-5)


def test_every_task_of_the_configuration_is_here() -> None:
    assert TASKS.keys() == METRICS_OF_TASK.keys()


@pytest.mark.parametrize("task", LABEL_TASKS)
def test_the_metrics_that_a_task_is_said_to_have_are_those_that_it_scores(task: str) -> None:
    logits, targets, _ = random_case(task)
    scored = score(task, logits, targets, 2 if task == "binary" else C, 0.5)
    assert {f"val/{name}" for name in scored} == set(METRICS_OF_TASK[task])


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.8])
def test_binary_metrics_are_scikit_learns(threshold: float) -> None:
    logits, targets, stored = random_case("binary")
    probabilities = torch.sigmoid(logits)[:, 0].numpy()
    decided = probabilities >= threshold
    assert score("binary", logits, targets, 2, threshold) == close(
        {
            "accuracy": accuracy_score(stored, decided),
            "balanced_accuracy": balanced_accuracy_score(stored, decided),
            **prf("binary", stored, decided),
            "map": average_precision_score(stored, probabilities),
            "auroc": roc_auc_score(stored, probabilities),
            "loss": float(torch.nn.functional.binary_cross_entropy_with_logits(logits, targets)),
        }
    )


def test_multiclass_metrics_are_scikit_learns() -> None:
    logits, targets, stored = random_case("multiclass")
    probabilities = logits.softmax(1).numpy()
    decided = logits.argmax(1).numpy()
    macro = prf("macro", stored, decided)
    micro = prf("micro", stored, decided)
    assert score("multiclass", logits, targets, C, 0.5) == close(
        {
            "accuracy": accuracy_score(stored, decided),
            "balanced_accuracy": balanced_accuracy_score(stored, decided),
            "top5": top_k_accuracy_score(stored, probabilities, k=5, labels=range(C)),
            **macro,
            **{f"{name}_macro": value for name, value in macro.items()},
            **{f"{name}_micro": value for name, value in micro.items()},
            "map": ranking(average_precision_score, targets.numpy(), probabilities),
            "auroc": ranking(roc_auc_score, targets.numpy(), probabilities),
            "loss": float(torch.nn.functional.cross_entropy(logits, torch.as_tensor(stored))),
        }
    )


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.8])
def test_multilabel_metrics_are_scikit_learns(threshold: float) -> None:
    logits, targets, stored = random_case("multilabel")
    probabilities = torch.sigmoid(logits).numpy()
    decided = (probabilities >= threshold).astype(np.uint8)
    expected = {
        "accuracy": float((decided == stored).mean()),
        "balanced_accuracy": np.mean(
            [balanced_accuracy_score(*pair) for pair in zip(stored.T, decided.T, strict=True)]
        ),
        **prf("samples", stored, decided),
        **{
            f"{name}_{average}": v
            for average in ("micro", "macro")
            for name, v in prf(average, stored, decided).items()
        },
        "map": ranking(average_precision_score, stored, probabilities),
        "auroc": ranking(roc_auc_score, stored, probabilities),
        "loss": float(torch.nn.functional.binary_cross_entropy_with_logits(logits, targets)),
    }
    assert score("multilabel", logits, targets, C, threshold) == close(expected)


def test_an_image_without_tags_counts_one_where_nothing_is_said_and_zero_where_something_is() -> None:
    targets = torch.tensor([[0.0, 0, 0], [0, 0, 0], [1, 0, 0], [0, 1, 1], [0, 0, 0]])
    right = 5 * (2 * targets - 1)
    alarms = torch.where(targets.any(dim=1, keepdim=True), right, torch.tensor(5.0))
    truth, false = (score("multilabel", logits, targets, 3, 0.5) for logits in (right, alarms))
    assert [truth[name] for name in PRF] == pytest.approx([1, 1, 1])
    assert [false["precision"], false["f1"]] == pytest.approx([0.4, 0.4])
    assert false["recall"] == pytest.approx(1)  # nothing was there to be missed


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("share", [0.05, 0.2, 0.5])
def test_the_samples_average_is_scikit_learns_where_images_or_answers_are_empty(seed: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    stored, decided = ((rng.random((60, 5)) < share).astype(np.uint8) for _ in range(2))
    stored[:10], decided[5:20] = 0, 0
    logits = 3 * (2 * torch.from_numpy(decided).float() - 1)
    targets = torch.from_numpy(stored).float()
    values = score("multilabel", logits, targets, 5, 0.5)
    assert {name: values[name] for name in PRF} == close(prf("samples", stored, decided))


@pytest.mark.parametrize("task", LABEL_TASKS)
@pytest.mark.parametrize("scale", [1, 20, 500])
def test_confident_predictions_are_ranked_by_their_logits(task: str, scale: float) -> None:
    """From a logit of 17 on, a float32 probability is one, and all beyond would be tied."""
    logits, targets, _ = random_case(task)
    values = score(task, scale * logits, targets, 2 if task == "binary" else C, 0.5)
    exact = log_odds(scale * logits.double().numpy()) if task == "multiclass" else logits.numpy()
    assert values["auroc"] == pytest.approx(ranking(roc_auc_score, targets.numpy(), exact), abs=1e-6)
    assert values["map"] == pytest.approx(ranking(average_precision_score, targets.numpy(), exact), abs=1e-6)


def log_odds(logits: np.ndarray) -> np.ndarray:
    """Return the log odds of every class against all others, one class at a time."""
    columns = range(logits.shape[1])
    return np.stack([logits[:, c] - logsumexp(np.delete(logits, c, axis=1), axis=1) for c in columns], axis=1)


def test_confident_predictions_are_counted_among_the_top_five_by_their_logits() -> None:
    logits = torch.tensor([[900.0, 300, 200, 150, 120, 100, 90]])  # all but the first have a probability of zero
    for place in range(C):
        targets = torch.nn.functional.one_hot(torch.tensor([place]), C).float()
        assert score("multiclass", logits, targets, C, 0.5)["top5"] == (place < 5)


def test_equal_logits_stay_tied() -> None:
    targets = torch.tensor([[1.0], [0.0], [1.0], [0.0]])
    assert score("binary", torch.full((4, 1), 30.0), targets, 2, 0.5)["auroc"] == pytest.approx(0.5)


@pytest.mark.parametrize("task", LABEL_TASKS)
def test_the_mean_of_confident_models_is_the_mean_of_their_probabilities(task: str) -> None:
    logits = [random_case(task, seed)[0] for seed in range(3)]
    weights = [1.0, 2.0, 0.5]
    means = sum(w * TASKS[task].probabilities(one) for w, one in zip(weights, logits, strict=True)) / sum(weights)
    torch.testing.assert_close(TASKS[task].probabilities(mean_logits(task, logits, weights)), means)
    confident = mean_logits(task, [60 * one for one in logits[:1]] * 2)
    _, targets, _ = random_case(task)
    two = score(task, confident, targets, 2 if task == "binary" else C, 0.5)
    one = score(task, 60 * logits[0], targets, 2 if task == "binary" else C, 0.5)
    assert two == pytest.approx(one, rel=1e-5)


@pytest.mark.parametrize("task", LABEL_TASKS)
@pytest.mark.parametrize("scale", [1, 30])
def test_a_graph_averages_in_float32_what_the_models_average(task: str, scale: float) -> None:
    logits = [scale * random_case(task, seed)[0] for seed in range(3)]
    found = mean_in_logs(task, torch.stack(logits))
    assert torch.isfinite(found).all()
    torch.testing.assert_close(found, mean_logits(task, logits), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("task", ["binary", "multilabel"])
def test_a_lower_threshold_finds_more(task: str) -> None:
    logits, targets, _ = random_case(task)
    recalls = [score(task, logits, targets, C, threshold)["recall"] for threshold in (0.8, 0.5, 0.2, 0.01)]
    assert recalls == sorted(recalls)
    assert recalls[0] < recalls[-1]


def test_a_probability_has_to_be_above_the_threshold() -> None:
    """torchmetrics does so too, and `visionsweep predict` decides the same way."""
    values = score("binary", torch.tensor([[0.0], [1e-6]]), torch.tensor([[1.0], [1.0]]), 2, 0.5)
    assert values["recall"] == 0.5


def test_a_class_that_the_split_lacks_does_not_lower_the_ranking_metrics() -> None:
    logits, targets, stored = random_case("multiclass")
    there = stored != 3
    logits = logits[there]
    targets = targets[there]
    values = score("multiclass", logits, targets, C, 0.5)
    probabilities = logits.softmax(1).numpy()
    assert values["map"] == pytest.approx(ranking(average_precision_score, targets.numpy(), probabilities), abs=1e-5)
    assert values["auroc"] == pytest.approx(ranking(roc_auc_score, targets.numpy(), probabilities), abs=1e-5)


def test_a_tag_that_all_or_none_have_does_not_enter_the_ranking_metrics() -> None:
    logits, targets, _ = random_case("multilabel")
    targets[:, 0], targets[:, 1] = 0, 1
    values = score("multilabel", logits, targets, C, 0.5)
    probabilities = torch.sigmoid(logits).numpy()
    assert values["map"] == pytest.approx(ranking(average_precision_score, targets.numpy(), probabilities), abs=1e-5)
    assert values["auroc"] == pytest.approx(ranking(roc_auc_score, targets.numpy(), probabilities), abs=1e-5)


def test_a_class_that_is_neither_there_nor_predicted_does_not_enter_the_macro_average() -> None:
    logits, targets, stored = random_case("multiclass")
    there = stored != 3
    logits = logits[there]
    targets = targets[there]
    logits[:, 3] = -100
    values = score("multiclass", logits, targets, C, 0.5)
    assert values["f1_macro"] == pytest.approx(prf("macro", stored[there], logits.argmax(1).numpy())["f1"], abs=1e-5)


@pytest.mark.parametrize("task", LABEL_TASKS)
def test_a_metric_that_is_not_defined_on_the_split_is_left_out_and_nothing_warns(task: str) -> None:
    logits, targets, _ = random_case(task)
    one = targets[:1] if task == "multiclass" else torch.zeros_like(targets[:1])
    values = score(task, logits[:4], one.repeat(4, 1), C, 0.5)
    assert all(math.isfinite(value) for value in values.values())
    if task != "multiclass":
        assert "map" not in values
        assert "auroc" not in values
    assert {"accuracy", "f1", "loss"} <= values.keys()


@pytest.mark.parametrize("task", LABEL_TASKS)
def test_a_perfect_prediction_scores_one_in_everything_but_the_loss(task: str) -> None:
    _, targets, _ = random_case(task)
    if task == "multilabel":
        targets[:9] = 0  # images without tags
    values = score(task, 20 * (2 * targets - 1), targets, C, 0.5)
    assert values.pop("loss") < 1e-3
    assert values == {name: pytest.approx(1) for name in values}


def test_a_loss_that_is_not_finite_is_told() -> None:
    values = score("binary", torch.tensor([[math.nan], [1.0]]), torch.tensor([[1.0], [0.0]]), 2, 0.5)
    assert math.isnan(values["loss"])


@pytest.mark.parametrize("task", LABEL_TASKS)
def test_targets_and_outputs_have_one_shape(task: str) -> None:
    _, targets, _ = random_case(task)
    num_classes = 2 if task == "binary" else C
    assert targets.shape == (N, TASKS[task].num_outputs(num_classes))
    assert targets.dtype == torch.float32


@pytest.mark.parametrize("task", LABEL_TASKS)
def test_one_image_alone_scores_as_two_copies_of_it(task: str) -> None:
    logits, targets, _ = random_case(task)
    for number in range(5):
        one = logits[number : number + 1]
        its_targets = targets[number : number + 1]
        alone = score(task, one, its_targets, C, 0.5)
        twice = score(task, one.repeat(2, 1), its_targets.repeat(2, 1), C, 0.5)
        assert alone == pytest.approx(twice, abs=1e-6)
