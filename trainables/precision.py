"""The precision that a training or a prediction really computes in."""

from __future__ import annotations

import torch

from trainables.config.trial import TrialConfig

AMPERE = (8, 0)  # the first compute capability with bf16 arithmetic
# Names of x86 and ARM instructions in torch.cpu.get_capabilities().
BF16_INSTRUCTIONS = ("avx512_bf16", "amx_bf16", "bf16", "sve_bf16")


def precision_in_force(config: TrialConfig, device: torch.device) -> str:
    """Return the precision that `config.precision` becomes on a device: fp32, fp16 or bf16.

    device                     fp16     bf16
    GPU of Apple               fp32     fp32, as neither has been tried there
    CPU with bf16 arithmetic   fp32     bf16
    any other CPU              fp32     fp32
    GPU of NVIDIA before 8.0   fp16     fp16, with loss scaling
    any other GPU              fp16     bf16

    torch would emulate what the hardware lacks. A training step in fp16 on a CPU takes ten times as long as in fp32.
    """
    asked = config.precision
    if device.type == "mps":
        return "fp32"
    if device.type == "cpu":
        return "bf16" if asked == "bf16" and _cpu_has_bf16() else "fp32"
    if device.type == "cuda" and asked == "bf16" and not _gpu_has_bf16(device):
        return "fp16"
    return asked


def fallback(config: TrialConfig, device: torch.device) -> str | None:
    """Return a sentence about a precision that the device lacks, None if it has the configured one."""
    used = precision_in_force(config, device)
    if used == config.precision:
        return None
    if device.type == "mps":
        return f"precision is {config.precision}, which has not been tried on Apple's GPUs: it computes in {used}."
    hardware = "CPU" if device.type == "cpu" else "GPU"
    return f"precision is {config.precision}, which this {hardware} lacks: it computes in {used}."


def _cpu_has_bf16() -> bool:
    has = torch.cpu.get_capabilities()
    return any(has.get(name, False) for name in BF16_INSTRUCTIONS)


def _gpu_has_bf16(device: torch.device) -> bool:
    # AMD numbers its capabilities differently, and all of its cards that torch supports have bf16.
    return torch.version.hip is not None or torch.cuda.get_device_capability(device) >= AMPERE
