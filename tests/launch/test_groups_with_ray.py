"""A search with groups and a test split that is kept back: checked, run, and resumed on the same split."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support import Outcome, make_photos, tiny_search

CLI = Callable[..., Outcome]

pytestmark = [pytest.mark.with_ray, pytest.mark.usefixtures("ray_session")]


@pytest.fixture
def objects(tmp_path: Path) -> Path:
    """Eight objects of each class, photographed three times each, and the first photo of one object once more, smaller."""
    photos = make_photos(tmp_path / "photos", {"red": 24, "blue": 24}, (64, 48))
    for file in photos.glob("*/*.png"):
        number = int(file.stem)
        file.rename(file.with_name(f"{file.parent.name[0]}{number // 3:02d}_{number % 3}.png"))
    pixels = np.random.default_rng(0).integers(0, 255, (6, 7, 3), dtype=np.uint8)
    soft = Image.fromarray(pixels).resize((64, 48), Image.Resampling.BICUBIC)
    soft.save(photos / "red" / "r03_0.png")
    soft.resize((50, 40)).save(photos / "red" / "r99_0.png")
    (tmp_path / "tiny.py").write_text(tiny_search())
    return photos


def object_of(name: str) -> str:
    return Path(name).name.partition("_")[0]


def test_a_search_keeps_objects_whole_and_is_resumed_on_the_same_split(
    visionsweep: CLI, objects: Path, tmp_path: Path
) -> None:
    options = ("tiny.py", "--data", objects, "--group", "(.*)_", "--test", "25%")
    checked = visionsweep("check", *options, "--duplicates")
    assert "17 groups by '(.*)_', each on one side" in checked.out, checked.err
    assert "near duplicates: 2 images in 1 set" in checked.out
    assert "red/r03_0.png (" in checked.out

    ran = visionsweep("run", *options, "--trials", 2, "--name", "grouped", "--max-concurrent", 1)
    assert ran.code == 0, ran.err
    file = tmp_path / "runs" / "grouped" / "search.json"
    began = json.loads(file.read_text())
    data = began["data"]
    assert (began["options"]["group"], began["options"]["test"]) == ("(.*)_", "25%")
    assert began["options"]["alike"] == [["red/r03_0.png", "red/r99_0.png"]]
    names = {f"{path.parent.name}/{path.name}" for path in objects.glob("*/*.png")}
    sides = [{*data["val"]}, {*data["test"]}, names - {*data["val"]} - {*data["test"]}]
    assert all(len(side) >= 6 for side in sides)
    of_sides = [{object_of(name) for name in side} for side in sides]
    assert sum(map(len, of_sides)) == 17
    assert sum("r03" in side and "r99" in side for side in of_sides) == 1

    resumed = visionsweep("resume", "runs/grouped", "--trials", "+1")
    assert resumed.code == 0, resumed.err
    again = json.loads(file.read_text())
    assert (again["data"]["val"], again["data"]["test"]) == (data["val"], data["test"])
    exported = visionsweep("export", "runs/grouped", "--single", "--out", "kept")
    assert exported.code == 0, exported.err
    judged = visionsweep("evaluate", "kept", "--split", "test")
    assert f"Split test, {len(data['test'])} images." in judged.out
