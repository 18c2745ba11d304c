"""Stratified folds for cross-validation, with groups kept together."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def spread_over_folds(targets: Tensor, groups: Tensor | None, num_folds: int, seed: int, most_rows: int) -> Tensor:
    """Return the fold (N,) of each row, from 0, and -1 for rows that are left out.

    targets    (N, K): one column of 0 and 1, one-hot, or multi-hot
    groups     (N,) int, rows of a group share a fold; None means each row alone
    num_folds  at most; fewer if there are fewer groups
    seed       shuffles the groups
    most_rows  about as many rows are kept, whole groups of all classes

    Groups are dealt by their rarest class, class by class. So each class is spread evenly. This is stratified k-fold if
    groups have one class, and close to it for tags.
    """
    # Deal the groups to the folds in turn, sorted by their rarest class.
    rows = targets.cpu().numpy() > 0.5
    number = np.arange(len(rows)) if groups is None else groups.cpu().numpy()
    _, first, group_of = np.unique(number, return_index=True, return_inverse=True)
    tags = rows[first]  # (G, K)
    shuffled = np.random.default_rng(seed).permutation(len(first))
    dealt = shuffled[np.argsort(_rarest(tags)[shuffled], kind="stable")]
    fold = np.empty(len(first), np.int64)
    fold[dealt] = np.arange(len(dealt)) % min(num_folds, len(dealt))
    kept = round(len(first) * most_rows / len(rows)) if most_rows < len(rows) else len(first)
    # Leave out groups evenly along that order, so that all classes lose the same share, and deal the others anew.
    if kept < len(first):
        left = np.ones(len(first), bool)
        left[dealt[np.linspace(0, len(dealt) - 1, max(kept, num_folds)).astype(np.int64)]] = False
        fold[left] = -1
        there = dealt[~left[dealt]]
        fold[there] = np.arange(len(there)) % min(num_folds, len(there))
    return torch.from_numpy(fold[group_of]).to(targets.device)


def _rarest(tags: np.ndarray) -> np.ndarray:
    """Return (G,) the rarest class of each row of (G, K) bool, K for a row without any class."""
    counts = tags.sum(axis=0)
    rarity = np.where(tags, counts, len(tags) + 1).min(axis=1, initial=len(tags) + 1)
    index = np.where(tags, counts, len(tags) + 1).argmin(axis=1)
    found: np.ndarray = np.where(rarity > len(tags), tags.shape[1], index)
    return found
