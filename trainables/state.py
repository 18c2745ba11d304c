"""The state of one training between its epochs."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from trainables.averaging import MeanWeights
from trainables.config.trial import TrialConfig
from trainables.held_weights import held_names
from trainables.models.build import Model, build_model
from trainables.optimizers import build_optimizer
from trainables.precision import precision_in_force


@dataclass
class TrainState:
    """Everything that the next epoch depends on. `checkpoint.py` stores it exactly."""

    model: Model
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    ema: MeanWeights | None
    epoch: int = 0  # epochs trained so far
    num_steps: int = 0  # optimizer steps so far; the warm-up of the averaged weights counts them
    best_watched: float | None = None  # of early_stopping_metric
    epochs_without_gain: int = 0
    gpu_seconds: float = 0.0  # spent so far
    held: frozenset[str] = frozenset()  # names of tensors that checkpoints leave out, see `held_weights.py`
    held_digest: str | None = None

    @property
    def weights(self) -> nn.Module:
        """The module that is evaluated and exported, with averaged weights if there are any."""
        return self.model if self.ema is None else self.ema.module

    def let_backbone_rest(self, config: TrialConfig, epoch: float) -> None:
        """Train the decoder alone until its share of the epochs is over (`model.decoder_first`).

        Gradients of a random decoder would distort the backbone's features. epoch is the progress of the training.
        """
        share = getattr(config.model, "decoder_first", 0.0)
        if self.model.let_rest(epoch < share * config.epochs) and self.ema is not None:
            self.ema.look_again()


def build_state(config: TrialConfig, num_outputs: int, device: torch.device) -> TrainState:
    """Return a fresh state with the configured model and optimizer. num_outputs is K of the logits (B, K)."""
    model = build_model(config.model, num_outputs, config.image_size)
    model = model.to(device)
    if config.channels_last:
        model = model.to(memory_format=torch.channels_last)
    return TrainState(
        model=model,
        optimizer=build_optimizer(config.optimizer, model),
        held=held_names(model, config.model.weights),
        # Only fp16 needs loss scaling. bf16 has the exponent range of fp32.
        scaler=torch.amp.GradScaler(device.type, enabled=precision_in_force(config, device) == "fp16"),
        # Without the warm-up of the decay a short training would be evaluated at its random start.
        ema=None if config.ema_decay is None else MeanWeights(model, decay=config.ema_decay, use_warmup=True),
    )
