"""Whether a training step leaves parameters without a gradient. DistributedDataParallel must know that."""

from __future__ import annotations

import torch

from trainables.config.trial import TrialConfig
from trainables.models.build import build_model


def leaves_out(config: TrialConfig) -> bool:
    """Say whether some step may give a trained parameter no gradient, by a step on torch's meta device.

    It takes no memory there, and hardly any time. True also if such a step cannot be made.
    """
    if getattr(config.model, "decoder_first", 0.0):
        return True
    channels = 3 if config.model.bands is None else config.model.bands.channels
    untrained = config.model.model_copy(update={"weights": "none"})
    try:
        with torch.random.fork_rng(devices=[]), torch.device("meta"):
            model = build_model(untrained, 2, config.image_size).train()
            output = model(torch.empty(2, channels, config.image_size, config.image_size))
            outputs = output if isinstance(output, tuple) else (output,)
            torch.stack([one.sum() for one in outputs]).sum().backward()  # type: ignore[no-untyped-call]
    except Exception:
        return True
    return any(one.requires_grad and one.grad is None for one in model.parameters())
