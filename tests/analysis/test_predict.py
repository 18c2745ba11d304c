"""Which images are predicted, and which names their classes have."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from support import make_photos

from analysis.predict import load_export, predict_images
from search_spaces.errors import DataError
from trainables.config_model import ClassifierConfig
from trainables.data.reading import IMAGE_SUFFIXES
from trainables.models.classifiers import build_classifier

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
