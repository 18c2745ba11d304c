"""What a good hand does first: a probe of frozen features.

Plain scikit-learn, timm and torch, independent of the code under comparison. Only visionsweep's names of the packaged
weights are used (`trainables/models/lite.py`). See `minutes.py`.
"""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import timm
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.optimize import minimize
from scipy.special import expit, logsumexp
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from benchmarks.minutes_scores import judge_scores
from benchmarks.minutes_sets import Example, Labelled, folds
from trainables.models.lite import lite_state_dict

BACKBONES = ("tf_efficientnet_lite0", "tf_efficientnet_lite1", "tf_efficientnet_lite2")
PROBE_PX = 224
C_GRID = (1e-3, 1e-2, 1e-1, 1.0)  # of standardised features
NUM_FOLDS = 3

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Outcome:
    """The result of a hand.

    scores: (N, K) of the test rows. wall_s: from Enter until the model was ready, without judging it.
    """

    scores: np.ndarray
    wall_s: float
    told: dict[str, float]


def use_all_cores() -> None:
    """Or as many as OMP_NUM_THREADS says."""
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS") or len(os.sched_getaffinity(0))))


def backbone_of(name: str) -> nn.Module:
    """A network (B, 3, H, W) -> (B, F) with ImageNet weights."""
    model: nn.Module = timm.create_model(name, pretrained=False, num_classes=0)
    model.load_state_dict(weights_of(name, model), strict=False)  # the classifier is left over
    return model.to(memory_format=torch.channels_last)


def weights_of(name: str, model: nn.Module) -> dict[str, Tensor]:
    blocks: nn.Module = model.get_submodule("blocks")
    names = [f"blocks.{s}.{i}" for s, stage in blocks.named_children() for i, _ in stage.named_children()]
    state: dict[str, Tensor] = lite_state_dict(name, names)
    return state


def read_photos(examples: Sequence[Example], px: int) -> Tensor:
    """Read photos as (N, px, px, 3) uint8. They are squashed, not cropped, as the subject may be at the border."""
    photos = np.empty((len(examples), px, px, 3), np.uint8)
    for row, one in enumerate(examples):
        with Image.open(one.image) as image:
            photos[row] = np.asarray(image.convert("RGB").resize((px, px), Image.Resampling.BICUBIC))
    return torch.from_numpy(photos)


def as_input(photos: Tensor) -> Tensor:
    """Turn (B, H, W, 3) uint8 into (B, 3, H, W) floats, with the mean and deviation of 0.5 that these weights take."""
    return (photos.permute(0, 3, 1, 2).float() / 127.5 - 1).contiguous(memory_format=torch.channels_last)


@torch.inference_mode()
def features_of(backbone: nn.Module, photos: Tensor) -> Floats:
    """Return pooled features, (N, F), in chunks that fit a processor's cache."""
    backbone.eval()
    chunks: list[Tensor] = [backbone(as_input(chunk)) for chunk in photos.split(16)]
    return torch.cat(chunks).double().numpy()


def probe(data: Labelled, started_s: float, seed: int = 0) -> Outcome:
    """Fit logistic regression on features of each backbone and of all together.

    Cross-validation on the training rows chooses C, and which of the four it is. The outcome also records the error of
    each.

    started_s: when Enter was pressed, in seconds since the Unix epoch.
    """
    use_all_cores()
    train = read_photos(data.train, PROBE_PX)
    test = read_photos(data.test, PROBE_PX)
    seen: dict[str, tuple[Floats, Floats]] = {}
    judging_s = 0.0
    for name in BACKBONES:
        backbone = backbone_of(name)
        own = features_of(backbone, train)
        before = time.time()
        seen[name.rpartition("_")[2]] = own, features_of(backbone, test)
        judging_s += time.time() - before
    seen["all"] = tuple(np.concatenate([pair[side] for pair in seen.values()], axis=1) for side in (0, 1))  # type: ignore[assignment]
    targets = data.targets(data.train)
    fitted = {name: fit_head(own, targets, data.groups(), seed) for name, (own, _) in seen.items()}
    wall_s = time.time() - started_s - judging_s
    scores = {name: others @ fitted[name].weight.T + fitted[name].bias for name, (_, others) in seen.items()}
    best = max(fitted, key=lambda name: fitted[name].score)
    told = {name: judge_scores(data, scores[name]).error for name in scores}
    return Outcome(scores[best], wall_s, told)


