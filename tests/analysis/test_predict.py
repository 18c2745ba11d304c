"""Which images are predicted, and which names their classes have."""

from __future__ import annotations

import json
import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import save_file
from support import Outcome, make_photos

from analysis.models.predict import Read, _chunks, predict_images
from analysis.models.predictor import load_export
from trainables.config.io import parse_config
from trainables.config.model import ClassifierConfig
from trainables.data.reading import IMAGE_SUFFIXES
from trainables.models.build import build_model
from trainables.models.classifiers import build_classifier
from visionsweep.core.errors import DataError

CLASSES = ["café", "two\x0clines", "tail\x85"]


@pytest.fixture
def export(tmp_path: Path) -> Path:
    """A multilabel model of three classes with uncommon names, as an export's files."""
    torch.manual_seed(0)
    model = build_classifier(ClassifierConfig(backbone="test_resnet", weights="none"), len(CLASSES), 32)
    folder = tmp_path / "export"
    folder.mkdir()
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, folder / "model.safetensors")
    (folder / "classes.txt").write_bytes("".join(f"{name}\n" for name in CLASSES).encode())
    (folder / "config.yaml").write_text(
        "task: multilabel\nmodel: {backbone: test_resnet, weights: none}\noptimizer: {name: sgd, lr: 0.1}\n"
        "epochs: 1\nbatch_size: 4\nimage_size: 32\n"
    )
    return folder


def test_class_names_are_utf8_and_end_at_a_newline_alone(export: Path) -> None:
    assert load_export(export).classes == tuple(CLASSES)


def test_hidden_files_and_folders_are_not_predicted(export: Path, tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "photos", {"seen": 2, ".thumbnails": 1, "__MACOSX": 1})
    (photos / "seen" / "._00.png").write_bytes(b"what macOS leaves beside a file")
    paths = [row["path"] for row in predict_images(export, [photos])]
    assert paths == [str(photos / "seen" / name) for name in ("00.png", "01.png")]


def test_a_folder_without_images_names_the_endings_that_are_read(export: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError) as caught:
        predict_images(export, [tmp_path / "empty"])
    assert ", ".join(IMAGE_SUFFIXES) in str(caught.value)


def test_what_a_folder_or_a_pattern_leaves_out_is_said_on_standard_error(
    visionsweep: Callable[..., Outcome], export: Path, tmp_path: Path
) -> None:
    photos = make_photos(tmp_path / "photos", {"seen": 2}) / "seen"
    (photos / "IMG_1.CR2").write_bytes(b"II*")
    (photos / "drawn.svg").write_text("<svg/>")
    words = "2 files left out: .cr2 (1), .svg (1). Convert them to JPEG or PNG."
    (tmp_path / "link").symlink_to(photos)
    for named in (photos, f"{photos}/*", tmp_path / "link"):
        told = visionsweep("predict", export, named, "--json")
        assert told.code == 0
        assert len(json.loads(told.out)) == 2
        assert told.err.strip() == f"{named}: {words}"


def test_a_folder_of_images_that_are_not_read_says_why(export: Path, tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "IMG_1.CR2").write_bytes(b"II*")
    for named in (tmp_path / "raw", tmp_path / "raw" / "*"):
        with pytest.raises(DataError, match=r"1 file left out: \.cr2 \(1\)\. Convert them to JPEG or PNG\.$"):
            predict_images(export, [named])


def test_a_folder_that_may_not_be_read_stops_with_its_rights(
    export: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = make_photos(tmp_path / "photos", {"a": 1, "b": 1})
    scandir = os.scandir

    def refuse(folder: Path) -> object:
        if Path(folder) == photos / "b":
            raise PermissionError(13, "Permission denied", str(folder))
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DataError, match=r"photos/b' cannot be read: Permission denied\. Check its rights\."):
        predict_images(export, [photos])


@pytest.mark.timeout(60)
def test_a_pipe_gets_a_row_that_says_so(export: Path, tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "photos", {"seen": 1}) / "seen"
    os.mkfifo(photos / "x.jpg")
    for named in (photos, photos / "x.jpg"):
        *_, row = predict_images(export, [named])
        assert row["error"] == f"image '{photos}/x.jpg' cannot be read: it is a named pipe, not a file"


def peak_mb(work: Callable[[], object]) -> float:
    """Return the peak memory that Python and NumPy take during `work`."""
    tracemalloc.start()
    work()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / 1e6


def test_memory_does_not_grow_with_the_number_of_large_photos(export: Path, tmp_path: Path) -> None:
    Image.new("RGB", (4000, 3000), (90, 120, 60)).save(tmp_path / "large.jpg")  # 36 MB of pixels
    (tmp_path / "many").mkdir()
    for number in range(10):
        (tmp_path / "many" / f"{number}.jpg").hardlink_to(tmp_path / "large.jpg")
    one = peak_mb(lambda: predict_images(export, [tmp_path / "large.jpg"]))
    assert peak_mb(lambda: predict_images(export, [tmp_path / "many"])) < one + 20


