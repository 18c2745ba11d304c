"""Probabilities of a run's kept segmenters, for ensembles.

Stored predictions hold decisions alone, so the models predict the validation images once more.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch

from analysis.models.kept import Kept
from analysis.models.pixel_mean import Doubts, MeanMembers, doubtful, doubts_of, mean_members
from trainables.config.trial import TrialConfig
from trainables.data.augment import eval_transform
from trainables.data.loader import TrialData, whole_images
from trainables.data.merge import Merge
from trainables.ensemble import load_models
from trainables.inference import predict_batch
from trainables.targets import classes_and_labels
from visionsweep.run_dir.files import weights_file
from visionsweep.run_dir.run import Run


def means_side_by_side(
    run: Run,
    data: TrialData,
    kept: Sequence[Kept],
    device: torch.device,
    ask: Callable[[], object] = lambda: None,
    has_time: Callable[[float], bool] = lambda took_s: True,
) -> MeanMembers:
    """Return compatible models as members: all, or as many of the first as time allows, but at least two.

        kept      compatible models, the best first
        ask       called before every mask and batch, raises to stop
        has_time  whether there is time for one more model, given the seconds of the last one

    Raises RunError if weights are gone or do not fit.
    """
    positions = data.dataset.indices("val")
    classes, merge, _ = classes_and_labels(kept[0].config, data)
    assert isinstance(merge, Merge)

    def truths() -> Iterator[np.ndarray]:
        for position in positions:
            ask()
            yield merge.table[data.images.mask(int(position))]

    doubts = doubts_of(classes, [one.predictions["masks"] for one in kept], truths())
    found = list[torch.Tensor]()
    took_s = 0.0
    for one in kept:
        if len(found) >= 2 and not has_time(took_s):
            break
        began = time.monotonic()
        file = weights_file(run.run_dir, one.trial_id, one.epoch)
        (model,) = load_models(one.config, len(classes), [file], device)
        found.append(_probabilities(one.config, model, data, merge, doubts, device, ask))
        took_s = time.monotonic() - began
    return mean_members(doubts, torch.stack(found))


@torch.no_grad()
def _probabilities(
    config: TrialConfig,
    model: torch.nn.Module,
    data: TrialData,
    merge: Merge,
    doubts: Doubts,
    device: torch.device,
    ask: Callable[[], object],
) -> torch.Tensor:
    """Return the probabilities (P, C) of the doubtful pixels of all validation images.

    The batches are those in which the images were judged.
    """
    found = []
    places = iter(doubts.places)
    for images_u8, masks in whole_images(
        data.judged(config, "val"), "val", merge, eval_transform(config), config.batch_size,
        max_pixels=config.batch_size * config.image_size**2,
    ):  # fmt: skip
        ask()
        logits = predict_batch(config, [model], images_u8, device)
        found += [doubtful(logits[i : i + 1], masks.shape[-2:], next(places)) for i in range(len(masks))]
    return torch.cat(found)
