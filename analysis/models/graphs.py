"""Export of a model as one graph that runs without visionsweep: ONNX, or torch.export's .pt2.

    images          (N, H, W, 3) uint8, resized as the card says; N is free, of segmenters of whole images H and W too.
                    (N, H, W, C) with `--channels`, float32 unless the files have 8 bits
    logits          (N, K) float32, or (N, C, H, W) of a segmenter
    probabilities   likewise; of an ensemble the mean of its models', and the logits are those of that mean

Normalisation is inside. A graph is kept only if it agrees with torch on every image it is checked on.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from analysis.models.predictor import ExportedModel
from trainables.config.bands import Bands
from trainables.data.augment import eval_transform, seen_short_side
from trainables.data.tensors import to_tensor
from trainables.ranking import mean_in_logs
from trainables.tasks import TASKS
from visionsweep.core.errors import RunError
from visionsweep.core.tasks import task_kind

TOLERANCE = 1e-4  # on probabilities; relative on logits above one
OPSET = 18  # the lowest that torch's exporter writes without conversion, which most programs can read
ONNX_PACKAGES = ("onnx", "onnxscript", "onnxruntime")
OUTPUTS = ("logits", "probabilities")

Run = Callable[[Tensor], Sequence[Any]]  # images (N, H, W, 3) uint8 -> the outputs


class Graph(nn.Module):
    """The models of an export from pixels to probabilities, in float32 whatever their training precision."""

    def __init__(self, exported: ExportedModel) -> None:
        super().__init__()
        # NCHW in memory: a graph has its own layout, and would keep the conversions between the two.
        self.models = nn.ModuleList(model.to(memory_format=torch.contiguous_format) for model in exported.models)
        self.task_name: str = exported.config.task
        self.task = TASKS[self.task_name]

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        first: Any = self.models[0]
        pixels = images.permute(0, 3, 1, 2).float()
        normalised = (pixels - first.pixel_mean) / first.pixel_std  # (N, 3, H, W)
        logits = [model(normalised) for model in self.models]
        probabilities = [self.task.probabilities(one) for one in logits]
        if len(logits) == 1:
            return logits[0], probabilities[0]
        return mean_in_logs(self.task_name, torch.stack(logits)), torch.stack(probabilities).mean(dim=0)


@dataclass(frozen=True)
class Written:
    """A graph that was written, or why there is none.

    difference  the largest difference from torch on `num_images`
    side        of the square images that it takes, None where their sizes are free
    problem     why there is none, or ''
    """

    file: str
    num_images: int = 0
    difference: float = 0.0
    side: int | None = None
    problem: str = ""


def require_onnx() -> None:
    """Raise RunError if a package is missing, before any time is spent."""
    missing = [name for name in ONNX_PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise RunError(
            f"--onnx needs {', '.join(ONNX_PACKAGES)}, and {' and '.join(missing)} is not installed. "
            "`pip install --editable '.[onnx]' --constraint constraints.txt` installs them."
        )


def write_graphs(
    exported: ExportedModel, out: Path, images: Sequence[np.ndarray], about: Mapping[str, Any], *, onnx: bool, pt2: bool
) -> list[Written]:
    """Write model.onnx and model.pt2 to `out`, checked on `images` (H, W, 3) uint8 of any sizes.

    `about` is the metadata of the ONNX file, plain values by name. A segmenter of whole images may not be traceable for
    images of any size. It then becomes a graph for squares of its usual shorter side.
    """
    graph = Graph(exported).eval()
    config = exported.config
    whole = task_kind(config.task).pixels and config.fit_image == "crop"
    sides = [None, seen_short_side(config)] if whole else [config.image_size]
    traced = _Traced(graph, sides[-1] or config.image_size, config.model.bands)
    writers: dict[str, Callable[[Any, Path], Run]] = {
        "model.onnx": lambda program, path: _to_onnx(program, path, about),
        "model.pt2": _to_pt2,
    }
    found = []
    for file in [*(["model.onnx"] if onnx else []), *(["model.pt2"] if pt2 else [])]:
        for side in sides:
            written = _written(graph, traced, side, writers[file], out / file, list(_batches(exported, images, side)))
            if not written.problem:
                break
        found.append(written)
    return found


class _Traced:
    """Cached traces of torch.export for images of one side, or (None) of any size. All formats share them."""

    def __init__(self, graph: Graph, usual_side: int, bands: Bands | None = None) -> None:
        self.graph = graph
        self.usual_side = usual_side
        self.channels = 3 if bands is None else bands.channels
        self.dtype = torch.uint8 if bands is None or bands.dtype == "uint8" else torch.float32
        self.programs = dict[int | None, Any]()

    @torch.no_grad()
    def __call__(self, side: int | None) -> Any:
        if side not in self.programs:
            free = torch.export.Dim.DYNAMIC
            # Odd on purpose: with a size that needs no padding, the trace might be specialized to it.
            size = (self.usual_side + 7, self.usual_side + 39) if side is None else (side, side)
            shapes = {0: free, 1: free, 2: free} if side is None else {0: free}
            example = torch.zeros((2, *size, self.channels), dtype=self.dtype)
            with _quiet():
                self.programs[side] = torch.export.export(self.graph, (example,), dynamic_shapes={"images": shapes})
        return self.programs[side]


def _written(
    graph: Graph,
    traced: _Traced,
    side: int | None,
    write: Callable[[Any, Path], Run],
    path: Path,
    batches: list[Tensor],
) -> Written:
    try:
        program = traced(side)
    except Exception as error:  # torch.export fails in many ways, as varied as models are
        return Written(path.name, problem=f"torch.export cannot trace this model ({_first_line(error)})")
    partial = path.with_name(f"partial-{path.name}")
    try:
        difference = worst_difference(graph, write(program, partial), batches)
        if difference <= TOLERANCE:
            partial.replace(path)
            return Written(path.name, sum(len(batch) for batch in batches), difference, side)
        problem = f"its outputs differ from torch's by up to {difference:.1e}, and {TOLERANCE:.0e} is allowed"
    except Exception as error:
        problem = f"this model cannot be converted, or not run ({_first_line(error)})"
    finally:
        partial.unlink(missing_ok=True)
    return Written(path.name, problem=problem)


@torch.no_grad()
def worst_difference(graph: Graph, run: Run, batches: Sequence[Tensor]) -> float:
    """Return the largest difference from torch, absolute for probabilities and relative for logits above one."""
    worst = 0.0
    for batch in batches:
        for wanted, given in zip(graph(batch), run(batch), strict=True):
            got = torch.as_tensor(given)
            if got.shape != wanted.shape or not got.isfinite().all():
                return float("inf")
            worst = max(worst, float(((got - wanted).abs() / wanted.abs().clamp(min=1)).max()))
    return worst


def open_onnx(path: Path) -> Run:
    """Open an ONNX file as a function, on the CPU with torch's number of threads."""
    runtime = importlib.import_module("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 4  # failures are raised as well
    session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda images: session.run(list(OUTPUTS), {"images": images.numpy()})


def _to_onnx(program: Any, path: Path, about: Mapping[str, Any]) -> Run:
    with _quiet():
        converted = torch.onnx.export(
            program,
            dynamo=True,
            opset_version=OPSET,
            input_names=["images"],
            output_names=list(OUTPUTS),
            verbose=False,
        )
    assert converted is not None
    free = zip(converted.model.graph.inputs[0].shape or (), ("batch", "height", "width"), strict=False)
    converted.rename_axes({str(size): name for size, name in free if not isinstance(size, int)})
    converted.model.metadata_props.update(
        {name: value if isinstance(value, str) else json.dumps(value) for name, value in about.items()}
    )
    converted.save(path)
    return open_onnx(path)


def _to_pt2(program: Any, path: Path) -> Run:
    with _quiet():
        torch.export.save(program, path)
        module: Run = torch.export.load(path).module()
    return module


def _batches(exported: ExportedModel, images: Sequence[np.ndarray], side: int | None) -> Iterator[Tensor]:
    """Yield images as the network sees them: the first one alone, the others in batches of one size."""
    transform = eval_transform(exported.config)
    seen = [to_tensor([transform(image=image)["image"]])[0] for image in images]
    if side is None:  # also the first one transposed, and as a square whose sides need no padding
        seen.append(seen[0].transpose(0, 1).contiguous())
        even = min(seen[0].shape[:2]) // 32 * 32
        if even > 32:  # torch.export treats maps of a single pixel differently
            seen.append(seen[0][:even, :even].contiguous())
    else:
        seen = [image[:side, :side].contiguous() for image in seen]
    by_size: dict[tuple[int, ...], list[Tensor]] = {}
    for image in seen[1:]:
        by_size.setdefault(tuple(image.shape), []).append(image)
    yield torch.stack(seen[:1])
    for same in by_size.values():
        step = exported.config.batch_size
        yield from (torch.stack(same[start : start + step]) for start in range(0, len(same), step))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporters' warnings about their own internals. Whether a graph is right is found by comparison."""
    loggers = [logging.getLogger(name) for name in ("onnx_ir", "onnxscript", "torch.onnx", "torch.export")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _first_line(error: Exception) -> str:
    # The exporters put the cause last, and wrap it several times.
    while error.__cause__ is not None and isinstance(error.__cause__, Exception):
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:200] if lines else ''}".rstrip(": .")
