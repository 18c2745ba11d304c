"""Which running trials go on: ASHA (Li et al. 2018, arXiv:1810.05934), through Ray's own class."""

from __future__ import annotations

from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, TrialScheduler

from search_spaces.search import Search


def build_scheduler(search: Search) -> TrialScheduler:
    """Rungs at grace_epochs x reduction_factor^k below the full epochs; the best 1/reduction_factor of each goes on."""
    if search.grace_epochs >= search.epochs:
        return FIFOScheduler()
    return AsyncHyperBandScheduler(
        time_attr="epoch",
        metric=search.metric,
        mode=search.mode,
        max_t=search.epochs,
        grace_period=search.grace_epochs,
        reduction_factor=search.reduction_factor,
    )


def rungs(search: Search) -> list[int]:
    """The epochs at which trials are compared."""
    epochs, found = search.grace_epochs, []
    while epochs < search.epochs:
        found.append(epochs)
        epochs *= search.reduction_factor
    return found
