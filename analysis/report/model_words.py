"""A configuration in plain words, for the first screen of the page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

TRAINED = {"none": "all of it trained", "all": "only its head trained"}


def model_words(config: Mapping[str, Any]) -> str:
    """Return a phrase: the network, what of it was trained, how, and the size of the images."""
    model = _part(config, "model")
    architecture = _part(model, "architecture").get("name")
    backbone = model.get("backbone")
    network = " on ".join(str(name) for name in (architecture, backbone) if name is not None) or "a model"
    words = [network.replace("+", " and ")]
    optimizer = _part(config, "optimizer")
    solved = optimizer.get("name") == "lbfgs"
    words += ["only its head trained, solved at once"] if solved else [_trained(model), _optimizer(optimizer)]
    schedule = _part(config, "schedule").get("name")
    words.append(f"{str(schedule).replace('_', ' ')} schedule" if schedule else "")
    epochs = config.get("epochs")
    words.append(f"{epochs} epochs" if isinstance(epochs, int) and epochs > 1 else "")
    size = config.get("image_size")
    words.append(f"images of {size} px" if size else "")
    return ", ".join(word for word in words if word)


def _part(config: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = config.get(key)
    return value if isinstance(value, Mapping) else {}


def _trained(model: Mapping[str, Any]) -> str:
    adapter = _part(model, "adapter")
    if adapter:
        return f"adapters trained ({adapter.get('name', '?')})"
    freeze = str(model.get("freeze", "none"))
    if model.get("weights") == "none" and freeze == "none":
        return "trained from scratch"
    return TRAINED.get(freeze, f"trained after {freeze.replace('stage', 'stage ')}")


def _optimizer(optimizer: Mapping[str, Any]) -> str:
    name = optimizer.get("name")
    if name is None:
        return ""
    rate = optimizer.get("lr")
    return f"{name} with rate {rate:.2g}" if isinstance(rate, (int, float)) else str(name)
