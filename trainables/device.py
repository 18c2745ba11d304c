"""The device that a training or a prediction runs on, and torch's switches for it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch

from visionsweep.core.errors import ConfigError

CPU = torch.device("cpu")
# The first GPU that this process sees. Ray shows each trial its own GPUs alone, so it is the trial's.
# With its index, because some of torch's functions refuse a device without one.
GPU = torch.device("cuda", 0)
APPLE = torch.device("mps")
CHOICE = "VISIONSWEEP_DEVICE"
NO_FLOAT64 = ("mps",)  # devices that have no such numbers, and few functions of linear algebra
# torch's settings of its allocator: the name for all builds, and the older ones for CUDA and for ROCm.
ALLOCATOR = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_HIP_ALLOC_CONF")
# Files of a GPU's driver, and the build of torch that uses it.
DRIVERS = {
    "/dev/nvidiactl": "a CUDA build of torch (https://pytorch.org/get-started)",
    "/dev/kfd": "a ROCm build of torch (https://pytorch.org/get-started)",
}


def device_here() -> torch.device:
    """Return the device for one training or prediction of this process: a GPU of NVIDIA or AMD if torch sees one.

    torch's ROCm builds call AMD's GPUs `cuda` too. A GPU of Apple (`mps`) is taken only on demand, as it has not been
    tried: `VISIONSWEEP_DEVICE=mps`. The same variable takes `cpu`, to leave a GPU alone, and `cuda`.
    Raises ConfigError for another value of it, or for a device that is not there.
    """
    asked = os.environ.get(CHOICE, "")
    if asked not in ("", "cpu", "cuda", "mps"):
        raise ConfigError(f"{CHOICE} takes cpu, cuda or mps, got '{asked}'. Unset it for the best device that is here.")
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if asked and not there[asked]:
        found = " and ".join(name for name, is_there in there.items() if is_there)
        raise ConfigError(
            f"{CHOICE} is {asked}, but torch sees {found} only. Unset it for the best device that is here."
        )
    return {"cpu": CPU, "cuda": GPU, "mps": APPLE}[asked or ("cuda" if there["cuda"] else "cpu")]


def less_fragmented() -> None:
    """Let torch's GPU memory grow in segments that can be extended, unless the user has set its allocator.

    Every size of a validation image would otherwise leave blocks that no other size fits into. It takes effect in a
    process that has not used its GPU yet. ROCm builds do not have it on every system.
    """
    if torch.version.hip is None and not any(name in os.environ for name in ALLOCATOR):
        os.environ[ALLOCATOR[0]] = "expandable_segments:True"


def trial_device(gpus: float) -> torch.device:
    """Return the device of a trial to which Ray gives `gpus` of a GPU.

    Visible GPUs say nothing: Ray shows all of them to an actor that asked for none.
    """
    return GPU if gpus else CPU


def exact_place(device: torch.device) -> torch.device:
    """Return where float64 is computed with what lies on `device`: there, or on the CPU for Apple's GPUs."""
    return CPU if device.type in NO_FLOAT64 else device


def unused_gpu(device: torch.device) -> str | None:
    """Return a sentence about a GPU of this machine that `device` leaves idle though nobody asked for it, or None."""
    if device.type != "cpu" or CHOICE in os.environ:
        return None
    if sys.platform == "darwin" and torch.backends.mps.is_available():
        return f"Apple's GPU is not used, because visionsweep has not been tried on it. {CHOICE}=mps tries it."
    if torch.cuda.is_available():
        return None
    missing = next((build for file, build in DRIVERS.items() if Path(file).exists()), None)
    if missing is None:
        return None
    return f"This machine has the driver of a GPU, but torch {torch.__version__} does not see one. Install {missing}."


def speed_up(device: torch.device, *, fixed_shapes: bool) -> None:
    """Set torch's switches for fast arithmetic on a GPU. They are those of the whole process.

    fixed_shapes  all batches have images of one size. cuDNN then times its convolutions once and keeps the fastest.
                  With whole images of many sizes it would time them again and again

    Products of fp32 matrices use TF32, as torch's convolutions do already: ten bits of mantissa, summed in fp32.
    """
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = fixed_shapes
        torch.set_float32_matmul_precision("high")
