"""What the pixels of mask files mean: every kind of file, classes.txt and palettes. Layouts: test_mask_folders.py."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from drawn_masks import HEIGHT, STRIPES, WIDTH, load, mask, pairs, photo, refusal, stripes
from PIL import Image

from trainables.data.dataset import VOID

STEMS = ("a", "b", "c", "d")
PALETTE = "0 0 0 ground\n128 0 0 tree trunk\n0, 128, 0, leaf\n255\t255\t255\tVoid\n"
COLORS = np.zeros((256, 3), np.uint8)
COLORS[1], COLORS[2], COLORS[255] = (128, 0, 0), (0, 128, 0), (255, 255, 255)


def save(path: Path, values: np.ndarray, kind: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == "1":
        Image.fromarray((values > 0).astype(np.uint8) * 255).convert("1").save(path)
    elif kind == "I;16":
        Image.fromarray(values.astype(np.uint16)).save(path)
    elif kind == "P":
        image = Image.fromarray(values.astype(np.uint8)).convert("P")
        image.putdata(values.ravel().tolist())
        image.putpalette(COLORS.ravel().tolist())
        image.save(path)
    elif kind == "grey as RGB":
        Image.fromarray(np.repeat(values.astype(np.uint8)[:, :, None], 3, axis=2)).save(path)
    elif kind in ("RGB", "RGBA"):
        Image.fromarray(COLORS[values]).convert(kind).save(path)
    elif kind == "LA":
        Image.fromarray(values.astype(np.uint8)).convert("LA").save(path)
    else:
        Image.fromarray(values.astype(np.uint8)).save(path)


def data_of(root: Path, values: np.ndarray, kind: str, suffix: str = ".png") -> Path:
    for i, stem in enumerate(STEMS):
        photo(root / "images" / f"{stem}.jpg", i)
        save(root / "masks" / f"{stem}{suffix}", values, kind)
    return root


@pytest.mark.parametrize(
    ("kind", "suffix"),
    [("L", ".png"), ("L", ".bmp"), ("L", ".tif"), ("L", ".gif"), ("L", ".PNG"), ("L", ".pgm"), ("I;16", ".png"), ("I;16", ".tif"), ("P", ".png"), ("LA", ".png"), ("grey as RGB", ".png")],
)  # fmt: skip
def test_index_masks_of_every_kind_read_alike(tmp_path: Path, kind: str, suffix: str) -> None:
    values = stripes((0, 2, 255, 1))
    dataset, images = load(data_of(tmp_path, values, kind, suffix))
    assert (dataset.task, dataset.classes) == ("segmentation", ("class 0", "class 1", "class 2"))
    assert images.mask(1).dtype == np.uint8
    assert (images.mask(1) == values).all()
    assert dataset.targets.tolist() == [[2 * WIDTH, (HEIGHT - 6) * WIDTH, 2 * WIDTH]] * 4
    assert dataset.targets.dtype == np.int64


@pytest.mark.parametrize("kind", ["RGB", "RGBA", "P"])
@pytest.mark.parametrize("file", ["palette.txt", "label_colors.txt"])
def test_colours_are_classes_where_a_palette_names_them(tmp_path: Path, kind: str, file: str) -> None:
    values = stripes((0, 2, 255, 1))
    (tmp_path / file).write_text(PALETTE)
    dataset, images = load(data_of(tmp_path, values, kind))
    assert dataset.classes == ("ground", "tree trunk", "leaf")
    assert (images.mask(0) == values).all()


def test_grey_masks_beside_a_palette_of_colours_hold_its_line_numbers(tmp_path: Path) -> None:
    (tmp_path / "palette.txt").write_text("255 255 255 void\n0 0 0 ground\n128 0 0 tree\n")
    dataset, images = load(data_of(tmp_path, stripes((0, 1, 2)), "L"))
    assert dataset.classes == ("ground", "tree")
    assert (images.mask(0) == stripes((VOID, 0, 1))).all()


@pytest.mark.parametrize("kind", ["L", "1"])
def test_a_palette_of_greys_names_the_greys_of_a_grey_mask(tmp_path: Path, kind: str) -> None:
    (tmp_path / "palette.txt").write_text("255 255 255 cell\n0 0 0 glass\n")
    dataset, images = load(data_of(tmp_path, stripes((0, 255)), kind))
    assert dataset.classes == ("cell", "glass")
    assert (images.mask(0) == stripes((1, 0))).all()


def test_several_colours_may_share_a_class(tmp_path: Path) -> None:
    (tmp_path / "palette.txt").write_text("0 0 0 ground\n128 0 0 plant\n0 128 0 plant\n255 255 255 void\n")
    dataset, images = load(data_of(tmp_path, stripes((0, 2, 255, 1)), "RGB"))
    assert dataset.classes == ("ground", "plant")
    assert (images.mask(0) == stripes((0, 1, 255, 1))).all()


@pytest.mark.parametrize("lines", ["soil\nwood\ngreen\nignore\n", "soil\nwood\ngreen\n"])
def test_classes_txt_renames_the_lines_of_a_palette(tmp_path: Path, lines: str) -> None:
    (tmp_path / "palette.txt").write_text(PALETTE)
    (tmp_path / "classes.txt").write_text(lines)
    dataset, images = load(data_of(tmp_path, stripes((0, 2, 255, 1)), "RGB"))
    assert dataset.classes == ("soil", "wood", "green")
    assert (images.mask(0) == stripes((0, 2, 255, 1))).all()


@pytest.mark.parametrize("kind", ["L", "1", "P", "grey as RGB"])
def test_masks_of_0_and_255_are_two_classes(tmp_path: Path, kind: str) -> None:
    data_of(tmp_path, stripes((0, 255)), kind)
    mask(tmp_path / "masks" / "a.png", (0,))  # decided for the whole, not for each mask
    dataset, images = load(tmp_path)
    assert dataset.classes == ("background", "foreground")
    assert (images.mask(1) == stripes((0, 1))).all()
    assert (images.mask(0) == 0).all()


def test_the_two_classes_of_0_and_255_may_have_names(tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("\ufeffroad\ncrack\n\n", encoding="utf-8")
    dataset, images = load(data_of(tmp_path, stripes((0, 255)), "L"))
    assert dataset.classes == ("road", "crack")
    assert (images.mask(1) == stripes((0, 1))).all()


def test_255_is_void_as_soon_as_one_mask_has_another_value(tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("road\ncrack\n")
    data_of(tmp_path, stripes((0, 255)), "L")
    mask(tmp_path / "masks" / "d.png", (0, 1))
    dataset, images = load(tmp_path)
    assert (images.mask(0) == stripes((0, VOID))).all()
    assert dataset.targets.tolist() == [[2 * WIDTH, 0]] * 3 + [[2 * WIDTH, (HEIGHT - 2) * WIDTH]]


@pytest.mark.parametrize("void", ["void", "Ignore", "UNLABELED", "unlabelled"])
def test_a_class_called_void_is_none_and_those_after_it_move_up(tmp_path: Path, void: str) -> None:
    (tmp_path / "classes.txt").write_text(f"{void}\nsky\nsea\n")
    dataset, images = load(pairs(tmp_path, STEMS))
    assert dataset.classes == ("sky", "sea")
    assert (images.mask(0) == stripes((VOID, 0, 1))).all()


def test_with_256_lines_255_is_a_class(tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("\n".join(["void", *(f"c{i}" for i in range(1, 256))]))
    dataset, images = load(pairs(tmp_path, STEMS, (0, 255, 1)))
    assert len(dataset.classes) == 255
    assert (images.mask(0) == stripes((VOID, 254, 0))).all()


def test_a_mask_of_nothing_but_void_is_fine(tmp_path: Path) -> None:
    pairs(tmp_path, STEMS)
    mask(tmp_path / "masks" / "b.png", (VOID,))
    dataset, images = load(tmp_path)
    assert dataset.targets[1].tolist() == [0, 0, 0]
    assert (images.mask(1) == VOID).all()


def test_a_mask_at_another_scale_keeps_its_own_size(tmp_path: Path) -> None:
    pairs(tmp_path, STEMS)
    photo(tmp_path / "images" / "a.jpg", 9, (100, 75))
    mask(tmp_path / "masks" / "a.png", STRIPES, (33, 25))
    mask(tmp_path / "masks" / "b.png", STRIPES, (40, 32))
    _, images = load(tmp_path)
    assert [images.mask(i).shape for i in range(3)] == [(25, 33), (32, 40), (16, 20)]
    assert images[0].shape == (8, 11, 3)


def test_the_size_is_compared_with_the_image_as_a_viewer_turns_it(tmp_path: Path) -> None:
    pairs(tmp_path, STEMS)
    turned = Image.new("RGB", (HEIGHT, WIDTH), (9, 9, 9))
    exif = turned.getexif()
    exif[0x0112] = 6  # a viewer turns it by 90 degrees: WIDTH x HEIGHT
    turned.save(tmp_path / "images" / "a.jpg", exif=exif)
    _, images = load(tmp_path)
    assert images.mask(0).shape == (HEIGHT, WIDTH)


# --- what is refused ----------------------------------------------------------------------------------------------

MOVE = "Correct it, or classes.txt or palette.txt, or pass --on-bad-image skip to leave out such images."


def test_a_mask_of_another_shape_is_refused_with_both_sizes(tmp_path: Path) -> None:
    pairs(tmp_path, STEMS)
    mask(tmp_path / "masks" / "c.png", STRIPES, (HEIGHT, WIDTH))
    assert refusal(tmp_path) == (
        f"{tmp_path}: mask 'masks/c.png' is 16 x 20 px, and its image 'images/c.jpg' 20 x 16 px; "
        f"they must have the same size, or the same shape at another scale. {MOVE}"
    )


@pytest.mark.parametrize(
    ("lines", "values", "words"),
    [
        ("x\ny\nz\n", (0, 17), "mask 'masks/a.png' has the value 17, and there are 3 classes (values 0 to 2, 255 for void)"),
        ("x\ny\nvoid\n", (0, 3), "has the value 3, and there are 2 classes (values 0 to 2, 255 for void)"),
        ("x\ny\n", (0, 2, 1), "has the value 2, and there are 2 classes (values 0 to 1, 255 for void)"),
    ],
)  # fmt: skip
def test_an_index_beyond_the_classes_is_refused(
    tmp_path: Path, lines: str, values: tuple[int, ...], words: str
) -> None:
    (tmp_path / "classes.txt").write_text(lines)
    message = refusal(pairs(tmp_path, STEMS, values))
    assert words in message
    assert message.endswith(f" (3 more like it). {MOVE}")


def test_a_16_bit_index_beyond_the_classes_is_refused(tmp_path: Path) -> None:
    assert "mask 'masks/a.png' has the value 300" in refusal(data_of(tmp_path, stripes((0, 300)), "I;16"))
    (tmp_path / "classes.txt").write_text("x\ny\nz\n")
    assert "has the value 300, and there are 3 classes" in refusal(tmp_path)


def test_a_colour_that_is_not_in_the_palette_is_refused(tmp_path: Path) -> None:
    (tmp_path / "palette.txt").write_text("0 0 0 ground\n128 0 0 tree\n")
    message = refusal(data_of(tmp_path, stripes((0, 1, 2)), "RGB"))
    assert "mask 'masks/a.png' has the colour (0, 128, 0), which is not in palette.txt (3 more like it)." in message


@pytest.mark.parametrize("lines", ["", "x\ny\nz\n"])
def test_coloured_masks_without_a_palette_are_refused_with_what_to_add(tmp_path: Path, lines: str) -> None:
    if lines:
        (tmp_path / "classes.txt").write_text(lines)
    message = refusal(data_of(tmp_path, stripes((0, 1, 2)), "RGB"))
    assert "mask 'masks/a.png' has the colour (128, 0, 0), and there is no palette.txt" in message
    assert "a line 'R G B name' for each class" in message


def test_a_broken_mask_is_refused_by_name(tmp_path: Path) -> None:
    pairs(tmp_path, STEMS)
    (tmp_path / "masks" / "c.png").write_bytes(b"x")
    assert f"{tmp_path}: mask 'masks/c.png' cannot be read: not an image. {MOVE}" == refusal(tmp_path)


def test_a_mask_of_fractions_is_refused(tmp_path: Path) -> None:
    pairs(tmp_path, STEMS)
    (tmp_path / "masks" / "c.png").unlink()
    Image.fromarray(stripes(STRIPES).astype(np.float32)).save(tmp_path / "masks" / "c.tif")
    assert "mask 'masks/c.tif' cannot be read: its pixels are fractions" in refusal(tmp_path)


def test_bad_masks_are_skipped_with_a_note_where_the_user_says_so(tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("x\ny\nz\n")
    pairs(tmp_path, [*STEMS, "e", "f"])
    (tmp_path / "masks" / "a.png").write_bytes(b"x")
    mask(tmp_path / "masks" / "b.png", (0, 9))
    mask(tmp_path / "masks" / "c.png", STRIPES, (HEIGHT, WIDTH))
    dataset, images = load(tmp_path, on_bad_image="skip")
    assert dataset.notes == (
        "3 images skipped as unreadable, or with a mask that cannot be used: "
        "'images/a.jpg', 'images/b.jpg', 'images/c.jpg'.",
    )
    assert dataset.split.tolist()[:3] == ["skipped"] * 3
    assert dataset.targets[:3].sum() == 0
    assert "has the value 9" in images.bad[1]


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("classes.txt", "sky\n\nsea\n", "classes.txt, line 2: no name. Line i names index i - 1: name it, or 'void'."),
        ("classes.txt", "sky\nsea\nsky\n", "classes.txt, line 3: class 'sky' stands there twice. Rename one."),
        ("classes.txt", "sky\nvoid\n", "at least two classes, got 1 ('sky'). Name all that the masks can hold"),
        ("classes.txt", "\n".join(f"c{i}" for i in range(300)), "classes.txt names 300 classes; masks can hold 255"),
        ("palette.txt", "0 0 0 a\n1 2 b\n", "palette.txt, line 2: '1 2 b' is not 'R G B name' with numbers from 0 to 255."),
        ("palette.txt", "0 0 0 a\n1 2 256 b\n", "palette.txt, line 2: '1 2 256 b' is not 'R G B name'"),
        ("palette.txt", "0 0 0 a\n0 0 0 b\n", "palette.txt, line 2: colour (0, 0, 0) stands there twice. Remove one."),
    ],
)  # fmt: skip
def test_a_wrong_list_of_classes_is_refused_with_its_line(tmp_path: Path, file: str, content: str, words: str) -> None:
    (tmp_path / file).write_text(content)
    assert words in refusal(pairs(tmp_path, STEMS))


def test_a_list_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_bytes(b"stra\xdfe\nweg\n")
    assert "classes.txt' is not UTF-8 text" in refusal(pairs(tmp_path, STEMS))


def test_a_palette_and_classes_of_different_number_are_refused(tmp_path: Path) -> None:
    (tmp_path / "palette.txt").write_text(PALETTE)
    (tmp_path / "classes.txt").write_text("a\nb\n")
    assert "palette.txt has 4 names, and classes.txt 2. Make them agree" in refusal(pairs(tmp_path, STEMS))


def test_masks_of_one_value_are_refused(tmp_path: Path) -> None:
    assert "at least two classes, got 1 ('class 0')" in refusal(pairs(tmp_path, STEMS, (0,)))
