"""Which rule chooses the best of several probes where few photos validate: an error on photos that nothing looked at.

    python -m benchmarks.few_to_choose_by [--sets wbc hymenoptera chess textures] [--splits 10] [--photos 300]
                                          [--data ../shared/data]

Only training rows are used. 30% of them are held out, and a fifth of the others validates. Nine probes
(EfficientNet-Lite 0, 1 and 2 at 96 to 160 px, alone and together) are solved on the rest. A rule sees what a search
sees and chooses one. Its head is solved again with the validation photos and judged on the 30%. The splits are the same
for all rules.

    accuracy         of the validation photos. On ties the first probe wins
    and loss         the accuracy less 0.3 of the log loss: what a search recommends by (`analysis/models/recommend.py`)
    loss             the log loss alone
    folded accuracy  of all photos that are not held out: those of training by heads of folds that have not seen them
    folded and loss  that less 0.3 of the log loss: what a search recommends probes by (`analysis/models/folded.py`)
    ties to the widest  of the probes within two standard errors of the best by that, the best with most backbones
    the widest       all backbones together, whatever the photos say

The second table draws validation splits of other sizes from the photos that the heads have not seen, 40 times each. It
shows how much larger the error of the chosen probe is than that of the best one.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (torch's own convention)
from numpy.typing import NDArray
from scipy.special import log_softmax
from torch import Tensor

from trainables.features.folds import spread_over_folds
from trainables.features.head_problem import HeadProblem

SEEN = ((0, 96), (0, 128), (0, 160), (1, 160), (2, 160))  # backbone, px
NUM_FOLDS = 5
L2 = 0.15  # for one backbone, about what cross-validation finds. For several: times the root of their number
LOSS_SHARE = 0.3
SIZES = (25, 50, 100, 200, 400, 800)
DRAWS = 40
TIE = 2.0  # standard errors
WIDER = 1e3  # more than any difference of scores
NONE = 1e-9  # in the place of an error of zero, of which there is no ratio

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Votes:
    """The predictions of C probes for n photos: right (C, n) of 0 and 1, and loss (C, n)."""

    right: Floats
    loss: Floats

    @classmethod
    def of(cls, logits: Floats, targets: NDArray[np.int64]) -> Votes:
        """Score logits (C, n, K) by targets (n,)."""
        loss = -log_softmax(logits, axis=-1)[:, np.arange(len(targets)), targets]
        return cls((logits.argmax(axis=-1) == targets).astype(float), loss)

    def score(self, loss_share: float, weights: Floats | None = None) -> Floats:
        """Return the accuracy less `loss_share` of the loss, (C,). weights (n,): of the photos."""
        return np.average(self.right - loss_share * self.loss, axis=1, weights=weights)


def rules(val: Votes, folded: Votes, num_backbones: NDArray[np.int64]) -> dict[str, Floats]:
    """Return each rule's scores of the probes by name, higher is better. num_backbones: (C,) of each probe."""
    best = folded.score(LOSS_SHARE)
    return {
        "accuracy": val.score(0.0),
        "and loss": val.score(LOSS_SHARE),
        "loss": -val.loss.mean(axis=1),
        "folded accuracy": folded.score(0.0),
        "folded and loss": best,
        "ties to widest": best + np.where(tied(folded), num_backbones, -1) * WIDER,
        "the widest": best + num_backbones * WIDER,
    }


def tied(votes: Votes) -> NDArray[np.bool_]:
    """Return which probes (C,) are within TIE standard errors of the best, image by image."""
    each = votes.right - LOSS_SHARE * votes.loss
    apart = each[int(each.mean(axis=1).argmax())] - each
    errors = apart.std(axis=1, ddof=1) / np.sqrt(each.shape[1])
    return np.asarray(apart.mean(axis=1) <= TIE * errors)


@dataclass(frozen=True)
class Split:
    """The results of one split.

    errors: of the probe that each rule chose, and `best` and `mean` of all. unseen: votes on photos that no head has
    learned.
    """

    errors: Mapping[str, float]
    unseen: Votes


def judged(problems: Sequence[tuple[HeadProblem, float]], targets: NDArray[np.int64], seed: int) -> Split:
    """Judge the rules on one draw of hold-out and validation photos.

    problems: each probe's, with its L2, of all N photos.
    """
    one_hot = F.one_hot(torch.from_numpy(targets)).float()
    num = len(targets)
    held_out = _folds(one_hot, 10, seed) < 3
    rest = np.flatnonzero(~held_out)
    val = np.zeros(num, bool)
    val[rest[_folds(one_hot[rest], 5, seed + 1) == 0]] = True
    train = np.flatnonzero(~held_out & ~val)
    fold = np.full(num, -1)
    fold[train] = _folds(one_hot[train], NUM_FOLDS, seed + 2)
    learned = [fold >= 0, ~held_out, *((fold >= 0) & (fold != number) for number in range(NUM_FOLDS))]
    used = torch.from_numpy(np.stack(learned))
    before = []
    after = []
    folded = []
    for problem, l2 in problems:
        logits = (
            problem.logits(problem.solve(used, l2, problem.start(len(used)), rough=True), len(used)).double().numpy()
        )
        before.append(logits[:, 0])
        after.append(logits[:, 1])
        # A training photo is judged by the head of its fold, the others by the head of all training photos.
        folded.append(logits[np.arange(num), np.where(fold >= 0, fold + 2, 0)])
    errors = 1 - Votes.of(np.stack(after)[:, held_out], targets[held_out]).score(0.0)
    seen = Votes.of(np.stack(before)[:, val], targets[val])
    num_backbones = np.array([round((l2 / L2) ** 2) for _, l2 in problems])  # see L2
    scores = rules(seen, Votes.of(np.stack(folded)[:, ~held_out], targets[~held_out]), num_backbones)
    chosen = {name: float(errors[int(score.argmax())]) for name, score in scores.items()}
    others = {"best": float(errors.min()), "mean": float(errors.mean())}
    unseen = val | held_out
    return Split({**chosen, **others}, Votes.of(np.stack(before)[:, unseen], targets[unseen]))


