"""Logits in the place of probabilities that would saturate: what images are ranked by, and the mean in a graph."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F  # noqa: N812 (torch's own convention)
from torch import Tensor


def log_odds(task_name: str, logits: Tensor) -> Tensor:
    """(N, K) float64: what every output is ranked by, log p / (1 - p), from logits (N, K).

    A float32 probability is exactly one beyond a logit of 17, and images would be tied there.
    """
    exact = logits.double()
    if task_name != "multiclass":
        return exact
    top = exact.argmax(dim=1, keepdim=True)
    of_others = exact.scatter(1, top, -math.inf).logsumexp(dim=1, keepdim=True)  # of all classes but the likeliest
    log_p = exact.log_softmax(dim=1)  # (N, K)
    return (log_p - torch.log1p(-log_p.exp())).scatter(1, top, exact.gather(1, top) - of_others)


def ranks(values: Tensor) -> Tensor:
    """(N, K) float64 in [0, 1] with the order and the ties of `values` in every column: torchmetrics would take a
    sigmoid of anything else."""
    ordered, places = values.sort(dim=0)
    higher = (ordered[1:] != ordered[:-1]).cumsum(dim=0)
    dense = torch.cat([higher.new_zeros(1, values.shape[1]), higher]).double() / max(len(values) - 1, 1)
    return torch.empty_like(dense).scatter(0, places, dense)


def mean_in_logs(task_name: str, logits: Tensor) -> Tensor:
    """Logits (B, K, ...) of the mean probability of M models' (M, B, K, ...), in float32 throughout, as a graph is."""
    if task_name in ("binary", "multilabel"):
        # log p is -softplus(-z). As logsigmoid, a runtime may take the logarithm of a sigmoid that is zero.
        return (-F.softplus(-logits)).logsumexp(dim=0) - (-F.softplus(logits)).logsumexp(dim=0)
    return logits.log_softmax(dim=2).logsumexp(dim=0) - math.log(len(logits))
