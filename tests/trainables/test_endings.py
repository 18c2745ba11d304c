"""Which files are read as images, by ending and by contents, and the notes about the others."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from made_folders import load, photo, photos, refusal
from PIL import Image

from trainables.data.endings import (
    FORMATS,
    IMAGE_SUFFIXES,
    NOT_READ,
    OTHER_ENDINGS,
    READS_HEIC,
    SAFE_FORMATS,
    left_out_notes,
)
from trainables.data.masks import raw_mask
from trainables.data.reading import is_turned, read_image
from visionsweep.core.errors import DataError

ROOT = Path(__file__).parents[2]
# Endings under which Pillow does not write, though it reads them, and the format to write.
WRITTEN_AS = {".mpo": "JPEG", ".dib": "DIB", ".apng": "PNG"}


@pytest.mark.parametrize("suffix", IMAGE_SUFFIXES)
def test_a_file_of_every_ending_that_is_read_is_read(tmp_path: Path, suffix: str) -> None:
    if suffix in (".heic", ".heif", ".hif"):
        pytest.importorskip("pillow_heif").register_heif_opener()
    kind = "heif" if suffix == ".hif" else WRITTEN_AS.get(suffix)
    Image.new("RGB", (33, 21), (200, 100, 50)).save(tmp_path / f"x{suffix}", format=kind)
    image = read_image(tmp_path / f"x{suffix}")
    expected = (137, 137, 137) if suffix == ".pgm" else (255, 255, 255) if suffix == ".pbm" else (200, 100, 50)
    assert image.shape == (21, 33, 3)
    if suffix not in (".pgm", ".pbm", ".gif"):  # written as colours all the same, or with few of them
        assert np.abs(image.reshape(-1, 3).mean(0) - expected).max() < 8
    assert not is_turned(tmp_path / f"x{suffix}")


def test_what_is_not_read_shares_no_ending_with_what_is() -> None:
    assert not NOT_READ & set(IMAGE_SUFFIXES)
    assert {suffix for endings in (*FORMATS.values(), *OTHER_ENDINGS.values()) for suffix in endings} <= NOT_READ | set(
        IMAGE_SUFFIXES
    )


def test_no_format_runs_another_program_or_is_a_stub() -> None:
    Image.init()
    assert not {"EPS", "PDF", "WMF", "GRIB", "BUFR", "HDF5", "MPEG", "FITS", "PSD"} & set(SAFE_FORMATS)
    assert set(SAFE_FORMATS) <= set(Image.OPEN)


def test_photos_of_all_endings_are_found_in_folders_in_any_case(tmp_path: Path) -> None:
    photos(tmp_path, "cat dog")
    for number, ending in enumerate(("avif", "AVIF", "jp2", "tga")):
        photo(tmp_path / "dog" / f"w{number}.{ending}")
    for ending in ("jfif", "JPE"):
        photo(tmp_path / "x.jpg", seed=ord(ending[0])).rename(tmp_path / "cat" / f"v.{ending}")
    dataset = load(tmp_path)
    assert len(dataset.names) == 14
    assert dataset.notes == ()


@pytest.mark.parametrize(("kind", "ending"), [("PNG", "jpg"), ("WEBP", "jpg"), ("JPEG", "png"), ("GIF", "jpeg")])
def test_an_image_under_the_ending_of_another_format_is_read(tmp_path: Path, kind: str, ending: str) -> None:
    Image.new("RGB", (9, 8), (255, 0, 0)).save(tmp_path / f"x.{ending}", format=kind)
    assert read_image(tmp_path / f"x.{ending}").shape == (8, 9, 3)


def test_postscript_under_any_name_reaches_no_other_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for program in ("gs", "ghostscript", "djpeg"):
        fake = tmp_path / "bin" / program
        fake.parent.mkdir(exist_ok=True)
        fake.write_text(f"#!/bin/sh\ntouch {tmp_path}/started\n")
        fake.chmod(fake.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    script = "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 20 20\n%%EndComments\n20 20 scale\nshowpage\n%%EOF\n"
    photos(tmp_path / "data", "red blue")
    for name in ("x.png", "x.jpg", "x.eps", "x.ps", "x"):
        path = tmp_path / "data" / "red" / name
        path.write_text(script)
        assert not is_turned(path)
        with pytest.raises(DataError):
            read_image(path)
        with pytest.raises(DataError):
            raw_mask(path, name, as_colors=False)
    assert "image 'red/x.jpg' cannot be read: not an image" in refusal(tmp_path / "data")
    assert not (tmp_path / "started").exists()


# --- left out -----------------------------------------------------------------------------------------------------


def test_images_that_are_not_read_are_counted_and_named(tmp_path: Path) -> None:
    photos(tmp_path, "cat dog")
    for number in range(9):
        (tmp_path / "cat" / f"{number}.CR2").write_bytes(b"II*\0")
    for number in range(3):
        (tmp_path / "dog" / "more").mkdir(exist_ok=True)
        (tmp_path / "dog" / "more" / f"{number}.svg").write_text("<svg/>")
    (tmp_path / "dog" / "notes.txt").write_text("no image")
    assert load(tmp_path).notes == ("12 files left out: .cr2 (9), .svg (3). Convert them to JPEG or PNG.",)


def test_images_without_an_ending_are_counted(tmp_path: Path) -> None:
    photos(tmp_path, "cat dog")
    photo(tmp_path / "x.png").rename(tmp_path / "cat" / "DSC0001")
    (tmp_path / "cat" / "README").write_text("BMW cars are here too")
    (tmp_path / "cat" / "LICENSE").write_text("text")
    assert load(tmp_path).notes == ("1 file left out: no ending (1). Add the ending of their format.",)


def test_a_class_of_images_that_are_not_read_says_why(tmp_path: Path) -> None:
    photos(tmp_path, "cat dog bird")
    for path in list((tmp_path / "bird").iterdir()):
        path.rename(path.with_suffix(".NEF"))
    message = refusal(tmp_path)
    assert message == (
        f"class 'bird' has no image in '{tmp_path}/bird'. 4 files left out: .nef (4). Convert them to JPEG or PNG."
    )


def test_masks_say_what_is_left_out_too(tmp_path: Path) -> None:
    photos(tmp_path, "images")
    (tmp_path / "masks").mkdir()
    for number in range(4):
        drawn = np.arange(72, dtype=np.uint8).reshape(8, 9) % 2
        Image.fromarray(drawn).save(tmp_path / "masks" / f"{number}.png")
    (tmp_path / "images" / "5.dng").write_bytes(b"II*\0")
    assert "1 file left out: .dng (1). Convert them to JPEG or PNG." in load(tmp_path).notes


def test_masks_whose_images_are_all_left_out_say_why(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "0.dng").write_bytes(b"II*\0")
    photos(tmp_path, "masks")
    assert "no images with masks found" in refusal(tmp_path)
    assert "1 file left out: .dng (1). Convert them to JPEG or PNG." in refusal(tmp_path)


@pytest.mark.parametrize("ending", ["dng", "cr2", "eps", "svg", "psd"])
def test_a_file_that_is_named_gets_no_thumbnail_for_its_raw_pixels(tmp_path: Path, ending: str) -> None:
    photo(tmp_path / "x.tif").rename(tmp_path / f"x.{ending}")  # raw files are TIFF files inside
    with pytest.raises(DataError, match=rf"cannot be read: \.{ending} is not read\. Convert it to JPEG or PNG"):
        read_image(tmp_path / f"x.{ending}")


# --- HEIC ---------------------------------------------------------------------------------------------------------


def heic(path: Path) -> Path:
    pytest.importorskip("pillow_heif").register_heif_opener()
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (64, 48), (len(path.name), 90, 30)).save(path, format="HEIF")
    return path


@pytest.mark.skipif(not READS_HEIC, reason="pillow-heif is not installed")
def test_heic_is_read_where_pillow_heif_is_installed(tmp_path: Path) -> None:
    photos(tmp_path, "cat dog")
    heic(tmp_path / "cat" / "IMG_1.HEIC")
    heic(tmp_path / "dog" / "IMG_02.heif")
    dataset = load(tmp_path)
    assert {"cat/IMG_1.HEIC", "dog/IMG_02.heif"} <= set(dataset.names)
    assert dataset.notes == ()


@pytest.mark.skipif(not READS_HEIC, reason="pillow-heif is not installed")
def test_heic_that_is_called_jpg_is_read(tmp_path: Path) -> None:
    assert read_image(heic(tmp_path / "x.jpg")).shape == (48, 64, 3)


@pytest.mark.skipif(not READS_HEIC, reason="pillow-heif is not installed")
def test_heic_of_a_camera_held_upright_is_turned_once(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.new("RGB", (80, 40), (0, 0, 255))
    image.paste((255, 0, 0), (0, 0, 20, 40))
    image.save(tmp_path / "x.jpg", exif=exif)
    pytest.importorskip("pillow_heif").register_heif_opener()
    with Image.open(tmp_path / "x.jpg") as turned:
        turned.save(tmp_path / "x.heic")
    from_jpeg, from_heic = (read_image(tmp_path / name).astype(int) for name in ("x.jpg", "x.heic"))
    assert from_heic.shape == from_jpeg.shape == (80, 40, 3)
    assert np.abs(from_heic - from_jpeg).mean() < 4


def test_heic_without_pillow_heif_is_counted_with_how_to_get_it(tmp_path: Path) -> None:
    photos(tmp_path, "cat dog bird")
    for number in range(6):
        (tmp_path / "cat" / f"IMG_{number}.HEIC").write_bytes(b"\0\0\0\x1cftypheic" + bytes([number]))
    (tmp_path / "dog" / "x.jpg").write_bytes(b"\0\0\0\x1cftypheic\0\0\0\0")
    code = f"""
