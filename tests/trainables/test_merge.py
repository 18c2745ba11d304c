"""Several classes become one, unnamed classes stay, and void is not judged."""

from __future__ import annotations

import numpy as np
import pytest

from trainables.data.dataset import VOID
from trainables.data.merge import merge_classes
from trainables.data.steps import ForegroundCrop, Pipeline
from visionsweep.core.errors import ConfigError

CLASSES = ("sky", "road", "car", "bus", "tree")


def test_without_a_merge_every_class_and_void_stay_what_they_are() -> None:
    merge = merge_classes(CLASSES, {})
    assert merge.classes == CLASSES
    assert merge.table[:5].tolist() == [0, 1, 2, 3, 4]
    assert (merge.table[5:] == VOID).all()


def test_merged_classes_stand_where_the_first_of_them_stood() -> None:
    merge = merge_classes(CLASSES, {"vehicle": ["bus", "car"], "void": ["sky"]})
    assert merge.classes == ("road", "vehicle", "tree")
    assert merge.table[:5].tolist() == [VOID, 0, 1, 1, 2]
    assert merge.counts(np.array([[1, 2, 3, 4, 5]])).tolist() == [[2, 7, 5]]


def test_a_new_name_may_be_an_old_one() -> None:
    assert merge_classes(CLASSES, {"car": ["car", "bus"]}).classes == ("sky", "road", "car", "tree")


def test_the_background_is_found_by_its_name() -> None:
    assert merge_classes(CLASSES, {}).background is None
    assert merge_classes(CLASSES, {"background": ["sky", "tree"]}).background == 0
    assert merge_classes(("road", "Background"), {}).background == 1


@pytest.mark.parametrize("name", ["void", "Void", "ignore", "unlabelled"])
def test_every_name_that_files_have_for_void_is_void_in_a_merge(name: str) -> None:
    assert merge_classes(CLASSES, {name: ["sky"]}).classes == CLASSES[1:]


@pytest.mark.parametrize("left", [0, VOID])
def test_a_crop_looks_for_every_labelled_pixel_where_no_class_is_background(left: int) -> None:
    mask = np.full((16, 48), 1, np.uint8)
    mask[:, :24] = left

    def mean_share_of_one(background: int | None) -> float:
        crop = Pipeline([ForegroundCrop(16, 1.0, background, 1.0)])
        crop.set_random_seed(0)
        shown = [crop(image=np.zeros((16, 48, 3), np.uint8), mask=mask)["mask"] for _ in range(40)]
        return float(np.mean([(one == 1).mean() for one in shown]))

    assert mean_share_of_one(0) > 0.85
    if left == VOID:
        assert mean_share_of_one(None) > 0.85
    else:
        assert 0.3 < mean_share_of_one(None) < 0.7  # class 0 is as good as class 1


@pytest.mark.parametrize(
    ("merge", "words"),
    [
        ({"vehicle": ["car", "buss"]}, "merge: the data has no class 'buss'. Did you mean 'bus'?"),
        ({"all": list(CLASSES)}, "merge leaves 1 classes (all), and two are needed."),
    ],
)
def test_a_merge_that_cannot_be_says_why(merge: dict[str, list[str]], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        merge_classes(CLASSES, merge)
    assert words in str(caught.value)
