"""What a scan and a split find in the real photos that may lie beside the checkout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from trainables.data.formats import load_dataset

SHARED = Path(__file__).parents[3] / "shared" / "data"


def real(name: str) -> str:
    if not (SHARED / name).is_dir():
        pytest.skip(f"the photos of '{name}' are not beside this checkout")
    return str(SHARED / name)


def test_ants_and_bees_come_with_their_own_split() -> None:
    dataset, _ = load_dataset(real("hymenoptera"), short_side_px=16, cache_dir=None)
    assert (dataset.task, dataset.classes) == ("binary", ("ants", "bees"))
    assert (len(dataset.indices("train")), len(dataset.indices("val"))) == (243, 153)


def test_five_flowers_get_a_stratified_split(tmp_path: Path) -> None:
    dataset, images = load_dataset(real("flowers5"), short_side_px=64, cache_dir=tmp_path)
    assert (dataset.task, len(dataset.classes), len(images)) == ("multiclass", 5, 4307)
    shares = [np.bincount(dataset.targets[dataset.indices(side)]) for side in ("train", "val")]
    np.testing.assert_allclose(shares[1] / (shares[0] + shares[1]), 0.2, atol=0.002)
    assert min(images[0].shape[:2]) == 64


def test_clothes_carry_33_tags_and_a_training_copy_of_a_val_image_is_left_out() -> None:
    dataset, _ = load_dataset(real("ccp"), short_side_px=16, cache_dir=None)
    assert (dataset.task, len(dataset.classes)) == ("multilabel", 33)
    assert (dataset.targets.shape, dataset.targets.dtype) == ((2098, 33), np.uint8)
    assert dataset.describe()["counts"] == {"train": 1678, "val": 419, "test": 0, "skipped": 0, "duplicate": 1}
    assert any("left out of train, as val has an exact copy: 'images/0025.jpg'" in note for note in dataset.notes)


def test_streets_come_with_their_split_and_void_is_no_class(tmp_path: Path) -> None:
    dataset, images = load_dataset(real("camvid"), short_side_px=32, cache_dir=tmp_path)
    assert (dataset.task, len(dataset.classes)) == ("segmentation", 11)
    assert "void" not in dataset.classes
    assert [len(dataset.indices(side)) for side in ("train", "val", "test")] == [367, 101, 233]
    assert (images.mask(0).shape, images.mask(0).dtype) == ((240, 320), np.uint8)
    counts = np.bincount(images.mask(0).ravel(), minlength=256)
    assert counts[:11].tolist() == dataset.targets[0].tolist()
    assert counts[11:255].sum() == 0
    assert counts[255] > 0


def test_clothes_come_with_masks_where_they_are_asked_for() -> None:
    dataset, images = load_dataset(real("ccp"), task="segmentation", short_side_px=16, cache_dir=None)
    assert (dataset.task, len(dataset.classes), dataset.classes[0]) == ("segmentation", 10, "background")
    assert [len(dataset.indices(side)) for side in ("train", "val", "test")] == [803, 201, 0]
    assert dataset.split_origin == "given by the data"
    assert dataset.targets.shape == (1004, 10)
    assert images.mask(0).max() < 10
