"""The shipped search that fits data, where nobody named one."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from trainables.data.kind import has_masks
from visionsweep.core.tasks import task_kind

DEVICES = ("/dev/nvidiactl", "/dev/nvidia0", "/dev/kfd", "/dev/dxg")  # CUDA, ROCm, and CUDA below Windows
ASK_TORCH = "import torch; raise SystemExit(not torch.cuda.is_available())"


def chosen_search(
    data: str, task: str | None = None, layout: str | None = None, gpu: Callable[[], bool] | None = None
) -> str:
    """Return the name of the shipped search for this data and this machine.

        data    a folder, a table or a name
        task    what the user wants of it, None means what the data is
        layout  how its folders are read, see `ReadAs`
        gpu     says whether torch sees a GPU, None asks it

    Raises DataError if there is no such data, or if it is on S3 and nothing says what it is.
    """
    masks = task_kind(task).pixels if task is not None else has_masks(data, layout)
    machine = "gpu-small" if (gpu or sees_gpu)() else "cpu"
    return f"{'segmentation' if masks else 'classification'}-{machine}"


def sees_gpu(devices: Sequence[str] = DEVICES) -> bool:
    """Return whether torch sees a GPU. A machine without any device of one need not import torch to know."""
    if "torch" in sys.modules:
        return bool(sys.modules["torch"].cuda.is_available())
    if not any(Path(device).exists() for device in devices):
        return False
    return subprocess.run([sys.executable, "-c", ASK_TORCH], capture_output=True, check=False).returncode == 0
