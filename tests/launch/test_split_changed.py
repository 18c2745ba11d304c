"""Commands that resume a run refuse a table or a list that moves images to another side of the split."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from support import Outcome, tiny_config
from trained_run import trained_run

from analysis.figures.overlays import open_data
from analysis.models.open_run_data import open_run_data
from launch.models.ensembles import ensemble_of
from launch.models.refit import refit
from launch.models.run_data import data_of_run
from launch.search.run import resume
from search_spaces import Float, Search
from trainables.data.formats import load_dataset
from trainables.data.same_data import what_changed
from visionsweep.core.errors import RunError
from visionsweep.run_dir.load import load_run

CLI = Callable[..., Outcome]
CONFIG = tiny_config()
MOVED = "is not the run's data: 10 images moved from test to train ('06.png', '07.png', '08.png' and 7 more)."


def write_table(folder: Path, num_test: int) -> None:
    """Six images to judge by, then `num_test` kept back, and the others to train on."""
    splits = ["val"] * 6 + ["test"] * num_test + ["train"] * (32 - 6 - num_test)
    rows = [f"{i:02d}.png,{('red', 'blue')[i % 2]},{split}" for i, split in enumerate(splits)]
    (folder / "labels.csv").write_text("\n".join(["image,label,split", *rows]) + "\n")


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """A run of one trial, whose table has changed since."""
    photos = tmp_path / "photos"
    photos.mkdir()
    rng = np.random.default_rng(0)
    for i in range(32):
        Image.fromarray(rng.integers(0, 255, (32, 40, 3), dtype=np.uint8)).save(photos / f"{i:02d}.png")
    write_table(photos, 10)
    space = {key: value for key, value in CONFIG.items() if key not in ("task", "epochs")}
    space["optimizer"] = {"name": "adam", "lr": Float(1e-3, 1e-2)}  # a space of one configuration would be tried out
    trained_run(tmp_path / "run", Search(task="classification", space=space, epochs=2), str(photos), [CONFIG])
    search = tmp_path / "run" / "search.json"
    search.write_text(json.dumps({**json.loads(search.read_text()), "started": time.time()}))
    write_table(photos, 0)
    return tmp_path / "run"


COMMANDS: dict[str, Callable[[Path, Console], object]] = {
    "resume": lambda run_dir, console: resume(str(run_dir), 1, None, None, console, time.time()),
    "refit": lambda run_dir, console: refit(run_dir, None, 1, None, "train", console),
    "ensemble": lambda run_dir, console: ensemble_of(run_dir, 2, None, None, console),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_test_images_that_moved_to_train_are_refused(run_dir: Path, name: str) -> None:
    with pytest.raises(RunError) as caught:
        COMMANDS[name](run_dir, Console(quiet=True))
    assert MOVED in str(caught.value)
    write_table(run_dir.parent / "photos", 10)
    assert len(data_of_run(load_run(run_dir)).dataset.indices("test")) == 10


def test_whoever_opens_the_data_again_says_in_one_sentence_that_its_images_have_changed(run_dir: Path) -> None:
    run = load_run(run_dir)
    judged = open_run_data(run, 32, only_judged=True).dataset
    assert [judged.names[i] for i in judged.indices("test")] == run.search["data"]["test"], "the split is the run's"
    photos = run_dir.parent / "photos"
    write_table(photos, 10)
    Image.new("RGB", (40, 32)).save(photos / "00.png")
    openers: list[Callable[[], object]] = [
        lambda: data_of_run(run),
        lambda: open_data(run),
        lambda: open_run_data(run, 32, only_judged=True),
        lambda: open_run_data(run, 32, str(photos)),
    ]
    said = set()
    for opener in openers:
        with pytest.raises(RunError) as caught:
            opener()
        said.add(str(caught.value))
    (sentence,) = said
    assert sentence.startswith(
        f"the data at {photos} is not the run's data: its images, labels or masks are others now ("
    )
    assert sentence.endswith("). Restore it, or start a new run.")


def test_an_export_still_judges_the_images_that_its_run_kept_back(visionsweep: CLI, run_dir: Path) -> None:
    exported = visionsweep("export", run_dir, "--out", "export")
    assert exported.code == 0, exported.err
    judged = visionsweep("evaluate", "export", "--data", run_dir.parent / "photos")
    assert "Split test, 10 images. The model was neither trained on these images" in judged.out


def test_a_training_does_not_go_on_with_what_it_was_to_be_judged_on(visionsweep: CLI, run_dir: Path) -> None:
    exported = visionsweep("export", run_dir, "--out", "export")
    assert exported.code == 0, exported.err
    photos = run_dir.parent / "photos"
    again = run_dir.parent / "again.training"
    command = ("train", "export/config.yaml", "--data", photos, "--out", "again")
    again.mkdir()
    assert visionsweep(*command).code == 0
    again.mkdir()
    (again / "asked.yaml").write_text("# data of the other split")
    told = visionsweep(*command)
    assert "an earlier training of something else" in told.out


def test_masks_that_move_between_lists_are_told(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    for i in range(12):
        Image.fromarray(rng.integers(0, 255, (16, 16, 3), dtype=np.uint8)).save(tmp_path / "images" / f"{i:02d}.png")
        Image.fromarray(rng.integers(0, 2, (16, 16), dtype=np.uint8)).save(tmp_path / "masks" / f"{i:02d}.png")
    (tmp_path / "classes.txt").write_text("ground\nthing\n")

    def listed(num_test: int) -> None:
        ends = {"val": (0, 3), "test": (3, 3 + num_test), "train": (3 + num_test, 12)}
        for split, (start, end) in ends.items():
            (tmp_path / f"{split}.txt").write_text("".join(f"{i:02d}\n" for i in range(start, end)))

    listed(4)
    was = load_dataset(str(tmp_path), short_side_px=16, cache_dir=None)[0].describe()
    listed(2)
    now = load_dataset(str(tmp_path), short_side_px=16, cache_dir=None)[0]
    assert what_changed(now, was) == "2 images moved from test to train ('images/05.png', 'images/06.png')"
