"""Masks beside their images: with and without a cache, in this process and in others."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from drawn_masks import STRIPES, load, mask, pairs, photo, refusal, stripes

from trainables.data.cache_build import count_values
from trainables.data.formats import reopen_images
from visionsweep.core.errors import DataError

STEMS = ("a", "b", "c", "d", "e", "f")


def data_of(root: Path) -> Path:
    """Six images with masks of different sizes and values, one of them broken."""
    pairs(root, STEMS)
    photo(root / "images" / "b.jpg", 40, (60, 40))
    mask(root / "masks" / "b.png", (0, 1, 255, 2), (30, 20))
    (root / "masks" / "d.png").write_bytes(b"x")
    return root


def test_masks_and_counts_are_the_same_with_and_without_a_cache(tmp_path: Path) -> None:
    data = data_of(tmp_path / "data")
    decoded_set, decoded = load(data, on_bad_image="skip")
    for _ in range(2):  # built, then opened
        cached_set, cached = load(data, on_bad_image="skip", cache_dir=tmp_path / "cache")
        assert cached_set.fingerprint == decoded_set.fingerprint
        assert cached_set.targets.dtype == decoded_set.targets.dtype == np.int64
        assert (cached_set.targets == decoded_set.targets).all()
        assert (cached_set.split == decoded_set.split).all()
        assert cached.bad == decoded.bad
        for i in (0, 1, 2, 4, 5):
            assert (cached.mask(i) == decoded.mask(i)).all()
            assert (cached[i] == decoded[i]).all()
    assert cached.mask(1).shape == (20, 30)  # its own size, not that of the 8 px image
    assert cached_set.targets[1].tolist() == [60, 60, 14 * 30]


def test_a_finished_cache_needs_no_mask_file(tmp_path: Path) -> None:
    dataset, images = load(pairs(tmp_path / "data", STEMS), cache_dir=tmp_path / "cache")
    for file in (tmp_path / "data").glob("*/*"):
        file.unlink()
    again = reopen_images(dataset, 8, tmp_path / "cache")
    assert (again.mask(3) == images.mask(3)).all()


@pytest.mark.parametrize("cached", [True, False])
def test_a_mask_is_the_callers_own_to_change(tmp_path: Path, cached: bool) -> None:
    _, images = load(pairs(tmp_path / "data", STEMS), cache_dir=tmp_path / "cache" if cached else None)
    images.mask(0)[:] = 9
    assert (images.mask(0) == stripes(STRIPES)).all()
    with pytest.raises(IndexError):
        images.mask(len(STEMS))


@pytest.mark.parametrize("cached", [True, False])
def test_a_bad_mask_makes_its_image_bad_and_says_why(tmp_path: Path, cached: bool) -> None:
    cache = tmp_path / "cache" if cached else None
    dataset, images = load(data_of(tmp_path / "data"), on_bad_image="skip", cache_dir=cache)
    for ask in (images.mask, images.__getitem__):
        with pytest.raises(DataError, match=r"mask 'masks/d\.png' cannot be read: not an image"):
            ask(3)
    with pytest.raises(DataError):
        reopen_images(dataset, 8, cache).mask(3)


@pytest.mark.parametrize("cached", [True, False])
def test_data_without_masks_has_none_to_give(tmp_path: Path, cached: bool) -> None:
    _, images = load("digits", cache_dir=tmp_path if cached else None)
    with pytest.raises(RuntimeError, match="no masks"):
        images.mask(0)


def test_masks_cross_process_borders_as_a_path(tmp_path: Path) -> None:
    dataset, images = load(pairs(tmp_path / "data", STEMS), cache_dir=tmp_path / "cache")
    packed = pickle.dumps(images)
    assert len(packed) < 500
    assert (pickle.loads(packed).mask(2) == images.mask(2)).all()
    again = pickle.loads(pickle.dumps(dataset))
    for reopened in (reopen_images(again, 8, tmp_path / "cache"), reopen_images(again, 8, None)):
        assert all((reopened.mask(i) == images.mask(i)).all() for i in range(len(STEMS)))


def test_labels_and_masks_of_the_same_images_have_caches_of_their_own(tmp_path: Path) -> None:
    data = pairs(tmp_path / "data", STEMS)
    rows = [f"images/{stem}.jpg,{label}" for stem, label in zip(STEMS, "xxxyyy", strict=True)]
    (data / "labels.csv").write_text("\n".join(["image,label", *rows]))
    load(data, cache_dir=tmp_path / "cache")
    assert load(data, cache_dir=tmp_path / "cache", task="segmentation")[1].mask(0).shape == (16, 20)


@pytest.mark.parametrize("name", ["pixels.u8", "index.npy", "pixel_counts.npy"])
def test_a_cache_with_damaged_masks_is_built_again(tmp_path: Path, name: str) -> None:
    data = pairs(tmp_path / "data", STEMS)
    dataset, _ = load(data, cache_dir=tmp_path / "cache")
    file = tmp_path / "cache" / f"{dataset.fingerprint}-masks" / name
    for damage in (lambda: file.write_bytes(file.read_bytes()[:20]), file.unlink):
        damage()
        again, images = load(data, cache_dir=tmp_path / "cache")
        assert (images.mask(5) == stripes(STRIPES)).all()
        assert (again.targets == dataset.targets).all()


def test_masks_of_nothing_but_bad_images_are_refused_and_open_again(tmp_path: Path) -> None:
    data = pairs(tmp_path / "data", STEMS)
    (data / "classes.txt").write_text("x\ny\nz\n")
    for stem in STEMS:
        (data / "masks" / f"{stem}.png").write_bytes(b"x")
    for _ in range(2):
        with pytest.raises(DataError, match="no image is left to train on"):
            load(data, cache_dir=tmp_path / "cache", on_bad_image="skip")


def test_a_thread_of_an_image_is_refused_with_masks_by_its_name(tmp_path: Path) -> None:
    """Its whole length would be seen at once: at 224 px 8,000 x 1 pixels become 1.8 million x 224."""
    data = pairs(tmp_path / "data", STEMS)
    photo(data / "images" / "b.jpg", 40, (1000, 1))
    mask(data / "masks" / "b.png", (0,), (1000, 1))
    for cache in (None, tmp_path / "cache"):
        message = refusal(data, cache_dir=cache)
        assert "image 'images/b.jpg' is 1000 x 1 pixels, and a segmenter takes images up to 100 times" in message
        assert "--on-bad-image skip" in message
        dataset, images = load(data, cache_dir=cache, on_bad_image="skip")
        assert list(images.bad) == [1]
        assert len(dataset.indices("skipped")) == 1


def test_pixels_of_large_masks_are_counted_whole() -> None:
    large = np.random.default_rng(0).integers(0, 3, (2100, 2100), dtype=np.uint8)
    assert (count_values(large) == np.bincount(large.ravel(), minlength=256)).all()
