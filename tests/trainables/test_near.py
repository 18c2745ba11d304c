"""Near duplicates: what counts as one, on which side it stands, and that a run keeps those that it found."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from launch.search.duplicates import duplicates
from launch.search.prepare import RunOptions, options_of
from trainables.data.dataset import Dataset
from trainables.data.formats import load_dataset
from trainables.data.looks import LOOK_SIZE, alike, look_of, looks_of
from trainables.data.reading import FileReader
from visionsweep.core.errors import RunError
from visionsweep.core.files import read_npz


def load(spec: Path, **options: object) -> Dataset:
    return load_dataset(str(spec), short_side_px=32, **{"cache_dir": None, **options})[0]  # type: ignore[arg-type]


def scene(seed: int) -> Image.Image:
    """A photo of large soft shapes, as unlike any other one as photos are."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 255, (6, 7, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((96, 80), Image.Resampling.BICUBIC)


def scenes(root: Path, each: int = 20) -> Path:
    """Write `each` scenes of two classes."""
    for number in range(2 * each):
        folder = root / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        scene(number).save(folder / f"{number:02d}.png")
    return root


def saved_again(root: Path, *numbers: int) -> None:
    """Add a copy of some scenes, smaller and in JPEG's colours."""
    for number in numbers:
        small = scene(number).resize((60, 50), Image.Resampling.BILINEAR)
        small.save(root / "ab"[number % 2] / f"again{number:02d}.jpg", quality=70)


def side_of(dataset: Dataset) -> dict[str, str]:
    return dict(zip([Path(name).stem for name in dataset.names], dataset.split.tolist(), strict=True))


