"""Proposals of a regime begin near its warm starts, until the model has learned otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scripted_search import METRIC, Searching

from launch.samplers.encoding import Encoder
from launch.samplers.lengths import Lengths
from launch.samplers.warm_prior import KEPT, TRIALS, WarmPrior
from search_spaces.classification import CPU
from search_spaces.grammar import Branch, Float, Maybe, Pick
from search_spaces.search import Search
from search_spaces.segmentation import CPU as MASKS_ON_CPU

PHOTOS = CPU.for_task("multiclass")
MASKS = MASKS_ON_CPU.for_task("segmentation")


def prior_of(search: Search) -> WarmPrior:
    encoder = Encoder(search.full_space)
    lengths = Lengths(search.full_space, encoder, search.epochs)
    return WarmPrior(encoder, lengths, [search.encode(config) for config in search.warm_start])


def drawn(prior: WarmPrior, num_ended: float, num: int = 400) -> list[dict[str, Any]]:
    """Flat parameters of fine-tunings that are drawn after so many of them."""
    rng = np.random.default_rng(0)
    points = rng.random((num, len(prior.encoder)))
    points[:, prior.encoder.column["regime"]] = 0.75
    ended = np.array([num_ended, num_ended])
    return [prior.encoder.decode(row) for row in prior.encoder.settle(prior.pull(points, rng, ended))]


def share(rows: list[dict[str, Any]], name: str, value: Any) -> float:
    return sum(row[f"regime/finetune/{name}"] == value for row in rows) / len(rows)


def test_the_first_fine_tunings_of_photos_start_from_a_probe_and_keep_the_size_of_a_warm_start() -> None:
    prior = prior_of(PHOTOS)
    first = drawn(prior, num_ended=0)
    assert share(first, "model/head_init", "probe") == pytest.approx(KEPT + (1 - KEPT) / 2, abs=0.04)
    assert share(first, "image_size", 160) + share(first, "image_size", 192) > 0.8
    late = drawn(prior, num_ended=20 * TRIALS)
    assert share(late, "model/head_init", "probe") == pytest.approx(0.5, abs=0.1)


def test_a_weight_is_zero_at_a_warm_start_and_falls_with_what_differs_and_with_what_is_known() -> None:
    prior = prior_of(PHOTOS)
    given = PHOTOS.encode(PHOTOS.warm_start[-1])
    other = {**given, "regime/finetune/model/head_init": "random"}
    small = {**other, "regime/finetune/image_size": 96}
    rows = np.stack([prior.encoder.encode(params) for params in (given, other, small)])
    first, later = (prior.log_weight(rows, np.array([0, ended])) for ended in (0, TRIALS))
    assert first[0] == 0
    assert first[2] < first[1] < -2
    assert later == pytest.approx(first / 2)


def test_masks_on_a_laptop_begin_near_the_warm_starts_though_their_space_has_no_regimes() -> None:
    prior = prior_of(MASKS)
    points = np.random.default_rng(0).random((400, len(prior.encoder)))
    pulled = prior.encoder.settle(prior.pull(points, np.random.default_rng(1), np.zeros(1)))
    losses = [prior.encoder.decode(row)["loss"] for row in pulled]
    assert losses.count("dice") > 0.8 * len(losses)
    rows = np.stack([prior.encoder.encode(MASKS.encode(config)) for config in MASKS.warm_start])
    assert (prior.log_weight(rows, np.zeros(1)) == 0).all()


def test_a_search_of_one_regime_has_its_prior_and_one_of_one_length_has_none() -> None:
    alone = prior_of(PHOTOS.with_set({"regime": "finetune"}))
    points = np.random.default_rng(0).random((200, len(alone.encoder)))
    pulled = alone.encoder.settle(alone.pull(points.copy(), np.random.default_rng(1), np.zeros(1)))
    heads = [alone.encoder.decode(row)["model/head_init"] for row in pulled]
    assert heads.count("probe") > 0.85 * len(heads)
    plain = Search(task="multiclass", space={"a": Float(0, 1)}, warm_start=[{"a": 0.5}]).for_task("multiclass")
    points = np.random.default_rng(0).random((20, 1))
    assert (prior_of(plain).pull(points.copy(), np.random.default_rng(1), np.zeros(1)) == points).all()


ARM = {
    "start": Pick("solved", "random"),
    "lr": Float(1e-5, 1e-1, log=True),
    "size": Pick(64, 96, 128, 160),
    **{name: Maybe({"p": Float(0, 1)}) for name in ("blur", "tone", "crop")},
    "epochs": Pick(3, 9),
}
GIVEN = {
    "regime": "finetune", "start": "solved", "lr": 1e-4, "size": 160, "blur": None, "tone": None, "crop": None, "epochs": 9,
}  # fmt: skip
TUNING = Search(
    task="multiclass",
    space=Branch({"probe": {"size": Pick(96, 160), "epochs": 1}, "finetune": ARM}),
    metric=METRIC,
    epochs=9,
    warm_start=[GIVEN],
).for_task("multiclass")


def tuned(config: Mapping[str, Any], best_start: str) -> list[float]:
    if config["regime"] == "probe":
        return [0.5]
    final = 0.9 - 0.2 * (config["start"] != best_start) - 0.02 * np.log10(config["lr"] / 1e-4) ** 2
    return [float(final) - 0.1 * (1 - epoch / config["epochs"]) for epoch in range(1, config["epochs"] + 1)]


def starts(folder: Path, best: str, num: int) -> list[str]:
    """How the first proposals of the arm start, the warm start left out."""
    running = Searching(folder, TUNING, lambda config: tuned(config, best))
    found: list[str] = []
    while len(found) <= num:
        config = running.step()
        found += [config["start"]] if config["regime"] == "finetune" else []
    return found[1:]


def test_a_search_proposes_what_a_warm_start_had_until_its_trials_show_that_another_is_better(tmp_path: Path) -> None:
    assert starts(tmp_path / "right", "solved", 12).count("random") <= 3
    found = starts(tmp_path / "wrong", "random", 40)
    assert found[:6].count("random") <= 2
    assert found[-10:].count("random") >= 8
