"""An exported model in Python: what it takes, the tables that it gives, and that the command says the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import save_file
from support import Outcome, make_photos, tiny_config

import visionsweep as vs
from analysis.models.loaded import LoadedModel, load_model
from trainables.config.io import parse_config
from trainables.data.reading import read_image
from trainables.models.build import build_model
from visionsweep.core.errors import DataError, RunError

THREE = {"red": 4, "green": 4, "blue": 4}


def export_of(folder: Path, task: str, classes: list[str], **changes: Any) -> Path:
    """Write the export of a network that nobody trained."""
    values = tiny_config(epochs=1, task=task, **changes)
    torch.manual_seed(0)
    model = build_model(parse_config(values).model, 1 if task == "binary" else len(classes), 32)
    folder.mkdir()
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, folder / "model.safetensors")
    (folder / "classes.txt").write_text("".join(f"{name}\n" for name in classes))
    (folder / "config.yaml").write_text(yaml.safe_dump(values))
    return folder


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return make_photos(tmp_path / "photos", THREE)


@pytest.fixture
def model(tmp_path: Path) -> LoadedModel:
    return load_model(export_of(tmp_path / "export", "multiclass", ["blue", "green", "red"]))


@pytest.fixture
def segmenter(tmp_path: Path) -> LoadedModel:
    network = {"architecture": {"name": "fpn", "channels": 16}, "backbone": "test_resnet", "weights": "none"}
    return load_model(export_of(tmp_path / "masks-export", "segmentation", ["ground", "left", "right"], model=network))


def test_it_says_what_it_is(model: LoadedModel) -> None:
    assert model.task == "multiclass"
    assert model.classes == ("blue", "green", "red")
    assert model.config.image_size == 32
    assert repr(model) == f"<Model {model.folder}: multiclass, 3 classes: blue, green, red>"
    assert vs.load_model is load_model


def test_a_folder_gives_a_row_per_image_as_the_command_does(
    model: LoadedModel, photos: Path, visionsweep: Callable[..., Outcome]
) -> None:
    frame = model.predict(photos)
    rows = json.loads(visionsweep("predict", model.folder, photos, "--json").out)
    assert list(frame.columns) == ["path", "label", "probability/blue", "probability/green", "probability/red"]
    assert frame["path"].tolist() == [row["path"] for row in rows]
    assert frame["label"].tolist() == [row["label"] for row in rows]
    for name in model.classes:
        told = [row["probabilities"][name] for row in rows]
        np.testing.assert_allclose(frame[f"probability/{name}"], told, atol=1e-5)


def test_files_patterns_arrays_and_pil_images_give_the_same_in_the_order_in_which_they_are_named(
    model: LoadedModel, photos: Path
) -> None:
    path = photos / "red" / "00.png"
    array = read_image(path)
    given = [array, str(photos / "red" / "0[0-1].png"), Image.open(path), path]
    frame = model.predict(given)
    paths = [None if pd.isna(one) else one for one in frame["path"]]
    assert paths == [None, str(path), str(photos / "red" / "01.png"), None, str(path)]
    scores = frame[[name for name in frame.columns if name.startswith("probability/")]].to_numpy()
    for number in (1, 3, 4):
        np.testing.assert_allclose(scores[number], scores[0], atol=1e-5)
    assert not np.allclose(scores[2], scores[0], atol=1e-5), "another photo has other scores"


def test_one_array_and_a_batch_of_arrays_are_taken_too(model: LoadedModel, photos: Path) -> None:
    arrays = np.stack([read_image(photos / "red" / name) for name in ("00.png", "01.png")])
    assert len(model.predict(arrays)) == 2
    assert len(model.predict(arrays[0])) == 1
    assert len(model.predict(tuple(arrays))) == 2


def test_a_pil_image_is_turned_as_its_camera_says_and_other_modes_become_rgb(model: LoadedModel, photos: Path) -> None:
    image = Image.open(photos / "red" / "00.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(photos / "turned.jpg", exif=exif, quality=100)
    opened = Image.open(photos / "turned.jpg")
    scores = model.predict([photos / "turned.jpg", opened, opened.convert("L"), np.asarray(opened)])
    columns = [f"probability/{name}" for name in model.classes]
    file, turned, grey, unturned = scores[columns].to_numpy()
    np.testing.assert_allclose(file, turned, atol=1e-5)
    assert not np.allclose(turned, grey, atol=1e-4)
    assert not np.allclose(turned, unturned, atol=1e-4), "an array has no camera that says so"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (np.zeros((4, 4, 3), np.float32), r"an array is one image \(H, W, 3\) of uint8.*got \(4, 4, 3\) of float32"),
        (np.zeros((4, 4), np.uint8), r"got \(4, 4\) of uint8"),
        (np.zeros((4, 4, 4), np.uint8), r"got \(4, 4, 4\) of uint8"),
        ([torch.zeros(3, 4, 4)], "PIL images, or a list of these, got Tensor"),
        (7, "PIL images, or a list of these, got 7"),
        ("nowhere.jpg", "no such image"),
    ],
)
def test_what_is_no_image_is_refused_in_a_sentence(model: LoadedModel, given: Any, words: str) -> None:
    with pytest.raises(DataError, match=words):
        model.predict(given)


def test_a_broken_file_has_an_error_and_costs_no_other_its_row(model: LoadedModel, photos: Path) -> None:
    (photos / "red" / "00.png").write_text("not an image")
    frame = model.predict(photos / "red")
    assert list(frame.columns)[-1] == "error"
    assert frame["error"].notna().tolist() == [True, False, False, False]
    assert frame["label"].notna().tolist() == [False, True, True, True]


def test_no_image_is_an_empty_table(model: LoadedModel) -> None:
    frame = model.predict([])
    assert frame.empty
    assert list(frame.columns) == ["path"]


def test_the_mirror_image_is_averaged_for_the_call_that_asks_for_it_alone(model: LoadedModel, photos: Path) -> None:
    array = read_image(photos / "red" / "00.png")
    columns = [f"probability/{name}" for name in model.classes]
    plain, mirrored = model.predict([array, array[:, ::-1]])[columns].to_numpy()
    both = model.predict([array], tta=True)[columns].to_numpy()[0]
    assert not np.allclose(plain, mirrored, atol=1e-4)
    assert not np.allclose(both, plain, atol=1e-5)
    np.testing.assert_allclose(model.predict([array])[columns].to_numpy()[0], plain, atol=1e-5)


def test_masks_come_as_arrays_at_the_size_of_each_image(
    segmenter: LoadedModel, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    arrays = [read_image(photos / "red" / "00.png"), np.zeros((50, 33, 3), np.uint8)]
    frame = segmenter.predict(arrays)
    assert [mask.shape for mask in frame["mask"]] == [(32, 40), (50, 33)]
    assert all(mask.dtype == np.uint8 and mask.max() < 3 for mask in frame["mask"])
    shares = frame[[name for name in frame.columns if name.startswith("share/")]]
    np.testing.assert_allclose(shares.sum(axis=1), 1, atol=1e-5)
    for number, mask in enumerate(frame["mask"]):
        for name in shares.columns:
            one = segmenter.classes.index(name.removeprefix("share/"))
            assert shares[name][number] == pytest.approx((mask == one).mean(), abs=1e-5)
    assert not (tmp_path / "predictions").exists(), "no file is written unasked"


def test_masks_are_written_too_where_a_folder_is_named(segmenter: LoadedModel, photos: Path, tmp_path: Path) -> None:
    frame = segmenter.predict([photos / "red" / "00.png", np.zeros((8, 8, 3), np.uint8)], out=tmp_path / "said")
    for row in frame.to_dict("records"):
        np.testing.assert_array_equal(np.asarray(Image.open(row["mask_file"])), row["mask"])
        assert Path(row["overlay"]).is_file()
    assert [Path(file).name for file in frame["mask_file"]] == ["00.png", "image-1.png"]


def test_a_folder_for_masks_is_refused_by_a_classifier(model: LoadedModel, photos: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"this model is for multiclass.*Leave it out"):
        model.predict(photos, out=tmp_path / "said")


def test_it_is_judged_as_the_command_judges_it(
    model: LoadedModel, photos: Path, visionsweep: Callable[..., Outcome]
) -> None:
    frame = model.evaluate(photos, no_cache=True)
    (told,) = json.loads(visionsweep("evaluate", model.folder, "--data", photos, "--json").out)
    assert list(frame.columns) == ["value", "low", "high"]
    for name, row in told["metrics"].items():
        assert frame.loc[name, "value"] == pytest.approx(row["value"], abs=1e-5)
        for end in ("low", "high"):
            assert end not in row or frame.loc[name, end] == pytest.approx(row[end], abs=1e-5)
    assert frame.loc["recall/red", "value"] == pytest.approx(told["classes"]["red"]["recall"]["value"], abs=1e-5)
    assert frame.loc["images/red", "value"] == 4
    assert pd.isna(frame.loc["images/red", "low"])
    assert frame.attrs["split"] == told["split"] == "all"
    assert frame.attrs["num_images"] == 12
    assert "not the images that the model was trained on" in frame.attrs["note"]


def test_data_with_other_classes_and_data_that_nobody_names_are_refused(model: LoadedModel, tmp_path: Path) -> None:
    other = make_photos(tmp_path / "other", {"cat": 3, "dog": 3})
    with pytest.raises(DataError, match="the model knows no 'cat', 'dog'"):
        model.evaluate(other, no_cache=True)
    with pytest.raises(RunError, match="does not say which data it was trained on"):
        model.evaluate()
    with pytest.raises(DataError, match="no data in 'nowhere'"):
        model.evaluate("nowhere")


def test_a_folder_that_is_no_export_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is not an export"):
        load_model(tmp_path / "nowhere")
