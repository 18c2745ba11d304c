"""Data that changed is recognised, and a changed split is described by the images that moved."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trainables.data.dataset import Dataset
from trainables.data.formats import load_dataset
from trainables.data.same_data import require_same, split_digest, what_changed
from visionsweep.core.errors import RunError


@pytest.fixture
def images(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for i in range(24):
        Image.fromarray(rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)).save(tmp_path / f"{i:02d}.png")
    return tmp_path


def split_so(folder: Path, num_val: int, num_test: int) -> Dataset:
    """The first images are val, the next ones test, and the others train."""
    splits = ["val"] * num_val + ["test"] * num_test + ["train"] * (24 - num_val - num_test)
    rows = [f"{i:02d}.png,{'ab'[i % 2]},{split}" for i, split in enumerate(splits)]
    (folder / "labels.csv").write_text("\n".join(["image,label,split", *rows]) + "\n")
    return load_dataset(str(folder), short_side_px=8, cache_dir=None)[0]


def test_the_same_data_is_the_same(images: Path) -> None:
    was = split_so(images, 6, 10).describe()
    require_same(split_so(images, 6, 10), "photos", was)


def test_test_images_that_are_trained_on_are_told(images: Path) -> None:
    was = split_so(images, 6, 10).describe()
    with pytest.raises(RunError) as caught:
        require_same(split_so(images, 6, 0), "photos", was)
    assert str(caught.value) == (
        "the data at photos is not the run's data: 10 images moved from test to train "
        "('06.png', '07.png', '08.png' and 7 more). Restore it, or start a new run."
    )


def test_every_move_is_told(images: Path) -> None:
    was = split_so(images, 6, 10).describe()
    assert what_changed(split_so(images, 4, 10), was) == (
        "2 images moved from val to test ('04.png', '05.png'), and "
        "2 images moved from test to train ('14.png', '15.png')"
    )
    assert what_changed(split_so(images, 6, 12), was) == "2 images moved from train to test ('16.png', '17.png')"


def test_images_that_are_no_longer_trained_on_are_counted(images: Path) -> None:
    was = split_so(images, 6, 10).describe()
    was["counts"]["train"] += 2
    assert what_changed(split_so(images, 6, 10), was) == "train has 8 images, had 10"


def test_other_contents_are_told_by_the_fingerprint(images: Path) -> None:
    was = split_so(images, 6, 10).describe()
    Image.new("RGB", (8, 8)).save(images / "03.png")
    assert what_changed(split_so(images, 6, 10), was).startswith("its images, labels or masks are others now (finger")


def test_a_run_of_an_older_version_is_compared_by_what_it_wrote(images: Path) -> None:
    was = split_so(images, 6, 10).describe()
    del was["test"]
    assert what_changed(split_so(images, 6, 10), was) == ""
    assert what_changed(split_so(images, 6, 0), was) == "train has 18 images, had 8, and test has 0 images, had 10"
    del was["counts"]
    assert what_changed(split_so(images, 6, 10), was) == ""
    assert what_changed(split_so(images, 5, 10), was) == "1 image moved from val to test ('05.png')"


def test_a_split_has_a_digest(images: Path) -> None:
    one, again, other = (split_so(images, 6, num).split for num in (10, 10, 9))
    assert split_digest(one) == split_digest(again) != split_digest(other)
