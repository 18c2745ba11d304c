"""Images that are no RGB of 8 bits: read as they are, trained on, handed over, predicted."""

from __future__ import annotations

import base64
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from analysis.models.evaluate import evaluate_export
from analysis.models.graphs import write_graphs
from analysis.models.loaded import load_model
from analysis.models.predictor import ExportedModel, load_export
from launch.models.train import train_one
from trainables.config.bands import Bands
from trainables.config.io import dump_config, parse_config
from trainables.config.model import ClassifierConfig
from trainables.data import bands
from trainables.data.band_statistics import band_statistics
from trainables.data.bands import Kind, read_bands, shown
from trainables.data.formats import load_dataset, read_image, scan_data
from trainables.data.loader import TrialData
from trainables.data.read_as import ReadAs
from trainables.data.view import View
from trainables.loop import fit
from trainables.models.build import build_model
from visionsweep.core.errors import DataError

# Written by tifffile: (6, 7, 5) of 0, 11, 22, ... in 16 bits, big-endian, side by side, deflate, as differences.
FIVE_BANDS = (
    "TU0AKgAAAAgADwEAAAQAAAABAAAABwEBAAQAAAABAAAABgECAAMAAAAFAAAAwgEDAAMAAAABAAgAAAEGAAMAAAABAAEAAAERAAQAAAABAAAA8AEVAAMA"
    "AAABAAUAAAEWAAQAAAABAAAABgEXAAQAAAABAAAAVQEaAAUAAAABAAAAzAEbAAUAAAABAAAA1AEcAAMAAAABAAEAAAEoAAMAAAABAAEAAAE9AAMAAAAB"
    "AAIAAAFSAAMAAAAEAAAA3AAAAAAAEAAQABAAEAAQAAAAAQAAAAEAAAABAAAAAQAAAAAAAAAAAAAAAAAAAAAAAAAAeJxjYGDgZhBjUGTQYTAnHzI2MvYw"
    "TmdcxLiWElOYmZh5mSWYlZn1KDGFpZmlj2UmyxKW9ZSYwsbCxs8mxabKZkCJKeyt7BPYZ7MvY99IiSkA0SAxdQ=="
)
BANDS = {"dtype": "uint16", "mean": [1000.0] * 4, "std": [300.0] * 4}


def pages(path: Path, image: np.ndarray) -> None:
    """Write (H, W, C) as a page for each channel."""
    first, *others = [Image.fromarray(np.ascontiguousarray(image[:, :, channel])) for channel in range(image.shape[2])]
    first.save(path, save_all=True, append_images=others)


