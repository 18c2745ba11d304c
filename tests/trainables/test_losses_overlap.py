"""Losses of overlap: equal to those of segmentation-models-pytorch, and without a host read that a GPU waits for."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from segmentation_models_pytorch.losses import DiceLoss, LovaszLoss
from torch import Tensor

from trainables.config.loss import Focal
from trainables.data.dataset import VOID
from trainables.losses_overlap import dice_overlap, lovasz_softmax
from trainables.losses_pixel import cross_entropy, focal

NUM_CLASSES = 5
PRESENT = 3  # the batches lack the last two classes


def batch(void_rows: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(void_rows)
    targets = torch.randint(0, PRESENT, (2, 12, 10), generator=generator)
    targets[:, :void_rows] = VOID
    return 3 * torch.randn(2, NUM_CLASSES, 12, 10, generator=generator), targets


def library_dice(logits: Tensor, targets: Tensor) -> Tensor:
    loss = DiceLoss("multiclass", ignore_index=VOID)(logits, targets)
    return loss * NUM_CLASSES / PRESENT  # whose mean counts the classes that the batch lacks as perfect


@pytest.mark.parametrize("void_rows", [0, 4])
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [(dice_overlap, library_dice), (lovasz_softmax, LovaszLoss("multiclass", ignore_index=VOID))],
)
def test_values_and_gradients_are_those_of_the_library(
    ours: Callable[[Tensor, Tensor], Tensor], theirs: Callable[[Tensor, Tensor], Tensor], void_rows: int
) -> None:
    logits, targets = batch(void_rows)
    one = logits.clone().requires_grad_()
    other = logits.clone().requires_grad_()
    value = ours(one, targets)
    expected = theirs(other, targets)
    value.backward()
    expected.backward()
    torch.testing.assert_close(value, expected, rtol=1e-5, atol=0)
    assert other.grad is not None
    torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-8)
    assert other.grad.abs().max() > 1e-4


@pytest.mark.parametrize(
    "loss",
    [
        dice_overlap,
        lovasz_softmax,
        lambda logits, targets: focal(logits, targets, None, Focal(gamma=2.0)),
        lambda logits, targets: cross_entropy(logits, targets, torch.ones(NUM_CLASSES, device="meta")),
    ],
)
def test_no_loss_waits_for_a_gpu(loss: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Tensors of torch's meta device have no values, so whatever reads one on the host fails."""
    logits = torch.zeros(2, NUM_CLASSES, 12, 10, device="meta", requires_grad=True)
    value = loss(logits, torch.zeros(2, 12, 10, dtype=torch.int64, device="meta"))
    value.backward()
    assert logits.grad is not None
