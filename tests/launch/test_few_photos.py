"""A search on fewer photos than its largest batch."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from support import make_photos

from launch.search.preflight import views
from launch.search.prepare import RunOptions, prepared
from launch.search.settled import SettledSearch
from search_spaces.grammar import Branch, Int, Pick
from search_spaces.paths import possible_values
from search_spaces.search import Search
from search_spaces.serial import search_from_json, search_to_json
from search_spaces.shipped import SEARCHES
from visionsweep.core.errors import DataError

MODEL = {"backbone": "test_resnet", "weights": "none"}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """50 photos of two classes, of which 40 are trained on."""
    return make_photos(tmp_path_factory.mktemp("few") / "photos", {"a": 25, "b": 25})


def of_batches(batch_size: object) -> Search:
    common = {"model": MODEL, "optimizer": {"name": "adam", "lr": 1e-3}, "image_size": 16}
    regimes = Branch({"probe": {"epochs": 1, "batch_size": 16}, "finetune": {"batch_size": batch_size}})
    return Search(task="binary", space={"regime": regimes, **common}, epochs=4)


def test_larger_batches_than_the_training_set_are_left_out_and_that_is_said(photos: Path) -> None:
    search, dataset = prepared(of_batches(Pick(8, 32, 64, 128)), RunOptions(str(photos)))
    assert len(dataset.indices("train")) == 40
    assert possible_values(search.full_space, "batch_size") == [16, 8, 32]
    note = "Batches of up to 128 images are left out, and 32 are the most: the training set has 40."
    assert note in dataset.notes
    search, _ = prepared(of_batches(Int(8, 64)), RunOptions(str(photos)))
    assert search.full_space["regime"].arms["finetune"]["batch_size"] == Int(8, 40)


def test_a_search_whose_batches_fit_is_left_as_it_is(photos: Path) -> None:
    asked = of_batches(Pick(8, 32))
    search, dataset = prepared(asked, RunOptions(str(photos)))
    assert search == SettledSearch.of(asked.for_task("binary"))
    assert not any("Batches" in note for note in dataset.notes)


def test_what_follows_from_a_settled_search_is_computed_once_and_the_same_after_a_resume(photos: Path) -> None:
    asked = replace(of_batches(Pick(8, 64)), epochs=12, objectives=("val/f1", "-latency_ms"))
    settled, _ = prepared(asked, RunOptions(str(photos)))
    assert settled.full_space is settled.full_space
    assert settled.compared is settled.compared
    assert (settled.short_side_px, [view.crop for view in settled.views]) == (18, [16])
    assert settled.rung_at == (4,)
    assert [objective.name for objective in settled.compared] == ["val/f1", "latency_ms"]
    resumed = SettledSearch.of(search_from_json(json.loads(json.dumps(search_to_json(settled)))))
    assert resumed.full_space == settled.full_space
    assert (resumed.views, resumed.rung_at, resumed.compared) == (settled.views, settled.rung_at, settled.compared)
    longer = replace(settled, epochs=40, fixed={"image_size": 32})
    assert (longer.rung_at, longer.short_side_px) == ((4, 12, 36), 37), "nothing is left of the shorter one"
    assert longer.full_space["image_size"] == 32


@pytest.mark.parametrize("batch_size", [64, Pick(64, 128)])
def test_where_no_batch_fits_the_search_is_refused(photos: Path, batch_size: object) -> None:
    with pytest.raises(DataError, match="the training set has 40"):
        prepared(of_batches(batch_size), RunOptions(str(photos)))


@pytest.mark.parametrize("name", [name for name, search in SEARCHES.items() if search.task == "classification"])
def test_the_shipped_searches_take_fifty_photos(photos: Path, name: str) -> None:
    asked = SEARCHES[name].with_set({"model.backbone": "test_resnet", "model.weights": "none"})
    search, _ = prepared(asked, RunOptions(str(photos)))
    assert max(possible_values(search.full_space, "batch_size")) == 32


def test_images_are_kept_at_the_sizes_of_each_regime() -> None:
    sizes = {"probe": {"image_size": 32, "fit_image": "squash"}, "finetune": {"image_size": Pick(16, 24)}}
    space = {**of_batches(8).space, "regime": Branch(sizes)}
    space.pop("image_size")
    found = views(replace(of_batches(8), space=space).for_task("binary"))
    assert sorted(view.crop for view in found if view.crop is not None) == [16, 24]
    assert [view.side for view in found if view.squash] == [32]
