"""What the means of a backbone's stages are worth beside its last features, to a head that is solved on them.

    python -m benchmarks.stage_features [--sets NAME ...] [--backbones NAME ...] [--px 224]

Training rows alone are looked at, cross-validated by the groups of a set. It prints each set's error with `last` and
with `stages` (`model.features`), of the first backbone and of all together, and the geometric means of their ratios.
The loss is that of the held-out rows.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (torch's own convention)
from sklearn.metrics import average_precision_score
from torch import Tensor

from benchmarks.many_features import labelled_sets
from benchmarks.minutes_hands import BACKBONES, read_photos
from benchmarks.minutes_sets import SHARED, Labelled
from trainables.config.model import ClassifierConfig
from trainables.features.solved_head import solve_head
from trainables.models.classifiers import build_classifier

CHUNK = 16
NAMES = {"last": "last", "stages": "with stages"}


@torch.no_grad()
def blocks_of(backbone: str, photos: Tensor, px: int, weights: str) -> list[Tensor]:
    """Return the features of photos (N, px, px, 3) uint8: the last ones (N, F), and the means of each stage's map."""
    config = ClassifierConfig(backbone=backbone, weights=weights, freeze="all", features="stages")
    model = build_classifier(config, 2, px).eval().to(memory_format=torch.channels_last)
    rows = torch.cat(
        [model.features((one.permute(0, 3, 1, 2) - model.pixel_mean) / model.pixel_std) for one in photos.split(CHUNK)]
    )
    channels = [width for _, width in model.maps]
    return list(torch.split(rows, [rows.shape[1] - sum(channels), *channels], dim=1))


def judged(blocks: Sequence[Tensor], data: Labelled) -> tuple[float, float]:
    """Return error and loss of held-out rows. The error is 1 - accuracy, or 1 - mean average precision of tags."""
    truth = data.targets(data.train)
    groups = data.groups()
    several = truth.ndim == 2
    targets = torch.from_numpy(truth).float() if several else F.one_hot(torch.from_numpy(truth)).float()
    loss_of = F.binary_cross_entropy_with_logits if several else F.cross_entropy
    solved = solve_head(
        torch.cat(list(blocks), dim=1), targets, loss_of, targets.shape[1], l2=None, seed=0,
        groups=None if groups is None else torch.from_numpy(np.unique(groups, return_inverse=True)[1]),
        widths=[block.shape[1] for block in blocks],
    )  # fmt: skip
    assert solved.unseen is not None, "the sets are small enough to cross-validate all rows"
    loss = float(loss_of(solved.unseen, targets))
    if not several:
        return float((solved.unseen.argmax(1) != torch.from_numpy(truth)).float().mean()), loss
    tags = [one for one in range(targets.shape[1]) if truth[:, one].any()]
    scores = [average_precision_score(truth[:, one], solved.unseen[:, one]) for one in tags]
    return 1 - float(np.mean(scores)), loss


def of_set(data: Labelled, backbones: Sequence[str], px: int, weights: str) -> Iterator[tuple[float, float]]:
    """Yield (error, loss) of the first backbone with last and stages, and of all together with both."""
    photos = read_photos(data.train, px)
    each = [blocks_of(name, photos, px, weights) for name in backbones]
    for used in (each[:1], each):
        yield judged([blocks[0] for blocks in used], data)
        yield judged([blocks[0] for blocks in used] + [one for blocks in used for one in blocks[1:]], data)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--sets", nargs="+", default=[])
    parser.add_argument("--backbones", nargs="+", default=list(BACKBONES))
    parser.add_argument("--px", type=int, default=224)
    parser.add_argument("--weights", default="imagenet")
    parser.add_argument("--data", type=Path, default=SHARED)
    asked = parser.parse_args()
    columns = [f"{who}, {NAMES[how]}" for who in (asked.backbones[0], "all") for how in ("last", "stages")]
    print(f"| error (loss) | {' | '.join(columns)} |\n|---|{'---|' * len(columns)}", flush=True)
    logs = []
    for name, data in labelled_sets(asked.data, asked.sets).items():
        found = list(of_set(data, asked.backbones, asked.px, asked.weights))
        cells = [f"{error:.3f} ({loss:.3f})" for error, loss in found]
        print(f"| {name}, {len(data.train)} | {' | '.join(cells)} |", flush=True)
        least = 0.5 / len(data.train)  # half a photo, where nothing is wrong
        logs.append([[math.log(max(error, least)), math.log(loss)] for error, loss in found])
    means = np.mean(logs, axis=0)  # (4, 2)
    for who, last in ((asked.backbones[0], 0), ("all", 2)):
        error, loss = np.exp(means[last + 1] - means[last])
        print(f"{who}: with stages the error is {error:.3f} of that without, the loss {loss:.3f}")


if __name__ == "__main__":
    main()
