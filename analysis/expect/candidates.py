"""What the trials that compete for best said of the validation photos: what the best one was chosen among.

Every trial keeps compact predictions of its best epoch (`trainables/compact.py`). Older runs have those of a few best
trials only.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.expect.pixel_scores import mask_scores
from analysis.figures.best_trial import Judged, JudgedImages, judged_by, judged_images, kept_predictions
from analysis.figures.ranking_scores import RANKINGS
from analysis.figures.resampled import MOST_WORK, by_image, drawn, scores
from visionsweep.core.errors import RunError
from visionsweep.core.files import read_npz
from visionsweep.core.safe_path import trial_folder
from visionsweep.run_dir.load import Run
from visionsweep.run_dir.rank import ranked
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

    said        of each trial: a classifier's predictions, or pixel counts (3, N, C)
    competing   number of trials that compete for best; some may not have kept their predictions
    first       id of the one that ranks first
    num_images  N
    groups      (N,) numbers from 0 of photos that belong together, None where no two do
    """

    task: str
    metric: str
    mode: str
    trials: list[Trial]
    said: list[Judged | NDArray[np.uint32]]
    classes: tuple[str, ...]
    competing: int
    first: str
    num_images: int
    groups: NDArray[np.int64] | None

    @property
    def sign(self) -> int:
        return 1 if self.mode == "max" else -1

    def score(self, number: int, counts: Array) -> Array:
        """Return the metric (R,) of one trial for R replicates."""
        one = self.said[number]
        if isinstance(one, Judged):
            found = scores(one, self.task, self.metric, counts)
        else:
            found = mask_scores(one, self.classes, self.metric, counts)
        assert found is not None  # `candidates` asked
        return found

    def scores(self, counts: Array) -> Array:
        """Return the metric (T, R) of all trials."""
        of_images = [by_image(one, self.task, self.metric) for one in self.said if isinstance(one, Judged)]
        means = [one for one in of_images if one is not None]
        if len(means) == len(self.said):  # one matrix product for all
            return np.asarray(np.stack(means) @ counts.T / counts.sum(axis=1))
        return np.stack([self.score(number, counts) for number in range(len(self.said))])

    @property
    def replicates(self) -> int:
        """Number of resamples: fewer where images are ranked for many trials and classes, which takes long."""
        one = self.said[0]
        if self.metric.removeprefix("val/") not in RANKINGS or not isinstance(one, Judged):
            return REPLICATES
        return min(REPLICATES, max(FEWEST_REPLICATES, MOST_RANKED // (one.truth.size * len(self.said))))

    def plain(self) -> Array:
        """Return the metric (T,) on all photos."""
        return self.scores(np.ones((1, self.num_images)))[:, 0]


def candidates(run: Run) -> Candidates | None:
    """Return the competing trials of a run whose predictions are kept.

    None without any, for several objectives, for a metric that is not known here, for fewer than LEAST_IMAGES photos.
    """
    if len(run.objectives) > 1:
        return None
    having = [trial for trial in ranked(run.trials, run.objectives) if trial.best(run.metric, run.mode)]
    competing = [trial for trial in having if trial.status == "complete"] or having
    try:
        images = None if run.task == "segmentation" else judged_images(run)
    except RunError:
        return None
    trials = []
    said: list[Judged | NDArray[np.uint32]] = []
    for trial in competing[:MOST_TRIALS]:
        one = _said(run, trial, images)
        if one is not None:
            trials.append(trial)
            said.append(one)
    if not said:
        return None
    num_images = len(said[0].names) if isinstance(said[0], Judged) else said[0].shape[1]
    classes = tuple(map(str, run.search.get("data", {}).get("classes", ())))
    found = Candidates(
        run.task, run.metric, run.mode, trials, said, classes, len(competing), competing[0].trial_id, num_images,
        _groups(run, num_images),
    )  # fmt: skip
    return found if num_images >= LEAST_IMAGES and _is_known(found) else None


def predictions_of(run: Run, trial: Trial) -> Judged | NDArray[np.uint32] | None:
    """Return what a trial's best epoch said of the validation photos, as in `Candidates.said`, or None."""
    try:
        return _said(run, trial, None if run.task == "segmentation" else judged_images(run))
    except RunError:
        return None


def resampled_counts(found: Candidates) -> Array:
    """Return counts (R, N): how often each photo was drawn. Photos that belong together are drawn together."""
    return np.concatenate(list(drawn(found.num_images, found.replicates, found.groups)))


def _is_known(found: Candidates) -> bool:
    one = found.said[0]
    every = np.ones((1, found.num_images))
    if isinstance(one, Judged):
        return one.truth.size <= MOST_WORK and scores(one, found.task, found.metric, every) is not None
    return mask_scores(one, found.classes, found.metric, every) is not None


def _said(run: Run, trial: Trial, images: JudgedImages | None) -> Judged | NDArray[np.uint32] | None:
    """Return the predictions of a trial's best epoch, None where they are not kept or cannot be read."""
    path = trial_folder(run.run_dir, "judged", trial.trial_id) / "best.npz"
    try:
        epoch, arrays = (None, read_npz(path)) if path.is_file() else kept_predictions(run, trial)
        best = trial.best(run.metric, run.mode)
        if best is None or int(arrays.get("epoch", np.array(epoch))) != best[1]:
            return None  # of an epoch that was trained again, or a worse one
        if images is not None:
            return judged_by(run, trial, best[1], arrays.get("logits"), images)
        pixels = arrays.get("pixels")
        is_right = pixels is not None and pixels.ndim == 3 and len(pixels) == 3 and pixels.dtype.kind in "iu"
        num_images = len(run.search.get("data", {}).get("val", ()))
        return pixels if is_right and pixels is not None and pixels.shape[1] == num_images else None
    except (RunError, TypeError, ValueError):
        return None


def _groups(run: Run, num_images: int) -> NDArray[np.int64] | None:
    told = run.search.get("data", {}).get("val_groups")
    if not told or len(told) != num_images:
        return None
    return np.unique(np.asarray(told), return_inverse=True)[1].astype(np.int64)
