"""The command line on data that an annotation tool exported."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from support import Outcome, tiny_config

CLI = Callable[..., Outcome]
SIZE = 40


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    """24 images with a dark square each, whose outline stands in COCO's format."""
    root = tmp_path / "tiles"
    (root / "images").mkdir(parents=True)
    images = []
    annotations = []
    for i in range(24):
        chance = np.random.default_rng(zlib.crc32(f"{i}".encode()))
        pixels = chance.integers(150, 255, (SIZE, SIZE, 3), dtype=np.uint8)
        x, y = (int(value) for value in chance.integers(2, 18, 2))
        pixels[y : y + 20, x : x + 20] //= 4
        Image.fromarray(pixels).save(root / "images" / f"{i}.png")
        images.append({"id": i, "file_name": f"{i}.png", "height": SIZE, "width": SIZE})
        ring = [x, y, x + 20, y, x + 20, y + 20, x, y + 20]
        annotations.append({"id": i, "image_id": i, "category_id": 1, "segmentation": [ring], "bbox": [x, y, 20, 20]})
    document = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "defect"}]}
    (root / "instances.json").write_text(json.dumps(document))
    return root


def test_a_model_is_trained_judged_and_asked_for_labels_of_new_images(visionsweep: CLI, coco: Path) -> None:
    model = {"architecture": {"name": "fpn", "channels": 16}, "backbone": "test_resnet", "weights": "none"}
    config = tiny_config(task="segmentation", model=model, epochs=1)
    Path("one.yaml").write_text(yaml.safe_dump(config))
    trained = visionsweep("train", "one.yaml", "--data", coco, "--out", "model")
    assert trained.code == 0, trained.err
    assert "24 images with masks, 2 classes (background" in trained.out
    assert "Annotations of COCO are read." in trained.out
    judged = visionsweep("evaluate", "model", "--data", coco / "instances.json")
    assert judged.code == 0, judged.err
    assert "defect" in judged.out
    said = visionsweep("predict", "model", coco / "images", "--format", "coco")
    assert said.code == 0, said.err
    document = json.loads(Path("predictions/annotations.json").read_text())
    assert [one["name"] for one in document["categories"]] == ["defect"]
    assert len(document["images"]) == 24


def test_a_search_for_classes_on_areas_says_which_task_takes_them(visionsweep: CLI, coco: Path) -> None:
    said = visionsweep("check", "classification-cpu", "--data", coco)
    assert said.code == 2
    assert (
        "has areas that were drawn, for segmentation, and the search is for classification. Pass --task multilabel"
        in said.err
    )


def test_a_file_that_is_no_tools_is_refused_before_anything_is_read(visionsweep: CLI, coco: Path) -> None:
    (coco / "notes.json").write_text('{"a": 1}')
    said = visionsweep("check", "classification-cpu", "--data", coco / "notes.json")
    assert said.code == 2
    assert "is not a file of annotations that is known (labelme, COCO, Label Studio, VIA" in said.err
