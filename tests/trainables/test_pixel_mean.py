"""Segmenters by their mean probability: decided plane by plane, and chosen from what they disagree on."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from analysis.models.ensemble_selection import score_ensemble, select_members
from analysis.models.pixel_mean import MeanMembers, decide_together, doubtful, doubts_of, mean_members
from trainables.data.dataset import VOID
from trainables.evaluate import at_size
from trainables.pixel_scores import scores_of

CLASSES = ("ground", "road", "crack")
SIZES = ((30, 40), (24, 50), (30, 40))  # of three masks
NUM_MODELS = 4


@pytest.fixture
def truths() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    found = [rng.integers(0, len(CLASSES), size).astype(np.uint8) for size in SIZES]
    found[1][:3] = VOID
    return found


@pytest.fixture
def logits(truths: list[np.ndarray]) -> list[list[Tensor]]:
    """Return logits (1, C, h, w) of each model and image.

    They beat chance, and each model has its own scale and mistakes.
    """
    draws = torch.Generator().manual_seed(0)
    found = []
    for model in range(NUM_MODELS):
        own = []
        for truth in truths:
            height, width = (length // (1 + model % 2) for length in truth.shape)
            noise = torch.randn(1, len(CLASSES), height, width, generator=draws)
            right = torch.nn.functional.one_hot(torch.from_numpy(truth).long().clamp(max=2), 3).permute(2, 0, 1)[None]
            own.append(noise + at_size(right.float(), (height, width)))
        found.append(own)
    return found


def decided(logits: list[list[Tensor]], truths: list[np.ndarray]) -> list[np.ndarray]:
    """Return decisions as predictions are kept: all masks of a model one after the other."""
    found = []
    for own in logits:
        each = [at_size(one, truth.shape)[0].argmax(0).flatten() for one, truth in zip(own, truths, strict=True)]
        found.append(torch.cat(each).numpy().astype(np.uint8))
    return found


def members(logits: list[list[Tensor]], truths: list[np.ndarray], **more: int) -> MeanMembers:
    doubts = doubts_of(CLASSES, decided(logits, truths), truths, **more)
    probabilities = [
        torch.cat([doubtful(*one) for one in zip(own, [truth.shape for truth in truths], doubts.places, strict=True)])
        for own in logits
    ]
    return mean_members(doubts, torch.stack(probabilities))


def scored(masks: list[np.ndarray], truths: list[np.ndarray]) -> dict[str, float]:
    matrix = np.zeros((3, 3))
    for mask, truth in zip(masks, truths, strict=True):
        np.add.at(matrix, (truth[truth != VOID], mask[truth != VOID]), 1)
    return {f"val/{name}": value for name, value in scores_of(torch.from_numpy(matrix), CLASSES).items()}


def test_a_class_at_a_time_decides_as_the_mean_of_whole_maps(
    logits: list[list[Tensor]], truths: list[np.ndarray]
) -> None:
    for image, truth in enumerate(truths):
        each = [own[image] for own in logits]
        whole = sum(
            weight * at_size(one, truth.shape).softmax(1) for weight, one in zip((1, 2, 1, 3), each, strict=True)
        )
        assert torch.equal(decide_together(each, (1, 2, 1, 3), truth.shape), whole[0].argmax(0).to(torch.uint8))


def test_what_is_kept_scores_any_choice_as_the_whole_masks_do(
    logits: list[list[Tensor]], truths: list[np.ndarray]
) -> None:
    kept = members(logits, truths)
    for chosen in ([0], [0, 1], [3, 1, 1], [0, 1, 2, 3]):
        weights = [chosen.count(model) for model in sorted(set(chosen))]
        masks = [
            decide_together([logits[model][image] for model in sorted(set(chosen))], weights, truth.shape).numpy()
            for image, truth in enumerate(truths)
        ]
        assert score_ensemble(kept, chosen) == pytest.approx(scored(masks, truths))
    half = kept.of_images(np.array([0, 2]))
    alone = [at_size(logits[1][image], truths[image].shape)[0].argmax(0).numpy() for image in (0, 2)]
    assert score_ensemble(half, [1]) == pytest.approx(scored(alone, [truths[0], truths[2]]))


def test_two_models_are_better_than_one_which_no_vote_can_tell(
    logits: list[list[Tensor]], truths: list[np.ndarray]
) -> None:
    kept = members(logits[::2], truths)  # of the same size
    chosen = select_members(kept, lambda metrics: metrics["miou"], "miou", 4)
    assert set(chosen) == {0, 1}
    assert (
        score_ensemble(kept, chosen)["val/miou"] > max(score_ensemble(kept, [one])["val/miou"] for one in (0, 1)) + 0.02
    )


def test_of_many_doubtful_pixels_a_part_stands_for_all(logits: list[list[Tensor]], truths: list[np.ndarray]) -> None:
    whole = members(logits, truths)
    part = members(logits, truths, most=600)
    assert len(part.truth) < len(whole.truth) / 2
    assert part.pixels.sum() == pytest.approx(float(whole.pixels.sum()))
    assert score_ensemble(part, [0, 1])["val/miou"] == pytest.approx(
        score_ensemble(whole, [0, 1])["val/miou"], abs=0.05
    )
