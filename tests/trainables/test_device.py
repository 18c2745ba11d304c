"""The device of a training, on machines of all kinds, of which torch's own answers are replaced."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from trainables import device
from trainables.config.trial import TrialConfig
from trainables.costs import peak_memory_mb
from trainables.data import loader_processes
from trainables.data.loader_processes import HELD_BYTES, Loaders, most_on
from trainables.device import (
    ALLOCATOR,
    APPLE,
    CPU,
    GPU,
    device_here,
    exact_place,
    less_fragmented,
    speed_up,
    trial_device,
    unused_gpu,
)
from trainables.features.feature_key import arithmetic
from trainables.optimizers import FUSED
from trainables.pixel_scores import PixelScores
from trainables.precision import fallback, precision_in_force
from trainables.tasks import mean_logits, score
from trainables.worker.resources import GPU_CONTEXT_MB, TrialResources
from visionsweep.core.cores import num_cores
from visionsweep.core.errors import ConfigError


@pytest.fixture
def gpu_of_16_gb(monkeypatch: pytest.MonkeyPatch) -> list[tuple[float, int]]:
    """Let torch see a GPU of 16 GB, and return the list of limits that are set on it."""
    limits: list[tuple[float, int]] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    memory = type("Properties", (), {"total_memory": 16_000 * 2**20})
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: memory)
    # torch's own check of the argument stays: it refuses a device without an index.
    monkeypatch.setattr(torch.cuda.memory, "_lazy_init", lambda: None)
    monkeypatch.setattr(
        torch._C, "_cuda_setMemoryFraction", lambda fraction, index: limits.append((fraction, index)), raising=False
    )
    monkeypatch.setattr(torch._C, "_cuda_getDevice", lambda: 0, raising=False)
    return limits


def test_a_packed_trial_is_held_to_its_share_of_the_gpu(gpu_of_16_gb: list[tuple[float, int]]) -> None:
    quarter = TrialResources(0.25, 4000.0, 1.0, 0.25, 0)
    quarter.limit(trial_device(quarter.gpus))
    assert gpu_of_16_gb == [(pytest.approx(0.25 - GPU_CONTEXT_MB / 16_000), 0)]
    TrialResources(1.0, 16_000.0, 1.0, 1.0, 0).limit(trial_device(1.0))
    assert len(gpu_of_16_gb) == 1, "a whole GPU has no limit"


def test_torch_refuses_a_limit_on_a_gpu_without_an_index(gpu_of_16_gb: list[tuple[float, int]]) -> None:
    with pytest.raises(ValueError, match="index"):
        torch.cuda.set_per_process_memory_fraction(0.5, torch.device("cuda"))
    assert gpu_of_16_gb == []


def test_a_gpu_is_taken_where_torch_sees_one_and_left_alone_on_demand(
    gpu_of_16_gb: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert device_here() == GPU
    monkeypatch.setenv("VISIONSWEEP_DEVICE", "cpu")
    assert device_here() == CPU
    assert unused_gpu(CPU) is None, "the user knows"


def test_apples_gpu_is_named_and_taken_on_demand_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(device.sys, "platform", "darwin")
    assert device_here() == CPU
    assert "VISIONSWEEP_DEVICE=mps" in (unused_gpu(CPU) or "")
    monkeypatch.setenv("VISIONSWEEP_DEVICE", "mps")
    assert device_here() == torch.device("mps")


class NoFloat64(TorchDispatchMode):
    """Refuses float64 on the meta device, as Apple's GPUs do."""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = function(*args, **(kwargs or {}))
        for one in tree_leaves(made):
            if isinstance(one, torch.Tensor) and one.device.type == "meta" and one.dtype == torch.float64:
                raise TypeError("Cannot convert a MPS Tensor to float64 dtype")
        return made


def test_pixels_are_counted_without_float64_on_the_device() -> None:
    meta = torch.device("meta")
    with NoFloat64():
        with pytest.raises(TypeError, match="float64"):
            torch.zeros(2, device=meta).double()
        scores = PixelScores(["sky", "road"], meta)
        scores.update(torch.zeros(2, 2, 4, 4, device=meta), torch.zeros(2, 4, 4, dtype=torch.int64, device=meta))


def test_what_needs_float64_leaves_apples_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scores, means of models and solved heads. The device is played by meta, which is moved to the CPU's zeros."""
    meta = torch.device("meta")
    moved: list[torch.device] = []
    to = torch.Tensor.to

    def as_zeros(tensor: torch.Tensor, place: Any, *more: Any, **kind: Any) -> torch.Tensor:
        if tensor.device == meta and place == CPU:
            moved.append(CPU)
            return torch.zeros(tensor.shape, dtype=tensor.dtype)
        return to(tensor, place, *more, **kind)

    monkeypatch.setattr(device, "NO_FLOAT64", ("meta",))
    monkeypatch.setattr(torch.Tensor, "to", as_zeros)
    assert exact_place(meta) == CPU
    assert exact_place(GPU) == GPU
    logits = torch.zeros(4, 3, device=meta)
    with NoFloat64():
        for task in ("binary", "multiclass", "multilabel"):
            mean = mean_logits(task, [logits, logits])
            assert (mean.device, mean.dtype) == (meta, torch.float32)
            score(
                task,
                logits[:, :1] if task == "binary" else logits,
                torch.zeros(4, 1 if task == "binary" else 3),
                3,
                0.5,
            )
    assert len(moved) >= 2 * 3 + 3


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_apples_gpu_computes_in_fp32_and_says_so(tiny: Callable[..., TrialConfig], precision: str) -> None:
    config = tiny(precision=precision)
    assert precision_in_force(config, APPLE) == "fp32"
    said = fallback(config, APPLE)
    assert (said is None) == (precision == "fp32")
    if said:
        assert said == f"precision is {precision}, which has not been tried on Apple's GPUs: it computes in fp32."


