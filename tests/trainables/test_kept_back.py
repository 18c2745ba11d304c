"""A test split that is kept back with --test, and sides that are drawn from whole groups."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from made_folders import counts, photo, photos
from test_groups import load, refusal

from trainables.data.read_as import ReadAs
from trainables.data.stratify_groups import stratified_groups
from trainables.data.summary import summary
from visionsweep.core.errors import DataError


def many(root: Path, each: int = 40) -> Path:
    for name in ("ants", "bees"):
        for number in range(each):
            photo(root / name / f"{number:03d}.png")
    return root


@pytest.mark.parametrize("test", ["15%", "0.15", "15.0 %"])
def test_a_share_of_each_class_is_kept_back_and_val_keeps_its_own(tmp_path: Path, test: str) -> None:
    dataset = load(many(tmp_path), test=test)
    assert counts(dataset) == {"train": 52, "val": 16, "test": 12}
    assert np.bincount(dataset.targets[dataset.indices("test")]).tolist() == [6, 6]
    assert dataset.split_origin == "stratified, 20% val, 15% test, seed 0"
    assert "12 to test on (split drawn: stratified, 20% val, 15% test, seed 0)" in summary(dataset)


def test_what_a_small_test_split_costs_and_can_tell_is_said(tmp_path: Path) -> None:
    assert (
        "--test 15% keeps 12 of 80 images back: `evaluate --split test` judges them. They are missing from training and "
        "choice, and 12 images tell 90% right only to about ±17 points: 200 tell it to ±4."
    ) in load(many(tmp_path), test="15%").notes


def test_what_is_kept_back_depends_on_the_seed_alone(tmp_path: Path) -> None:
    many(tmp_path)
    drawn = [load(tmp_path, test="15%", seed=seed).describe()["test"] for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_a_small_class_keeps_an_image_on_each_of_the_other_sides_first(tmp_path: Path) -> None:
    photos(tmp_path, "rare", each=2)
    photos(tmp_path, "common", each=20)
    dataset = load(tmp_path, test="20%")
    of_rare = dataset.split[dataset.targets == dataset.classes.index("rare")]
    assert sorted(of_rare.tolist()) == ["train", "val"]
    assert counts(dataset)["test"] == 4


def test_a_validation_split_that_the_data_gives_is_left_alone(tmp_path: Path) -> None:
    for side in ("train", "val"):
        many(tmp_path / side, each=20)
    dataset = load(tmp_path, test="25%")
    assert counts(dataset) == {"train": 30, "val": 40, "test": 10}
    assert dataset.split_origin == "stratified, 25% test, seed 0 (split off train; val given by the data)"


def test_a_test_split_of_the_data_and_one_kept_back_exclude_each_other(tmp_path: Path) -> None:
    for side in ("train", "test"):
        many(tmp_path / side, each=6)
    assert refusal(tmp_path, test="15%") == (
        "--test 15% would keep a test split back, but the data gives one (12 images). Leave out --test."
    )


def test_where_no_class_can_spare_an_image_nothing_is_kept_back(tmp_path: Path) -> None:
    assert refusal(photos(tmp_path, "a b", each=2), test="15%").startswith(
        "--test 15% leaves no image for test: no class can spare one beside those to train on and to judge by."
    )


@pytest.mark.parametrize("test", ["15", "0%", "60%", "-0.1", "some", "", "nan"])
def test_a_share_that_is_none_is_refused_with_the_usual_one(test: str) -> None:
    with pytest.raises(DataError, match="--test takes the share of the images that is kept back") as caught:
        ReadAs(test=test)
    assert str(caught.value).endswith("15% is usual.")
    assert ("Did you mean 15%?" in str(caught.value)) == (test == "15")


@pytest.mark.parametrize("seed", range(5))
def test_groups_of_all_sizes_keep_together_and_every_class_keeps_its_share(seed: int) -> None:
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(200), rng.integers(1, 12, 200))
    usual = rng.integers(0, 4, 200)[groups]  # a group has one class most of the time
    targets = np.where(rng.random(len(groups)) < 0.8, usual, rng.integers(0, 4, len(groups)))
    chosen = stratified_groups(targets, groups, 0.2, seed)
    assert not set(groups[chosen]) & set(groups[~chosen])
    shares = np.bincount(targets[chosen]) / np.bincount(targets)
    np.testing.assert_allclose(shares, 0.2, atol=0.01)


def test_tags_keep_their_share_in_whole_groups_and_rare_ones_stand_on_both_sides() -> None:
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(250), 4)
    tags = (rng.random((1000, 8)) < np.linspace(0.01, 0.6, 8)).astype(np.uint8)
    chosen = stratified_groups(tags, groups, 0.25, 0)
    np.testing.assert_allclose(tags[chosen].sum(0)[2:] / tags.sum(0)[2:], 0.25, atol=0.03)
    assert (tags[chosen].sum(0) > 0).all()
    assert (tags[~chosen].sum(0) > 0).all()


def test_a_class_never_gives_its_last_groups() -> None:
    targets = np.repeat([0, 1, 2], [30, 30, 4])
    groups = np.arange(64) // 2  # class 2 has two groups
    for seed in range(10):
        kept_back = stratified_groups(targets, groups, 0.4, seed, left=2)
        assert not kept_back[targets == 2].any()
        in_val = stratified_groups(targets, groups, 0.01, seed)
        assert in_val[targets == 2].sum() == 2


def test_one_group_of_rare_tags_is_moved_where_none_could_be_spared() -> None:
    assert stratified_groups(np.eye(5, dtype=np.uint8), np.arange(5), 0.2, 0).sum() == 1
