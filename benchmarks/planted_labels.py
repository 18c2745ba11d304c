"""Wrong labels that were planted: how many of them are found where they are looked for.

    python -m benchmarks.planted_labels [--sets wbc chess ...] [--share 0.05] [--draws 5] [--data ../shared/data]

In the training rows of each set a share of the labels, drawn at random, is replaced by another class. Heads on features
of EfficientNet-Lite 0 at 64 and 96 px then predict each photo in the fold that leaves it out, as `visionsweep labels`
does (`analysis/models/unseen.py`). Nothing of the test rows is used.

    found       share of the planted labels among as many that are doubted most: precision at the number planted
    loss        the same, where photos are ordered by the probability of their label alone
    margin      the same for confident learning, ordered by the margin between the given class and the suggested one
    confident   number of labels that are listed as wrong with confidence
    of these    share of them that were planted. The set's own wrong labels count against it
    missed      share of the planted labels that are not listed at all
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (torch's own convention)
from numpy.typing import NDArray

from analysis.expect.suspects import doubtful_classes
from analysis.figures.best_trial import probabilities_of
from benchmarks.many_features import features_of_set, labelled_sets
from benchmarks.minutes_sets import SHARED
from trainables.features.solved_head import solve_head

SETS = ("wbc", "chess", "scenes", "textures", "satellite-scenes")
SEEN = ((0, 64), (0, 96))


@dataclass(frozen=True)
class Found:
    """Shares of one draw of planted labels, and the number of confident ones."""

    found: float
    loss: float
    margin: float
    confident: int
    of_these: float
    missed: float


def plant(targets: NDArray[np.int64], num_classes: int, share: float, seed: int) -> NDArray[np.int64]:
    """Return the labels with a share of them replaced by another class each."""
    rng = np.random.default_rng(seed)
    wrong = rng.permutation(len(targets))[: round(share * len(targets))]
    planted = targets.copy()
    planted[wrong] = (targets[wrong] + rng.integers(1, num_classes, len(wrong))) % num_classes
    return planted


def look(
    features: torch.Tensor, widths: Sequence[int], targets: NDArray[np.int64], planted: NDArray[np.int64],
    groups: NDArray[np.int64] | None, seed: int,
) -> Found:  # fmt: skip
    """Look for planted labels (N,) in features (N, F)."""
    num_classes = int(targets.max()) + 1
    one_hot = F.one_hot(torch.from_numpy(planted), num_classes).float()
    together = None if groups is None else torch.from_numpy(groups)
    solved = solve_head(
        features, one_hot, F.cross_entropy, num_classes, l2=None, seed=seed, groups=together, widths=widths
    )
    assert solved.unseen is not None
    probabilities = probabilities_of("multiclass", solved.unseen.double().numpy())
    doubts = doubtful_classes(probabilities, planted)
    is_planted = planted != targets
    num = int(is_planted.sum())
    by_loss = np.argsort(probabilities[np.arange(len(planted)), planted], kind="stable")[:num]
    sure = doubts.rows[doubts.confident]
    margin = probabilities[sure, planted[sure]] - probabilities[sure, doubts.suggested[doubts.confident]]
    by_margin = sure[np.argsort(margin, kind="stable")][:num]
    return Found(
        float(is_planted[doubts.rows[:num]].sum() / num),
        float(is_planted[by_loss].mean()),
        float(is_planted[by_margin].sum() / num),
        len(sure),
        float(is_planted[sure].mean()) if len(sure) else 0.0,
        1 - float(is_planted[doubts.rows].sum() / num),
    )


SHARES = ("found", "loss", "margin", "of_these", "missed")
HEAD = """\
| set | photos | planted | found | by loss | by margin | confident | of these | missed |
|---|---|---|---|---|---|---|---|---|"""


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="+", default=list(SETS))
    parser.add_argument("--share", type=float, default=0.05)
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--data", type=Path, default=SHARED)
    parser.add_argument("--keep", type=Path, help="a folder of features, for another run")
    options = parser.parse_args(arguments)
    print(HEAD, flush=True)
    means = []
    for name, data in labelled_sets(options.data, options.sets).items():
        if data.task != "multiclass":
            raise SystemExit(f"--sets: '{name}' has tags, and labels are planted in classes. Name another.")
        parts = [torch.from_numpy(train).float() for train, _ in features_of_set(data, SEEN, options.keep)]
        features = torch.cat(parts, dim=1)
        targets = data.targets(data.train)
        groups = data.groups()
        numbers = None if groups is None else np.unique(groups, return_inverse=True)[1].astype(np.int64)
        rows = []
        for seed in range(options.draws):
            planted = plant(targets, len(data.classes), options.share, seed)
            rows.append(look(features, [part.shape[1] for part in parts], targets, planted, numbers, seed))
        shares = [float(np.mean([getattr(one, key) for one in rows])) for key in SHARES]
        confident = np.mean([one.confident for one in rows])
        num = int((planted != targets).sum())
        means.append(shares)
        found, loss, margin, of_these, missed = shares
        print(
            f"| {name} | {len(targets)} | {num} | {found:.0%} | {loss:.0%} | {margin:.0%} | {confident:.0f} "
            f"| {of_these:.0%} | {missed:.0%} |",
            flush=True,
        )
    found, loss, margin, of_these, missed = np.mean(means, axis=0)
    print(f"| **mean** | | | {found:.0%} | {loss:.0%} | {margin:.0%} | | {of_these:.0%} | {missed:.0%} |")
    print(f"\nBy chance {options.share:.0%} would be found. {options.draws} draws of each set.")


if __name__ == "__main__":
    main()