def test_features_of_apples_gpu_have_a_key_of_their_own() -> None:
    assert arithmetic(APPLE)["device"].endswith(" mps")
    assert arithmetic(APPLE) != arithmetic(CPU)


def test_apples_gpu_gets_no_pinned_memory_and_no_fused_steps() -> None:
    assert APPLE.type not in FUSED
    assert most_on(APPLE) == HELD_BYTES
    assert speed_up(APPLE, fixed_shapes=True) is None
    asked: list[bool] = []

    class Asked:
        def __init__(self, *_: object, pin_memory: bool, **__: object) -> None:
            asked.append(pin_memory)

        def __iter__(self) -> Iterator[int]:
            return iter(())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loader_processes, "DataLoader", Asked)
        for place in (APPLE, CPU, GPU):
            list(Loaders(0, place).load("val", [], [[0]], list, 1.0))
    assert asked == [False, False, True]


def test_a_rocm_build_is_a_cuda_device_with_bf16_and_the_allocator_as_it_is(
    gpu_of_16_gb: object, monkeypatch: pytest.MonkeyPatch, tiny: Callable[..., TrialConfig]
) -> None:
    monkeypatch.setattr(torch.version, "hip", "6.4")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: (9, 0))
    for name in ALLOCATOR:
        monkeypatch.delenv(name, raising=False)
    assert device_here() == GPU
    assert precision_in_force(tiny(precision="bf16"), GPU) == "bf16"
    less_fragmented()
    assert not any(name in os.environ for name in ALLOCATOR)


@pytest.mark.parametrize(("value", "words"), [("gpu", "takes cpu, cuda or mps, got 'gpu'"), ("mps", "sees cpu only")])
def test_a_device_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch, value: str, words: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setenv("VISIONSWEEP_DEVICE", value)
    with pytest.raises(ConfigError, match=words):
        device_here()


@pytest.mark.parametrize("build", ["CUDA", "ROCm"])
def test_a_gpu_that_this_torch_cannot_use_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, build: str) -> None:
    driver = tmp_path / "driver"
    driver.touch()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(device, "DRIVERS", {str(tmp_path / "none"): "nothing", str(driver): f"a {build} build"})
    assert (unused_gpu(CPU) or "").endswith(f"Install a {build} build.")
    driver.unlink()
    assert unused_gpu(CPU) is None


def test_convolutions_are_timed_where_all_images_have_one_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    before = torch.get_float32_matmul_precision()
    try:
        speed_up(CPU, fixed_shapes=True)
        assert (torch.backends.cudnn.benchmark, torch.get_float32_matmul_precision()) == (False, before)
        speed_up(GPU, fixed_shapes=True)
        assert (torch.backends.cudnn.benchmark, torch.get_float32_matmul_precision()) == (True, "high")
        speed_up(GPU, fixed_shapes=False)
        assert not torch.backends.cudnn.benchmark
    finally:
        torch.set_float32_matmul_precision(before)


def test_a_containers_quota_bounds_the_cores(tmp_path: Path) -> None:
    quota = tmp_path / "cpu.max"
    everything = num_cores(tmp_path / "missing")
    quota.write_text("max 100000\n")
    assert num_cores(quota) == everything
    quota.write_text("100000 100000\n")
    assert num_cores(quota) == 1
    quota.write_text("150000 100000\n")
    assert num_cores(quota) == min(2, everything)


def test_memory_grows_in_segments_unless_the_user_has_set_the_allocator(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ALLOCATOR:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PYTORCH_CUDA_ALLOC_CONF", "max_split_size_mb:128")
    less_fragmented()
    assert "PYTORCH_ALLOC_CONF" not in os.environ
    monkeypatch.delenv("PYTORCH_CUDA_ALLOC_CONF")
    monkeypatch.setenv("PYTORCH_ALLOC_CONF", "")  # so that it is restored afterwards
    monkeypatch.delenv("PYTORCH_ALLOC_CONF")
    less_fragmented()
    assert os.environ["PYTORCH_ALLOC_CONF"] == "expandable_segments:True"


def test_trials_are_packed_by_the_memory_that_torch_reserves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda device: 3000 * 2**20)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 2000 * 2**20)
    assert peak_memory_mb(GPU) == 3000
