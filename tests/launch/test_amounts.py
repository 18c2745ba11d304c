"""How much of a large set a search uses: the rule, and trials on 50 photos and on half a million."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support import Outcome, lines, make_photos

from launch.cli.loading import load_search
from launch.machines.cluster import MachineShare
from launch.search.amounts import LEAST, MOST_OF_PROBE, Amounts, amounts, is_said, with_amounts
from launch.search.prepare import RunOptions, as_settled, load_data, prepared
from launch.search.speed import Speed, speeds, usual
from search_spaces.search import Search
from search_spaces.shipped import SEARCHES
from trainables.config.io import parse_config
from trainables.data.augment import cached_short_side
from trainables.data.cache_build import Source
from trainables.data.dataset import Dataset
from trainables.data.formats import load_dataset
from trainables.data.images import DecodedImages
from trainables.data.loader import TrialData
from trainables.data.same_data import what_changed
from trainables.data.view import View
from trainables.loop import fit

pytestmark = pytest.mark.with_ray

HERE = Path(__file__).parent
SEARCH_FILE = HERE / "tiny_lengths.py"
NUM_FOLDERS = 2500
IMAGES_EACH = 200


def speed(train_s: float = 0.02, judge_s: float = 0.005, shortest: int = 2, **config: object) -> Speed:
    return Speed(1.0, 0.0, train_s, judge_s, shortest, config)


def cpu_search() -> Search:
    return SEARCHES["classification-cpu"].for_task("multiclass")


def test_a_dozen_of_the_shortest_trials_take_the_budget_that_is_theirs() -> None:
    one = speed()
    cut = amounts(400_000, 100_000, 2400.0, {"finetune": one}, set())
    images = cut.epoch_images["finetune"]
    judged = cut.val_images or 0
    trial_s = 1.0 + 2 * (images * one.train_s + judged * one.judge_s)
    assert 0.9 * 0.6 * 2400 <= 12 * trial_s <= 0.6 * 2400
    assert LEAST < judged < 10_000
    assert LEAST < images < 10_000


def test_twice_the_budget_shows_about_twice_the_images_and_enough_of_it_all() -> None:
    once, twice = (amounts(400_000, 100_000, 2400.0 * by, {"": speed()}, set()).epoch_images[""] for by in (1, 2))
    assert 1.9 < twice / once < 2.2
    assert amounts(400_000, 100_000, 1e7, {"": speed()}, set()) == Amounts()


def test_the_shortest_budget_still_shows_what_tells_something() -> None:
    assert amounts(400_000, 100_000, 1.0, {"": speed()}, set()) == Amounts(LEAST, {"": LEAST})


def test_a_probe_learns_from_no_more_images_than_change_its_head() -> None:
    cut = amounts(400_000, 1000, 1e5, {"probe": speed(1e-3, 1e-3, 1, views=1)}, {"probe"})
    assert cut == Amounts(None, {"probe": MOST_OF_PROBE})


def test_the_proposals_of_a_search_that_is_cut_are_those_of_one_that_is_not() -> None:
    search = cpu_search()
    cut = with_amounts(search, Amounts(2000, {"probe": 5000, "finetune": 6400}))
    of_regime = cut.full_space["regime"].arms
    assert (of_regime["probe"]["epoch_images"], of_regime["finetune"]["epoch_images"]) == (5000, 6400)
    assert cut.val_images == 2000
    assert [cut.encode(config) for config in search.warm_start] == [
        search.encode(config) for config in search.warm_start
    ]
    plain = with_amounts(replace(search, space=search.space["regime"].arms["finetune"]), Amounts(None, {"": 700}))
    assert plain.full_space["epoch_images"] == 700


def test_what_is_measured_of_a_regime_is_what_is_tried_first_of_it() -> None:
    probe, finetune = (usual(cpu_search(), regime) for regime in ("probe", "finetune"))
    assert (probe["regime"], probe["model"]["backbone"], probe["image_size"]) == ("probe", "tf_efficientnet_lite0", 224)
    assert (finetune["regime"], finetune["image_size"], finetune["epochs"]) == ("finetune", 160, 4)
    bare = replace(cpu_search(), warm_start=())
    assert usual(bare, "finetune")["regime"] == "finetune"


@pytest.fixture(scope="module")
def half_a_million(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of half a million rows. Its folders are names of one folder, of 200 small photos of three classes."""
    root = tmp_path_factory.mktemp("half") / "photos"
    (root / "real").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(IMAGES_EACH):
        pixels = rng.integers(0, 120, (40, 48, 3), dtype=np.uint8)
        pixels[..., number % 3] += np.uint8(100)
        Image.fromarray(pixels).save(root / "real" / f"{number:03d}.jpg")
    with open(root / "labels.csv", "w") as table:
        table.write("image,label\n")
        for folder in range(NUM_FOLDERS):
            os.symlink("real", root / f"d{folder:04d}")
            rows = (f"d{folder:04d}/{number:03d}.jpg,{'abc'[number % 3]}\n" for number in range(IMAGES_EACH))
            table.writelines(rows)
    return root / "labels.csv"


