"""Exports as handed over: trained again bit for bit, judged, with a card, and used by predict."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from rich.console import Console
from safetensors.torch import load_file
from support import Outcome, make_photos, tiny_config

from analysis.models.evaluate import evaluate_export
from analysis.models.package import package_export
from analysis.models.predictor import load_export
from launch.models.train import train_one
from trainables.config.io import parse_config
from trainables.data.read_as import ReadAs
from trainables.data.reading import read_image
from trainables.tasks import TASKS
from trainables.worker.threads import limit_threads
from visionsweep.core.errors import DataError

CLI = Callable[..., Outcome]
CONFIG = tiny_config(
    model={"backbone": "test_resnet", "weights": "none", "head": {"name": "linear", "dropout": 0.2}},
    augment={"random_resized_crop": {"scale_min": 0.5}, "horizontal_flip": {}, "mix": {"name": "mixup"}},
)
SEGMENTER = tiny_config(
    task="segmentation",
    model={"architecture": {"name": "fpn", "channels": 16}, "backbone": "test_resnet", "weights": "none"},
    epochs=1,
)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_photos(tmp_path_factory.mktemp("data") / "photos", {"red": 24, "blue": 24})


@pytest.fixture(scope="module")
def made(photos: Path) -> Path:
    """An export of a classifier of red and blue, trained on one thread."""
    return train(CONFIG, photos, photos.parent / "export")


@pytest.fixture
def trained(made: Path, tmp_path: Path) -> Path:
    """A copy of it, for a test to change."""
    return shutil.copytree(made, tmp_path / "export")


def train(values: dict[str, Any], data: Path, out: Path) -> Path:
    """Train like `visionsweep train`, but with one thread.

    The command takes all cores, and bit-for-bit results hold for one.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("launch.models.train.limit_threads", lambda num_threads: limit_threads(1))
        train_one(parse_config(values), str(data), out, None, None, None, ReadAs(), Console(quiet=True))
    return out


def test_training_a_configuration_again_on_one_thread_gives_the_same_weights_to_the_bit(
    trained: Path, photos: Path, tmp_path: Path
) -> None:
    before = torch.get_num_threads()
    try:
        values = yaml.safe_load((trained / "config.yaml").read_text())
        again = train(values, photos, tmp_path / "again")
        other = train({**values, "seed": 1}, photos, tmp_path / "other")
    finally:
        torch.set_num_threads(before)
    first, second, third = (load_file(folder / "model.safetensors") for folder in (trained, again, other))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["head.1.weight"], third["head.1.weight"])


def test_the_card_says_how_good_the_model_is_and_how_sure_that_is(trained: Path) -> None:
    card = (trained / "README.md").read_text()
    metrics = json.loads((trained / "metrics.json").read_text())
    line = next(line for line in card.splitlines() if line.startswith("| auroc |"))
    _, _, value, interval, _ = (cell.strip() for cell in line.split("|"))
    assert value == f"{metrics['val/auroc']:.4f}"
    low, high = map(float, interval.split(" to "))
    assert low <= metrics["val/auroc"] <= high
    fingerprint = json.loads((trained / "data.json").read_text())["fingerprint"]
    for said in (fingerprint, "`blue`, `red`", "The positive class is `red`", "mixup", "nothing was searched",
                 "Resize the shorter side to 37 pixels and cut out the central 32 x 32"):  # fmt: skip
        assert said in card, said
    versions = (trained / "requirements.txt").read_text()
    assert f"torch=={torch.__version__.partition('+')[0]}\n" in versions
    assert "Python 3." in versions


def test_a_card_without_its_data_says_why_it_has_no_intervals(trained: Path) -> None:
    assert package_export(trained, "the data at photos is not the run's data. Restore it", []) == []
    card = (trained / "README.md").read_text()
    assert "Without intervals: the data at photos is not the run's data. Restore it." in card
    metrics = json.loads((trained / "metrics.json").read_text())
    assert f"| f1 | {metrics['val/f1']:.4f} |  |" in card


def test_evaluate_gives_the_numbers_that_the_training_gave(trained: Path, photos: Path, visionsweep: CLI) -> None:
    told = visionsweep("evaluate", trained, "--data", photos, "--json")
    assert told.code == 0, told.err
    (found,) = json.loads(told.out)
    metrics = json.loads((trained / "metrics.json").read_text())
    given = {name.removeprefix("val/"): value for name, value in metrics.items() if name.startswith("val/")}
    assert {name: row["value"] for name, row in found["metrics"].items()} == pytest.approx(given, abs=1e-5)
    assert all(
        row["low"] <= row["value"] + 1e-6 and row["value"] <= row["high"] + 1e-6 for row in found["metrics"].values()
    )
    assert (found["split"], found["note"].startswith("The model was chosen by")) == ("val", True)
    assert {name: row["images"] for name, row in found["classes"].items()} == {"blue": 5, "red": 5}
    as_table = visionsweep("evaluate", trained, "--data", photos, "--split", "train")
    assert "The model was trained on these images" in as_table.out
    assert "95% interval" in as_table.out


