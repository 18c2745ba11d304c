"""What the trials that compete for best said of the validation photos: what the best one was chosen among.

Every trial keeps compact predictions of its best epoch (`trainables/compact.py`). Older runs have those of a few best
trials only. With folds, the best trials keep out-of-fold predictions of all photos.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.figures.best_trial import (
    Judged,
    JudgedImages,
    judged_by,
    judged_images,
    judged_on_folds,
    kept_predictions,
)
from analysis.figures.pixels import masks_by
from analysis.figures.resampled import MOST_WORK, RANKING, Kept, by_image, drawn, scores
from visionsweep.core.errors import RunError
from visionsweep.core.files import read_npz
from visionsweep.core.objectives import sign_of
from visionsweep.core.tasks import task_kind
from visionsweep.run_dir.files import judged_file
from visionsweep.run_dir.rank import ranked
from visionsweep.run_dir.run import Run
from visionsweep.run_dir.trials import Trial

MOST_TRIALS = 300  # best ones by rank: those below are never the best of resampled photos
REPLICATES = 500
FEWEST_REPLICATES = 100
MOST_RANKED = 10**9  # images times classes, trials and replicates of a ranking: some ten seconds
LEAST_IMAGES = 20  # of fewer, a resample leaves a handful out

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Candidates:
    """Trials with their predictions, best first.

    said        of each trial: a classifier's predictions, or pixel counts
    competing   number of trials that compete for best; some may not have kept their predictions
    first       id of the one that ranks first
    num_images  N
    groups      (N,) numbers from 0 of photos that belong together, None where no two do
    on_folds    whether the photos are all of train and val, each judged by a model that has not seen it
    """

    task: str
    metric: str
    mode: str
    trials: list[Trial]
    said: list[Kept]
    competing: int
    first: str
    num_images: int
    groups: NDArray[np.int64] | None
    on_folds: bool = False

    @property
    def sign(self) -> int:
        return sign_of(self.mode)

    def score(self, number: int, counts: Array) -> Array:
        """Return the metric (R,) of one trial for R replicates."""
        found = scores(self.said[number], self.task, self.metric, counts)
        assert found is not None  # `candidates` asked
        return found

    def scores(self, counts: Array) -> Array:
        """Return the metric (T, R) of all trials."""
        if self.is_mean:  # one matrix product for all
            of_images = [by_image(one, self.task, self.metric) for one in self.said]
            return np.asarray(np.stack([one for one in of_images if one is not None]) @ counts.T / counts.sum(axis=1))
        return np.stack([self.score(number, counts) for number in range(len(self.said))])

    @property
    def is_mean(self) -> bool:
        """Whether the metric is a mean over photos."""
        return by_image(self.said[0], self.task, self.metric) is not None

    @property
    def replicates(self) -> int:
        """Number of resamples: fewer where images are ranked for many trials and classes, which takes long."""
        one = self.said[0]
        if self.metric.removeprefix("val/") not in RANKING:
            return REPLICATES
        return min(REPLICATES, max(FEWEST_REPLICATES, MOST_RANKED // (one.truth.size * len(self.said))))

    def plain(self) -> Array:
        """Return the metric (T,) on all photos."""
        return self.scores(np.ones((1, self.num_images)))[:, 0]


def candidates(run: Run) -> Candidates | None:
    """Return the competing trials of a run whose predictions are kept.

    None without any, for several objectives, for a metric that is not known here, for fewer than LEAST_IMAGES photos.
    With folds also None for masks, for a metric that is no mean over photos, and for photos that belong together.
    """
    if len(run.objectives) > 1:
        return None
    on_folds = run.num_folds > 1
    having = [trial for trial in ranked(run.trials, run.objectives) if trial.best(run.metric, run.mode)]
    competing = [trial for trial in having if trial.status == "complete"]
    competing = competing if competing or on_folds else having
    images = _images(run)
    trials = []
    said: list[Kept] = []
    for trial in competing[:MOST_TRIALS]:
        one = _said(run, trial, images)
        if one is not None and (not said or _is_beside(one, said[0])):
            trials.append(trial)
            said.append(one)
    if not said:
        return None
    num_images = len(said[0].truth)
    found = Candidates(
        run.task, run.metric, run.mode, trials, said, len(competing), competing[0].trial_id, num_images,
        _groups(run, num_images), on_folds,
    )  # fmt: skip
    return found if num_images >= LEAST_IMAGES and _is_known(run, found) else None


def predictions_of(run: Run, trial: Trial) -> Kept | None:
    """Return what a trial's best epoch said of the validation photos, as in `Candidates.said`, or None."""
    return _said(run, trial, _images(run))


def resampled_counts(found: Candidates) -> Array:
    """Return counts (R, N): how often each photo was drawn. Photos that belong together are drawn together."""
    return np.concatenate(list(drawn(found.num_images, found.replicates, found.groups)))


def _is_known(run: Run, found: Candidates) -> bool:
    if found.on_folds and (run.search.get("data", {}).get("group") or not found.is_mean):
        return False
    every = np.ones((1, found.num_images))
    if isinstance(found.said[0], Judged) and found.said[0].truth.size > MOST_WORK:
        return False
    return all(scores(one, found.task, found.metric, every) is not None for one in _unlike(found.said))


def _unlike(said: list[Kept]) -> list[Kept]:
    """Return those that may lack a metric that another has: trials merge the classes of masks as they like."""
    return said[:1] if isinstance(said[0], Judged) else said


def _is_beside(one: Kept, first: Kept) -> bool:
    """Return whether both are of the same photos, in the same order."""
    if isinstance(one, Judged) and isinstance(first, Judged):
        return one.names == first.names
    return len(one.truth) == len(first.truth)


def _images(run: Run) -> JudgedImages | None:
    """Return the validation images with their classes, None for masks, and where they are not known."""
    try:
        return None if task_kind(run.task).pixels else judged_images(run)
    except RunError:
        return None


def _said(run: Run, trial: Trial, images: JudgedImages | None) -> Kept | None:
    """Return the predictions of a trial's best epoch, None where they are not kept or cannot be read."""
    path = judged_file(run.run_dir, trial.trial_id)
    try:
        if run.num_folds > 1:
            return None if task_kind(run.task).pixels else judged_on_folds(run, trial)
        epoch, arrays = (None, read_npz(path)) if path.is_file() else kept_predictions(run, trial)
        best = trial.best(run.metric, run.mode)
        if best is None or int(arrays.get("epoch", np.array(epoch))) != best[1]:
            return None  # of an epoch that was trained again, or a worse one
        if task_kind(run.task).pixels:
            return masks_by(run, trial, best[1], arrays)
        return None if images is None else judged_by(run, trial, best[1], arrays.get("logits"), images)
    except (RunError, TypeError, ValueError):
        return None


def _groups(run: Run, num_images: int) -> NDArray[np.int64] | None:
    """Return the groups of the validation photos. Those of all photos are not stored."""
    told = run.search.get("data", {}).get("val_groups") if run.num_folds == 1 else None
    if not told or len(told) != num_images:
        return None
    return np.unique(np.asarray(told), return_inverse=True)[1].astype(np.int64)
