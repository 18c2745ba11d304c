"""Images much larger than the training crops are judged and predicted in bounded memory, with the same results."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from drawn_masks import load, pairs

from trainables import evaluate as evaluate_module
from trainables.config.io import parse_config
from trainables.data.augment import eval_transform
from trainables.data.dataset import VOID
from trainables.data.loader import TrialData, batches, whole_images
from trainables.data.merge import merge_classes
from trainables.evaluate import at_size, decide_at_size, evaluate
from trainables.pixel_scores import PixelScores

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")
CONFIG = parse_config(
    {
        "task": "segmentation",
        "model": {"architecture": {"name": "fpn", "channels": 16}, "backbone": "test_resnet", "weights": "none"},
        "optimizer": {"name": "adam", "lr": 0.01},
        "epochs": 1,
        "batch_size": 4,
        "image_size": 8,
        "short_side": 16,
    }
)


@pytest.fixture
def data(tmp_path: Path) -> TrialData:
    """Ten images of 20 x 16 px, six of them to judge by."""
    root = pairs(tmp_path / "data", "abcdefghij", values=(0, 1, 255, 2))
    (root / "val.txt").write_text("a\nb\nc\nd\ne\nf\n")
    (root / "train.txt").write_text("g\nh\ni\nj\n")
    return TrialData(*load(root, short_side_px=16))


@pytest.mark.parametrize(("max_pixels", "sizes"), [(None, [4, 2]), (16 * 20 * 3, [3, 1, 2]), (1, [1] * 6)])
def test_a_batch_holds_as_many_whole_images_as_fit(data: TrialData, max_pixels: int | None, sizes: list[int]) -> None:
    merge = merge_classes(data.dataset.classes, {})
    got = list(whole_images(data, "val", merge, eval_transform(CONFIG), 4, max_pixels=max_pixels))
    assert [len(images) for images, _ in got] == sizes
    assert [len(masks) for _, masks in got] == sizes
    whole = torch.cat([images for images, _ in whole_images(data, "val", merge, eval_transform(CONFIG), 8)])
    assert torch.equal(torch.cat([images for images, _ in got]), whole)


class _ThreeClasses(torch.nn.Module):
    """Logits at half the size from colours alone."""

    pixel_mean = torch.zeros(3, 1, 1)
    pixel_std = torch.full((3, 1, 1), 255.0)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return 8 * images[:, :, ::2, ::2]


def test_images_are_judged_one_by_one_as_all_together_would_be(
    data: TrialData, monkeypatch: pytest.MonkeyPatch
) -> None:
    merge = merge_classes(data.dataset.classes, {})
    shapes: list[tuple[int, ...]] = []

    class Watched(PixelScores):
        def update(self, logits: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
            shapes.append(tuple(logits.shape))
            return super().update(logits, masks)

    monkeypatch.setattr(evaluate_module, "PixelScores", Watched)
    judged = evaluate(CONFIG, [_ThreeClasses()], data, merge, CPU)
    assert shapes == [(1, 3, 16, 20)] * 6

    together = PixelScores(merge.classes, CPU)
    ((images, masks),) = whole_images(data, "val", merge, eval_transform(CONFIG), 8)
    logits = _ThreeClasses()(images.permute(0, 3, 1, 2).float() / 255)
    decision = together.update(at_size(logits, (16, 20)), masks.long())
    assert judged.metrics == pytest.approx({f"val/{name}": value for name, value in together.compute().items()})
    assert (judged.predictions["masks"] == decision.reshape(-1).numpy()).all()
    assert judged.predictions["shapes"].tolist() == [[16, 20]] * 6


@pytest.mark.parametrize("size", [(7, 9), (61, 83), (5, 4)], ids=str)
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_a_mask_decided_class_by_class_is_the_one_of_all_classes_at_once(
    size: tuple[int, int], memory_format: Any
) -> None:
    logits = torch.randn(1, 11, 7, 9, generator=torch.Generator().manual_seed(0))
    logits[:, 4] = logits[:, 2]  # of equals the first is taken
    expected = at_size(logits, size).argmax(dim=1)[0].to(torch.uint8)
    given = logits.to(memory_format=memory_format)
    before = given.clone()
    assert torch.equal(decide_at_size(given, size), expected)
    assert torch.equal(given, before)


def test_masks_are_merged_after_they_are_resized_to_the_same_result(tmp_path: Path) -> None:
    root = pairs(tmp_path / "data", "abcdef", values=(0, 255, 1, 2, 1))
    data = TrialData(*load(root, short_side_px=8))
    merge = merge_classes(data.dataset.classes, {"some": ["class 0", "class 2"]})
    ((images, masks),) = batches(data, "val", merge, lambda image, mask: {"image": image, "mask": mask}, 8)
    position = int(data.dataset.indices("val")[0])
    expected = cv2.resize(
        merge.table[data.images.mask(position)],
        (images.shape[2], images.shape[1]),
        interpolation=cv2.INTER_NEAREST_EXACT,
    )
    assert set(np.unique(expected)) == {0, 1, VOID}
    assert (masks[0].numpy() == expected).all()
