"""torchvision's named sets. Its real classes read small sets that are written here: no download."""

from __future__ import annotations

import gzip
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trainables.data.formats import load_dataset
from trainables.data.torchvision_sets import NAMED_SETS
from visionsweep.core.errors import DataError


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


def write_voc(root: Path, mask_value: int = 15) -> None:
    for number, split in enumerate(("train", "val")):
        stems = [f"2007_{number}{i}" for i in range(3)]
        (root / "ImageSets" / "Segmentation").mkdir(parents=True, exist_ok=True)
        (root / "ImageSets" / "Segmentation" / f"{split}.txt").write_text("\n".join(stems))
        for i, stem in enumerate(stems):
            for folder, suffix in (("JPEGImages", "jpg"), ("SegmentationClass", "png")):
                (root / folder).mkdir(exist_ok=True)
                mode, color = ("RGB", (number * 50, i * 50, 0)) if suffix == "jpg" else ("L", mask_value)
                Image.new(mode, (40, 30), color).save(root / folder / f"{stem}.{suffix}")


@pytest.mark.parametrize("task", [None, "segmentation"])
def test_pascal_voc_comes_with_its_masks(tmp_path: Path, task: str | None) -> None:
    write_voc(tmp_path / "torchvision" / "VOCSegmentation" / "VOCdevkit" / "VOC2012")
    dataset, images = load_dataset("torchvision:VOCSegmentation", task=task, short_side_px=15, cache_dir=tmp_path)
    assert (dataset.task, len(dataset.classes), dataset.classes[15]) == ("segmentation", 21, "person")
    assert dataset.split.tolist() == ["train"] * 3 + ["val"] * 3
    assert dataset.names[3] == "VOCSegmentation/val/000000"
    assert (images[4].shape, images.mask(4).shape) == ((15, 20, 3), (30, 40))
    assert (images.mask(4) == 15).all()
    assert len(pickle.dumps(dataset.mask_reader)) < 500
    assert (pickle.loads(pickle.dumps(dataset.mask_reader))(4) == 15).all()


def test_a_wrong_mask_of_a_named_set_is_refused_by_its_file(tmp_path: Path) -> None:
    write_voc(tmp_path / "torchvision" / "VOCSegmentation" / "VOCdevkit" / "VOC2012", mask_value=77)
    with pytest.raises(DataError, match=r"SegmentationClass/2007_00\.png' has the value 77, and there are 21 classes"):
        load_dataset("torchvision:VOCSegmentation", short_side_px=15, cache_dir=tmp_path)


def test_labels_of_pascal_voc_are_refused(tmp_path: Path) -> None:
    write_voc(tmp_path / "torchvision" / "VOCSegmentation" / "VOCdevkit" / "VOC2012")
    with pytest.raises(DataError, match="task 'multiclass' needs a label for each image"):
        load_dataset("torchvision:VOCSegmentation", task="multiclass", short_side_px=15, cache_dir=tmp_path)


def test_pets_are_labelled_by_breed_or_cut_out_as_asked(tmp_path: Path) -> None:
    root = tmp_path / "torchvision" / "OxfordIIITPet" / "oxford-iiit-pet"
    (root / "annotations" / "trimaps").mkdir(parents=True)
    (root / "images").mkdir()
    trimap = np.repeat(np.array([1, 2, 3, 2], np.uint8), 5)[:, None].repeat(30, axis=1)  # (20, 30)
    for number, split in enumerate(("trainval", "test")):
        lines = [f"{name}_{number}{i} {label} 1 1" for label, name in enumerate(("Bengal", "pug"), 1) for i in range(3)]
        (root / "annotations" / f"{split}.txt").write_text("\n".join(lines))
        for i, line in enumerate(lines):
            Image.new("RGB", (30, 20), (number * 50, i * 40, 0)).save(root / "images" / f"{line.split()[0]}.jpg")
            Image.fromarray(trimap).save(root / "annotations" / "trimaps" / f"{line.split()[0]}.png")
    labelled, _ = load_dataset("torchvision:OxfordIIITPet", short_side_px=20, cache_dir=tmp_path)
    masked, images = load_dataset(
        "torchvision:OxfordIIITPet", task="segmentation", short_side_px=20, cache_dir=tmp_path
    )
    assert (labelled.task, labelled.classes) == ("binary", ("Bengal", "Pug"))
    assert (masked.task, masked.classes) == ("segmentation", ("background", "pet"))
    assert masked.fingerprint != labelled.fingerprint
    assert images.mask(0)[:, 0].tolist() == [1] * 5 + [0] * 5 + [255] * 5 + [0] * 5
    assert masked.targets[0].tolist() == [300, 150]
    assert masked.describe()["counts"] == {"train": 5, "val": 1, "test": 6, "skipped": 0, "duplicate": 0}
