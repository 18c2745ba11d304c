"""Logits in place of probabilities that would saturate, for ranking images and for the mean in an exported graph."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F  # noqa: N812 (torch's own convention)
from torch import Tensor

from visionsweep.core.tasks import task_kind


def log_odds(task_name: str, logits: Tensor) -> Tensor:
    """Return the log odds (N, K) float64, log p / (1 - p), of logits (N, K). Outputs are ranked by them.

    A float32 probability is exactly one beyond a logit of 17, where images would be tied.
    """
    exact = logits.double()
    if not task_kind(task_name).softmax:
        return exact
    top = exact.argmax(dim=1, keepdim=True)
    of_others = exact.scatter(1, top, -math.inf).logsumexp(dim=1, keepdim=True)  # of all classes but the most likely
    log_p = exact.log_softmax(dim=1)  # (N, K)
    return (log_p - torch.log1p(-log_p.exp())).scatter(1, top, exact.gather(1, top) - of_others)


def ranks(values: Tensor) -> Tensor:
    """Return (N, K) float64 in [0, 1] with the order and the ties of `values` in every column.

    torchmetrics would take a sigmoid of values outside of [0, 1].
    """
    ordered, places = values.sort(dim=0)
    higher = (ordered[1:] != ordered[:-1]).cumsum(dim=0)
    dense = torch.cat([higher.new_zeros(1, values.shape[1]), higher]).double() / max(len(values) - 1, 1)
    return torch.empty_like(dense).scatter(0, places, dense)


def mean_in_logs(task_name: str, logits: Tensor) -> Tensor:
    """Return the logits (B, K, ...) of the mean probability of M models, from logits (M, B, K, ...).

    It computes in float32 throughout, as an exported graph does.
    """
    if task_kind(task_name).thresholded:
        # log p is -softplus(-z). For logsigmoid a runtime may take the logarithm of a sigmoid that is zero.
        return (-F.softplus(-logits)).logsumexp(dim=0) - (-F.softplus(logits)).logsumexp(dim=0)
    return logits.log_softmax(dim=2).logsumexp(dim=0) - math.log(len(logits))
