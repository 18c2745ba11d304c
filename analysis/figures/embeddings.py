"""Map of the images: features of the best model, projected to a plane by t-SNE."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
import torch
from numpy.typing import NDArray
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits

from analysis.figures.best_trial import kept_predictions
from analysis.figures.overlays import IMAGE_ERRORS, RunData
from analysis.figures.style import SYMBOLS, colour_of, plot, safe, short
from trainables.config.io import parse_config
from trainables.config.trial import TrialConfig
from trainables.data.augment import eval_transform
from trainables.data.tensors import to_tensor
from trainables.ensemble import load_models
from trainables.inference import autocast, to_input
from trainables.models.classifiers import Classifier
from trainables.targets import output_classes
from visionsweep.core.errors import RunError
from visionsweep.core.tasks import task_kind
from visionsweep.run_dir.files import weights_file
from visionsweep.run_dir.run import Run
from visionsweep.run_dir.shapes import value_at
from visionsweep.run_dir.trials import Trial

MOST_IMAGES = 400
BATCH = 32
LEAST_IMAGES = 8
MOST_CLASSES = 20  # with their own colour and symbol


def features(run: Run, trial: Trial, data: RunData) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return row numbers (n,) of validation images and their features (n, F) in the trial's best kept epoch.

    Features are what the head sees of an image, and for a segmenter the mean of its deepest maps. At most MOST_IMAGES
    images are used, evenly spread. Raises RunError if the weights are gone.
    """
    epoch, _ = kept_predictions(run, trial)
    weights = weights_file(run.run_dir, trial.trial_id, epoch)
    if not weights.is_file():
        raise RunError(f"the weights of trial {trial.trial_id} are not in {weights.parent}.")
    config = parse_config(trial.config, f"trial {trial.trial_id}")
    classes = output_classes(config, value_at(run.search, "data.classes"))
    device = torch.device("cpu")  # a search may be running on the GPU
    (model,) = load_models(config, len(classes), [weights], device)
    transform = eval_transform(config)
    rows = []
    found = []
    for row in np.unique(np.linspace(0, len(data.positions) - 1, min(MOST_IMAGES, len(data.positions))).astype(int)):
        try:
            image = transform(image=data.image(int(row)))["image"]
        except IMAGE_ERRORS:
            continue
        rows.append(int(row))
        found.append(image)
    if len(rows) < LEAST_IMAGES:
        raise RunError(f"a map of the images needs {LEAST_IMAGES} of them, and {len(rows)} can be read.")
    alike = not task_kind(config.task).pixels or len({image.shape for image in found}) == 1
    size = BATCH if alike else 1
    parts = [_features(config, model, found[at : at + size], device) for at in range(0, len(found), size)]
    return np.array(rows), np.concatenate(parts)


@torch.no_grad()
def _features(
    config: TrialConfig, model: Any, images: Sequence[NDArray[np.uint8]], device: torch.device
) -> NDArray[np.float32]:
    inputs = to_input(to_tensor(images), model, config, device)
    with autocast(config, device):
        if isinstance(model, Classifier):
            output: Any = model.features(inputs)
        else:
            height, width = inputs.shape[-2:]
            output = model.run_backbone(
                torch.nn.functional.pad(inputs, _padding(model, height, width), mode="replicate")
            )
    while not isinstance(output, torch.Tensor):  # maps from fine to coarse, in a list or by name
        output = list(output.values())[-1] if isinstance(output, dict) else output[-1]
    pooled = output.float() if output.ndim == 2 else output.float().flatten(2).mean(dim=2)
    return np.asarray(pooled.numpy(), np.float32)


def _padding(model: Any, height: int, width: int) -> tuple[int, int, int, int]:
    def missing(pixels: int) -> int:
        return int(-(-max(pixels, model.min_size) // model.stride) * model.stride) - pixels

    return 0, missing(width), 0, missing(height)


def plane(found: NDArray[np.float32]) -> NDArray[np.float64]:
    """Project features (n, F) to (n, 2) by t-SNE (van der Maaten and Hinton 2008), with a fixed seed."""
    scaled = (found - found.mean(axis=0)) / (found.std(axis=0) + 1e-6)
    perplexity = min(30.0, (len(found) - 1) / 3)
    tsne = TSNE(2, perplexity=perplexity, init="pca", learning_rate="auto", random_state=0, max_iter=600)
    with threadpool_limits(1):  # its threads wait for each other busily: on a busy machine that took ten times as long
        return np.asarray(tsne.fit_transform(scaled), np.float64)


def embedding_figure(points: NDArray[np.float64], labels: list[str], names: list[str], order: list[str]) -> go.Figure:
    """Plot a point for each image, coloured and shaped by its label. order: of the labels in the legend."""
    traces = []
    for number, label in enumerate([*order[:MOST_CLASSES], None]):
        chosen = [i for i, one in enumerate(labels) if (one == label if label else one not in order[:MOST_CLASSES])]
        if chosen:
            # Colours repeat after seven classes, then with another symbol.
            marker = {
                "color": colour_of(number),
                "symbol": SYMBOLS[(number + number // 7) % 7],
                "size": 7,
                "opacity": 0.8,
            }
            traces.append(
                go.Scatter(
                    x=points[chosen, 0], y=points[chosen, 1], mode="markers", name=short(label or "others", 20),
                    marker=marker if label else {**marker, "color": "#7F868F", "symbol": "circle-open"},
                    text=[f"{short(names[i], 50)}<br>{safe(labels[i])}" for i in chosen],
                    hovertemplate="%{text}<extra></extra>",
                )
            )  # fmt: skip
    figure = plot(traces, height=520)
    figure.update_xaxes(showticklabels=False, showgrid=False, zeroline=False, title=None)
    return figure.update_yaxes(showticklabels=False, showgrid=False, zeroline=False, title=None)
