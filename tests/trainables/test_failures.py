"""What an exception says about its process: the messages of torch, CUDA, cuDNN and cuBLAS."""

from __future__ import annotations

import pytest
import torch

from trainables.worker.failures import is_out_of_memory, poisons_the_process

NO_ENGINE = "GET was unable to find an engine to execute this computation"
NO_HANDLE = "CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`"
EXECUTION = "cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"
ASSERT = "CUDA error: device-side assert triggered"
DRIVER = "CUDA driver error: an illegal memory access was encountered"


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """Let torch use a GPU of 1,000 bytes, and return what of it is free, reserved here, and this process's limit."""
    state = {"free": 500.0, "reserved": 100.0, "limit": 1.0}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (state["free"], 1000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: state["reserved"])
    monkeypatch.setattr(torch.cuda, "get_per_process_memory_fraction", lambda device: state["limit"])
    return state


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        torch.AcceleratorError("CUDA error: out of memory"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory"),
        MemoryError(),
    ],
)
def test_what_names_memory_is_out_of_memory_anywhere(error: Exception) -> None:
    assert is_out_of_memory(error)


@pytest.mark.parametrize("message", [NO_ENGINE, NO_HANDLE, EXECUTION])
def test_what_may_mean_memory_is_out_of_memory_on_a_full_gpu_alone(gpu: dict[str, float], message: str) -> None:
    error = RuntimeError(message)
    assert not is_out_of_memory(error)
    gpu["free"] = 20.0
    assert is_out_of_memory(error)
    gpu.update(free=500.0, limit=0.25, reserved=245.0)  # its own share is full, not the GPU
    assert is_out_of_memory(error)


def test_a_broken_context_that_does_not_answer_is_no_lack_of_memory(
    gpu: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(device: torch.device) -> tuple[int, int]:
        raise torch.AcceleratorError(ASSERT)

    monkeypatch.setattr(torch.cuda, "mem_get_info", broken)
    assert not is_out_of_memory(RuntimeError(EXECUTION))


@pytest.mark.parametrize("message", [NO_HANDLE, EXECUTION, ASSERT, DRIVER, "HIP error: invalid device function"])
def test_a_broken_context_poisons_the_process(message: str) -> None:
    assert poisons_the_process(RuntimeError(message))


def test_an_error_of_the_accelerator_poisons_the_process_whatever_it_says() -> None:
    assert poisons_the_process(torch.AcceleratorError("unspecified launch failure"))
    assert not poisons_the_process(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