import sys
sys.modules["pillow_heif"] = None  # as where it is not installed
from trainables.data.formats import load_dataset, read_image
from visionsweep.core.errors import DataError
from pathlib import Path
print(load_dataset({str(tmp_path)!r}, on_bad_image="skip", short_side_px=8, cache_dir=None)[0].notes)
for name in ("cat/IMG_0.HEIC", "dog/x.jpg"):
    try:
        read_image(Path({str(tmp_path)!r}, name), name)
    except DataError as error:
        print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    notes, *errors = done.stdout.splitlines()
    assert "6 files left out: .heic needs pillow-heif: pip install 'visionsweep[heic]'." in notes
    assert errors == [
        f"image '{name}' cannot be read: HEIC needs pillow-heif: pip install 'visionsweep[heic]'"
        for name in ("cat/IMG_0.HEIC", "dog/x.jpg")
    ]


def test_both_kinds_of_what_is_left_out_have_a_sentence() -> None:
    assert left_out_notes(Counter({".heic": 1, ".heif": 2, ".cr3": 1, ".arw": 5})) == [
        "3 files left out: .heic and .heif needs pillow-heif: pip install 'visionsweep[heic]'.",
        "6 files left out: .arw (5), .cr3 (1). Convert them to JPEG or PNG.",
    ]
