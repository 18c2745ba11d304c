"""`evaluate` judges any labelled data. It trains and splits nothing, so it accepts more data than a search."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console
from sklearn.metrics import f1_score, roc_auc_score
from support import Outcome, make_photos, tiny_config

from analysis.models.evaluate import Judged, evaluate_export
from analysis.models.manifest import MANIFEST
from analysis.models.predictor import load_export
from launch.models.train import train_one
from trainables.config.io import parse_config
from trainables.data.formats import load_dataset
from trainables.data.read_as import ReadAs
from trainables.data.reading import read_image
from visionsweep.core.errors import DataError

CLI = Callable[..., Outcome]
TRAINED = tiny_config(epochs=1)
SEGMENTER = {**TRAINED, "model": {**TRAINED["model"], "architecture": {"name": "fpn", "channels": 16}}}
COLOURS = {"red": 3, "green": 3, "blue": 3}


def train(values: dict[str, Any], data: Path, out: Path) -> Path:
    train_one(parse_config(values), str(data), out, None, None, None, ReadAs(), Console(quiet=True))
    return out


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("exports")


@pytest.fixture(scope="module")
def two(folder: Path) -> Path:
    """Of blue and red; the second is the positive one."""
    return train(TRAINED, make_photos(folder / "two", {"red": 10, "blue": 10}), folder / "of-2")


@pytest.fixture(scope="module")
def three(folder: Path) -> Path:
    photos = make_photos(folder / "three", {"red": 10, "green": 10, "blue": 10})
    return train({**TRAINED, "task": "multiclass"}, photos, folder / "of-3")


@pytest.fixture(scope="module")
def tags(folder: Path) -> Path:
    """A classifier of the tags blue, green and red."""
    photos = make_photos(folder / "tagged", {"red": 10, "green": 10, "blue": 10})
    rows = [f"{path.relative_to(photos)},{path.parent.name}|red" for path in sorted(photos.glob("*/*.png"))]
    (photos / "labels.csv").write_text("\n".join(["image,labels", *rows]) + "\n")
    return train({**TRAINED, "task": "multilabel"}, photos, folder / "of-tags")


def write_scenes(root: Path, names: list[str], values: list[int], num_images: int) -> Path:
    """Write images and masks with a square of each value on ground 0. classes.txt names the values."""
    rng = np.random.default_rng(num_images)
    for number in range(num_images):
        image = rng.integers(0, 60, (32, 40, 3), dtype=np.uint8)
        mask = np.zeros((32, 40), np.uint8)
        for place, value in enumerate(values):
            mask[4:20, 2 + 12 * place : 12 + 12 * place] = value
            image[4:20, 2 + 12 * place : 12 + 12 * place, value % 3] += 150
        for kind, array in (("images", image), ("masks", mask)):
            (root / kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(root / kind / f"{number:02d}.png")
    (root / "classes.txt").write_text("".join(f"{name}\n" for name in names))
    return root


@pytest.fixture(scope="module")
def scenes(folder: Path) -> Path:
    return write_scenes(folder / "scenes", ["ground", "tree", "car", "bus"], [1, 2, 3], 10)


@pytest.fixture(scope="module")
def segmenter(folder: Path, scenes: Path) -> Path:
    return train({**SEGMENTER, "task": "segmentation"}, scenes, folder / "of-masks")


@pytest.fixture(scope="module")
def merger(folder: Path, scenes: Path) -> Path:
    """A segmenter of ground, tree and vehicle."""
    config = {**SEGMENTER, "task": "segmentation", "merge": {"vehicle": ["car", "bus"]}}
    return train(config, scenes, folder / "of-merged-masks")


def value(found: Judged, metric: str) -> float:
    return found.metrics[metric]["value"]


def said(export: Path, paths: list[Path]) -> np.ndarray:
    """Probabilities (N, K) as `predict` gives them."""
    return load_export(export, torch.device("cpu")).probabilities([read_image(path) for path in paths]).numpy()


# Labels


def test_a_class_of_one_image_is_judged(three: Path, tmp_path: Path, visionsweep: CLI) -> None:
    new = make_photos(tmp_path / "new", {"red": 2, "green": 2, "blue": 1})
    told = visionsweep("evaluate", three, "--data", new, "--json")
    assert told.code == 0, told.err
    (found,) = json.loads(told.out)
    assert (found["split"], found["num_images"], found["notes"]) == ("all", 5, [])
    paths = sorted(new.glob("*/*.png"))
    right = [
        ("blue", "green", "red")[row.argmax()] == path.parent.name
        for row, path in zip(said(three, paths), paths, strict=True)
    ]
    assert found["metrics"]["accuracy"]["value"] == pytest.approx(np.mean(right))


def test_classes_without_an_image_are_told_and_have_no_scores(three: Path, tmp_path: Path, visionsweep: CLI) -> None:
    new = make_photos(tmp_path / "new", {"red": 4, "green": 5})
    found = evaluate_export(three, str(new))
    assert found.notes == ("No image of the split shows 'blue'.",)
    assert found.classes["blue"] == {"images": 0}
    assert [row["images"] for row in found.classes.values()] == [0, 5, 4]
    paths = sorted(new.glob("*/*.png"))
    truth = np.array([["blue", "green", "red"].index(path.parent.name) for path in paths])
    probabilities = said(three, paths)
    # The mean of the ranking metrics is over the classes that have images and lack some.
    of_classes = [roc_auc_score(truth == i, probabilities[:, i]) for i in (1, 2)]
    assert value(found, "auroc") == pytest.approx(np.mean(of_classes), abs=1e-4)
    assert value(found, "accuracy") == pytest.approx(np.mean(probabilities.argmax(1) == truth))
    told = visionsweep("evaluate", three, "--data", new)
    assert "No image of the split shows 'blue'." in told.out
    (blue,) = [line for line in told.out.splitlines() if line.startswith("blue")]
    assert blue.split() == ["blue", "0"]


def test_exact_copies_are_judged_each(three: Path, tmp_path: Path) -> None:
    new = make_photos(tmp_path / "new", {"red": 2, "green": 2, "blue": 1})
    shutil.copy(new / "blue" / "00.png", new / "blue" / "01.png")
    assert evaluate_export(three, str(new)).num_images == 6


def test_data_of_one_class_is_judged_by_a_model_of_two(two: Path, tmp_path: Path) -> None:
    found = evaluate_export(two, str(make_photos(tmp_path / "new", {"red": 4})))
    assert found.num_images == 4
    assert found.classes["blue"] == {"images": 0}
    paths = sorted((tmp_path / "new" / "red").glob("*.png"))
    assert value(found, "accuracy") == pytest.approx(np.mean(said(two, paths) > 0.5))
    assert "auroc" not in found.metrics  # there is nothing to rank red above
    assert "map" not in found.metrics


@pytest.mark.parametrize("colour", ["red", "blue"])
def test_one_image_alone_has_scores_and_no_intervals(two: Path, tmp_path: Path, colour: str) -> None:
    found = evaluate_export(two, str(make_photos(tmp_path / "new", {colour: 1})))
    assert found.num_images == 1
    assert value(found, "accuracy") in (0, 1)
    assert not any("low" in row for row in found.metrics.values())
    assert not any("low" in score for row in found.classes.values() for score in row.values() if score != row["images"])


def test_two_classes_of_three_are_no_binary_task(three: Path, two: Path, tmp_path: Path) -> None:
    new = make_photos(tmp_path / "new", {"red": 3, "blue": 3})
    assert list(evaluate_export(three, str(new)).classes) == ["blue", "green", "red"]
    more = make_photos(tmp_path / "more", {"red": 3, "blue": 3, "green": 3})
    with pytest.raises(DataError, match=r"the model knows no 'green'\. Name data with the model's classes\."):
        evaluate_export(two, str(more))


def test_a_folder_of_test_images_alone_is_judged(three: Path, tmp_path: Path) -> None:
    make_photos(tmp_path / "new" / "test", COLOURS)
    found = evaluate_export(three, str(tmp_path / "new"))
    assert (found.split, found.num_images) == ("test", 9)


def test_train_and_val_of_other_classes_are_judged(three: Path, tmp_path: Path) -> None:
    make_photos(tmp_path / "new" / "train", {"red": 3, "blue": 2})
    make_photos(tmp_path / "new" / "val", {"green": 1})
    assert evaluate_export(three, str(tmp_path / "new")).num_images == 6
    found = evaluate_export(three, str(tmp_path / "new"), "val")
    assert (found.num_images, found.notes) == (1, ("No image of the split shows 'blue', 'red'.",))


def test_an_empty_folder_of_a_class_is_a_class_without_images(three: Path, tmp_path: Path) -> None:
    new = make_photos(tmp_path / "new", {"red": 3, "blue": 2, "green": 0})
    assert evaluate_export(three, str(new)).classes["green"] == {"images": 0}


def test_the_training_still_refuses_what_is_judged(tmp_path: Path) -> None:
    new = make_photos(tmp_path / "new", {"red": 2, "green": 2, "blue": 1})
    with pytest.raises(DataError, match="class 'blue' has one image"):
        load_dataset(str(new), short_side_px=8, cache_dir=None)
    dataset, _ = load_dataset(str(new), short_side_px=8, cache_dir=None, for_training=False)
    assert set(dataset.split) == {""}


def test_the_models_own_data_keeps_the_split_of_the_training(three: Path, folder: Path) -> None:
    described = json.loads((three / "data.json").read_text())
    for split in ("val", "train"):
        found = evaluate_export(three, str(folder / "three"), split)
        assert found.num_images == described["counts"][split]
    assert evaluate_export(three, str(folder / "three")).split == "val"


def test_a_model_that_was_trained_on_val_too_is_not_judged_on_it(three: Path, folder: Path, tmp_path: Path) -> None:
    export = shutil.copytree(three, tmp_path / "export")
    described = json.loads((export / "data.json").read_text())
    (export / "data.json").write_text(json.dumps({**described, "val": []}))
    (export / MANIFEST).unlink()
    with pytest.raises(DataError, match=r"has no split 'val'\. Name one of train, all\."):
        evaluate_export(export, str(folder / "three"), "val")
    found = evaluate_export(export, str(folder / "three"))
    assert (found.split, found.num_images) == ("all", 30)
    assert "that the model was trained on" in found.note


def table(folder: Path, header: str, *rows: str) -> str:
    (folder / "labels.csv").write_text("\n".join([header, *rows]) + "\n")
    return str(folder)


def test_tags_are_matched_by_name_and_those_that_the_data_lacks_are_told(tags: Path, tmp_path: Path) -> None:
    new = make_photos(tmp_path / "new", COLOURS)
    paths = sorted(new.glob("*/*.png"))
    wanted = np.array([[path.parent.name == name for name in ("blue", "green", "red")] for path in paths])
    # The columns in another order.
    rows = [
        f"{path.relative_to(new)},{int(red)},{int(blue)},{int(green)}"
        for path, (blue, green, red) in zip(paths, wanted, strict=True)
    ]
    found = evaluate_export(tags, table(new, "image,red,blue,green", *rows))
    decided = said(tags, paths) > 0.5
    assert value(found, "f1_micro") == pytest.approx(
        f1_score(wanted, decided, average="micro", zero_division=0), abs=1e-5
    )
    # A single tag, in a column and as a list.
    red = [f"{path.relative_to(new)},{int(path.parent.name == 'red')}" for path in paths]
    one = evaluate_export(tags, table(new, "image,red", *red))
    assert [row["images"] for row in one.classes.values()] == [0, 0, 3]
    assert one.notes[-1] == "No image of the split shows 'blue', 'green'."
    listed = [f"{path.relative_to(new)},{'red' if path.parent.name == 'red' else ''}" for path in paths]
    assert evaluate_export(tags, table(new, "image,labels", *listed)).metrics == one.metrics
    nothing = evaluate_export(tags, table(new, "image,labels", *[f"{path.relative_to(new)}," for path in paths[:1]]))
    assert nothing.num_images == 1
    assert [row["images"] for row in nothing.classes.values()] == [0, 0, 0]


def test_what_is_assumed_of_a_table_is_told(tags: Path, tmp_path: Path, visionsweep: CLI) -> None:
    new = make_photos(tmp_path / "new", COLOURS)
    rows = [f"{path.relative_to(new)},{path.parent.name}" for path in sorted(new.glob("*/*.png"))]
    told = visionsweep("evaluate", tags, "--data", table(new, "Image,labels", *rows))
    assert "Column 'Image' is taken as 'image'." in told.out


# Masks


def test_one_mask_is_judged(segmenter: Path, tmp_path: Path) -> None:
    new = write_scenes(tmp_path / "new", ["ground", "tree", "car", "bus"], [1, 2, 3], 1)
    found = evaluate_export(segmenter, str(new))
    assert (found.split, found.num_images) == ("all", 1)
    assert [row["pixels"] for row in found.classes.values()] == [32 * 40 - 480, 160, 160, 160]
    assert not any("low" in row for row in found.metrics.values())


def test_masks_that_number_the_classes_otherwise_are_matched_by_name(segmenter: Path, tmp_path: Path) -> None:
    new = write_scenes(tmp_path / "new", ["ground", "tree", "car", "bus"], [1, 2, 3], 3)
    expected = evaluate_export(segmenter, str(new))
    for path in (new / "masks").glob("*.png"):
        mask = np.asarray(Image.open(path))
        Image.fromarray(np.array([3, 0, 2, 1], np.uint8)[mask]).save(path)
    (new / "classes.txt").write_text("tree\nbus\ncar\nground\n")
    found = evaluate_export(segmenter, str(new))
    assert found.metrics == expected.metrics
    assert found.classes == expected.classes


def test_masks_that_lack_classes_are_judged(segmenter: Path, tmp_path: Path) -> None:
    new = write_scenes(tmp_path / "new", ["ground", "bus"], [1], 3)
    found = evaluate_export(segmenter, str(new))
    assert [row["pixels"] for row in found.classes.values()] == [3 * (32 * 40 - 160), 0, 0, 3 * 160]
    assert found.notes[-1] == "No image of the split shows 'tree', 'car'."
    with pytest.raises(DataError, match=r"the model knows no 'house'; the data has no 'tree', 'car', 'bus'"):
        evaluate_export(segmenter, str(write_scenes(tmp_path / "other", ["ground", "house"], [1], 3)))


def test_masks_are_judged_by_a_model_of_merged_classes_with_the_old_names_or_the_new(
    merger: Path, tmp_path: Path
) -> None:
    old = evaluate_export(merger, str(write_scenes(tmp_path / "old", ["ground", "tree", "car", "bus"], [1, 2, 3], 3)))
    assert {name: row["pixels"] for name, row in old.classes.items()} == {
        "ground": 3 * (32 * 40 - 480), "tree": 3 * 160, "vehicle": 3 * 320,
    }  # fmt: skip
    new = write_scenes(tmp_path / "new", ["ground", "tree", "car", "bus"], [1, 2, 3], 3)
    for path in (new / "masks").glob("*.png"):
        mask = np.asarray(Image.open(path))
        Image.fromarray(np.array([2, 1, 0, 0], np.uint8)[mask]).save(path)
    (new / "classes.txt").write_text("vehicle\ntree\nground\n")
    assert evaluate_export(merger, str(new)).metrics == old.metrics
    fewer = write_scenes(tmp_path / "fewer", ["ground", "bus"], [1], 3)
    assert evaluate_export(merger, str(fewer)).classes["vehicle"]["pixels"] == 3 * 160


@pytest.mark.parametrize(
    ("images", "masks"), [("images/test", "masks/test"), ("test", "testannot"), ("test/images", "test/masks")]
)
def test_masks_of_a_test_split_alone_are_judged(segmenter: Path, tmp_path: Path, images: str, masks: str) -> None:
    made = write_scenes(tmp_path / "made", ["ground", "tree", "car", "bus"], [1, 2, 3], 2)
    for kind, folder in (("images", images), ("masks", masks)):
        shutil.copytree(made / kind, tmp_path / "new" / folder)
    shutil.copy(made / "classes.txt", tmp_path / "new")
    found = evaluate_export(segmenter, str(tmp_path / "new"))
    assert found.num_images == 2


def test_masks_that_are_void_throughout_leave_nothing_to_judge(segmenter: Path, tmp_path: Path) -> None:
    new = write_scenes(tmp_path / "new", ["ground", "tree", "car", "bus"], [1], 2)
    for path in (new / "masks").glob("*.png"):
        Image.fromarray(np.full((32, 40), 255, np.uint8)).save(path)
    with pytest.raises(DataError, match="every pixel of the all masks is void, so there is nothing to judge"):
        evaluate_export(segmenter, str(new))
