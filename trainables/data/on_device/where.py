"""Where the images of a training are augmented: by the loader's processes, or in batches on the training's device."""

from __future__ import annotations

from typing import Any, Literal

import torch

from trainables.config.trial import TrialConfig
from trainables.data.augment import train_transform, training_steps
from trainables.data.on_device.drawn import DrawnTransform, single_steps
from trainables.data.on_device.encode import DEVICE_STEPS
from visionsweep.core.errors import ConfigError

GPUS = ("cuda", "mps")  # `auto` augments on them


def augmented_on(config: TrialConfig, device: torch.device) -> Literal["cpu", "device"]:
    """Return where `config.augment_on` has the images augmented.

    auto    on a GPU if all steps after the crop have a device version, else on the CPU
    device  on any device. Raises ConfigError if a step has no device version

    A configuration without such steps has nothing for the device to do, and stays on the CPU.
    """
    steps = training_steps(config)[1]
    if config.views is not None or not steps or config.augment_on == "cpu":
        return "cpu"
    if config.augment_on == "device":
        if lacking := _lacking(steps):
            raise ConfigError(
                f"augment_on is 'device', and augment.{lacking[0]} has no device version: set augment_on=auto or cpu, "
                f"or augment.{lacking[0]}=null"
            )
        return "device"
    return "device" if device.type in GPUS and not _lacking(steps) else "cpu"


def fallback(config: TrialConfig, device: torch.device) -> str | None:
    """Return a sentence if a GPU's images are augmented on the CPU because a step has no device version, else None."""
    if device.type not in GPUS or config.augment_on != "auto" or config.views is not None:
        return None
    lacking = _lacking(training_steps(config)[1])
    return f"augment.{lacking[0]} has no device version: images are augmented on the CPU." if lacking else None


def loader_transform(config: TrialConfig, device: torch.device, background: int | None = None) -> Any:
    """Return the transform of a training's loader. `finish.finished` does what it leaves to the device."""
    if augmented_on(config, device) == "device":
        return DrawnTransform(config, background)
    return train_transform(config, background)


def _lacking(steps: list[tuple[str, Any]]) -> list[str]:
    """Return the fields of the steps that have no device version."""
    return [field for field, step in steps if any(type(one) not in DEVICE_STEPS for one in single_steps(step))]
