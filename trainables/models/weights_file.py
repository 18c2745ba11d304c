"""Weights from a file, or from a folder of files that are called after their backbones."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import timm
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from trainables.config.parts import FILE_ENDINGS
from trainables.models.backbones import TORCHVISION_BACKBONES
from visionsweep.core.errors import WeightsError

HUB_NAMES = ("model.safetensors", "pytorch_model.bin")  # in a folder of a backbone's own, as the hub has it


def file_of(name: str, weights: str) -> Path | None:
    """Return the file of a backbone's weights: `weights` itself, or the backbone's file in that folder, or None."""
    place = Path(weights)
    if not place.is_dir():
        return place
    return next((file for file in _candidates(name, place) if file.is_file()), None)


def load_weights_file(name: str, module: nn.Module, weights: str) -> None:
    """Load the backbone's weights from a file, or from a folder's file for `name`. Classifiers are left out.

    timm's own conversion is used where names or shapes differ: positions learnt for another image size are resampled.
    Raises WeightsError if there is no such file, or it holds less than half of `module`.
    """
    file = file_of(name, weights)
    if file is None:
        raise WeightsError(
            f"{weights}: this folder has no weights of '{name}'. Add {name}.safetensors or {name}/model.safetensors, "
            "or set model.weights."
        )
    own = module.state_dict()
    fitting = max((_fitting(stored, own) for stored in _readings(_read_file(file), module, own)), key=len)
    if 2 * len(fitting) < len(own):
        raise WeightsError(
            f"{file}: {len(fitting)} of the backbone's {len(own)} tensors are in this file, at least half must be. "
            "Set model.backbone to the one that the file was made with."
        )
    module.load_state_dict(fitting, strict=False)


def _candidates(name: str, folder: Path) -> Iterator[Path]:
    about = None if name in TORCHVISION_BACKBONES else timm.get_pretrained_cfg(name)
    on_hub = about.hf_hub_id.rpartition("/")[2] if about is not None and about.hf_hub_id else name
    for one in dict.fromkeys((name, on_hub)):  # with the tag of its weights, too
        yield from (folder / f"{one}{ending}" for ending in FILE_ENDINGS)
        yield from (folder / one / file for file in HUB_NAMES)


def _readings(
    stored: dict[str, Tensor], module: nn.Module, own: Mapping[str, Tensor]
) -> Iterator[Mapping[str, Tensor]]:
    """Yield the tensors as they are, then as timm converts them if some of the backbone's are missing."""
    yield stored
    as_timm = getattr(sys.modules[type(module).__module__], "checkpoint_filter_fn", None)
    if as_timm is not None and len(_fitting(stored, own)) < len(own):
        try:
            yield as_timm(dict(stored), module)
        except Exception:  # of a file that is not of such a model: whatever it stumbles over
            return


def _fitting(stored: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in stored.items() if name in own and tensor.shape == own[name].shape}


def _read_file(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise WeightsError(f"weights '{path}' is neither imagenet, none nor a file that exists. Set model.weights.")
    try:
        if path.suffix == ".safetensors":
            stored = load_file(path)
        else:
            stored = torch.load(path, map_location="cpu", weights_only=True)  # tensors only: no code runs from a file
            stored = next((stored[key] for key in ("state_dict", "model") if key in stored), stored)
        stored = dict(stored.items())
    except Exception:  # of pickle, zipfile, torch, safetensors
        raise WeightsError(f"{path}: is no file of weights. Name a .safetensors, .pt or .pth state dict.") from None
    # What DistributedDataParallel and our own classifier put in front of the backbone's names.
    return {
        name.removeprefix("module.").removeprefix("backbone."): tensor
        for name, tensor in stored.items()
        if isinstance(tensor, Tensor)
    }
