"""Notes on masks before anything is trained: sides that are all void, images turned without their masks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from drawn_masks import HEIGHT, WIDTH, load, mask, pairs, refusal
from PIL import Image

from trainables.data.dataset import VOID

STEMS = ("a", "b", "c", "d", "e", "f")


def split_of(root: Path, **stems: str) -> Path:
    for side, names in stems.items():
        (root / f"{side}.txt").write_text("".join(f"{name}\n" for name in names))
    (root / "classes.txt").write_text("sky\nroad\ncar\n")
    return root


@pytest.mark.parametrize(("side", "purpose", "count"), [("train", "learn", "4 masks"), ("val", "judge by", "2 masks")])
def test_a_side_whose_masks_are_all_void_is_refused(tmp_path: Path, side: str, purpose: str, count: str) -> None:
    sides = {"train": "abcd", "val": "ef"}
    root = split_of(pairs(tmp_path / "data", STEMS), **sides)
    for stem in sides[side]:
        mask(root / "masks" / f"{stem}.png", np.full((HEIGHT, WIDTH), VOID))
    said = refusal(root)
    assert f"there is nothing to {purpose}: every pixel of the {side} masks is void ({count})." in said


def test_test_masks_may_be_void(tmp_path: Path) -> None:
    root = split_of(pairs(tmp_path / "data", STEMS), train="abc", val="de", test="f")
    mask(root / "masks" / "f.png", np.full((HEIGHT, WIDTH), VOID))
    assert load(root)[0].split.tolist().count("test") == 1


def test_images_turned_by_exif_beside_masks_that_are_not_get_one_note(tmp_path: Path) -> None:
    root = split_of(pairs(tmp_path / "data", STEMS), train="abcd", val="ef")
    assert load(root)[0].notes == ()
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down: the size stays
    for stem, mask_too in (("a", False), ("c", True), ("e", False)):
        image = root / "images" / f"{stem}.jpg"
        with Image.open(image) as opened:
            opened.copy().save(image, exif=exif)
        if mask_too:
            with Image.open(root / "masks" / f"{stem}.png") as opened:
                opened.copy().save(root / "masks" / f"{stem}.png", exif=exif)
    assert load(root)[0].notes == (
        "2 images turned by the EXIF orientation, with masks that are not: 'images/a.jpg', 'images/e.jpg'. Check that "
        "those masks were drawn on the images as viewers show them.",
    )