@pytest.fixture(scope="module")
def fields(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """48 images of four channels of 16 bits, whose classes differ in the last one alone."""
    root = tmp_path_factory.mktemp("fields")
    random = np.random.default_rng(0)
    for name, last in (("dry", 0.5), ("wet", 1.5)):
        (root / name).mkdir()
        for number in range(24):
            image = random.random((20, 24, 4))
            image[:, :, 3] *= last
            pages(root / name / f"{number}.tif", (image * 2000).astype(np.uint16))
    return root


def test_every_channel_of_a_file_is_read_at_its_own_depth(tmp_path: Path) -> None:
    (tmp_path / "five.tif").write_bytes(base64.b64decode(FIVE_BANDS))
    five = (np.arange(6 * 7 * 5) * 11).reshape(6, 7, 5).astype(np.uint16)
    assert (read_bands(tmp_path / "five.tif") == five).all()
    pages(tmp_path / "pages.tif", five)
    assert (read_bands(tmp_path / "pages.tif", Kind(5, "uint16")) == five).all()
    cv2.imwrite(str(tmp_path / "deep.png"), five[:, :, 2::-1])
    assert (read_bands(tmp_path / "deep.png") == five[:, :, :3]).all()
    cv2.imwrite(str(tmp_path / "heights.tif"), five[:, :, 0] - np.float32(500.5))
    assert (read_bands(tmp_path / "heights.tif")[:, :, 0] == five[:, :, 0] - np.float32(500.5)).all()
    Image.fromarray(five[:, :, :2].astype(np.uint8), "LA").save(tmp_path / "two.png")
    assert (read_bands(tmp_path / "two.png") == five[:, :, :2].astype(np.uint8)).all()


def test_files_that_are_not_alike_or_cannot_be_read_are_named(tmp_path: Path) -> None:
    five = tmp_path / "five.tif"
    five.write_bytes(base64.b64decode(FIVE_BANDS))
    with pytest.raises(DataError, match=r"has 5 channels of 16 bits, and 4 channels of 16 bits are trained on"):
        read_bands(five, Kind(4, "uint16"))
    with pytest.raises(DataError, match=r"it has 5 channels of 16 bits, and RGB is read; --channels auto reads all"):
        read_image(five)
    five.write_bytes(base64.b64decode(FIVE_BANDS)[:-40])
    with pytest.raises(DataError, match=r"image '.*five\.tif' cannot be read"):
        read_bands(five)
    cv2.imwrite(str(tmp_path / "nan.tif"), np.full((4, 4), np.nan, np.float32))
    with pytest.raises(DataError, match=r"nan\.tif' has values that are not finite"):
        read_bands(tmp_path / "nan.tif")
    with pytest.raises(DataError, match=r"--channels takes 1 to 13, or auto for what the files have, got '14'"):
        ReadAs(channels="14")


def test_what_is_lost_without_channels_is_said(fields: Path, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for number in range(4):
            grey = random.integers(0, 60000, (16, 16)).astype(np.uint16)
            cv2.imwrite(str(tmp_path / name / f"{number}.png"), grey)
    dataset, images = load_dataset(str(tmp_path), short_side_px=16, cache_dir=None)
    assert dataset.notes == ("8 images of 16 bits: shrunk to 8. --channels auto trains on them as they are.",)
    assert images[0].dtype == np.uint8
    dataset, _ = load_dataset(str(fields), short_side_px=16, cache_dir=None)
    assert any(note.startswith("48 images of several pages: the first is taken.") for note in dataset.notes)
    with pytest.raises(DataError, match=r"has 1 channel of 16 bits, and --channels is 3\. Pass --channels 1, or auto"):
        load_dataset(str(tmp_path), channels="3", short_side_px=16, cache_dir=None)
    with pytest.raises(DataError, match="--channels is for files of your own, and 'digits' has none"):
        load_dataset("digits", channels="1", short_side_px=16, cache_dir=None)


def test_of_many_files_some_headers_are_read_all_over_the_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bands, "LOOKED_AT", 5)
    for number in range(20):
        (tmp_path / "ab"[number >= 10]).mkdir(exist_ok=True)
        grey = np.full((16, 16), number, np.uint16 if number >= 10 else np.uint8)
        cv2.imwrite(str(tmp_path / "ab"[number >= 10] / f"{number}.png"), grey)
    looked_at = list[str]()
    depths = bands._depths
    monkeypatch.setattr(bands, "_depths", lambda root, names: looked_at.extend(names) or depths(root, names))
    notes = scan_data(str(tmp_path), cache_dir=None).notes
    assert looked_at == ["a/0.png", "a/4.png", "a/8.png", "b/12.png", "b/16.png"]
    assert (
        "Of 5 files looked at, among 20 taken to be like them: 2 images of 16 bits: shrunk to 8. "
        "--channels auto trains on them as they are."
    ) in notes


def test_photos_are_read_as_ever_whatever_channels_says(photos: Path, tmp_path: Path) -> None:
    plain, images = load_dataset(str(photos), short_side_px=32, cache_dir=tmp_path)
    auto, same = load_dataset(str(photos), channels="auto", short_side_px=32, cache_dir=tmp_path)
    assert (auto.fingerprint, auto.notes) == (plain.fingerprint, plain.notes)
    assert (images[0] == same[0]).all()
    assert band_statistics(auto, same) is None
    config = ClassifierConfig(backbone="resnet18")
    assert "bands" not in config.model_dump()


def test_the_cache_keeps_depth_and_channels_and_their_statistics(fields: Path, tmp_path: Path) -> None:
    dataset, images = load_dataset(str(fields), channels="auto", short_side_px=16, cache_dir=tmp_path)
    index = dataset.indices("train")[3]
    assert images[index].shape == (16, 19, 4)
    assert images[index].dtype == np.uint16
    assert (images[index] == View(16).shrink(read_bands(fields / dataset.names[index]))).all()
    bands = band_statistics(dataset, images)
    assert bands is not None
    pixels = np.concatenate([images[i].reshape(-1, 4) for i in dataset.indices("train")]).astype(np.float64)
    assert np.allclose(bands.mean, pixels.mean(axis=0))
    assert np.allclose(bands.std, pixels.std(axis=0))
    assert band_statistics(dataset, images) == bands
    assert len(list(tmp_path.glob("*-bands-*.json"))) == 1


@pytest.mark.parametrize("size", [(40, 31), (9, 70), (12, 12)])
def test_every_channel_is_resized_alone(size: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 60000, (*size, 13)).astype(np.uint16)
    view = View(24, crop=20)
    each = [view.apply(np.ascontiguousarray(image[:, :, [channel]])) for channel in range(13)]
    assert (view.apply(image) == np.concatenate(each, axis=2)).all()
    assert (view.apply(view.shrink(image)) == view.apply(image)).all()


def test_a_first_layer_takes_what_the_pretrained_one_knows() -> None:
    bands = Bands(dtype="uint16", mean=(7.0,) * 6, std=(2.0,) * 6)
    rgb = ClassifierConfig(backbone="tf_efficientnet_lite0")
    before, after = (
        build_model(rgb.model_copy(update={"bands": one}), 2, 32).backbone.get_submodule("conv_stem").weight
        for one in (None, bands)
    )
    assert torch.allclose(after, torch.cat([before, before], dim=1) / 2)
    scratch = build_model(rgb.model_copy(update={"bands": bands, "weights": "none"}), 2, 32)
    weight = scratch.backbone.get_submodule("conv_stem").weight
    assert not torch.allclose(weight[:, :3], weight[:, 3:])
    assert scratch.pixel_mean.flatten().tolist() == pytest.approx([7.0] * 6)


@pytest.mark.usefixtures("one_thread")
def test_a_probe_of_four_bands_is_trained_handed_over_and_predicts(fields: Path, tmp_path: Path) -> None:
    values = {
        "task": "binary",
        "model": {"backbone": "test_resnet", "weights": "none", "freeze": "all"},
        "optimizer": {"name": "lbfgs"},
        "epochs": 1,
        "batch_size": 8,
        "image_size": 32,
        "views": 1,
    }
    out = tmp_path / "out"
    reading = ReadAs(channels="4")
    train_one(parse_config(values), str(fields), out, None, None, str(tmp_path / "cache"), reading, Console(quiet=True))
    judged = evaluate_export(out, str(fields), cache_dir=tmp_path / "cache")
    assert judged.metrics["accuracy"]["value"] >= 0.9, "only the fourth channel tells the classes"
    model = load_model(out, "cpu")
    rows = model.predict([fields / "wet" / "0.tif", read_bands(fields / "wet" / "0.tif"), fields / "dry" / "0.tif"])
    assert rows["label"].tolist() == ["wet", "wet", "dry"]
    assert rows["probability/wet"][0] == rows["probability/wet"][1]
    with pytest.raises(DataError, match=r"an array is one image \(H, W, 4\) of uint16"):
        model.predict(np.zeros((8, 8, 3), np.uint8))
    exported = load_export(out, torch.device("cpu"))
    assert isinstance(exported, ExportedModel)
    images = [read_bands(fields / "wet" / f"{number}.tif") for number in range(3)]
    (graph,) = write_graphs(exported, tmp_path, images, {}, onnx=False, pt2=True)
    assert graph.problem == ""
    assert "1. Decode 4 channels of uint16, as the file has them." in (out / "README.md").read_text()


@pytest.mark.usefixtures("one_thread")
def test_masks_of_four_bands_train_through_geometric_augmentations(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    for number in range(10):
        mask = (random.random((24, 30)) > 0.5).astype(np.uint8)
        pages(tmp_path / "images" / f"{number}.tif", (random.random((24, 30, 4)) * 2000).astype(np.uint16))
        cv2.imwrite(str(tmp_path / "masks" / f"{number}.png"), mask)
    dataset, images = load_dataset(str(tmp_path), channels="auto", short_side_px=32, cache_dir=None)
    config = parse_config(
        {
            "task": "segmentation",
            "model": {"architecture": {"name": "voc_baseline"}, "weights": "none", "bands": BANDS},
            "optimizer": {"name": "adam", "lr": 1e-3},
            "augment": {"tone": {"p": 1.0}, "horizontal_flip": {}, "rotate": {"p": 1.0}, "rescale": {}},
            "epochs": 1,
            "batch_size": 4,
            "image_size": 32,
        }
    )
    assert parse_config(config.model_dump()) == config
    assert "uint16" in dump_config(config)
    (result,) = fit(config, TrialData(dataset, images), torch.device("cpu"))
    assert 0 <= result.metrics["val/miou"] <= 1


def test_a_deep_image_is_shown_from_its_darkest_to_its_brightest_value() -> None:
    deep = np.linspace(1000, 1400, 400).reshape(20, 20, 1).astype(np.uint16)
    seen = shown(deep)
    assert (seen.shape, seen.dtype, seen.min(), seen.max()) == ((20, 20, 3), np.uint8, 0, 255)
    photo = np.zeros((4, 4, 3), np.uint8)
    assert shown(photo) is photo
