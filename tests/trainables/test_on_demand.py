"""Data sets too large to decode first: images are decoded at each access, and a part of val judges."""

from __future__ import annotations

import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from support import make_photos, tiny_config

from analysis.models.judged_data import as_described
from trainables.config.io import parse_config
from trainables.config.trial import TrialConfig
from trainables.data import on_demand
from trainables.data.dataset import UNJUDGED, packed, unpacked
from trainables.data.formats import load_dataset, reopen_images
from trainables.data.judged_part import with_judged_part
from trainables.data.loader import TrialData
from trainables.data.on_demand import OnDemandImages
from trainables.data.same_data import what_changed
from trainables.data.summary import summary
from trainables.loop import fit
from visionsweep.core.errors import DataError

CPU = torch.device("cpu")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return make_photos(tmp_path / "photos", {"a": 40, "b": 40, "c": 20})


def tiny(**changed: object) -> TrialConfig:
    plain = tiny_config(task="multiclass", optimizer={"name": "sgd", "lr": 0.05}, image_size=16)
    return parse_config({**plain, **changed}, "a test")


def test_images_on_demand_train_to_the_last_bit_as_those_of_a_cache(photos: Path, tmp_path: Path) -> None:
    config = tiny(augment={"horizontal_flip": {"p": 0.5}})
    opened = [
        load_dataset(str(photos), short_side_px=18, cache_dir=tmp_path / str(lazy), on_demand=lazy)
        for lazy in (False, True)
    ]
    assert [isinstance(images, OnDemandImages) for _, images in opened] == [False, True]
    one, two = (list(fit(config, TrialData(*each), CPU))[-1] for each in opened)
    assert one.metrics == two.metrics
    probe = tiny(model={"backbone": "test_resnet", "weights": "none", "freeze": "all"}, views=2)
    one, two = (list(fit(probe, TrialData(*each), CPU))[-1] for each in opened)
    assert one.metrics == two.metrics
    kept = sorted(path.name for path in (tmp_path / "True").iterdir())
    assert any("features" in name for name in kept)
    assert not any(name.endswith("-18") for name in kept)  # the cache of all images was not built


def test_only_what_would_take_too_long_is_left(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def opened(within_s: float | None) -> str:
        _, images = load_dataset(str(photos), short_side_px=18, cache_dir=tmp_path / "c", decode_within_s=within_s)
        return type(images).__name__

    assert opened(1e-9) == "CachedImages"  # a hundred photos are few, whatever the budget
    shutil.rmtree(tmp_path / "c")
    monkeypatch.setattr(on_demand, "FEWEST", 10)
    assert opened(1e-9) == "OnDemandImages"
    assert opened(None) == "CachedImages"
    assert opened(1e-9) == "CachedImages"  # an earlier search has decoded them


def test_another_process_opens_them_as_they_were_left(photos: Path, tmp_path: Path) -> None:
    dataset, images = load_dataset(str(photos), short_side_px=18, cache_dir=tmp_path / "c", on_demand=True)
    again = reopen_images(pickle.loads(pickle.dumps(dataset)), 18, tmp_path / "c")
    assert isinstance(again, OnDemandImages)
    assert (again[3] == images[3]).all()


@pytest.fixture
def broken(photos: Path) -> Path:
    """Half of the training images of a class are no images. Val is given, and whole but for one."""
    root = photos.parent / "given"
    for side, numbers in (("train", range(20)), ("val", range(20, 40))):
        for name in ("a", "b"):
            (root / side / name).mkdir(parents=True)
            for number in numbers:
                shutil.copy(photos / name / f"{number:02d}.png", root / side / name)
    for number in range(0, 20, 2):
        (root / "train" / "a" / f"{number:02d}.png").write_bytes(b"no image %d" % number)
    return root


def test_a_training_image_that_cannot_be_read_gives_way_where_bad_ones_are_skipped(broken: Path) -> None:
    dataset, images = load_dataset(str(broken), short_side_px=18, cache_dir=None, on_demand=True, on_bad_image="skip")
    assert len(dataset.indices("train")) == 40
    result = list(fit(tiny(task="binary"), TrialData(dataset, images), CPU))[-1]
    assert np.isfinite(result.metrics["train/loss"])


def test_else_it_ends_the_training_with_its_name(broken: Path) -> None:
    opened = load_dataset(str(broken), short_side_px=18, cache_dir=None, on_demand=True)
    with pytest.raises(DataError, match=r"image 'train/a/\d\d.png' cannot be read: not an image"):
        list(fit(tiny(task="binary"), TrialData(*opened), CPU))


def test_what_is_judged_by_is_looked_at_first(broken: Path) -> None:
    (broken / "val" / "b" / "21.png").write_bytes(b"none either")
    with pytest.raises(DataError, match=r"val/b/21.png' cannot be read.*pass --on-bad-image skip"):
        load_dataset(str(broken), short_side_px=18, cache_dir=None, on_demand=True)
    dataset, _ = load_dataset(str(broken), short_side_px=18, cache_dir=None, on_demand=True, on_bad_image="skip")
    assert len(dataset.indices("val")) == 39
    assert any("1 image of val skipped as unreadable: 'val/b/21.png'" in note for note in dataset.notes), dataset.notes


def test_a_part_of_val_is_drawn_once_and_what_is_left_is_neither_judged_nor_trained_on(photos: Path) -> None:
    dataset, _ = load_dataset(str(photos), short_side_px=18, cache_dir=None)
    part = with_judged_part(dataset, 10, seed=0)
    assert [len(part.indices(side)) for side in ("train", "val", UNJUDGED)] == [80, 10, 10]
    assert (part.indices("train") == dataset.indices("train")).all()
    assert sorted(np.bincount(part.targets[part.indices("val")]).tolist()) == [2, 4, 4]
    assert (with_judged_part(dataset, 10, seed=0).split == part.split).all()
    assert (with_judged_part(dataset, 20, seed=0).split == dataset.split).all()
    assert "80 to train on, 10 of 20 to judge by" in summary(part)
    assert len(part.with_val_trained_on().indices("train")) == 100


def test_it_is_told_apart_from_all_of_val_and_read_back_by_an_evaluation(photos: Path) -> None:
    dataset, _ = load_dataset(str(photos), short_side_px=18, cache_dir=None)
    part = with_judged_part(dataset, 10, seed=0)
    described = part.describe()
    assert described["counts"][UNJUDGED] == 10
    assert not what_changed(part, described)
    assert "moved from" in what_changed(dataset, described)
    nothing_given = replace(dataset, split=np.full(len(dataset.split), ""))
    assert (as_described(nothing_given, described).split == part.split).all()
    assert UNJUDGED not in dataset.describe()


def test_which_images_they_are_takes_little_room_and_damage_is_told() -> None:
    chosen = np.random.default_rng(0).random(500_000) < 0.2
    assert len(packed(chosen)) < 90_000
    assert (unpacked(packed(chosen), 500_000) == chosen).all()
    for text, number in (("nonsense!", 100), (packed(chosen), 600_000), (packed(chosen)[:100], 500_000)):
        with pytest.raises(ValueError, match="it does not say which of"):
            unpacked(text, number)
