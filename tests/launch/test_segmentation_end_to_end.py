"""Masks through the command line: search, rank, export, predict, train again, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from support import Outcome, tiny_search

from search_spaces import Branch, Float, Pick

pytestmark = pytest.mark.with_ray

CLI = Callable[..., Outcome]

TINY = tiny_search(
    task="segmentation",
    space={
        "model": {
            "architecture": Branch({"unet": {"channels": 16}, "fpn": {"channels": 16}}),
            "backbone": Pick("test_resnet", "test_efficientnet"),
        },
        "loss": Branch({"cross_entropy": {"class_weights": Pick("none", "median_frequency")}, "dice": {}}),
        "optimizer": {"name": "adam", "lr": Float(1e-3, 1e-2, log=True)},
        "batch_size": 4,
    },
    fixed={"model": {"weights": "none"}, "image_size": 32, "short_side": 40},
    epochs=3,
    grace_epochs=1,
    reduction_factor=2,
)
CLASSES = ("background", "left", "right")


@pytest.fixture
def scenes(tmp_path: Path) -> Path:
    """Sixteen images of 50 x 40 px, bright to the left (class 1) or right (class 2), void in the corner."""
    rng = np.random.default_rng(0)
    for number in range(16):
        side = number % 2
        image = rng.integers(0, 60, (40, 50, 3), dtype=np.uint8)
        mask = np.zeros((40, 50), np.uint8)
        place = np.s_[10:30, 5:20] if side == 0 else np.s_[10:30, 30:45]
        image[place] += 150
        mask[place] = 1 + side
        mask[:3, :3] = 255
        for folder, array in (("images", image), ("masks", mask)):
            (tmp_path / "scenes" / folder).mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(tmp_path / "scenes" / folder / f"{number:02d}.png")
    (tmp_path / "scenes" / "classes.txt").write_text("".join(f"{name}\n" for name in CLASSES))
    return tmp_path / "scenes"


@pytest.mark.usefixtures("ray_session")
def test_a_search_over_segmenters_ends_in_masks(visionsweep: CLI, scenes: Path, tmp_path: Path) -> None:
    (tmp_path / "tiny.py").write_text(TINY)
    searched = visionsweep("run", "tiny.py", "--data", scenes, "--trials", 4, "--max-concurrent", 1, "--name", "seg")
    assert searched.code == 0, searched.err
    assert "Best" in searched.out
    assert "IoU by class: " in searched.out

    rows = json.loads(visionsweep("rank", "runs/seg", "--json").out)
    best = rows[0]
    assert best["status"] == "complete"
    assert best["metrics"].keys() >= {"val/miou", "val/pixel_accuracy", "val/mean_accuracy", "val/fw_iou"}
    assert "fpn on " in searched.out + visionsweep("rank", "runs/seg").out

    exported = visionsweep("export", "runs/seg", "--out", "best")
    assert exported.code == 0, exported.err
    assert (tmp_path / "best" / "classes.txt").read_text().split() == list(CLASSES)

    large = tmp_path / "large.jpg"  # of a size that the search never saw
    with Image.open(scenes / "images" / "00.png") as image:
        image.resize((301, 203)).save(large)
    predicted = visionsweep("predict", "best", scenes / "images" / "00.png", large, "--out", "masks", "--json")
    assert predicted.code == 0, predicted.err
    for row, size in zip(json.loads(predicted.out), ((50, 40), (301, 203)), strict=True):
        arrays = {}
        for kind, mode in (("mask", "L"), ("colours", "P"), ("overlay", "RGB")):
            with Image.open(row[kind]) as image:
                assert (image.size, image.mode) == (size, mode)
                arrays[kind] = np.asarray(image)
        assert (arrays["mask"] == arrays["colours"]).all()
        assert arrays["mask"].max() < len(CLASSES)
        shares = {name: (arrays["mask"] == i).mean() for i, name in enumerate(CLASSES)}
        assert row["shares"] == pytest.approx({name: share for name, share in shares.items() if share}, abs=1e-5)
    assert (tmp_path / "masks" / "palette.txt").read_text().splitlines()[0] == "0 0 0 background"

    again = visionsweep("train", "best/config.yaml", "--data", scenes, "--out", "again")
    assert again.code == 0, again.err
    assert json.loads((tmp_path / "again" / "metrics.json").read_text())["val/miou"] == pytest.approx(
        best["metrics"]["val/miou"], abs=0.15
    )


@pytest.mark.usefixtures("ray_session")
def test_classes_merge_in_a_search_and_its_best_can_be_one_classs_iou(
    visionsweep: CLI, scenes: Path, tmp_path: Path
) -> None:
    (tmp_path / "tiny.py").write_text(TINY)
    common = ("run", "tiny.py", "--data", scenes, "--trials", 1, "--set", "merge={bright: [left, right]}")
    searched = visionsweep(*common, "--set", "metric=val/iou/bright", "--name", "merged")
    assert searched.code == 0, searched.err
    assert "val/iou/bright" in searched.out
    assert visionsweep("export", "runs/merged", "--out", "merged").code == 0
    assert (tmp_path / "merged" / "classes.txt").read_text().split() == ["background", "bright"]

    wrong = visionsweep(*common, "--set", "metric=val/iou/brigth", "--name", "wrong")
    assert wrong.code == 2
    assert "metric 'val/iou/brigth': the data has no class 'brigth'. Did you mean 'bright'?" in wrong.err
    wrong = visionsweep("run", "tiny.py", "--data", scenes, "--set", "merge={a: [lefft]}", "--name", "wrong")
    assert wrong.code == 2
    assert "merge: the data has no class 'lefft'. Did you mean 'left'?" in wrong.err
    assert not (tmp_path / "runs" / "wrong").exists()


def test_a_recipe_trains_a_segmenter_by_name_and_averages_its_best_epochs(
    visionsweep: CLI, scenes: Path, tmp_path: Path
) -> None:
    small = ("image_size=32", "batch_size=4", "epochs=3", "ensemble=2", "ensemble_metric=val/loss")
    options = [part for one in small for part in ("--set", one)]
    trained = visionsweep("train", "--recipe", "report-voc/baseline", "--data", scenes, "--out", "voc", *options)
    assert trained.code == 0, trained.err
    assert "Mean of epochs [" in trained.out
    assert sorted(path.name for path in (tmp_path / "voc").glob("*.safetensors")) == [
        "model-1.safetensors",
        "model-2.safetensors",
    ]
    about = json.loads((tmp_path / "voc" / "metrics.json").read_text())
    assert len(about["epochs"]) == 2
    assert f"{about['val/miou']:.4f}" in trained.out
    assert yaml.safe_load((tmp_path / "voc" / "config.yaml").read_text())["ensemble"] == 2
    predicted = visionsweep("predict", "voc", scenes / "images" / "00.png")
    assert predicted.code == 0, predicted.err
    assert "predictions/masks/00.png" in predicted.out


def _wrong_size(scenes: Path) -> None:
    Image.new("L", (40, 40)).save(scenes / "masks" / "03.png")


def _beyond(scenes: Path) -> None:
    mask = np.array(Image.open(scenes / "masks" / "03.png"))
    mask[5, 5] = 17
    Image.fromarray(mask).save(scenes / "masks" / "03.png")


def _unknown_colour(scenes: Path) -> None:
    (scenes / "palette.txt").write_text("0 0 0 background\n255 0 0 left\n0 255 0 right\n")
    mask = np.zeros((40, 50, 3), np.uint8)
    for path in (scenes / "masks").iterdir():
        Image.fromarray(mask).save(path)
    mask[7, 7] = (1, 2, 3)
    Image.fromarray(mask).save(scenes / "masks" / "03.png")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda scenes: (scenes / "masks" / "03.png").unlink(), ("03.png", "has no mask")),
        (_wrong_size, ("03.png", "40 x 40", "50 x 40")),
        (_beyond, ("03.png", "17", "3 classes")),
        (_unknown_colour, ("03.png", "(1, 2, 3)", "palette.txt")),
    ],
    ids=["missing", "wrong size", "beyond the classes", "unknown colour"],
)
@pytest.mark.parametrize("command", ["train", "run"])
def test_a_bad_mask_is_named_with_its_value_before_anything_is_trained(
    visionsweep: CLI,
    scenes: Path,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    command: str,
    spoil: Callable[[Path], None],
    words: tuple[str, ...],
) -> None:
    spoil(scenes)
    if command == "run":
        request.getfixturevalue("ray_session")
        (tmp_path / "tiny.py").write_text(TINY)
        refused = visionsweep("run", "tiny.py", "--data", scenes, "--trials", 1, "--name", "bad")
        assert not (tmp_path / "runs" / "bad").exists()
    else:
        refused = visionsweep("train", "--recipe", "report-voc/baseline", "--data", scenes)
    assert refused.code == 2
    assert refused.err.count("visionsweep: ") == 1
    assert refused.err.strip().splitlines()[-1].startswith("visionsweep: ")
    for word in words:
        assert word in refused.err