def dozen(visionsweep: Callable[..., Outcome], data: Path, budget: str, least: int) -> tuple[Outcome, Path]:
    """A run that ends after twelve trials, of which at least `least` have been trained."""
    outcome = visionsweep("run", SEARCH_FILE, "--data", data, "--trials", 12, "--budget", budget, "--name", "dozen")
    assert outcome.code == 0, outcome.err
    ended = [row for row in lines(Path("runs/dozen/trials.jsonl")) if row["event"] == "ended"]
    trained = [row for row in ended if row["status"] in ("complete", "pruned")]
    assert least <= len(trained) <= 12, outcome.out
    lengths = {row["config"]["epochs"] for row in lines(Path("runs/dozen/trials.jsonl")) if row["event"] == "proposed"}
    assert len(lengths) > 1
    return outcome, Path("runs/dozen")


@pytest.mark.usefixtures("ray_session")
def test_a_dozen_trials_of_fifty_photos_look_at_all_of_them(
    visionsweep: Callable[..., Outcome], tmp_path: Path
) -> None:
    photos = make_photos(tmp_path / "photos", {"a": 25, "b": 25})
    # Half a minute, where the machine does nothing else.
    outcome, run = dozen(visionsweep, photos, "5m", least=12)
    assert "so that a dozen" not in outcome.out
    asked = json.loads((run / "search.json").read_text())
    assert asked["search"]["val_images"] is None
    assert asked["data"]["counts"]["val"] == 10
    assert "unjudged" not in asked["data"]


@pytest.mark.usefixtures("ray_session")
def test_a_dozen_trials_of_half_a_million_images_fit_into_a_small_budget(
    visionsweep: Callable[..., Outcome], half_a_million: Path
) -> None:
    outcome, run = dozen(visionsweep, half_a_million, "2m", least=9)  # other tests take some of it
    assert "402,500 to train on" in outcome.out
    assert "of 97,500 to judge by" in outcome.out
    assert "--set epoch_images=N and --set val_images=N say otherwise." in outcome.out
    assert "Images are decoded when they are asked for" in outcome.out
    text = (run / "search.json").read_text()
    assert len(text) < 300_000  # the names of all validation images would be 2 MB
    asked = json.loads(text)
    num_judged = asked["search"]["val_images"]
    assert asked["options"]["val_images"] == num_judged == len(asked["data"]["val"])
    stored = [np.load(file)["logits"] for file in (run / "predictions").glob("**/*.npz")]
    assert {len(logits) for logits in stored} == {num_judged}
    bought = [line for line in outcome.out.splitlines() if line.startswith("--budget 2m buys about ")]
    assert len(bought) == 1

    exported = visionsweep("export", run, "--out", "exported", "--single")
    assert exported.code == 0, exported.err
    card = Path("exported/README.md").read_text()
    assert f"On {num_judged} of the 97500 images of the validation split" in card
    judged = visionsweep("evaluate", "exported", "--data", half_a_million, "--no-cache")
    assert judged.code == 0, judged.err
    assert f"{num_judged} images" in judged.out.replace(",", "")


def test_data_of_a_run_that_has_begun_is_judged_on_the_same_images(half_a_million: Path, tmp_path: Path) -> None:
    search = Search(**{**vars(SEARCHES["quickstart"]), "val_images": 600, "space_by_task": {}}).with_set(
        {"task": "multiclass"}
    )
    options = RunOptions(str(half_a_million), budget_s=60.0, cache_dir=str(tmp_path))
    settled, dataset = prepared(replace(search, fixed={**search.fixed, "epoch_images": None}), options)
    assert len(dataset.indices("val")) == 600
    again = load_data(settled, as_settled(options, settled, dataset))
    assert not what_changed(again, dataset.describe())
    assert (again.split == dataset.split).all()


def test_what_is_set_is_taken() -> None:
    asked = cpu_search().with_set({"epoch_images": 640, "val_images": 300})
    arms = asked.full_space
    assert (arms["epoch_images"], asked.val_images) == (640, 300)
    assert is_said(asked)
    assert is_said(cpu_search().with_set({"epoch_images": None}))
    assert not is_said(cpu_search())


@pytest.mark.parametrize("regime", ["probe", "finetune"])
def test_a_speed_is_measured_in_seconds_that_a_trial_really_takes(
    digits_of_a_run: tuple[Search, Dataset], regime: str
) -> None:
    search, dataset = digits_of_a_run
    found = speeds(search, dataset, MachineShare(1, 0, 1, 0))
    assert set(found) == {"probe", "finetune"}
    one = found[regime]
    config = parse_config(dict(one.config), "a test")
    began = time.perf_counter()
    images = DecodedImages(Source(dataset.names, dataset.reader), View(cached_short_side(config)), {})
    results = [result.seconds for result in fit(config, TrialData(dataset, images), torch.device("cpu"))]
    num_train, num_val = (len(dataset.indices(side)) for side in ("train", "val"))
    expected = one.trial_s(num_train, num_val, len(results))
    # A busy machine varies from second to second, but the order must be right.
    assert expected / 12 < time.perf_counter() - began < expected * 12
    assert (one.by_area is None) == (regime == "probe")


@pytest.fixture(scope="module")
def digits_of_a_run() -> tuple[Search, Dataset]:
    search = load_search(str(SEARCH_FILE)).for_task("multiclass")
    dataset, _ = load_dataset("digits", short_side_px=37, cache_dir=None)
    return search, dataset
