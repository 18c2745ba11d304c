"""Predictions for annotation tools: what is written is read again by the readers of those tools' own files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import save_file
from support import Outcome

from analysis.models.annotations import FORMS, AnnotationWriter
from analysis.models.outlines import LEAST_PIXELS
from trainables.config.io import parse_config
from trainables.data.cache import Images
from trainables.data.dataset import Dataset
from trainables.data.formats import load_dataset
from trainables.models.build import build_model

CLI = Callable[..., Outcome]
CLASSES = ("background", "cat & <dog>", "bee")
HEIGHT = 90
WIDTH = 120


def disc(y: float, x: float, radius: float) -> np.ndarray:
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    return (rows + 0.5 - y) ** 2 + (columns + 0.5 - x) ** 2 < radius**2


def drawn(number: int) -> np.ndarray:
    """A disc with a hole, another class in the hole, a rectangle at the border, and a speck."""
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[disc(40, 50 + number, 30)] = 1
    mask[disc(40, 50 + number, 12)] = 2
    mask[70:, 100:] = 2
    mask[2, 2] = 1
    return mask


def photos(folder: Path, names: list[str]) -> list[Path]:
    paths = []
    for seed, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(seed).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
        paths.append(path)
    return paths


def load(spec: Path, **options: Any) -> tuple[Dataset, Images]:
    return load_dataset(str(spec), short_side_px=32, cache_dir=None, **options)


@pytest.mark.parametrize("form", FORMS)
def test_masks_come_back_from_the_tools_file_to_a_pixel(tmp_path: Path, form: str) -> None:
    paths = photos(tmp_path, [f"{i}.png" for i in range(6)])
    writer = AnnotationWriter(form, tmp_path, CLASSES, segments=True)
    for number, path in enumerate(paths):
        writer.add_mask(path, drawn(number))
    writer.write()
    dataset, images = load(tmp_path)
    assert set(dataset.classes) == set(CLASSES)
    number_of = np.array([dataset.classes.index(name) for name in CLASSES])
    for index, name in enumerate(dataset.names):
        wanted = number_of[drawn(int(Path(name).stem))]
        wanted[2, 2] = 0  # the speck is left out
        got = images.mask(index)
        wrong = got != wanted
        assert wrong.mean() < 0.02, f"{wrong.sum()} of {wrong.size} pixels"
        inner = np.stack([np.roll(wanted, step, axis) for step in (-2, -1, 1, 2) for axis in (0, 1)])
        assert not wrong[(inner == wanted).all(axis=0)].any(), "only at the borders of areas"


def test_outlines_of_small_and_straight_areas_are_exact(tmp_path: Path) -> None:
    paths = photos(tmp_path, [f"{i}.png" for i in range(6)])
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[10:12, 20:25] = 1  # LEAST_PIXELS
    mask[40:60, 30:90] = 2
    writer = AnnotationWriter("coco", tmp_path, CLASSES, segments=True)
    for path in paths:
        writer.add_mask(path, mask)
    file = writer.write()
    assert LEAST_PIXELS == 10
    _, images = load(tmp_path)
    assert (images.mask(0) == mask).all()
    document = json.loads(file.read_text())
    areas = {one["category_id"]: one for one in document["annotations"] if one["image_id"] == 1}
    assert (areas[2]["area"], areas[2]["bbox"]) == (1200, [30, 40, 60, 20])
    assert len(areas[2]["segmentation"][0]) == 8, "a rectangle has four points"


def test_files_name_images_below_the_folder_that_they_share(tmp_path: Path) -> None:
    writer = AnnotationWriter("coco", tmp_path / "out", CLASSES, segments=True)
    for path in photos(tmp_path / "photos", ["a/0.png", "b/0.png"]):
        writer.add_mask(path, drawn(0))
    document = json.loads(writer.write().read_text())
    assert [one["file_name"] for one in document["images"]] == ["a/0.png", "b/0.png"]
    other = AnnotationWriter("labelme", tmp_path / "out", CLASSES, segments=True)
    for path in photos(tmp_path / "photos", ["a/0.png", "b/0.png"]):
        other.add_mask(path, drawn(0))
    folder = other.write()
    said = [json.loads((folder / f"{name}.json").read_text())["imagePath"] for name in ("0", "0-2")]
    assert said == ["../../photos/a/0.png", "../../photos/b/0.png"]


def exported(folder: Path, task: str, classes: list[str]) -> Path:
    torch.manual_seed(0)
    model: dict[str, Any] = {"backbone": "test_resnet", "weights": "none"}
    if task == "segmentation":
        model["architecture"] = {"name": "fpn", "channels": 16}
    config = {"task": task, "model": model, "optimizer": {"name": "sgd", "lr": 0.1}, "epochs": 1, "batch_size": 4, "image_size": 32}  # fmt: skip
    folder.mkdir()
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    (folder / "classes.txt").write_text("".join(f"{name}\n" for name in classes))
    built = build_model(parse_config(config).model, len(classes), 32)
    save_file({name: one.contiguous() for name, one in built.state_dict().items()}, folder / "model.safetensors")
    return folder


@pytest.mark.parametrize("form", FORMS)
def test_the_command_writes_them_beside_the_masks_and_says_where(visionsweep: CLI, tmp_path: Path, form: str) -> None:
    export = exported(tmp_path / "export", "segmentation", ["cat", "dog"])
    photos(tmp_path / "photos", [f"{i}.png" for i in range(4)])
    said = visionsweep("predict", export, "photos", "--out", "said", "--format", form)
    assert said.code == 0, said.err
    file = {"coco": "annotations.json", "labelme": "labelme", "cvat": "annotations.xml"}[form]
    assert f"Annotations of 4 images for {form}: said/{file}" in said.err.replace("\n", " ")
    assert (tmp_path / "said" / "masks" / "0.png").is_file()
    assert (tmp_path / "said" / file).exists()
    assert "photos/0.png: said/masks/0.png" in said.out


@pytest.mark.parametrize("form", ["labelme", "cvat"])
def test_classes_of_images_go_back_as_flags_or_tags(visionsweep: CLI, tmp_path: Path, form: str) -> None:
    export = exported(tmp_path / "export", "multiclass", ["ant", "bee", "cat"])
    photos(tmp_path / "photos", [f"{i}.png" for i in range(4)])
    said = visionsweep("predict", export, "photos", "--out", "photos", "--format", form)
    assert said.code == 0, said.err
    dataset, _ = load(tmp_path / "photos", task="multilabel", for_training=False)
    labels = [[dataset.classes[i] for i in np.flatnonzero(row)] for row in dataset.targets]
    lines = dict(line.split(": ") for line in said.out.strip().splitlines())
    told = {Path(name).name: line.split()[0] for name, line in lines.items()}
    assert {Path(name).name: [told[Path(name).name]] for name in dataset.names} == dict(
        zip([Path(name).name for name in dataset.names], labels, strict=True)
    )
    assert len(dataset.names) == 4


def test_classes_of_images_cannot_go_to_coco(visionsweep: CLI, tmp_path: Path) -> None:
    export = exported(tmp_path / "export", "multiclass", ["ant", "bee", "cat"])
    photos(tmp_path / "photos", ["0.png"])
    said = visionsweep("predict", export, "photos", "--format", "coco")
    assert said.code == 2
    assert "--format coco holds areas, and this model predicts classes of whole images." in said.err
    assert not (tmp_path / "predictions").exists()
