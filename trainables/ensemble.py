"""The models that a trial exports: its best epoch, or several whose predictions are averaged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from trainables.config.model import ClassifierConfig
from trainables.config.trial import TrialConfig
from trainables.data.loader import TrialData
from trainables.evaluate import evaluate
from trainables.models.build import Model, build_model
from trainables.targets import classes_and_labels
from trainables.tasks import TASKS
from visionsweep.core.errors import RunError


def load_models(config: TrialConfig, num_classes: int, files: Sequence[Path], device: torch.device) -> list[Model]:
    """Return a model per file of weights, ready to predict. Raises RunError if one does not fit the configuration."""
    return [model_with(read_weights(file), config, num_classes, device, file) for file in files]


def read_weights(file: Path) -> dict[str, Tensor]:
    """Return tensors by name, on the CPU. Raises RunError if the file does not hold weights."""
    try:
        return load_file(file)
    except Exception as error:
        raise _does_not_fit(file, error) from None


def model_with(
    weights: Mapping[str, Tensor], config: TrialConfig, num_classes: int, device: torch.device, origin: object
) -> Model:
    """Return a model of these weights, ready to predict. Raises RunError about `origin` if they do not fit."""
    # Every weight is given, so no pretrained weights are fetched. Adapters are merged in the weights.
    plain = {"adapter": None} if isinstance(config.model, ClassifierConfig) else {}
    from_scratch = config.model.model_copy(update={"weights": "none", **plain})
    model = build_model(from_scratch, TASKS[config.task].num_outputs(num_classes), config.image_size)
    try:
        model.load_state_dict(weights)
    except Exception as error:
        raise _does_not_fit(origin, error) from None
    model = model.to(device).eval()
    return model.to(memory_format=torch.channels_last) if config.channels_last else model


def _does_not_fit(origin: object, error: Exception) -> RunError:
    first = next(iter(str(error).splitlines()), type(error).__name__)
    return RunError(f"{origin}: does not fit its configuration ({first}). Export the trial anew.")


def evaluate_files(
    config: TrialConfig, files: Sequence[Path], data: TrialData, device: torch.device, split: str = "val"
) -> dict[str, float]:
    """Return the metrics of the mean prediction of several epochs' weights (report "DLCV HW1", section 1.2).

    Their names begin with `val/` for any split.
    """
    classes, labels, _ = classes_and_labels(config, data)
    models = load_models(config, len(classes), files, device)
    return evaluate(config, models, data, labels, device, split=split).metrics
