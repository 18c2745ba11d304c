"""The data that the project ships: digits and drawn scenes."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from trainables.data.digits import SceneReader, draw_scene, scene
from trainables.data.formats import load_dataset
from visionsweep.core.errors import DataError


def test_digits_are_ten_classes_of_32_px_images(tmp_path: Path) -> None:
    dataset, images = load_dataset("digits", short_side_px=64, cache_dir=tmp_path)
    assert (dataset.task, dataset.classes) == ("multiclass", tuple("0123456789"))
    assert (len(dataset.names), dataset.names[17]) == (1797, "digits/0017")
    assert images[0].shape == (32, 32, 3)
    assert images[0].max() > 200  # ink is bright
    assert images[0].min() == 0
    assert len(pickle.dumps(dataset.reader)) < 200


def test_even_and_odd_digits_are_binary_with_odd_as_positive() -> None:
    dataset, _ = load_dataset("digits:binary", short_side_px=32, cache_dir=None)
    digits, _ = load_dataset("digits", short_side_px=32, cache_dir=None)
    assert (dataset.task, dataset.classes) == ("binary", ("even", "odd"))
    assert (dataset.targets == digits.targets % 2).all()
    assert dataset.fingerprint != digits.fingerprint


def test_scenes_say_which_digits_are_there() -> None:
    dataset, images = load_dataset("digits:multilabel", short_side_px=64, cache_dir=None)
    assert (dataset.task, dataset.targets.shape) == ("multilabel", (1000, 10))
    assert (len(dataset.indices("train")), len(dataset.indices("val"))) == (800, 200)
    assert images[5].shape == (64, 64, 3)
    assert set(dataset.targets.sum(1).tolist()) == {1, 2, 3, 4}
    again = pickle.loads(pickle.dumps(SceneReader()))
    assert (again(5) == images[5]).all()


def test_a_scene_mask_shows_exactly_the_digits_that_are_present() -> None:
    for index in range(100):
        image, present, mask = scene(index)
        assert (image.shape, mask.shape, mask.dtype) == ((64, 64, 3), (64, 64), np.uint8)
        assert sorted(set(mask.ravel().tolist()) - {0}) == (np.flatnonzero(present) + 1).tolist()
        assert image[mask > 0].mean() > image[mask == 0].mean()


def test_a_scene_draws_from_the_given_scans_only() -> None:
    fives = np.flatnonzero(load_dataset("digits", short_side_px=32, cache_dir=None)[0].targets == 5)
    for seed in range(20):
        _, present, _ = draw_scene(np.random.default_rng(seed), fives)
        assert np.flatnonzero(present).tolist() == [5]


def test_a_misspelt_built_in_name_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(DataError, match=r"Did you mean 'digits:multilabel'\?"):
        load_dataset("digits:multilabels", short_side_px=32, cache_dir=None)


def test_scenes_come_with_masks_of_their_ink(tmp_path: Path) -> None:
    dataset, images = load_dataset("digits:segmentation", short_side_px=64, cache_dir=tmp_path)
    scenes, _ = load_dataset("digits:multilabel", short_side_px=64, cache_dir=None)
    assert (dataset.task, dataset.classes) == ("segmentation", ("background", *"0123456789"))
    assert (dataset.split == scenes.split).all()
    assert dataset.fingerprint != scenes.fingerprint
    assert (images.mask(5) == scene(5)[2]).all()
    assert ((dataset.targets[:, 1:] > 0) == scenes.targets).all()
    assert (dataset.targets.sum(1) == 64 * 64).all()
    assert len(pickle.dumps(dataset.mask_reader)) < 200