def test_other_data_is_judged_as_a_whole_and_data_of_other_classes_is_refused(trained: Path, tmp_path: Path) -> None:
    new = make_photos(tmp_path / "new", {"red": 6, "blue": 4})
    found = evaluate_export(trained, str(new))
    assert (found.split, found.num_images) == ("all", 10)
    assert found.note == "These are not the images that the model was trained on."
    with pytest.raises(DataError, match=r"has no split 'test'\. Name one of all\."):
        evaluate_export(trained, str(new), "test")
    wrong = make_photos(tmp_path / "wrong", {"red": 6, "green": 4})
    with pytest.raises(DataError, match=r"the model knows no 'green'; the data has no 'blue'\. Name data with"):
        evaluate_export(trained, str(wrong))


def test_a_table_of_predictions_has_a_line_per_image_of_a_pattern(
    trained: Path, photos: Path, visionsweep: CLI, tmp_path: Path
) -> None:
    photos = shutil.copytree(photos, tmp_path / "photos")
    (photos / "red" / "01.png").write_bytes(b"no image")
    told = visionsweep("predict", trained, photos / "*" / "0[0-2].png", "--out", "said.csv")
    assert told.code == 1
    assert "01.png' cannot be read: not an image" in told.out
    rows = list(csv.DictReader((tmp_path / "said.csv").read_text().splitlines()))
    assert [Path(row["path"]).parts[-2:] for row in rows] == [
        (c, f"0{i}.png") for c in ("blue", "red") for i in range(3)
    ]
    assert list(rows[0]) == ["path", "label", "probability/blue", "probability/red", "error"]
    assert [bool(row["error"]) for row in rows] == [False] * 4 + [True, False]
    printed = visionsweep("predict", trained, photos / "blue" / "00.png", "--format", "csv")
    assert next(csv.DictReader(io.StringIO(printed.out))) == {k: v for k, v in rows[0].items() if k != "error"}
    nothing = visionsweep("predict", trained, photos / "*.webp")
    assert "no image matches this pattern" in nothing.err
    assert (
        "unknown --format 'cvs'. Did you mean 'csv'?" in visionsweep("predict", trained, photos, "--format", "cvs").err
    )
    assert "Name a table, such as masks.csv" in visionsweep("predict", trained, photos, "--out", "masks").err


def test_test_time_augmentation_is_the_mean_of_an_image_and_its_mirror_image(
    trained: Path, photos: Path, visionsweep: CLI, tmp_path: Path
) -> None:
    image = photos / "red" / "00.png"
    exported = load_export(trained, torch.device("cpu"))
    pixels = read_image(image)
    both = exported.probabilities([pixels, pixels[:, ::-1]])
    (row,) = json.loads(visionsweep("predict", trained, image, "--tta", "--json").out)
    assert row["probabilities"]["red"] == pytest.approx(float(both.mean()), abs=1e-4)
    assert abs(float(both[0] - both[1])) > 1e-4  # the mirror image gives another prediction


def test_a_segmenter_is_judged_by_image_and_its_flipped_masks_flip_back(visionsweep: CLI, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for number in range(12):
        image = rng.integers(0, 60, (40, 50, 3), dtype=np.uint8)
        mask = np.zeros((40, 50), np.uint8)
        left = 5 + 20 * (number % 2)
        image[10:30, left : left + 20] += 150
        mask[10:30, left : left + 20] = 1
        for folder, array in (("images", image), ("masks", mask)):
            (tmp_path / "scenes" / folder).mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(tmp_path / "scenes" / folder / f"{number:02d}.png")
    (tmp_path / "scenes" / "classes.txt").write_text("ground\nthing\n")
    train(SEGMENTER, tmp_path / "scenes", tmp_path / "seg")
    (found,) = json.loads(visionsweep("evaluate", "seg", "--data", "scenes", "--json").out)
    metrics = json.loads((tmp_path / "seg" / "metrics.json").read_text())
    assert found["metrics"]["miou"]["value"] == pytest.approx(metrics["val/miou"], abs=1e-6)
    assert (
        found["classes"]["ground"]["iou"]["low"]
        <= metrics["val/iou/ground"]
        <= found["classes"]["ground"]["iou"]["high"]
    )
    assert found["classes"]["ground"]["pixels"] == 2 * (40 * 50 - 400)
    assert "| `ground` | 3200 |" in (tmp_path / "seg" / "README.md").read_text()

    told = visionsweep("predict", "seg", "scenes/images", "--tta", "--out", "said.json", "--format", "json")
    assert told.code == 0, told.err
    rows = json.loads((tmp_path / "said.json").read_text())
    exported = load_export(tmp_path / "seg", torch.device("cpu"))
    image = read_image(tmp_path / "scenes" / "images" / "03.png")
    means = [TASKS["segmentation"].probabilities(_logits(exported, turned)) for turned in (image, image[:, ::-1])]
    expected = ((means[0] + means[1].flip(3)) / 2).argmax(1)[0]
    with Image.open(tmp_path / rows[3]["mask"]) as mask:
        seen = np.asarray(mask.resize((expected.shape[1], expected.shape[0]), Image.Resampling.NEAREST))
    assert (seen == expected.numpy()).mean() > 0.97  # but for the resizing


def _logits(exported: object, image: np.ndarray) -> torch.Tensor:
    from trainables.data.augment import eval_transform
    from trainables.inference import predict_batch

    small = eval_transform(exported.config)(image=image)["image"]  # type: ignore[attr-defined]
    batch = torch.from_numpy(small.copy())[None]
    return predict_batch(exported.config, exported.models, batch, exported.device)  # type: ignore[attr-defined]