@dataclass(frozen=True)
class Head:
    """A linear head: weight (K, F) and bias (K,) on raw features.

    score: of the folds that chose C, higher is better.
    """

    weight: Floats
    bias: Floats
    c: float
    score: float


def fit_head(features: Floats, targets: np.ndarray, groups: np.ndarray | None, seed: int) -> Head:
    """Fit L2-regularised logistic regression on standardised features (N, F), with C by cross-validation.

    targets: (N,) class numbers, or (N, K) of 0 and 1. The latter gives one regression per tag against the rest, with
    one C for all.
    """
    mean = features.mean(axis=0)
    scale = features.std(axis=0) + 1e-6
    rows = (features - mean) / scale
    turn = np.eye(1)
    if len(rows) < rows.shape[1]:
        # The solution lies in the span of the rows. In a basis of it, N columns replace F, and they are fewer.
        turn, upper = np.linalg.qr(rows.T)
        rows = upper.T
    parts = folds(targets, groups, NUM_FOLDS, seed)
    scores = {
        c: float(np.mean([_held_out(rows, targets, inside, outside, c) for inside, outside in parts])) for c in C_GRID
    }
    c = max(scores, key=lambda one: scores[one])
    weight, bias = _solved(rows, targets, c)
    weight = (weight @ turn.T if len(turn) > 1 else weight) / scale
    return Head(weight, bias - weight @ mean, c, scores[c])


def _held_out(rows: Floats, targets: np.ndarray, inside: np.ndarray, outside: np.ndarray, c: float) -> float:
    """The mean log-likelihood of the held-out rows: finer than accuracy where there are few."""
    weight, bias = _solved(rows[inside], targets[inside], c, num_classes=int(targets.max()) + 1)
    logits = rows[outside] @ weight.T + bias
    truth = targets[outside]
    if truth.ndim == 2:
        return -float((np.logaddexp(0, logits) - truth * logits).mean())
    return float((logits[np.arange(len(truth)), truth] - logsumexp(logits, axis=1)).mean())


def _solved(rows: Floats, targets: np.ndarray, c: float, num_classes: int | None = None) -> tuple[Floats, Floats]:
    """Return weights (K, F) and bias (K,). A class missing from a fold gets a logit that no photo reaches."""
    if targets.ndim == 2:
        return _one_against_rest(rows, targets.astype(np.float64), c)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of iterations that ran out: what is reached by then is judged like all else
        fitted = LogisticRegression(C=c, max_iter=300, tol=1e-3).fit(rows, targets)
    weight = fitted.coef_
    bias = fitted.intercept_
    classes = fitted.classes_
    if len(classes) == 2:
        weight = np.concatenate([-weight, weight]) / 2
        bias = np.concatenate([-bias, bias]) / 2
    num = num_classes or len(classes)
    every_weight = np.zeros((num, rows.shape[1]))
    every_bias = np.full(num, -30.0)
    every_weight[classes], every_bias[classes] = weight, bias
    return every_weight, every_bias


def _one_against_rest(rows: Floats, targets: Floats, c: float) -> tuple[Floats, Floats]:
    """Fit all tags' regressions in one descent, as their sum: the same solutions in far less time."""
    num = len(rows)
    width = rows.shape[1]
    tags = targets.shape[1]
    rows, targets = rows.astype(np.float32), targets.astype(np.float32)

    def value(flat: Floats) -> tuple[float, Floats]:
        weight = flat[: tags * width].reshape(tags, width).astype(np.float32)
        bias = flat[tags * width :]
        logits = rows @ weight.T + bias.astype(np.float32)  # (N, K)
        slope = expit(logits) - targets
        loss = c * (np.logaddexp(0, logits) - targets * logits).sum(dtype=float) + (weight**2).sum(dtype=float) / 2
        return float(loss / num), np.concatenate([(c * slope.T @ rows + weight).ravel(), c * slope.sum(axis=0)]) / num

    found = minimize(
        value, np.zeros(tags * (width + 1)), jac=True, method="L-BFGS-B", options={"maxiter": 150, "ftol": 1e-7}
    )
    return found.x[: tags * width].reshape(tags, width), found.x[tags * width :]
