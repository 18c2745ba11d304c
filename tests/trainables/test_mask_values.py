"""Which values of masks are class numbers where no file names the classes, and the errors for all others."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from drawn_masks import HEIGHT, UNNAMED, WIDTH, load, mask, pairs, photo, refusal, stripes
from PIL import Image

from trainables.data.dataset import VOID
from trainables.data.formats import scan_data
from trainables.data.read_as import ReadAs

STEMS = ("a", "b", "c", "d")
BINARY = "No file names the classes: 0 is called 'background' and 255 'foreground'. classes.txt names others."


def masked(root: Path, *values: Sequence[int] | np.ndarray, palette: Sequence[int] | None = None) -> Path:
    """A photo for each of `values`, and its mask."""
    for i, drawn in enumerate(values):
        photo(root / "images" / f"{i}.jpg", i)
        path = mask(root / "masks" / f"{i}.png", drawn)
        if palette is not None:
            with Image.open(path) as image:
                coloured = image.convert("P")
            coloured.putdata(np.asarray(drawn if isinstance(drawn, np.ndarray) else stripes(drawn)).ravel().tolist())
            coloured.putpalette(list(palette))
            coloured.save(path)
    return root


def rows(counts: dict[int, int]) -> np.ndarray:
    """Return a (16, 20) mask with a number of rows of each value."""
    return np.repeat(np.array([value for value, count in counts.items() for _ in range(count)])[:, None], WIDTH, axis=1)


# --- class numbers ------------------------------------------------------------------------------------------------


def test_numbers_from_0_without_a_gap_are_class_numbers_and_their_names_are_a_note(tmp_path: Path) -> None:
    dataset, images = load(pairs(tmp_path, STEMS))
    assert dataset.classes == ("class 0", "class 1", "class 2")
    assert dataset.notes == (UNNAMED,)
    assert (images.mask(0) == stripes((0, 1, 2))).all()


def test_two_class_numbers_are_named_in_the_note(tmp_path: Path) -> None:
    notes = load(pairs(tmp_path, STEMS, (0, 1)))[0].notes
    assert notes == ("No file names the classes: they are called 'class 0' and 'class 1'. classes.txt names them.",)


def test_a_class_of_a_single_mask_counts(tmp_path: Path) -> None:
    dataset, _ = load(masked(tmp_path, *[(0, 1)] * 70, (2, 3)))
    assert dataset.classes == ("class 0", "class 1", "class 2", "class 3")


def test_what_share_of_the_pixels_is_void_is_a_note(tmp_path: Path) -> None:
    dataset, images = load(masked(tmp_path, (0, 255, 1), (0, 255, 2), (0, 1, 2), (0, 1, 2)))
    assert dataset.notes == (UNNAMED, "Value 255 is taken as void: 6.2% of the pixels, in 2 of 4 masks.")
    assert (images.mask(0) == stripes((0, VOID, 1))).all()


def test_the_share_of_void_is_a_note_where_a_file_names_the_classes_too(tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("sky\nroad\nvoid\n")
    dataset, _ = load(masked(tmp_path, (0, 2, 1), (0, 255, 1), (0, 1), (0, 1)))
    assert dataset.notes == ("Values 2 and 255 are taken as void: 6.2% of the pixels, in 2 of 4 masks.",)


def test_a_palettes_void_is_a_note(tmp_path: Path) -> None:
    (tmp_path / "palette.txt").write_text("0 0 0 ground\n1 1 1 tree\n9 9 9 void\n")
    dataset, _ = load(masked(tmp_path, (0, 9, 1), (0, 1), (0, 1), (0, 1)))
    assert dataset.notes == ("What the palette calls void is taken as void: 3.1% of the pixels, in 1 of 4 masks.",)


def test_void_beside_two_class_numbers_in_the_same_masks_is_void(tmp_path: Path) -> None:
    dataset, images = load(masked(tmp_path, (0, 255, 1), (0, 255, 1), (0, 255), (0, 1)))
    assert dataset.classes == ("class 0", "class 1")
    assert (images.mask(2) == stripes((0, VOID))).all()


def test_masks_of_0_and_255_are_named_in_a_note(tmp_path: Path) -> None:
    dataset, images = load(masked(tmp_path, (0, 255), (0, 255), (0,), (255,)))
    assert (dataset.classes, dataset.notes) == (("background", "foreground"), (BINARY,))
    assert (images.mask(3) == 1).all()


@pytest.mark.parametrize("others", [(0, 255), (0, 1)])
def test_a_1_bit_mask_means_what_the_others_do(tmp_path: Path, others: tuple[int, int]) -> None:
    masked(tmp_path, others, others, others, others)
    Image.fromarray(stripes((0, 1)).astype(bool)).save(tmp_path / "masks" / "0.png")
    dataset, images = load(tmp_path)
    assert len(dataset.classes) == 2
    assert (images.mask(0) == images.mask(1)).all()
    assert dataset.targets[0].tolist() == dataset.targets[1].tolist()


# --- values that are none -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "listed", "why"),
    [
        ((0, 85, 170, 255), "0, 85, 170, 255", "class numbers run from 0 without a gap"),
        ((0, 128, 255), "0, 128, 255", "class numbers run from 0 without a gap"),
        ((0, 128), "0, 128", "class numbers run from 0 without a gap"),
        ((0, 7, 11, 26), "0, 7, 11, 26", "class numbers run from 0 without a gap"),
        ((0, 1, 3), "0, 1, 3", "class numbers run from 0 without a gap"),
        ((0, 1, 254, 255), "0, 1, 254, 255", "class numbers run from 0 without a gap"),
        ((1, 2, 3), "1, 2, 3", "class numbers begin at 0"),
        ((7,), "7", "class numbers begin at 0"),
        ((1, 2, 255), "1, 2, 255", "class numbers begin at 0"),
    ],
)
def test_values_with_gaps_stop_with_their_counts(
    tmp_path: Path, values: tuple[int, ...], listed: str, why: str
) -> None:
    message = refusal(pairs(tmp_path, STEMS, values))
    assert f"masks hold the values {listed}, which do not look like class numbers: {why}." in message
    assert f"{values[0]} (" in message
    assert "4 of 4 masks" in message
    for move in ("palette.txt", "classes.txt", "--mask-values classes"):
        assert move in message


def test_the_counts_are_of_all_masks(tmp_path: Path) -> None:
    message = refusal(masked(tmp_path, (0, 9, 1), (0, 1), (0, 1), (0, 1)))
    assert "Counted: 0 (12.5% of the pixels, 4 of 4 masks), 1 (84.4% of the pixels, 4 of 4 masks), 9 (3.1%" in message
    assert "9 (3.1% of the pixels, 1 of 4 masks, 'masks/0.png')" in message


def test_values_are_counted_in_test_masks_too(tmp_path: Path) -> None:
    pairs(tmp_path, [*STEMS, "e"], (0, 1))
    mask(tmp_path / "masks" / "e.png", (0, 200))
    (tmp_path / "train.txt").write_text("a\nb\n")
    (tmp_path / "val.txt").write_text("c\nd\n")
    (tmp_path / "test.txt").write_text("e\n")
    assert "masks hold the values 0, 1, 200" in refusal(tmp_path)


def test_smoothed_edges_stop(tmp_path: Path) -> None:
    drawn = Image.fromarray(stripes((0, 255)).astype(np.uint8))
    for i in range(4):
        photo(tmp_path / "images" / f"{i}.jpg", i, (60, 48))
        (tmp_path / "masks").mkdir(exist_ok=True)
        smoothed = drawn.rotate(10 + i, Image.Resampling.BILINEAR).resize((60, 48), Image.Resampling.BILINEAR)
        smoothed.save(tmp_path / "masks" / f"{i}.png")
    message = refusal(tmp_path)
    assert "so many look like smoothed edges, which a mask must not have" in message
    assert "Resize and save masks without smoothing." in message
    assert "more. " in message
    assert "more than 32 values are no classes, but smoothed edges" in refusal(tmp_path, mask_values="classes")


def test_a_few_smoothed_pixels_are_called_so(tmp_path: Path) -> None:
    drawn = np.zeros((HEIGHT, WIDTH), int)
    drawn[8:] = 255
    drawn[7, :4] = (40, 90, 160, 220)
    assert "look like smoothed edges" in refusal(masked(tmp_path, *[drawn] * 4))


def test_more_numbers_than_anybody_leaves_unnamed_stop(tmp_path: Path) -> None:
    drawn = np.resize(np.arange(65), (HEIGHT, WIDTH))
    message = refusal(masked(tmp_path, *[drawn] * 4))
    assert "more than 64 classes need a file that names them" in message
    (tmp_path / "classes.txt").write_text("\n".join(f"c{i}" for i in range(65)))
    assert len(load(tmp_path)[0].classes) == 65


def test_some_masks_of_0_and_1_and_others_of_0_and_255_stop(tmp_path: Path) -> None:
    message = refusal(masked(tmp_path, (0, 1), (0, 255), (0, 1), (0, 255)))
    assert "no mask with 255 holds 1, so some may have 0 and 255 where others have 0 to 1." in message
    assert "If 255 is void, name the classes in classes.txt, one a line." in message
    (tmp_path / "palette.txt").write_text("0 0 0 road\n1 1 1 crack\n255 255 255 crack\n")
    dataset, images = load(tmp_path)
    assert dataset.classes == ("road", "crack")
    assert (images.mask(0) == images.mask(1)).all()


def test_a_single_mask_with_both_does_not_hide_the_mixture(tmp_path: Path) -> None:
    assert "only 1 of 3 masks with 255 hold 1" in refusal(masked(tmp_path, (0, 1), (0, 255), (0, 255), (0, 255, 1)))


def test_masks_of_0_and_255_beside_masks_of_many_numbers_stop(tmp_path: Path) -> None:
    message = refusal(masked(tmp_path, (0, 1, 2), (0, 255), (0, 1, 2), (0, 255)))
    assert "no mask with 255 holds any of 1 to 2, so some may have 0 and 255 where others have 0 to 2." in message


def test_classes_txt_settles_what_255_is_and_a_note_asks_to_look(tmp_path: Path) -> None:
    masked(tmp_path, (0, 1), (0, 255), (0, 1), (0, 255))
    (tmp_path / "classes.txt").write_text("road\ncrack\n")
    assert load(tmp_path)[0].notes == (
        "Value 255 is taken as void: 43.8% of the pixels, in 2 of 4 masks.",
        "No mask holds both 1 and 255. If 255 is the second class in some of them, palette.txt says so "
        "('255 255 255 name').",
    )


def test_255_on_most_pixels_is_no_void(tmp_path: Path) -> None:
    message = refusal(masked(tmp_path, *[rows({0: 3, 1: 2, 2: 2, 255: 9})] * 4))
    assert "255 would be void, and is more than half of all pixels." in message
    assert "255 (56.2% of the pixels, 4 of 4 masks)" in message
    (tmp_path / "classes.txt").write_text("x\ny\nz\n")
    assert load(tmp_path)[0].notes[0] == "Value 255 is taken as void: 56.2% of the pixels, in 4 of 4 masks."


def test_1_bit_masks_beside_many_numbers_stop(tmp_path: Path) -> None:
    masked(tmp_path, *[(0, 1, 2)] * 4)
    Image.fromarray(stripes((0, 1)).astype(bool)).save(tmp_path / "masks" / "0.png")
    message = refusal(tmp_path)
    assert message == (
        f"{tmp_path}: 1 of 4 masks are 1-bit, and the others hold the values 0, 1, 2. Save all masks with 8 bits."
    )


def test_palette_images_that_number_their_colours_anew_stop(tmp_path: Path) -> None:
    masked(tmp_path, *[(0, 1)] * 4, palette=(0, 0, 0, 255, 0, 0))
    assert load(tmp_path)[0].classes == ("class 0", "class 1")
    with Image.open(tmp_path / "masks" / "2.png") as image:
        image.load()
        image.putpalette([255, 0, 0, 0, 0, 0])
        image.save(tmp_path / "masks" / "2.png")
    for options in ({}, {"mask_values": "classes"}):
        message = refusal(tmp_path, **options)
        assert "0 has several colours in palette images, so files may number" in message.replace("1 has", "0 has")
    (tmp_path / "palette.txt").write_text("0 0 0 ground\n255 0 0 tree\n")
    _, images = load(tmp_path)
    assert (images.mask(2) == 1 - images.mask(1)).all()


@pytest.mark.parametrize(("value", "kind"), [(300, np.uint16), (70000, np.int32), (-1, np.int32)])
def test_values_that_no_class_number_can_have_stop(tmp_path: Path, value: int, kind: type) -> None:
    pairs(tmp_path, STEMS)
    for stem in STEMS:
        (tmp_path / "masks" / f"{stem}.png").unlink()
        Image.fromarray(stripes((0, value)).astype(kind)).save(tmp_path / "masks" / f"{stem}.tif")
    message = refusal(tmp_path)
    assert f"mask 'masks/a.tif' has the value {value}, and class numbers go from 0 to 254" in message
    assert ("a mask needs the class of each pixel, not instance ids" in message) == (value > 255)


def test_instance_ids_up_to_255_get_a_note(tmp_path: Path) -> None:
    notes = load(masked(tmp_path, *[np.resize(np.arange(n), (HEIGHT, WIDTH)) for n in (4, 9, 12, 7)]))[0].notes
    assert "In every mask the values run from 0 without a gap, as instance ids do." in notes[1]


# --- each value a class -------------------------------------------------------------------------------------------


def test_each_value_is_a_class_where_the_user_says_so(tmp_path: Path) -> None:
    pairs(tmp_path, STEMS, (0, 85, 170, 255))
    dataset, images = load(tmp_path, mask_values="classes")
    assert dataset.classes == ("value 0", "value 85", "value 170", "value 255")
    assert dataset.notes == ("Each of the 4 values in the masks is a class: 0, 85, 170, 255.",)
    assert (images.mask(0) == stripes((0, 1, 2, 3))).all()


def test_classes_txt_names_the_values_in_their_order(tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("wall\nvoid\nblood\nmuscle\n")
    pairs(tmp_path, STEMS, (0, 85, 170, 255))
    message = refusal(tmp_path)
    assert "mask 'masks/a.png' has the value 170, and there are 3 classes (values 0 to 3, 255 for void)" in message
    dataset, images = load(tmp_path, mask_values="classes")
    assert dataset.classes == ("wall", "blood", "muscle")
    assert (images.mask(0) == stripes((0, VOID, 1, 2))).all()


def test_names_that_are_not_as_many_as_the_values_are_refused(tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("wall\nblood\nmuscle\n")
    pairs(tmp_path, STEMS, (0, 85, 170, 255))
    message = refusal(tmp_path, mask_values="classes")
    assert "classes.txt has 3 lines, and the masks hold 4 values: 0 (12.5% of the pixels" in message
    (tmp_path / "classes.txt").write_text("wall\nblood\nmuscle\nfat\n")
    assert "with --mask-values classes the names stand for the values" in refusal(tmp_path)


def test_a_palette_beside_the_option_is_refused(tmp_path: Path) -> None:
    (tmp_path / "palette.txt").write_text("0 0 0 a\n85 85 85 b\n")
    message = refusal(pairs(tmp_path, STEMS, (0, 85)), mask_values="classes")
    assert "palette.txt says what the masks mean. Remove it, or do without --mask-values classes." in message


def test_how_values_are_read_is_in_the_fingerprint_and_comes_back_with_the_options(tmp_path: Path) -> None:
    pairs(tmp_path, STEMS, (0, 255))
    plain = load(tmp_path)[0]
    each = load(tmp_path, mask_values="classes")[0]
    assert plain.fingerprint != each.fingerprint
    options = {"on_bad_image": "error", "mask_values": "classes", "seed": 3}  # as search.json keeps them
    again = scan_data(str(tmp_path), read_as=ReadAs.of(options), cache_dir=None)
    assert again.fingerprint() == each.fingerprint
