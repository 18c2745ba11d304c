"""Keys of kept features: all that their bits depend on. Features with equal keys are shared."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping
from typing import Any

import timm
import torch
import torchvision
from torch import Tensor, nn

from trainables.config.trial import TrialConfig
from trainables.features.images_key import KEY_VERSION
from trainables.inference import chunk_images
from trainables.models.adapters import plain_state_dict
from trainables.models.classifiers import Classifier
from trainables.precision import precision_in_force


def backbone_key(
    config: TrialConfig, model: Classifier, device: torch.device, name: str | None = None
) -> dict[str, Any]:
    """Return what a frozen backbone's arithmetic depends on, as plain values for JSON.

    name  of the backbone, None takes the configuration's
    """
    return {
        "version": KEY_VERSION,
        "backbone": name or config.model.backbone,
        "weights": weights_digest(model.backbone),
        "mean": list(model.mean),
        "std": list(model.std),
        "precision": precision_in_force(config, device),
        "channels_last": config.channels_last,
        "chunk": chunk_images(config, device),
        "machine": arithmetic(device),
    }


def weights_digest(module: nn.Module) -> str:
    """Return the SHA-256 of a module's weights and buffers, with their names, types and shapes.

    Adapters are merged. Before the first step they change nothing.
    """
    return tensors_digest(plain_state_dict(module))


def tensors_digest(tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of tensors, with their names, types and shapes."""
    digest = hashlib.sha256()
    for name, tensor in tensors.items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        # As bytes: numpy knows no bfloat16.
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def arithmetic(device: torch.device) -> dict[str, Any]:
    """Return what can change the results of equal weights and pixels: versions, device and settings."""
    libraries = {"torch": torch.__version__, "timm": timm.__version__, "torchvision": torchvision.__version__}
    if device.type == "cpu":
        # Sums are split among the threads, and another instruction set adds them up in another order.
        cpu = {"instructions": torch.backends.cpu.get_cpu_capability(), "threads": torch.get_num_threads()}
        return {**libraries, "device": platform.machine(), **cpu}
    if device.type == "mps":
        return {**libraries, "device": f"{platform.machine()} mps"}
    tf32 = {"matmul": torch.get_float32_matmul_precision(), "cudnn_tf32": torch.backends.cudnn.allow_tf32}
    return {**libraries, "device": torch.cuda.get_device_name(device), "cuda": torch.version.cuda, **tf32}
