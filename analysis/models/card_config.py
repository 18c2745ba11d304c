"""A configuration in words, and code that runs a graph, for the model card."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from analysis.models.resizing import BOUND, Elsewhere, in_code, without_opencv
from visionsweep.core.tasks import task_kind

# Of images that are no RGB of 8 bits, which few libraries read alike.
SESSION = (
    "    import onnxruntime",
    '    session = onnxruntime.InferenceSession("model.onnx")',
    '    (probabilities,) = session.run(["probabilities"], {"images": images})',
    "",
)


def configuration(config: Mapping[str, Any]) -> Iterator[str]:
    """Yield one line for each part of a configuration's values."""
    yield _model(config["model"])
    bands = config["model"].get("bands")
    deep = f", {len(bands['mean'])} channels of {bands['dtype']}" if bands else ""
    yield f"images: {_size(config)}{deep}"
    optimizer = config["optimizer"]
    schedule = config["schedule"]
    loss = config["loss"]
    yield f"optimizer: {_part(optimizer)}"
    yield f"schedule: {_part(schedule)}; {config['epochs']} epochs"
    accumulated = f", {config['accumulate']} batches a step" if config["accumulate"] > 1 else ""
    yield f"batches of {config['batch_size']}{accumulated}; {config['precision']}; seed {config['seed']}"
    yield f"loss: {_part(loss)}"
    steps = [f"{name.replace('_', ' ')} ({_step(part)})" for name, part in config["augment"].items() if part]
    yield f"augmentation: {'; '.join(steps) or 'none'}"
    if config["ema_decay"]:
        yield f"weights averaged over the training, decay {config['ema_decay']:g}"
    if config["ensemble"] > 1:
        yield f"predictions averaged over the best {config['ensemble']} epochs"
    if config["merge"]:
        merged = "; ".join(f"{new} of {', '.join(old)}" for new, old in config["merge"].items())
        yield f"classes merged: {merged}"


def own_code(resize: Mapping[str, int], task: str, elsewhere: Elsewhere | None, checked_on: str) -> Iterator[str]:
    """Yield code from a photo to probabilities with model.onnx, with OpenCV and without.

    `resize` is as in `preprocessing`. `elsewhere` is None where it was not measured.
    """
    yield "    import cv2, numpy as np, onnxruntime"
    yield "    from PIL import Image, ImageOps"
    yield from (f"    {line}" for line in in_code(resize))
    yield '    session = onnxruntime.InferenceSession("model.onnx")'
    yield '    (probabilities,) = session.run(["probabilities"], {"images": images})   # images: uint8 (N, H, W, 3)'
    yield ""
    yield "These are the pixels that the model was judged on. Without OpenCV, instead of its two lines:"
    yield ""
    yield from (f"    {line}" for line in without_opencv())
    yield ""
    yield f"Their pixels differ by one level of 255 here and there: count on {BOUND:g} in the probabilities."
    if elsewhere is not None:
        of = "pixels" if task_kind(task).pixels else "decisions"
        yield f"On {elsewhere.num_images} {checked_on} the largest difference was {elsewhere.numpy:.1e}."
        yield "Pillow's own resize (HAMMING, its nearest) makes other pixels: the probabilities differ by up to"
        yield f"{elsewhere.pillow:.1e} on the same images, and {elsewhere.changed:.2%} of the {of} change."
    yield ""


def _model(model: Mapping[str, Any]) -> str:
    architecture = model.get("architecture")
    backbone = model.get("backbone")
    names = [_part(architecture) if architecture else "", f"backbone {backbone}" if backbone else ""]
    start = {"imagenet": "from ImageNet weights", "none": "from scratch"}.get(
        model["weights"], "from weights of a file"
    )
    frozen = {"none": "nothing frozen", "all": "all of the backbone frozen"}
    freeze = frozen.get(model["freeze"], f"frozen up to {model['freeze']}")
    if model.get("adapter"):
        freeze += f", adapters ({_part(model['adapter'])}) trained and added to its weights"
    norms = ", its batch norm's statistics kept" if model.get("batch_norm") == "fixed" else ""
    head = f", head {_part(model['head'])}" if "head" in model else ""
    return f"model: {', '.join(filter(None, names))}{head}; {start}, {freeze}{norms}"


def _size(config: Mapping[str, Any]) -> str:
    size = config["image_size"]
    if config["fit_image"] == "squash":
        return f"{size} x {size} pixels, squashed"
    if not task_kind(config["task"]).pixels:
        return f"{size} x {size} pixels, cropped"
    seen = config["short_side"] or size
    whole = "as a whole" if config["evaluation"] == "whole" else "in windows that overlap"
    return f"crops of {size} x {size} pixels in training, of images whose shorter side has {seen}; judged {whole}"


def _part(part: Mapping[str, Any]) -> str:
    values = _values(part)
    return f"{part['name']} ({values})" if values else str(part["name"])


def _step(part: Mapping[str, Any]) -> str:
    return _part(part) if "name" in part else _values(part)


def _values(part: Mapping[str, Any]) -> str:
    """Return the values that matter, without defaults that turn a thing off."""
    shown = {name: value for name, value in part.items() if value not in (None, "none", 0, False, [], ())}
    unsaid = {"name", "reduction", *(() if part.get("boundaries") else ("fractions",))}
    return ", ".join(
        f"{name.replace('_', ' ')} {_number(value)}" for name, value in shown.items() if name not in unsaid
    )


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def as_code(name: str) -> str:
    """Return a class's name as Markdown code, whatever characters it has."""
    plain = json.dumps(name, ensure_ascii=False)[1:-1].encode("utf-8", "replace").decode()
    return f"`{plain.replace('`', chr(39)).replace('|', '/')}`"
