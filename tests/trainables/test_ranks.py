"""A batch divided among ranks: rows, weights and processes, without starting any."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torchmetrics import Metric

from trainables.config.io import parse_config
from trainables.config.trial import TrialConfig
from trainables.data.dataset import VOID
from trainables.losses import build_loss
from trainables.parallel.follower import Place, portable, see_one_device
from trainables.parallel.left_out import leaves_out
from trainables.parallel.processes import ASKED, lost, num_ranks, ranks_used, together
from trainables.parallel.shares import least_images, parts, share_of
from trainables.tasks import LABEL_TASKS
from visionsweep.core.errors import ConfigError, Diverged

Tiny = Callable[..., TrialConfig]
C = 4


@pytest.mark.parametrize(
    ("images", "ranks", "least", "sizes"),
    [(8, 2, 1, [4, 4]), (7, 2, 1, [3, 4]), (7, 3, 2, [2, 2, 3]), (3, 2, 2, [3, 0]), (2, 4, 1, [1, 1, 0, 0]), (1, 2, 1, [1, 0])],
)  # fmt: skip
def test_a_batch_is_divided_in_order_and_no_rank_gets_fewer_images_than_it_needs(
    images: int, ranks: int, least: int, sizes: list[int]
) -> None:
    rows = parts(images, ranks, least)
    assert [part.stop - part.start for part in rows] == sizes
    assert [row for part in rows for row in range(images)[part]] == list(range(images))


def configured(task: str, loss: dict[str, Any]) -> TrialConfig:
    model: dict[str, Any] = {"backbone": "test_convnext", "weights": "none"}
    if task == "segmentation":
        model["architecture"] = {"name": "fpn"}
    plain = {"optimizer": {"name": "sgd", "lr": 0.1}, "epochs": 1, "batch_size": 7}
    return parse_config({"task": task, "model": model, "loss": loss, **plain})


@pytest.mark.parametrize(
    ("task", "loss"),
    [
        ("multiclass", {"name": "cross_entropy"}),
        ("multiclass", {"name": "cross_entropy", "reduction": "sum"}),
        ("multiclass", {"name": "cross_entropy", "class_weights": "inverse_frequency"}),
        ("segmentation", {"name": "cross_entropy"}),
        ("segmentation", {"name": "cross_entropy", "class_weights": "median_frequency"}),
        ("segmentation", {"name": "focal"}),
    ],
)
@pytest.mark.parametrize("num_ranks", [2, 3])
def test_the_weighted_losses_of_the_ranks_are_the_batch_s(task: str, loss: dict[str, Any], num_ranks: int) -> None:
    rng = np.random.default_rng(0)
    config = configured(task, loss)
    if task == "segmentation":
        counted = rng.integers(1, 1000, (20, C))
        targets = torch.from_numpy(rng.integers(0, C, (7, 5, 6)).astype(np.uint8))
        targets[4:, :3] = VOID
        logits = torch.from_numpy(rng.normal(size=(7, C, 5, 6)))
    else:
        counted = rng.choice(C, 90, p=[0.7, 0.1, 0.1, 0.1])
        hard = torch.from_numpy(np.eye(C)[rng.integers(0, C, 7)])
        targets = 0.7 * hard + 0.3 * hard.flip(0)  # mixed
        logits = torch.from_numpy(rng.normal(size=(7, C)))
    loss_of = build_loss(config, counted, C)
    share = share_of(config, loss_of)
    each = [share(targets, rows) * loss_of(logits[rows], targets[rows]) for rows in parts(7, num_ranks, 1)]
    assert float(sum(each)) == pytest.approx(float(loss_of(logits, targets)), rel=1e-5)  # type: ignore[arg-type]


def test_ranks_are_the_gpus_of_a_trial_and_a_share_of_one_is_trained_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [num_ranks(gpus) for gpus in (0, 0.25, 1, 2, 4.0)] == [1, 1, 1, 2, 4]
    monkeypatch.setenv(ASKED, "3")
    assert num_ranks(0) == 3
    monkeypatch.setenv(ASKED, "none")
    with pytest.raises(ConfigError, match="takes a number from 1, got 'none'"):
        num_ranks(0)


def test_a_probe_has_one_process_alone(tiny: Tiny) -> None:
    frozen = {"freeze": "all"}
    assert ranks_used(tiny(model=frozen), 2) == 2, "its pictures are drawn anew, and pass the backbone"
    assert ranks_used(tiny(model=frozen, views=1), 2) == 1
    assert ranks_used(tiny(), 2) == 2


def test_more_ranks_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with (
        pytest.raises(ConfigError, match=r"on 2 GPUs sees 1 here\. Ask for 1"),
        together(2, torch.device("cuda", 0), print, ()),
    ):
        pass


@pytest.mark.parametrize(
    ("variables", "seen"),
    [
        ({"CUDA_VISIBLE_DEVICES": "4,7"}, {"CUDA_VISIBLE_DEVICES": "7"}),
        ({"CUDA_VISIBLE_DEVICES": "GPU-a, GPU-b"}, {"CUDA_VISIBLE_DEVICES": "GPU-b"}),
        ({"HIP_VISIBLE_DEVICES": "2,3"}, {"HIP_VISIBLE_DEVICES": "3"}),
        ({}, {"CUDA_VISIBLE_DEVICES": "1"}),
    ],
)
def test_each_rank_sees_its_own_gpu_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any, variables: dict[str, str], seen: dict[str, str]
) -> None:
    for name in ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"):
        monkeypatch.setenv(name, "")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    see_one_device(Place(1, 2, torch.device("cuda", 0), tmp_path, 1))
    assert {name: os.environ[name] for name in seen} == seen


def test_an_error_of_ours_crosses_processes_as_it_is_and_any_other_one_says_where_it_was(tmp_path: Any) -> None:
    place = Place(1, 2, torch.device("cpu"), tmp_path, 1)
    same = portable(Diverged(float("inf"), 3, 1, 0.5), place)
    assert isinstance(same, Diverged)
    assert same.epoch == 3
    memory = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
    assert isinstance(portable(memory, place), torch.OutOfMemoryError)
    with pytest.raises(KeyError) as raised:
        raise KeyError("x")
    assert str(portable(raised.value, place)).startswith("rank 1 of 2: KeyError: 'x' (test_ranks.py:")


def test_a_killed_process_counts_as_out_of_memory() -> None:
    assert isinstance(lost(1, 2, -signal.SIGKILL), MemoryError)
    assert str(lost(1, 2, 3)).startswith("rank 1 of 2 ended with exit code 3.")


def test_parameters_without_a_gradient_are_known_beforehand(tiny: Tiny) -> None:
    assert not leaves_out(tiny())
    assert leaves_out(configured_resting())


def configured_resting() -> TrialConfig:
    config = configured("segmentation", {"name": "cross_entropy"})
    return config.model_copy(update={"model": config.model.model_copy(update={"decoder_first": 0.5})})


def test_a_rank_gets_two_images_where_batch_norm_needs_them(tiny: Tiny) -> None:
    assert least_images(tiny("resnet18", image_size=32)) == 2
    assert least_images(tiny("test_convnext")) == 1


@pytest.mark.parametrize("task", sorted(LABEL_TASKS))
def test_no_metric_waits_for_other_ranks(task: str) -> None:
    metrics = [part for one in LABEL_TASKS[task].metrics(3, 0.5).values() for part in one.modules()]
    assert [type(one) for one in metrics if isinstance(one, Metric) and one.sync_on_compute] == []