@pytest.mark.parametrize(
    "change",
    [
        lambda image: image.resize((48, 40), Image.Resampling.BICUBIC),
        lambda image: image.convert("L").convert("RGB"),
        lambda image: Image.eval(image, lambda value: value // 2 + 60),
    ],
    ids=["smaller", "grey", "fainter"],
)
def test_an_altered_copy_looks_like_its_photo_and_no_other_photo_does(change: object) -> None:
    photos = [scene(number) for number in range(40)]
    altered = [change(photo) for photo in photos]  # type: ignore[operator]
    found = alike(np.stack([look_of(np.asarray(image)) for image in (*photos, *altered)]))
    assert found.tolist() == [*range(40), *range(40)]


def test_pictures_without_contrast_look_like_nothing() -> None:
    flat = [np.full((20, 20, 3), value, np.uint8) for value in (0, 128, 128, 255)]
    assert len(set(alike(np.stack([look_of(image) for image in flat])).tolist())) == 4


def test_a_photo_is_looked_at_as_a_viewer_turns_it_and_an_unreadable_one_has_no_look(tmp_path: Path) -> None:
    photo = scene(1)
    turned = Image.Exif()
    turned[0x0112] = 6  # turned a quarter to the right by the viewer
    photo.save(tmp_path / "upright.jpg", quality=95)
    photo.rotate(90, expand=True).save(tmp_path / "turned.jpg", quality=95, exif=turned)
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff no more")
    looks = looks_of(FileReader(tmp_path, ("upright.jpg", "turned.jpg", "broken.jpg")))
    assert alike(looks).tolist() == [0, 0, 2]
    assert not looks[2].any()


@pytest.mark.parametrize("seed", range(4))
def test_near_duplicates_stand_on_one_side_of_a_drawn_split_and_are_counted(tmp_path: Path, seed: int) -> None:
    saved_again(scenes(tmp_path), *range(0, 30, 3))
    dataset = load(tmp_path, seed=seed)
    sides = side_of(dataset)
    assert all(sides[f"{number:02d}"] == sides[f"again{number:02d}"] for number in range(0, 30, 3))
    assert abs(np.mean(dataset.split == "val") - 0.2) < 0.03
    assert (
        "20 images in 10 sets of near duplicates, such as 'a/00.png', 'a/again00.jpg'. "
        "`visionsweep check SEARCH --data DIR --duplicates` lists them."
    ) in dataset.notes
    assert dataset.groups is not None
    assert len(np.unique(dataset.groups)) == 40


def test_of_a_given_split_the_near_duplicates_across_it_are_counted(tmp_path: Path) -> None:
    scenes(tmp_path / "train")
    for number in range(40, 60):
        folder = tmp_path / "val" / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        scene(number).save(folder / f"{number}.png")
    saved_again(tmp_path / "val", 4, 7)
    dataset = load(tmp_path)
    assert (
        "2 images of val have a near duplicate in train, such as 'val/a/again04.jpg', 'val/b/again07.jpg': scores on val "
        "will look better than on new images. `visionsweep check SEARCH --data DIR --duplicates` lists them."
    ) in dataset.notes
    assert len(dataset.indices("val")) == 22


def test_a_class_that_near_duplicates_would_hold_whole_is_drawn_from_all_the_same(tmp_path: Path) -> None:
    scenes(tmp_path)
    (tmp_path / "c").mkdir()
    for number in range(4):
        scene(99).resize((90 - number, 70)).save(tmp_path / "c" / f"c{number}.png")
    sides = side_of(load(tmp_path))
    assert {sides[f"c{number}"] for number in range(4)} == {"train", "val"}


def test_what_the_images_look_like_is_kept_in_the_cache_and_made_anew_where_it_is_damaged(tmp_path: Path) -> None:
    saved_again(scenes(tmp_path / "photos"), 0, 3)
    first = load(tmp_path / "photos", cache_dir=tmp_path / "cache")
    (kept,) = (tmp_path / "cache").glob("*-looks.npz")
    written = kept.stat().st_mtime_ns
    load(tmp_path / "photos", cache_dir=tmp_path / "cache")
    assert kept.stat().st_mtime_ns == written
    kept.write_bytes(b"damaged")
    again = load(tmp_path / "photos", cache_dir=tmp_path / "cache")
    assert again.alike == first.alike == (("a/00.png", "a/again00.jpg"), ("b/03.png", "b/again03.jpg"))
    assert read_npz(kept)["looks"].shape == (42, LOOK_SIZE)


def test_a_run_keeps_what_it_found_and_an_older_one_nothing(tmp_path: Path) -> None:
    saved_again(scenes(tmp_path), 0, 3)
    found = load(tmp_path)
    options = json.loads(json.dumps(asdict(RunOptions(data=str(tmp_path), alike=found.alike))))
    again = options_of({"options": options})
    assert load(tmp_path, **again.read_as.options()).split.tolist() == found.split.tolist()
    without = load(tmp_path, alike=())
    assert without.split.tolist() != found.split.tolist()
    del options["alike"]
    older = options_of({"options": options})
    assert load(tmp_path, **older.read_as.options()).split.tolist() == without.split.tolist()
    with pytest.raises(RunError):
        options_of({"options": {**options, "unheard": 1}})


def test_near_duplicates_are_listed_with_their_labels_and_exact_copies_are_called_so(tmp_path: Path) -> None:
    saved_again(scenes(tmp_path), 0)
    scene(2).save(tmp_path / "b" / "other.png")  # scene 2 is of class a
    scene(4).save(tmp_path / "a" / "twice.png")
    dataset = load(tmp_path)
    side = side_of(dataset)
    first, *listed = duplicates(dataset, None)
    assert first == "near duplicates: 6 images in 3 sets"
    assert [line.strip() for line in listed] == [
        f"a/00.png ({side['00']})  a/again00.jpg ({side['again00']})",
        f"exact: a/02.png (a, {side['02']})  b/other.png (b, {side['other']})  DIFFERENT LABELS",
        f"exact: a/04.png ({side['04']})  a/twice.png ({side['twice']})",
    ]


def test_where_there_are_none_or_nothing_is_a_file_the_list_says_so(tmp_path: Path) -> None:
    assert duplicates(load(scenes(tmp_path, each=4)), None) == ["near duplicates: none among 8 images"]
    digits = load_dataset("digits", short_side_px=8, cache_dir=None)[0]
    assert duplicates(digits, None) == ["near duplicates: not looked for, as 'digits' is not made of files"]
