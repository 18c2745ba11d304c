"""A metric that names a class the data cannot judge is refused before anything is trained."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support import Outcome

from launch.search.preflight import check_data
from search_spaces import Pick, Search
from trainables.class_metrics import check_class_metrics
from trainables.data.dataset import Dataset
from trainables.data.formats import load_dataset
from visionsweep.core.errors import ConfigError

CLI = Callable[..., Outcome]


@pytest.fixture
def streets(tmp_path: Path) -> Path:
    """Six images of 20 x 16 px, of road and car. The last one, a training image, shows a bus too."""
    rng = np.random.default_rng(0)
    for number in range(6):
        mask = np.zeros((16, 20), np.uint8)
        mask[:, 10:] = 1
        mask[:4] = 2 if number == 5 else 0
        for folder, array in (("images", rng.integers(0, 255, (16, 20, 3), dtype=np.uint8)), ("masks", mask)):
            (tmp_path / "streets" / folder).mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(tmp_path / "streets" / folder / f"{number}.png")
    (tmp_path / "streets" / "classes.txt").write_text("road\ncar\nbus\n")
    (tmp_path / "streets" / "val.txt").write_text("0\n1\n")
    (tmp_path / "streets" / "train.txt").write_text("2\n3\n4\n5\n")
    return tmp_path / "streets"


@pytest.fixture
def dataset(streets: Path) -> Dataset:
    return load_dataset(str(streets), short_side_px=16, cache_dir=None)[0]


@pytest.mark.parametrize("kind", ["metric", "early_stopping_metric", "ensemble_metric"])
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("cat", "the data has no class 'cat'. Did you mean 'car'?"),
        ("bus", "no validation mask has a pixel of class 'bus', so that its IoU says nothing."),
    ],
)
def test_train_refuses_it_wherever_it_stands(visionsweep: CLI, streets: Path, kind: str, name: str, words: str) -> None:
    metric = f"val/iou/{name}"
    asked = ("--metric", metric) if kind == "metric" else ("--set", f"{kind}={metric}", "--set", "ensemble=2")
    refused = visionsweep("train", "--recipe", "report-voc/baseline", "--data", streets, "--out", "out", *asked)
    assert refused.code == 2
    assert f"{kind} '{metric}': {words}" in refused.err
    assert "epoch 1" not in refused.out
    assert not Path("out").exists()


def test_a_search_refuses_it_wherever_it_stands(dataset: Dataset) -> None:
    def search(**changed: object) -> Search:
        fixed = {key: value for key, value in changed.items() if key != "metric"}
        chosen = {"metric": changed["metric"], "mode": "max"} if "metric" in changed else {}
        return Search(task="segmentation", space={"batch_size": 2, **fixed}, **chosen).for_task("segmentation")

    check_data(search(metric="val/iou/car", early_stopping_metric="val/iou/road"), dataset)
    with pytest.raises(ConfigError, match=r"^metric 'val/iou/bus': no validation mask"):
        check_data(search(metric="val/iou/bus"), dataset)
    with pytest.raises(ConfigError, match=r"^early_stopping_metric 'val/iou/cart': the data has no class 'cart'"):
        check_data(search(early_stopping_metric=Pick("val/loss", "val/iou/cart")), dataset)
    with pytest.raises(ConfigError, match=r"^ensemble_metric 'val/iou/cart'"):
        check_data(search(ensemble_metric="val/iou/cart"), dataset)


def test_merged_classes_are_what_counts(dataset: Dataset) -> None:
    merge = {"vehicle": ["car", "bus"]}
    check_class_metrics(dataset, merge, metric=["val/iou/vehicle", "val/miou", None])
    with pytest.raises(ConfigError, match="the data has no class 'car'"):
        check_class_metrics(dataset, merge, metric=["val/iou/car"])
