"""The split into train, val and test: shares, copies, determinism."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from trainables.data.digits import DigitReader
from trainables.data.scan import Scan
from trainables.data.split import split_data
from trainables.data.stratify import stratified_val, stratified_val_multilabel
from visionsweep.core.errors import DataError


def scan(
    targets: list[int] | np.ndarray,
    given: list[str] | None = None,
    digests: list[str] | None = None,
    num_classes: int = 2,
) -> Scan:
    count = len(targets)
    return Scan(
        classes=tuple("abcdefgh"[:num_classes]),
        names=tuple(f"{i}.jpg" for i in range(count)),
        targets=np.asarray(targets),
        given=np.array(given or [""] * count),
        digests=tuple(digests or [str(i) for i in range(count)]),
        reader=DigitReader(),
    )


def test_every_class_gives_its_share_and_stands_on_both_sides() -> None:
    targets = np.repeat([0, 1, 2, 3], [1000, 100, 10, 2])
    in_val = stratified_val(targets, 0.2, seed=0)
    assert np.bincount(targets[in_val]).tolist() == [200, 20, 2, 1]
    all_but_one = stratified_val(targets, 0.99, seed=0)
    assert np.bincount(targets[~all_but_one]).tolist() == [10, 1, 1, 1]


def test_the_split_is_the_same_for_a_seed_and_differs_between_seeds() -> None:
    targets = np.arange(200) % 5
    tags = np.random.default_rng(0).integers(0, 2, (200, 6), dtype=np.uint8)
    for draw, labels in ((stratified_val, targets), (stratified_val_multilabel, tags)):
        assert (draw(labels, 0.2, 7) == draw(labels, 0.2, 7)).all()
        assert (draw(labels, 0.2, 7) != draw(labels, 0.2, 8)).any()


def test_rare_tags_stand_on_both_sides_and_all_tags_keep_their_share() -> None:
    rng = np.random.default_rng(0)
    tags = (rng.random((1000, 12)) < np.linspace(0.002, 0.6, 12)).astype(np.uint8)
    tags[:2, 0] = 1  # at least two of the rarest
    for seed in range(5):
        in_val = stratified_val_multilabel(tags, 0.2, seed)
        assert abs(in_val.sum() - 200) <= 10
        assert (tags[in_val].sum(0) > 0).all()
        assert (tags[~in_val].sum(0) > 0).all()
        common = tags.sum(0) > 50
        np.testing.assert_allclose(tags[in_val].sum(0)[common] / tags.sum(0)[common], 0.2, atol=0.03)


def test_images_without_any_tag_are_shared_out_too() -> None:
    tags = np.zeros((100, 3), np.uint8)
    tags[:10] = 1
    assert stratified_val_multilabel(tags, 0.2, 0).sum() == 20


@pytest.mark.parametrize("seed", range(10))
def test_exact_copies_never_stand_on_both_sides_of_a_drawn_split(seed: int) -> None:
    digests = [str(i // 3) for i in range(60)]  # every image three times
    multiclass = scan([i // 3 % 2 for i in range(60)], digests=digests)
    multilabel = scan(np.array([[i // 3 % 2, 1] for i in range(60)], np.uint8), digests=digests)
    for data in (multiclass, multilabel):
        split = split_data(data, [], seed, 0.3)
        sides = [set(split.of[3 * i : 3 * i + 3].tolist()) for i in range(20)]
        assert {len(side) for side in sides} == {1}
        assert split.notes == ("40 images repeat another one exactly; copies stand on the same side of the split.",)


def test_training_copies_of_val_images_are_left_out_of_a_given_split() -> None:
    data = scan([0, 1, 0, 1, 0, 1], ["train"] * 3 + ["val"] * 3, ["p", "q", "r", "s", "p", "t"])
    split = split_data(data, [], 0, 0.2)
    assert split.of.tolist() == ["duplicate", "train", "train", "val", "val", "val"]
    assert split.notes == ("1 image left out of train, as val has an exact copy: '0.jpg'.",)
    assert split.origin == "given by the data"


def test_copies_of_test_images_are_left_out_of_what_val_is_drawn_from() -> None:
    data = scan([0] * 6 + [1] * 6, ["test", *["train"] * 10, "test"], ["p", "p", *[str(i) for i in range(10)]])
    split = split_data(data, [], 0, 0.2)
    assert split.of[1] == "duplicate"
    assert sorted(set(split.of.tolist())) == ["duplicate", "test", "train", "val"]


def test_an_unreadable_copy_does_not_push_a_readable_image_out() -> None:
    data = scan([0, 1, 0, 1, 0], ["train", "train", "val", "val", "val"], ["p", "q", "r", "s", "p"])
    assert split_data(data, [4], 0, 0.2).of.tolist() == ["train", "train", "val", "val", "skipped"]


def test_copies_with_different_labels_are_pointed_out() -> None:
    data = scan([0, 0, 0, 1, 1, 1], digests=["p", "q", "r", "p", "s", "t"])
    assert "Exact copies with different labels, of which one must be wrong: '0.jpg', '3.jpg'." in (
        split_data(data, [], 0, 0.2).notes
    )


def test_a_class_of_copies_only_is_refused() -> None:
    with pytest.raises(DataError, match=r"class 'b' has one image \(2 exact copies of it\); a class needs two"):
        split_data(scan([0, 0, 1, 1], digests=["p", "q", "r", "r"]), [], 0, 0.2)


def test_a_class_that_test_alone_holds_is_refused() -> None:
    data = scan([0, 1, 0, 1, 2, 2], ["train", "train", "val", "val", "test", "test"], num_classes=3)
    with pytest.raises(DataError, match="test holds classes that train does not: 'c'"):
        split_data(data, [], 0, 0.2)


def test_a_tag_that_val_never_shows_is_a_note_and_no_refusal() -> None:
    data = scan(np.array([[1, 1], [0, 1], [0, 1]], np.uint8), ["train", "train", "val"])
    assert split_data(data, [], 0, 0.2).notes == ("No val image has this label: 'a'.",)


@pytest.mark.parametrize("seed", range(5))
def test_tags_of_one_image_each_still_leave_an_image_on_both_sides(seed: int) -> None:
    in_val = stratified_val_multilabel(np.eye(5, dtype=np.uint8), 0.2, seed)
    assert in_val.sum() == 1
    assert stratified_val_multilabel(np.ones((2, 3), np.uint8), 0.99, seed).sum() == 1
    assert stratified_val_multilabel(np.ones((1, 3), np.uint8), 0.2, seed).sum() == 0  # a single one is trained on


def test_of_rare_tags_the_image_that_train_can_best_spare_goes_to_val() -> None:
    tags = np.array([[1, 1, 0, 0, 0], [0, 0, 1, 1, 0], [0, 0, 0, 0, 1]], np.uint8)
    assert stratified_val_multilabel(tags, 0.2, 0).tolist() == [False, False, True]


def test_five_images_with_five_tags_are_split() -> None:
    split = split_data(scan(np.eye(5, dtype=np.uint8), num_classes=5), [], 0, 0.2)
    assert sorted(split.of.tolist()) == ["train"] * 4 + ["val"]


TAGS = np.array([[1, 0], [0, 1], [1, 1], [1, 0]], np.uint8)


@pytest.mark.parametrize(
    ("data", "bad", "message"),
    [
        (
            scan(TAGS, ["train", "train", "val", "val"]),
            [2, 3],
            "no validation image can be read. Replace them, or give no split and let it be drawn.",
        ),
        (
            scan(TAGS, ["train", "train", "val", "test"], ["p", "q", "r", "r"]),
            [],
            "every validation image is an exact copy of a test image. Give val and test different images.",
        ),
        (
            scan(TAGS, digests=["p", "p", "p", "p"]),
            [],
            "there is only one distinct image to draw it from. Add images.",
        ),
        (
            scan([0, 1, 0, 1], ["train", "train", "val", "test"], ["p", "q", "r", "r"]),
            [],
            "every validation image is an exact copy of a test image. Give val and test different images.",
        ),
    ],
)
def test_a_split_without_an_image_to_judge_by_is_refused(data: Scan, bad: list[int], message: str) -> None:
    with pytest.raises(DataError) as caught:
        split_data(data, bad, 0, 0.2)
    assert str(caught.value) == f"no image is left to judge by: {message}"


def test_a_class_whose_name_is_not_utf8_has_a_fingerprint() -> None:
    odd, even = (dataclasses.replace(scan([0, 1]), classes=("a", name)) for name in ("b\udcff", "b"))
    assert len(odd.fingerprint()) == 16
    assert odd.fingerprint() != even.fingerprint()
