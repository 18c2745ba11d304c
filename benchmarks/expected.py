"""What to expect on new photos: the winner's own score, the corrected one, and the truth on unseen photos.

    python -m benchmarks.expected [--sets wbc chess ...] [--splits 5] [--photos 40] [--data ../shared/data]

Many trials are made cheaply: ridge heads on features of EfficientNet-Lite 0 at 64 and 96 px, at ten strengths, on
all features and on random halves of them. A fifth of the training rows validates, or `--photos` of that fifth. The
trial with the best validation score wins. `naive` is that score. `expected` is what `analysis/expect/expected.py` makes
of the trials' validation predictions. The truth is the winner's score on the test split. Errors are signed (bias) and
absolute, in hundredths, means over sets and splits. `within` says how often the 95% interval has the truth: that of the
corrected score, and that of the winner's own resampled validation photos.

A test split has 75 to 300 photos, so that the truth itself has a standard error of 2 to 4 hundredths in each set.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from analysis.expect.candidates import Candidates
from analysis.expect.expected import expected_of
from analysis.figures.best_trial import Judged
from analysis.figures.resampled import drawn
from benchmarks.many_features import SEEN, Floats, features_of_set, labelled_sets, one_hot, ridge
from benchmarks.minutes_sets import SHARED, Labelled, validation
from visionsweep.run_dir.trials import Trial

STRENGTHS = tuple(10.0**power for power in np.linspace(-5, 0, 10))
NUM_HALVES = 6  # trials on random halves of the features, beside those on all
THRESHOLD = 0.3  # of a ridge score, for tags


@dataclass(frozen=True)
class Row:
    """One choice: scores as fractions of one."""

    naive: float
    expected: float
    truth: float
    within: bool
    own_within: bool
    num_val: int
    num_trials: int


def trials_of(
    data: Labelled, features: Sequence[tuple[Floats, Floats]], in_val: NDArray[np.bool_], seed: int
) -> tuple[Floats, Floats]:
    """Return scores of T trials: (T, N, C) of the validation rows, and (T, n, C) of the test rows."""
    targets = one_hot(data, data.train)[~in_val]
    rng = np.random.default_rng(seed)
    val = []
    test = []
    for train, unseen in features:
        width = train.shape[1]
        parts = [np.arange(width)] + [rng.permutation(width)[: width // 2] for _ in range(NUM_HALVES)]
        for part in parts:
            others = np.concatenate([train[in_val][:, part], unseen[:, part]])
            found = ridge(train[~in_val][:, part], targets, others, STRENGTHS)
            val.append(found[:, : in_val.sum()])
            test.append(found[:, in_val.sum() :])
    return np.concatenate(val), np.concatenate(test)


def as_candidates(
    task: str, metric: str, predicted: Floats, truth: NDArray[np.bool_], groups: NDArray[np.int64] | None
) -> Candidates:
    """Return trials with scores (T, N, C) as a run's candidates."""
    names = tuple(map(str, range(len(truth))))
    classes = tuple(map(str, range(truth.shape[1])))
    trials = [Trial(f"{number:04d}", {}, {}) for number in range(len(predicted))]
    said: list[Judged | NDArray[np.uint32]] = [
        Judged(trial, 1, classes, names, one, truth, _decided(task, one))
        for trial, one in zip(trials, predicted, strict=True)
    ]
    return Candidates(task, metric, "max", trials, said, len(trials), "0000", len(truth), groups)


def _decided(task: str, scores: Floats) -> NDArray[np.bool_]:
    if task == "multilabel":
        return np.asarray(scores > THRESHOLD)
    return np.asarray(np.eye(scores.shape[1], dtype=bool)[scores.argmax(axis=1)])


def choose(
    data: Labelled, features: Sequence[tuple[Floats, Floats]], metric: str, seed: int, photos: int | None
) -> Row:
    """Choose the best trial on one validation split, and return its three scores."""
    in_val = validation(data, seed)
    val, test = trials_of(data, features, in_val, seed)
    rows = np.flatnonzero(in_val)
    kept = np.arange(len(rows))
    if photos is not None:
        kept = np.sort(np.random.default_rng(seed).permutation(len(rows))[:photos])
    truth = one_hot(data, data.train)[rows[kept]] > 0.5
    groups = data.groups()
    numbers = None if groups is None else np.unique(groups[rows[kept]], return_inverse=True)[1].astype(np.int64)
    found = as_candidates(data.task, metric, val[:, kept], truth, numbers)
    expected = expected_of(found)
    assert expected is not None
    winner = int(found.plain().argmax())
    own = np.concatenate([found.score(winner, counts) for counts in drawn(len(truth), 500, numbers)])
    low, high = np.nanpercentile(own, (2.5, 97.5))
    unseen = as_candidates(data.task, metric, test[[winner]], one_hot(data, data.test) > 0.5, None)
    true = float(unseen.plain()[0])
    return Row(
        expected.chosen_by, expected.score, true, expected.low <= true <= expected.high, bool(low <= true <= high),
        len(truth), len(val),
    )  # fmt: skip


def line(name: str, metric: str, rows: Sequence[Row]) -> str:
    """Return a row of the table."""
    naive = 100 * np.array([one.naive - one.truth for one in rows])
    expected = 100 * np.array([one.expected - one.truth for one in rows])
    within = np.mean([one.within for one in rows])
    own = np.mean([one.own_within for one in rows])
    num = np.mean([one.num_val for one in rows])
    truth = np.mean([one.truth for one in rows])
    return (
        f"| {name} | {metric} | {num:.0f} | {truth:.3f} "
        f"| {naive.mean():+.1f} | {expected.mean():+.1f} | {abs(naive).mean():.1f} | {abs(expected).mean():.1f} "
        f"| {own:.0%} | {within:.0%} |"
    )


HEAD = """\
| set | metric | photos that chose | truth | naive, bias | expected, bias | naive, error | expected, error \
| naive, within | expected, within |
|---|---|---|---|---|---|---|---|---|---|"""


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="+", default=[])
    parser.add_argument("--splits", type=int, default=5)
    parser.add_argument("--photos", type=int, help="that validate; a fifth of the training rows where left out")
    parser.add_argument("--data", type=Path, default=SHARED)
    parser.add_argument("--keep", type=Path, help="a folder of features, for another run")
    options = parser.parse_args(arguments)
    print(HEAD, flush=True)
    every: dict[str, list[Row]] = {}
    for name, data in labelled_sets(options.data, options.sets).items():
        features = features_of_set(data, SEEN, options.keep)
        for metric in ("val/map", "val/f1") if data.task == "multilabel" else ("val/accuracy", "val/f1"):
            rows = [choose(data, features, metric, seed, options.photos) for seed in range(options.splits)]
            every.setdefault(metric, []).extend(rows)
            print(line(name, metric, rows), flush=True)
    for metric, rows in every.items():
        print(line("**all**", metric, rows))
    print(f"\n{next(iter(every.values()))[0].num_trials} trials each, {options.splits} splits of a set.")


if __name__ == "__main__":
    main()
