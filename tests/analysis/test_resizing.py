"""A graph fed by the few lines that the card prints gives the model's answer."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console
from support import tiny_config

from analysis.models.package import package_export
from analysis.models.predict import predict_images
from analysis.models.predictor import ExportedModel, load_export
from analysis.models.resizing import BOUND, Elsewhere, compare, with_numpy, with_pillow
from launch.models.train import train_one
from trainables.config.io import parse_config
from trainables.data.formats import load_dataset
from trainables.data.loader import TrialData
from trainables.data.read_as import ReadAs
from trainables.data.view import View

CLASSIFIER = tiny_config(optimizer={"name": "adam", "lr": 0.01}, image_size=48)
SEGMENTER = tiny_config(
    task="segmentation",
    model={"architecture": {"name": "fpn", "channels": 16}, "backbone": "test_resnet", "weights": "none"},
    optimizer={"name": "adam", "lr": 0.01},
    batch_size=4,
)


def smooth(rng: np.random.Generator, width: int, height: int, tint: int) -> Image.Image:
    """Soft patches, as in a photo, with a little noise on them."""
    patches = rng.integers(0, 200, (9, 7, 3), dtype=np.uint8)
    patches[..., 0] += tint
    large = np.asarray(Image.fromarray(patches).resize((width, height), Image.Resampling.BICUBIC)).astype(int)
    return Image.fromarray((large + rng.integers(-8, 8, large.shape)).clip(0, 255).astype(np.uint8))


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos larger and smaller than the networks' input. One is rotated by its EXIF orientation."""
    root = tmp_path_factory.mktemp("data") / "photos"
    rng = np.random.default_rng(0)
    exif = Image.Exif()
    exif[274] = 6
    for number in range(40):
        width, height = (150 + 11 * number, 120 + 7 * number) if number % 5 else (40, 30 + number)
        folder = root / ("red" if number % 2 else "other")
        folder.mkdir(parents=True, exist_ok=True)
        image = smooth(rng, width, height, 55 if number % 2 else 0)
        image.save(folder / f"{number:02d}.jpg", quality=95, **({"exif": exif} if number == 7 else {}))
    return root


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / "scenes"
    rng = np.random.default_rng(1)
    for number in range(16):
        width = 60 + 9 * number
        height = 40 + 8 * number
        mask = np.zeros((height, width), np.uint8)
        mask[:, : width // 2] = 1
        for folder, image in (("images", smooth(rng, width, height, 0)), ("masks", Image.fromarray(mask))):
            (root / folder).mkdir(parents=True, exist_ok=True)
            image.save(root / folder / f"{number:02d}.png")
    (root / "classes.txt").write_text("ground\nthing\n")
    return root


def exported_with_graph(values: dict[str, Any], data: Path, out: Path) -> Path:
    train_one(parse_config(values), str(data), out, None, None, None, ReadAs(), Console(quiet=True))
    again = TrialData(*load_dataset(str(data), task=values["task"], short_side_px=64, cache_dir=None))
    (written,) = package_export(out, again, [], onnx=True)
    assert not written.problem
    return out


def code_of(card: str, start: str = "    import cv2") -> list[str]:
    """The lines of code of a card that begin with `start`."""
    lines = card.splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith(start))
    return [line[4:] for line in lines[at : lines.index("", at)]]


def without_cv2(card: str) -> list[str]:
    """Return the card's code with its alternative for the two lines that call OpenCV."""
    code = code_of(card)
    instead = code_of(card, "    pixels = np.asarray(image).astype(float)")
    at = next(number for number, line in enumerate(code) if "cv2.resize" in line)
    assert "cv2.resize" in code[at + 1]
    return [code[0].replace("cv2, ", ""), *code[1:at], *instead, *code[at + 2 :]]


def said(code: list[str], folder: Path, photo: Path, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    monkeypatch.chdir(folder)
    names: dict[str, Any] = {}
    exec("\n".join(code).replace("photo.jpg", str(photo)), names)
    return np.asarray(names["probabilities"])


@pytest.mark.parametrize("changed", [{"eval_crop": 0.5}, {"fit_image": "squash"}], ids=["crop", "squash"])
def test_a_classifiers_graph_says_what_predict_says_by_the_lines_of_its_card(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: dict[str, Any]
) -> None:
    out = exported_with_graph({**CLASSIFIER, **changed}, photos, tmp_path / "out")
    card = (out / "README.md").read_text()
    found = re.search(r"count on (\S+) in the probabilities", card)
    assert found is not None
    bound = float(found[1])
    paths = sorted(photos.rglob("*.jpg"))
    for path, row in zip(paths, predict_images(out, paths), strict=True):
        expected = row["probabilities"]["red"]
        assert said(code_of(card), out, path, monkeypatch)[0, 0] == pytest.approx(expected, abs=1e-4)
        assert said(without_cv2(card), out, path, monkeypatch)[0, 0] == pytest.approx(expected, abs=bound)


@pytest.mark.parametrize("changed", [{"short_side": 40}, {"fit_image": "squash"}], ids=["whole", "squash"])
def test_a_segmenters_graph_says_what_the_network_says_by_the_lines_of_its_card(
    scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: dict[str, Any]
) -> None:
    out = exported_with_graph({**SEGMENTER, **changed}, scenes, tmp_path / "out")
    card = (out / "README.md").read_text()
    assert re.search(r"and \S+% of the pixels change\.", card)
    exported = load_export(out, torch.device("cpu"))
    assert isinstance(exported, ExportedModel)
    for path in sorted((scenes / "images").iterdir()):
        with Image.open(path) as image:
            (seen,) = exported.seen(np.array(image.convert("RGB")))
        expected = exported.logits(torch.from_numpy(seen)[None]).softmax(dim=1).numpy()
        np.testing.assert_allclose(said(code_of(card), out, path, monkeypatch), expected, atol=1e-4)
        np.testing.assert_allclose(said(without_cv2(card), out, path, monkeypatch), expected, atol=BOUND)


@pytest.mark.parametrize("shape", [(200, 260), (73, 73), (30, 41), (20, 300), (301, 40), (48, 48), (49, 48)], ids=str)
@pytest.mark.parametrize("view", [View(55, crop=48), View(48, squash=True), View(40)], ids=str)
def test_averages_by_numpy_are_opencvs_but_for_the_rounding(view: View, shape: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 255, (*shape, 3), dtype=np.uint8)
    ours, numpys, pillows = (
        one.astype(int) for one in (view.apply(image), with_numpy(view, image), with_pillow(view, image))
    )
    assert ours.shape == numpys.shape == pillows.shape
    assert np.abs(ours - numpys).max() <= 2  # one of the average, one of the enlargement


def test_images_of_the_final_size_differ_by_nothing(tmp_path: Path, photos: Path) -> None:
    train_one(
        parse_config({**CLASSIFIER, "eval_crop": 1.0}), str(photos), tmp_path / "out", None, None, None, ReadAs(),
        Console(quiet=True),
    )  # fmt: skip
    exported = load_export(tmp_path / "out", torch.device("cpu"))
    assert isinstance(exported, ExportedModel)
    images = [np.random.default_rng(i).integers(0, 255, (48, 48, 3), dtype=np.uint8) for i in range(3)]
    seen, elsewhere = compare(exported, images)
    assert all((one == image).all() for one, image in zip(seen, images, strict=True))
    assert elsewhere == Elsewhere(3, 0.0, 0.0, 0.0)