def test_masks_are_made_of_as_many_photos_at_once_as_there_is_room_for(tmp_path: Path) -> None:
    """The photos wait for their masks at the size that the camera gave them."""
    rows = [
        Read(tmp_path / f"{number}.png", (np.zeros((8, 8, 3), np.uint8),), np.zeros((height, 4096, 3), np.uint8))
        for number, height in enumerate((8, 4088, 8, 1, 1))
    ]
    chunks = list(_chunks(iter(rows), 2))
    assert [[int(one.path.stem) for one in chunk] for chunk in chunks] == [[0, 1], [2, 3], [4]]
    chunks = list(_chunks(iter(rows), 4))
    assert [[int(one.path.stem) for one in chunk] for chunk in chunks] == [[0, 1], [2, 3, 4]]


def test_a_thread_of_an_image_is_classified_and_one_that_cannot_be_segmented_is_named(
    export: Path, tmp_path: Path
) -> None:
    Image.new("RGB", (8000, 1), (90, 120, 60)).save(tmp_path / "strip.png")
    assert peak_mb(lambda: predict_images(export, [tmp_path / "strip.png"])) < 40
    config = {
        "task": "segmentation",
        "model": {"architecture": {"name": "fpn", "channels": 16}, "backbone": "test_resnet", "weights": "none"},
        "optimizer": {"name": "sgd", "lr": 0.1},
        "epochs": 1,
        "batch_size": 4,
        "image_size": 32,
    }
    segmenter = tmp_path / "segmenter"
    segmenter.mkdir()
    (segmenter / "config.yaml").write_text(yaml.safe_dump(config))
    (segmenter / "classes.txt").write_text("a\nb\n")
    model = build_model(parse_config(config).model, 2, 32)
    save_file({name: one.contiguous() for name, one in model.state_dict().items()}, segmenter / "model.safetensors")
    make_photos(tmp_path / "photos", {"one": 1})
    rows = predict_images(segmenter, [tmp_path / "strip.png", tmp_path / "photos"], tmp_path / "masks")
    assert rows[0]["error"] == (
        f"image '{tmp_path / 'strip.png'}' is 8000 x 1 pixels, and a segmenter takes images up to 100 times as long "
        "as wide"
    )
    assert "mask" in rows[1]


def test_a_picture_of_too_many_pixels_costs_its_own_answer_alone(export: Path, tmp_path: Path) -> None:
    Image.new("1", (20_000, 10_000)).save(tmp_path / "bomb.png")
    make_photos(tmp_path / "photos", {"one": 1})
    bomb, photo = predict_images(export, [tmp_path / "bomb.png", tmp_path / "photos"])
    assert "exceeds limit of 178956970 pixels" in bomb["error"]
    assert "probabilities" in photo


@pytest.fixture
def one_broken(tmp_path: Path) -> Path:
    """Three images, the second of which is cut off."""
    photos = make_photos(tmp_path / "photos", {"seen": 3})
    whole = (photos / "seen" / "01.png").read_bytes()
    (photos / "seen" / "01.png").write_bytes(whole[: len(whole) // 2])
    return photos / "seen"


@pytest.mark.parametrize("batch_size", [1, 2, 32])
def test_a_broken_image_gets_a_row_of_its_own_and_spoils_no_other(
    export: Path, one_broken: Path, batch_size: int
) -> None:
    first, broken, last = predict_images(export, [one_broken], batch_size=batch_size)
    assert broken.keys() == {"path", "error"}
    assert broken["error"].startswith(f"image '{one_broken / '01.png'}' cannot be read: ")
    for row, name in ((first, "00.png"), (last, "02.png")):
        (alone,) = predict_images(export, [one_broken / name])
        assert row["path"] == alone["path"] == str(one_broken / name)
        assert row["probabilities"] == pytest.approx(alone["probabilities"], abs=1e-5)


def test_a_broken_image_costs_no_other_its_mask(tmp_path: Path, one_broken: Path) -> None:
    from trainables.config.io import parse_config
    from trainables.models.build import build_model

    values = {
        "task": "segmentation",
        "model": {"architecture": {"name": "voc_baseline"}, "weights": "none"},
        "optimizer": {"name": "adam", "lr": 0.01},
        "epochs": 1,
        "batch_size": 4,
        "image_size": 32,
        "fit_image": "squash",
    }
    folder = tmp_path / "segmenter"
    folder.mkdir()
    model = build_model(parse_config(values).model, 3, 32)
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, folder / "model.safetensors")
    (folder / "classes.txt").write_text("a\nb\nc\n")
    (folder / "config.yaml").write_text(yaml.safe_dump(values))
    first, broken, last = predict_images(folder, [one_broken], tmp_path / "out")
    assert broken.keys() == {"path", "error"}
    for row in (first, last):
        assert Path(row["mask"]).is_file()
        assert sum(row["shares"].values()) == pytest.approx(1, abs=1e-5)


def test_the_command_names_the_broken_image_and_ends_with_1(
    visionsweep: Callable[..., Outcome], export: Path, one_broken: Path
) -> None:
    told = visionsweep("predict", export, one_broken)
    assert told.code == 1
    lines = told.out.splitlines()
    assert len(lines) == 3
    assert "01.png' cannot be read: " in lines[1]
    as_json = visionsweep("predict", export, one_broken, "--json")
    assert as_json.code == 1
    assert ["error" in row for row in json.loads(as_json.out)] == [False, True, False]
    assert visionsweep("predict", export, one_broken / "00.png").code == 0
