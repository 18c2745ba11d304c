"""Searches of two regimes on a virtual clock: a cheap one of few configurations, and an expensive one that may be
better.
"""

from __future__ import annotations

import math
import random
import tempfile
import zlib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scripted_search import METRIC, Searching

from benchmarks.ours import Recorder
from benchmarks.simulate import Clock, Simulation, simulate
from benchmarks.simulate_ray import RayMethod
from launch.pruners.pruning import build_scheduler
from launch.samplers.tried import Tried
from launch.search.records import Records
from launch.search.searcher import StudySearcher
from search_spaces.finite import identity
from search_spaces.grammar import Branch, Float, Pick
from search_spaces.search import Search
from visionsweep.core.errors import Contradiction

BACKBONES = ("small", "middle", "large")
SIZES = (96, 160, 224)
PROBE = {"backbone": Pick(*BACKBONES), "size": Pick(*SIZES), "epochs": 1}
FINETUNE = {
    "backbone": Pick(*BACKBONES),
    "size": Pick(*SIZES),
    "lr": Float(1e-4, 1e-1, log=True),
    "drop": Float(0, 0.6),
    "epochs": Pick(4, 8, 12),
}
SEARCH = Search(
    task="multiclass", space=Branch({"probe": PROBE, "finetune": FINETUNE}), metric=METRIC, epochs=12
).for_task("multiclass")


class Photos:
    """Probes take seconds and reach 0.9 at most. Fine-tunings take minutes, and the best is better by `gain`."""

    mode = "max"
    epochs = 12
    space = SEARCH.full_space

    def __init__(self, gain: float) -> None:
        self.gain = gain

    def curve(self, config: Mapping[str, Any]) -> np.ndarray:
        backbone = BACKBONES.index(config["backbone"])
        size = SIZES.index(config["size"])
        final = 0.84 + 0.01 * backbone + 0.02 * size + 0.004 * math.sin(zlib.crc32(identity(config).encode()))
        if config["regime"] == "finetune":
            final += self.gain - 0.02 * (math.log10(config["lr"]) + 2.5) ** 2 - 0.1 * (config["drop"] - 0.2) ** 2
            final -= 0.005 * (3 - config["epochs"] / 4)
        length = config["epochs"]
        return np.array([final - 0.2 * (1 - epoch / length) ** 2 for epoch in range(1, length + 1)])

    def seconds_per_epoch(self, config: Mapping[str, Any]) -> float:
        size = (1 + 0.4 * BACKBONES.index(config["backbone"])) * (config["size"] / 96) ** 2
        return size * (2.0 if config["regime"] == "probe" else 8.0)


def searched(photos: Photos, seed: int, budget_s: float) -> Simulation:
    clock = Clock()
    folder = tempfile.TemporaryDirectory()
    with folder:
        records = Records.create(Path(folder.name) / "run", {"name": "regimes"})
        searcher = StudySearcher(SEARCH, records, seed, None, budget_s, valid=lambda config: None, now=clock)
        method = RayMethod(searcher, build_scheduler(SEARCH), METRIC, 12, Recorder(records, folder))
        return simulate(method, photos, workers=2, budget_s=budget_s, clock=clock)


@pytest.mark.parametrize("gain", [0.05, -0.03])
def test_the_dear_regime_gets_most_of_the_time_and_the_cheap_one_is_covered(gain: float) -> None:
    photos = Photos(gain)
    seconds = Counter[str]()
    bests = list[float]()
    for seed in range(2):
        found = searched(photos, seed, 1200.0)
        for trial in found.trials.values():
            seconds[trial.config["regime"]] += round(trial.epochs * photos.seconds_per_epoch(trial.config))
        complete = [trial.config for trial in found.trials.values() if trial.status == "complete"]
        bests.append(max(float(photos.curve(config)[-1]) for config in complete))
        probes = [config for config in complete if config["regime"] == "probe"]
        assert len(probes) == len({identity(config) for config in probes}) >= 6  # of nine
        assert any(config["regime"] == "finetune" for config in complete)
    assert seconds["finetune"] > 0.75 * (seconds["probe"] + seconds["finetune"])
    assert np.mean(bests) > (0.9 if gain < 0 else 0.935) - 0.01


def test_once_a_regime_is_spent_the_model_proposes_of_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def odd(config: dict[str, Any]) -> None:
        if config["regime"] == "probe" and config["size"] == 224:
            raise Contradiction("too large")

    def unasked(tried: Tried, chance: random.Random) -> None:
        raise AssertionError("drawn by chance")

    running = Searching(tmp_path / "run", SEARCH, Photos(0.05).curve, valid=odd)
    tried = running.searcher.proposals.tried
    for backbone in BACKBONES:
        for size in SIZES[:2]:
            assert tried.spent() == frozenset()
            probe = {"regime": "probe", "regime/probe/backbone": backbone, "regime/probe/size": size}
            running.searcher.study.enqueue_trial(probe)
            running.step()
    assert tried.spent() == {"probe"}
    monkeypatch.setattr(Tried, "untried", unasked)
    assert {running.propose(f"then-{number}")["config"]["regime"] for number in range(20)} == {"finetune"}


def test_a_search_with_regimes_that_is_resumed_proposes_what_it_would_have(tmp_path: Path) -> None:
    whole = Searching(tmp_path / "whole", SEARCH, Photos(0.05).curve)
    expected = [whole.step() for _ in range(26)]
    parts: list[dict[str, Any]] = []
    for count in (11, 8, 7):
        running = Searching(tmp_path / "parts", SEARCH, Photos(0.05).curve)
        parts += [running.step() for _ in range(count)]
    assert parts == expected
    assert {config["epochs"] for config in expected} == {1, 4, 8, 12}
