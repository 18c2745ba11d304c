"""The folds of a trial, trained one after the other.

A trial trains its first fold through all of its epochs, with a row for each. A further fold gives one row, at its end:

    epoch        the next number
    fold         how many folds are completed. The last row of the first fold has it too
    fold_values  the search's metric at the best epoch of each of them
    metrics      means over them, at their best epochs
    seconds      of the fold; gpu_seconds are of the whole trial

So a fold is a rung: the search ends a trial between two of them. last.pt holds the state of the fold that is trained.
predictions/TRIAL/fold-F.npz holds the predictions of its best epoch so far. Those of all become out-of-fold.npz.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainables.checkpoint import TrialFiles
from trainables.data.folds import of_fold
from trainables.data.loader import TrialData
from trainables.loop import EpochResult
from trainables.out_of_fold import write_out_of_fold
from trainables.stored_rows import stored_fold
from visionsweep.core.errors import RunError
from visionsweep.core.files import read_npz
from visionsweep.run_dir.files import OUT_OF_FOLD_FILE


@dataclass
class FoldSteps:
    """The fold that a trial is in.

    files    of the trial
    data     of the run; without folds all of it is one
    fold     from 1
    seconds  of its epochs so far
    """

    files: TrialFiles
    data: TrialData
    fold: int = 1
    seconds: float = 0.0
    _of_fold: dict[int, TrialData] = field(default_factory=dict)

    @property
    def num_folds(self) -> int:
        return self.data.dataset.num_folds

    @property
    def over(self) -> bool:
        return self.fold > self.num_folds

    def resumed(self) -> FoldSteps:
        """Continue with what last.pt holds, whose rows were read before. Return itself."""
        self.fold, self.seconds = 1, 0.0
        if self.num_folds > 1 and self.files.last.exists():
            self.fold, self.seconds = stored_fold(self.files.last)
            if self._completed() >= self.fold:
                self.fold, self.seconds = self._completed() + 1, 0.0
        return self

    def trained_on(self) -> TrialData:
        """Return the data with this fold as its validation split."""
        if self.fold == 1 or self.over:
            return self.data
        if self.fold not in self._of_fold:
            self._of_fold = {self.fold: TrialData(of_fold(self.data.dataset, self.fold), self.data.images)}
        return self._of_fold[self.fold]

    def state(self) -> Path | None:
        """Return the file that this fold is resumed from, None to begin it."""
        last = self.files.last
        if not last.exists():
            return None
        return last if self.num_folds == 1 or stored_fold(last)[0] == self.fold else None

    def anew(self) -> None:
        """Begin the trial anew, without its state."""
        self.fold, self.seconds = 1, 0.0
        self.files.rows.clear()

    def take(self, result: EpochResult) -> dict[str, Any] | None:
        """Store an epoch. Return its row, or that of the fold that it ends, or None within a later fold."""
        row = self._first(result) if self.fold == 1 else self._later(result)
        if result.last:
            self.fold += 1
            self.seconds = 0.0
        return row

    def _first(self, result: EpochResult) -> dict[str, Any]:
        row = result.row()
        completed = result.last and self.num_folds > 1
        if completed:
            best = self._best([*self.files.rows, row])
            row |= {"fold": 1, "fold_values": [best["metrics"].get(self.files.metric)]}
        # A trial that ends here needs no last.pt. One that ASHA may still end needs it until then.
        self.files.save(result, resumable=completed or not result.last, row=row)
        return row

    def _later(self, result: EpochResult) -> dict[str, Any] | None:
        files = self.files
        if result.epoch == 1:
            self._part(self.fold).unlink(missing_ok=True)  # of a training that was lost
            self.seconds = 0.0
        self.seconds += result.seconds + result.start_s
        metrics = files.save_part(self._part(self.fold), result)
        row = None
        if result.last:
            row = self._row(result, metrics)
            files.rows.append({"trial_id": files.checkpoints.name, **row})
            if self.fold == self.num_folds:
                self._write_all()
                return row
        files.store_state(result, self.fold, self.seconds)
        return row

    def _row(self, result: EpochResult, metrics: dict[str, float]) -> dict[str, Any]:
        before = self.files.rows[-1]
        means = self._best(self.files.rows)["metrics"] if before["fold"] == 1 else before["metrics"]
        num = self.fold
        row = result.row()
        row.pop("start_s", None)  # within the fold's seconds
        return row | {
            "epoch": before["epoch"] + 1,
            "fold": num,
            "fold_values": [*before["fold_values"], metrics.get(self.files.metric)],
            "metrics": {name: (means[name] * (num - 1) + metrics[name]) / num for name in means if name in metrics},
            "seconds": self.seconds,
            "gpu_seconds": before["gpu_seconds"] + result.gpu_seconds,
            "peak_memory_mb": max(before["peak_memory_mb"], result.peak_memory_mb),
        }

    def _best(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        """Return the best row by the search's metric, the earlier one on ties, or the last where none has a value."""
        sign = 1 if self.files.mode == "max" else -1
        having = [row for row in rows if self.files.metric in row["metrics"]]
        return max(having, key=lambda row: sign * row["metrics"][self.files.metric], default=rows[-1])

    def _completed(self) -> int:
        return int(self.files.rows[-1].get("fold", 0)) if self.files.rows else 0

    def _part(self, fold: int) -> Path:
        return self.files.predictions / f"fold-{fold}.npz"

    def _write_all(self) -> None:
        """Write the out-of-fold predictions. What cannot be read costs them, not the trial."""
        best = self.files.best()
        if best is None:
            return
        parts = [self._part(fold) for fold in range(2, self.num_folds + 1)]
        try:
            found = [read_npz(path) for path in (self.files.files_of(best[0])[1], *parts)]
        except RunError as error:
            self.files.notes.append(f"its out-of-fold predictions are not kept: {error}")
            return
        write_out_of_fold(self.files.predictions / OUT_OF_FOLD_FILE, self.data.dataset, found)
        for part in parts:
            part.unlink(missing_ok=True)
