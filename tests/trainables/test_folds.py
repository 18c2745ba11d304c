"""Folds over train and val: drawn once, stratified, with what belongs together in one of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from made_folders import load, photo, photos, refusal
from PIL import Image
from test_groups import patient_of, patients

from trainables.data.folds import draw_folds, of_fold
from trainables.data.read_as import ReadAs
from trainables.data.summary import summary
from visionsweep.core.errors import DataError


def test_every_image_is_judged_once_and_classes_are_spread_evenly(tmp_path: Path) -> None:
    photos(tmp_path, "ants", each=20)
    photos(tmp_path, "bees", each=10)
    dataset = load(tmp_path, folds=5, test="20%")
    assert dataset.num_folds == 5
    judged = [of_fold(dataset, fold).indices("val") for fold in range(1, 6)]
    test = dataset.indices("test")
    assert sorted(np.concatenate([*judged, test]).tolist()) == list(range(30))
    for rows in judged:
        assert np.bincount(dataset.targets[rows], minlength=2).tolist() in ([3, 2], [3, 1], [4, 2], [4, 1])
    assert dataset.indices("val").tolist() == judged[0].tolist(), "fold 1 is the split of all that knows no folds"
    assert {len(of_fold(dataset, fold).indices("train")) + len(judged[fold - 1]) for fold in range(1, 6)} == {24}
    assert "split drawn: 5 folds, stratified, seed 0; 6 images kept back" in summary(dataset)
    assert dataset.describe()["folds"] == 5
    assert dataset.with_val_trained_on().num_folds == 1


def test_fold_one_of_five_is_the_split_without_folds(tmp_path: Path) -> None:
    photos(tmp_path, "ants bees", each=20)
    assert load(tmp_path, folds=5).describe()["val"] == load(tmp_path).describe()["val"]


@pytest.mark.parametrize("num_folds", [2, 3, 5])
def test_no_group_and_no_near_duplicate_stands_in_two_folds(tmp_path: Path, num_folds: int) -> None:
    patients(tmp_path, num=14)
    pixels = np.random.default_rng(0).integers(0, 255, (6, 7, 3), dtype=np.uint8)
    soft = Image.fromarray(pixels).resize((64, 48), Image.Resampling.BICUBIC)
    soft.save(tmp_path / "ill" / "patient01_slice0.png")
    soft.resize((50, 40)).save(tmp_path / "ill" / "patient97_slice0.png")  # of somebody else, and nearly the same
    dataset = load(tmp_path, folds=num_folds, group="(.*)_", test="15%")
    assert dataset.folds is not None
    folds_of: dict[str, set[int]] = {}
    for name, fold, side in zip(dataset.names, dataset.folds.tolist(), dataset.split.tolist(), strict=True):
        assert (fold == 0) == (side == "test")
        folds_of.setdefault(patient_of(name), set()).add(fold)
    assert all(len(folds) == 1 for folds in folds_of.values()), folds_of
    assert folds_of["patient01"] == folds_of["patient97"]
    for fold in range(1, num_folds + 1):
        assert set(dataset.targets[dataset.folds == fold].tolist()) == {0, 1}


def test_tags_and_uneven_groups_are_dealt_to_folds_of_about_equal_size() -> None:
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(60), rng.integers(1, 9, 60))
    tags = (rng.random((len(groups), 5)) < [0.6, 0.4, 0.3, 0.2, 0.1]).astype(np.uint8)
    for given in (groups, None):
        folds = draw_folds(tags, given, 5, seed=3)
        shares = np.bincount(folds, minlength=6)[1:] / len(folds)
        assert np.abs(shares - 0.2).max() < 0.04
        of_tags = np.stack([tags[folds == fold].mean(0) for fold in range(1, 6)])
        assert np.abs(of_tags - tags.mean(0)).max() < 0.12
        assert np.array_equal(folds, draw_folds(tags, given, 5, seed=3))
        assert not np.array_equal(folds, draw_folds(tags, given, 5, seed=4))


def test_a_val_split_of_the_data_joins_train_and_is_said_to(tmp_path: Path) -> None:
    for side, each in (("train", 6), ("val", 3), ("test", 2)):
        photos(tmp_path / side, "ants bees", each=each)
    dataset = load(tmp_path, folds=3)
    assert dataset.folds is not None
    assert (dataset.folds > 0).sum() == 18
    assert len(dataset.indices("test")) == 4
    assert "The data's own val split (6 images) joins train: 3 folds are drawn over both." in dataset.notes


def test_folds_that_cannot_be_had_are_refused_with_the_next_move(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"--folds takes 2 or more, got 1\. 5 is usual\."):
        ReadAs(folds=1)
    photos(tmp_path / "few", "common", each=9)
    photos(tmp_path / "few", "rare", each=3)
    assert refusal(tmp_path / "few", folds=5) == (
        "--folds 5 puts each class into every fold, and class 'rare' has 3 images. Pass --folds 3, or add images."
    )
    assert refusal(patients(tmp_path / "ill", num=6), folds=4, group="(.*)_").endswith(
        "class 'ill' has 3 images or groups that stay together. Pass --folds 3, or add images."
    )
    photo(tmp_path / "few" / "rare" / "again.png")
    assert "too many of them to decode first. Leave out --folds" in refusal(tmp_path / "few", folds=2, on_demand=True)
