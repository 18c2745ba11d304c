"""What a search knows of its costs before its first trial, from a cache that an earlier run has left."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from support import tiny_config

from launch.machines.cluster import MachineShare
from launch.machines.compatibility import Shared
from launch.remote.location import new_location
from launch.samplers.work import GFLOPS_PER_S_OF_A_CORE
from launch.search.foreknown import known_before
from launch.search.records import Records
from search_spaces.grammar import Pick
from search_spaces.search import Search
from trainables.config.io import parse_config
from trainables.data.formats import load_dataset
from trainables.data.loader import TrialData
from trainables.loop import fit

SEARCH = Search(task="multiclass", space={"image_size": Pick(28, 32)}).for_task("multiclass")


def test_features_of_an_earlier_run_count_as_kept_and_those_of_the_run_itself_do_not(tmp_path: Path) -> None:
    dataset, images = load_dataset("digits", short_side_px=32, cache_dir=tmp_path / "cache")
    split = np.full(len(dataset.split), "duplicate", dtype=dataset.split.dtype)
    for name, count in (("train", 40), ("val", 20)):
        split[dataset.indices(name)[:count]] = name
    dataset = replace(dataset, split=split)
    model = {"backbone": "test_resnet", "weights": "none", "freeze": "all"}
    optimizer = {"name": "lbfgs", "l2": 0.1}
    probe = {"model": model, "optimizer": optimizer, "epochs": 1, "views": 1, "image_size": 28}
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    list(fit(parse_config(tiny_config(**probe)), TrialData(dataset, images), torch.device("cpu")))
    torch.set_num_threads(before)
    shared = Shared(dataset, new_location(str(tmp_path / "runs"), "run", tmp_path / "cache"), tmp_path / "cache")
    share = MachineShare(1.0, 0.0, 2, 0)
    found = {}
    for name, started in (("later", time.time() + 1), ("itself", time.time() - 3600)):
        records = Records.create(tmp_path / name, {"started": started})
        found[name] = known_before(records, SEARCH, shared, share, packed=False)
    assert found["later"].kept == {("test_resnet", 28, parse_config(tiny_config(**probe)).fit_image, False)}
    assert found["itself"].kept == frozenset()
    assert (found["later"].num_train, found["later"].num_val) == (40, 20)
    assert found["later"].gflops_per_s == GFLOPS_PER_S_OF_A_CORE