def by_size(unseen: Votes, loss_share: float, size: int, generator: np.random.Generator) -> float:
    """The mean error of the probe that so many photos choose, drawn with replacement."""
    num = unseen.right.shape[1]
    draws = generator.multinomial(size, np.full(num, 1 / num), DRAWS) / size
    errors = 1 - unseen.right.mean(axis=1)
    return float(np.mean([errors[int(unseen.score(loss_share, one).argmax())] for one in draws]))


def problems_of(
    features: Mapping[tuple[int, int], Tensor], targets: NDArray[np.int64]
) -> list[tuple[HeadProblem, float]]:
    """Each backbone and size alone, then those of the largest size together."""
    largest = [one for one in features if one[1] == max(px for _, px in features)]
    together = [some for count in range(2, len(largest) + 1) for some in combinations(largest, count)]
    one_hot = F.one_hot(torch.from_numpy(targets)).float()
    found = []
    for parts in [*((one,) for one in features), *together]:
        joined = torch.cat([features[one] for one in parts], 1)
        widths = [features[one].shape[1] for one in parts]
        problem = HeadProblem.of(joined, one_hot, F.cross_entropy, one_hot.shape[1], widths, lambda: None)
        found.append((problem, L2 * len(parts) ** 0.5))
    return found


def tables(splits: Mapping[str, Sequence[Split]]) -> str:
    """Return errors by rule and set with their ratios to the accuracy's, then by the number of validation photos."""
    names = list(splits)
    mean = {
        rule: np.array([np.mean([one.errors[rule] for one in splits[name]]) for name in names])
        for rule in next(iter(splits.values()))[0].errors
    }
    lines = ["".join([f"{'rule':16s}", *(f"{name:>13s}" for name in names), f"{'ratio':>8s}"])]
    for rule, errors in mean.items():
        ratio = float(np.exp(np.log(np.maximum(errors, NONE) / np.maximum(mean["accuracy"], NONE)).mean()))
        lines.append("".join([f"{rule:16s}", *(f"{error:13.4f}" for error in errors), f"{ratio:8.3f}"]))
    lines += ["", "".join([f"{'chosen by':16s}", *(f"{size:>8d}" for size in SIZES)])]
    for rule, share in (("accuracy", 0.0), ("and loss", LOSS_SHARE)):
        row = [np.exp(np.mean([_excess(splits[name], share, size) for name in names])) for size in SIZES]
        lines.append("".join([f"{rule:16s}", *(f"{one:8.3f}" for one in row)]))
    return "\n".join(lines)


def _excess(splits: Sequence[Split], loss_share: float, size: int) -> float:
    generator = np.random.default_rng(0)
    chosen = np.mean([by_size(one.unseen, loss_share, size, generator) for one in splits])
    best = np.mean([1 - one.unseen.right.mean(axis=1).max() for one in splits])
    return float(np.log(max(chosen, NONE) / max(best, NONE)))


def _folds(one_hot: Tensor, num: int, seed: int) -> NDArray[np.int64]:
    found: NDArray[np.int64] = spread_over_folds(one_hot, None, num, seed, 10**9).numpy()
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    from benchmarks.minutes_hands import BACKBONES, backbone_of, features_of, read_photos
    from benchmarks.minutes_sets import SHARED, Labelled, sets_below

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sets", nargs="+", default=["wbc", "hymenoptera", "chess", "textures"])
    parser.add_argument("--splits", type=int, default=10)
    parser.add_argument("--photos", type=int, default=300, help="training rows of a set, at most")
    parser.add_argument("--data", type=Path, default=SHARED)
    options = parser.parse_args(arguments)
    there: Mapping[str, Callable[[], Labelled]] = sets_below(options.data)
    splits: dict[str, list[Split]] = {}
    for name in options.sets:
        if name not in there:
            parser.error(f"--sets: no set '{name}' below --data. Known: {', '.join(there)}.")
        data = there[name]()
        if data.task != "multiclass" or data.groups() is not None:
            parser.error(f"--sets: '{name}' has tags, masks or groups, and folds here know none. Name another.")
        rows = np.sort(np.random.default_rng(0).permutation(len(data.train))[: options.photos])
        examples = [data.train[row] for row in rows]
        features = {}
        for number, px in SEEN:
            features[number, px] = torch.from_numpy(
                features_of(backbone_of(BACKBONES[number]), read_photos(examples, px))
            )
        targets = data.targets(examples)
        problems = problems_of({key: one.float() for key, one in features.items()}, targets)
        splits[name] = [judged(problems, targets, 10 * number) for number in range(options.splits)]
        print(f"{name}: {len(rows)} photos, {options.splits} splits", flush=True)
    print(tables(splits))


if __name__ == "__main__":
    main()
