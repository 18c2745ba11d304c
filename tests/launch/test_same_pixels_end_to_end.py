"""In a search over two sizes with a small centre crop, `evaluate` of an export gives the trial's score."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support import Outcome

pytestmark = pytest.mark.with_ray

CLI = Callable[..., Outcome]
TINY = """
from search_spaces import Pick, Search

SEARCH = Search(
    task="binary",
    space={"image_size": Pick(32, 64), "fit_image": Pick("crop", "squash"), "batch_size": 8},
    fixed={
        "model": {"backbone": "test_resnet", "weights": "none"},
        "optimizer": {"name": "adam", "lr": 0.003},
        "eval_crop": 0.5,
    },
    warm_start=[
        {"image_size": 32, "fit_image": "crop"}, {"image_size": 64, "fit_image": "crop"},
        {"image_size": 32, "fit_image": "squash"},
    ],
    epochs=2, grace_epochs=2,
)
"""


@pytest.mark.usefixtures("ray_session")
def test_evaluate_says_of_every_trial_of_a_search_what_the_search_said(visionsweep: CLI, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for number in range(40):
        folder = tmp_path / "photos" / ("dark" if number % 2 else "light")
        folder.mkdir(parents=True, exist_ok=True)
        size = (60 + 7 * number, 150 - 2 * number, 3)
        Image.fromarray(rng.integers(0, 180 + 75 * (number % 2), size, dtype=np.uint8)).save(folder / f"{number}.png")
    (tmp_path / "tiny.py").write_text(TINY)
    asked = ("--trials", 3, "--max-concurrent", 1, "--name", "two")
    searched = visionsweep("run", "tiny.py", "--data", "photos", *asked)
    assert searched.code == 0, searched.err
    rows = json.loads(visionsweep("rank", "runs/two", "--json").out)
    complete = [row for row in rows if row["status"] == "complete"]
    assert len({(row["config"]["image_size"], row["config"]["fit_image"]) for row in complete}) >= 2
    for row in complete:
        trial_id = row["trial_id"]
        exported = visionsweep("export", "runs/two", "--trial", trial_id, "--out", f"out-{trial_id}")
        assert exported.code == 0, exported.err
        recorded = json.loads((tmp_path / f"out-{trial_id}" / "metrics.json").read_text())
        for options in ([], ["--no-cache"]):
            told = visionsweep("evaluate", f"out-{trial_id}", "--data", "photos", "--split", "val", "--json", *options)
            assert told.code == 0, told.err
            (judged,) = json.loads(told.out)
            for name, value in judged["metrics"].items():
                assert value["value"] == recorded[f"val/{name}"], (trial_id, name)
