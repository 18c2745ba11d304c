"""A training in two processes for real, on cores: it equals that of one, and never hangs or leaves a process behind."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rank_bodies
import torch
import torch.distributed as dist
from support import tiny_config

from trainables import loop
from trainables.checkpoint import TrialFiles, load_state
from trainables.config.io import parse_config
from trainables.config.trial import TrialConfig
from trainables.data.formats import load_dataset
from trainables.data.loader import TrialData
from trainables.loop import EpochResult, fit
from trainables.parallel.processes import ASKED, together
from trainables.worker.settings import TrialSettings
from trainables.worker.trainable import VisionTrainable

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.timeout(1800)]

CPU = torch.device("cpu")
Tiny = Callable[..., TrialConfig]
Digits = Callable[..., TrialData]
SLOW = {"name": "sgd", "lr": 0.001}
MIXED = {"horizontal_flip": {"p": 0.5}, "mix": {"name": "mixup", "alpha": 0.4, "p": 1.0}}


def trained(config: TrialConfig, data: TrialData, ranks: int) -> tuple[list[dict[str, float]], list[torch.Tensor]]:
    """Return the metrics of each epoch, and the weights after the last one."""
    metrics = []
    weights: list[torch.Tensor] = []
    for result in fit(config, data, CPU, ranks=ranks):
        metrics.append(result.metrics)
        weights = [one.detach().clone() for one in result.state.weights.state_dict().values()]
    return metrics, weights


def assert_same(config: TrialConfig, data: TrialData) -> None:
    metrics, weights = trained(config, data, 1)
    of_two, their_weights = trained(config, data, 2)
    assert len(of_two) == len(metrics) == config.epochs
    for one, other in zip(metrics, of_two, strict=True):
        assert other == pytest.approx(one, rel=1e-3, abs=1e-4)
    for first, second in zip(weights, their_weights, strict=True):
        torch.testing.assert_close(second, first, rtol=1e-3, atol=1e-4)
    assert multiprocessing.active_children() == []
    assert not dist.is_initialized()


@pytest.mark.parametrize(
    "changed",
    [
        # 33 images in batches of 7: neither divides, and the last batch has 5.
        {"augment": MIXED, "loss": {"name": "cross_entropy", "class_weights": "inverse_frequency"}, "ema_decay": 0.9},
        # Batch norm of a few values multiplies rounding in each step, so these are small.
        {"backbone": "test_resnet", "sync_batch_norm": True, "accumulate": 2, "clip_grad_norm": 1.0, "optimizer": SLOW},
    ],
)
def test_two_processes_train_a_classifier_as_one_does(tiny: Tiny, digits: Digits, changed: dict[str, Any]) -> None:
    plain: dict[str, Any] = {"backbone": "test_convnext", "epochs": 2, "batch_size": 7}
    assert_same(tiny(**{**plain, **changed}), digits(train=33, val=20))


def test_two_processes_train_a_segmenter_as_one_does(tmp_path: Path) -> None:
    # The last batch has 3 images, too few for two parts that batch norm can train on. Rank 1 gets none of it. In the
    # first epoch the backbone rests.
    dataset, images = load_dataset("digits:segmentation", short_side_px=32, cache_dir=tmp_path)
    split = np.full(len(dataset.split), "duplicate", dtype=dataset.split.dtype)
    for name, count in (("train", 13), ("val", 4)):
        split[dataset.indices(name)[:count]] = name
    config = parse_config(
        {
            "task": "segmentation",
            "model": {"architecture": {"name": "unet"}, "backbone": "test_resnet", "weights": "none", "decoder_first": 0.5},
            "optimizer": SLOW, "loss": {"name": "cross_entropy", "class_weights": "median_frequency"},
            "epochs": 2, "batch_size": 5, "accumulate": 2, "sync_batch_norm": True, "image_size": 32, "fit_image": "squash",
            "augment": {"horizontal_flip": {"p": 0.5}},
        }
    )  # fmt: skip
    assert_same(config, TrialData(replace(dataset, split=split), images))


def test_a_resumed_training_of_two_processes_equals_one_that_went_through(
    tiny: Tiny, digits: Digits, tmp_path: Path
) -> None:
    config = tiny("test_convnext", epochs=2, batch_size=7, optimizer={"name": "adamw", "lr": 0.003}, ema_decay=0.9)
    data = digits(train=30, val=10)
    whole, weights = trained(config, data, 2)
    files = TrialFiles(tmp_path / "c", tmp_path / "p", "val/accuracy", "max", 1)
    stopped = fit(config, data, CPU, ranks=2)
    files.save(next(stopped), resumable=True)
    stopped.close()  # type: ignore[attr-defined]
    assert multiprocessing.active_children() == []
    resumed: list[EpochResult] = list(fit(config, data, CPU, ranks=2, resume=load_state(files.last)))
    assert [result.metrics for result in resumed] == whole[1:]
    for first, second in zip(weights, resumed[-1].state.weights.state_dict().values(), strict=True):
        assert torch.equal(first, second)


def exchanging(body: Callable[..., None]) -> None:
    """Run a body in rank 1, and exchange numbers with it until it is gone."""
    with together(2, CPU, body, ()):
        for _ in range(1000):
            dist.all_reduce(torch.ones(1))
            time.sleep(0.01)


@pytest.mark.parametrize(
    ("body", "error", "message"),
    [
        (rank_bodies.wrong, RuntimeError, r"rank 1 of 2: ValueError: nothing can be done with this \(rank_bodies.py:"),
        (rank_bodies.killed, MemoryError, "rank 1 of 2 was killed"),
    ],
)
def test_an_error_of_one_rank_ends_all_with_a_sentence(
    body: Callable[..., None], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        exchanging(body)
    assert multiprocessing.active_children() == []
    assert not dist.is_initialized()


def test_an_error_of_rank_0_ends_the_others_at_once() -> None:
    with pytest.raises(KeyError), together(2, CPU, rank_bodies.asleep, ()):
        raise KeyError("mine")
    assert multiprocessing.active_children() == []


def test_a_rank_without_memory_halves_the_batch_of_all(
    digits: Digits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ASKED, "2")
    monkeypatch.setattr(loop, "_follow", rank_bodies.without_memory)
    settings = TrialSettings(
        run_dir=tmp_path, metric="val/accuracy", mode="max", short_side_px=32, cache_dir=None, cpus=1, gpu_share=0.0,
        num_workers=0, deadline=None, stop_file=tmp_path / "stop",
    )  # fmt: skip
    config = tiny_config(task="multiclass", optimizer={"name": "sgd", "lr": 0.05}, batch_size=16, fit_image="squash")
    trial = VisionTrainable.__new__(VisionTrainable)  # Ray's __init__ wants a session
    trial.setup({"trial_id": "0000", "config": {**config, "epochs": 1}}, digits(32, 10).dataset, settings)
    try:
        result = trial.step()
    finally:
        trial.cleanup()
    assert (result["status"], result["epoch"]) == ("complete", 1)
    assert (trial.parsed.batch_size, trial.parsed.accumulate) == (8, 2)


KILLED = """
import multiprocessing, sys, time
import rank_bodies, torch
from trainables.parallel.processes import together
if __name__ == "__main__":
    with together(2, torch.device("cpu"), getattr(rank_bodies, sys.argv[1]), ()):
        print(multiprocessing.active_children()[0].pid, flush=True)
        time.sleep(3600)
"""


@pytest.mark.parametrize("body", ["asleep", "adding"])
def test_no_process_outlives_a_trial_that_is_killed(tmp_path: Path, body: str) -> None:
    script = tmp_path / "killed.py"
    script.write_text(KILLED)
    paths = os.pathsep.join(
        [str(Path(__file__).parents[2]), str(Path(__file__).parents[1]), str(Path(__file__).parent)]
    )
    variables = {**os.environ, "PYTHONPATH": paths, "TMPDIR": str(tmp_path)}
    trial = subprocess.Popen([sys.executable, str(script), body], stdout=subprocess.PIPE, text=True, env=variables)
    assert trial.stdout is not None
    other = int(trial.stdout.readline())
    os.kill(trial.pid, signal.SIGKILL)
    trial.wait()
    trial.stdout.close()
    ends = time.monotonic() + 60
    while Path(f"/proc/{other}/cmdline").exists() and Path(f"/proc/{other}/cmdline").read_bytes():
        assert time.monotonic() < ends, "it still runs"
        time.sleep(0.1)
    assert list(tmp_path.glob("visionsweep-ranks-*")) == []
