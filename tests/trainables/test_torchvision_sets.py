"""torchvision's named sets. Real classes of torchvision read small stand-ins that are written here: no download."""

from __future__ import annotations

import gzip
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from search_spaces.errors import DataError
from trainables.data.formats import load_dataset
from trainables.data.torchvision_sets import NAMED_SETS


def write_mnist(raw: Path, num_train: int, num_test: int) -> None:
    raw.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for part, count in (("train", num_train), ("t10k", num_test)):
        pixels = rng.integers(0, 255, (count, 28, 28), dtype=np.uint8)
        images = struct.pack(">iiii", 2051, count, 28, 28) + pixels.tobytes()
        labels = struct.pack(">ii", 2049, count) + bytes(i % 10 for i in range(count))
        for name, content in ((f"{part}-images-idx3-ubyte", images), (f"{part}-labels-idx1-ubyte", labels)):
            (raw / name).write_bytes(content)
            (raw / f"{name}.gz").write_bytes(gzip.compress(content))


def test_mnist_gives_its_test_images_and_val_is_split_off_train(tmp_path: Path) -> None:
    write_mnist(tmp_path / "torchvision" / "MNIST" / "MNIST" / "raw", 100, 20)
    dataset, images = load_dataset("torchvision:MNIST", short_side_px=28, cache_dir=tmp_path)
    assert (dataset.task, len(dataset.classes), len(images)) == ("multiclass", 10, 120)
    assert dataset.describe()["counts"] == {"train": 80, "val": 20, "test": 20, "skipped": 0, "duplicate": 0}
    assert dataset.names[100] == "MNIST/test/000000"
    assert len(pickle.dumps(dataset.reader)) < 500
    again = pickle.loads(pickle.dumps(dataset.reader))
    assert (again(105) == images[105]).all()
    assert images[105].shape == (28, 28, 3)


def test_textures_come_with_all_three_splits(tmp_path: Path) -> None:
    root = tmp_path / "torchvision" / "DTD" / "dtd" / "dtd"
    (root / "labels").mkdir(parents=True)
    for number, split in enumerate(("train", "val", "test")):
        lines = [f"{name}/{name}_{number}{i}.jpg" for name in ("banded", "dotted") for i in range(2)]
        (root / "labels" / f"{split}1.txt").write_text("\n".join(lines))
        for i, line in enumerate(lines):
            (root / "images" / line).parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (40, 30), (number * 50, i * 50, 0)).save(root / "images" / line)
    dataset, images = load_dataset("torchvision:DTD", short_side_px=15, cache_dir=tmp_path)
    assert dataset.classes == ("banded", "dotted")
    assert dataset.split.tolist() == ["train"] * 4 + ["val"] * 4 + ["test"] * 4
    assert dataset.split_origin == "given by the data"
    assert images[0].shape == (15, 20, 3)


def test_an_unknown_set_is_refused_with_the_nearest_name(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"unknown torchvision data set 'CIFAR11'. Did you mean 'CIFAR10"):
        load_dataset("torchvision:CIFAR11", short_side_px=32, cache_dir=tmp_path)


def test_a_set_that_cannot_be_downloaded_is_refused_with_the_next_move(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchvision.datasets import utils

    def no_network(*args: object, **kwargs: object) -> None:
        raise OSError("<urlopen error [Errno -3] Temporary failure in name resolution>")

    monkeypatch.setattr(utils, "_urlretrieve", no_network)
    with pytest.raises(DataError) as caught:
        load_dataset("torchvision:OxfordIIITPet", short_side_px=32, cache_dir=tmp_path)
    assert f"torchvision's OxfordIIITPet cannot be had in '{tmp_path / 'torchvision' / 'OxfordIIITPet'}'" in str(
        caught.value
    )
    assert "copy that folder here" in str(caught.value)


def test_torchvision_has_every_set_of_the_table() -> None:
    from torchvision import datasets

    assert all(hasattr(datasets, name) for name in NAMED_SETS)
