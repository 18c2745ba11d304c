"""Checkpoints: written whole or not at all, resumed exactly, and no more of them than asked for.

checkpoints/TRIAL/last.pt                what a running trial needs to be resumed
checkpoints/TRIAL/process.json           where a running trial runs: node_id (Ray's) and pid
checkpoints/TRIAL/epoch-0007.safetensors the weights of one of the trial's k best epochs
predictions/TRIAL/epoch-0007.npz         the validation predictions of that epoch: logits, or masks
judged/TRIAL/best.npz                    those of the best epoch of every trial, where they are small (see `compact.py`)

With folds also what `worker/fold_steps.py` names.
"""

from __future__ import annotations

import json
import zipfile
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from trainables.background import InBackground
from trainables.compact import compact, write_compact
from trainables.config.trial import TrialConfig
from trainables.held_weights import pack_weights, unpack_weights
from trainables.loop import EpochResult
from trainables.models.adapters import plain_state_dict
from trainables.optimizers import load_optimizer
from trainables.state import TrainState
from trainables.stored_rows import stored_rows
from trainables.worker.failures import is_out_of_memory
from visionsweep.core.errors import Damaged, RunError
from visionsweep.core.files import one_line
from visionsweep.core.names import mode_of
from visionsweep.core.objectives import sign_of
from visionsweep.core.writing import write_whole as write_whole
from visionsweep.run_dir.files import (
    LAST_FILE,
    TRIAL_ROOMS,
    epoch_name,
    epoch_of,
    judged_file,
    kept_files,
    read_metrics,
    trial_folder,
)

LATER = ("cuda", "mps")  # devices that would wait for a disk, so last.pt is written in the background


@dataclass(frozen=True)
class TrialFiles:
    """The files of one trial.

    metric, mode     decide which epochs are the best
    keep_best        number of best epochs whose files are kept
    ensemble         number of epochs that the exported model averages, kept too; 1 is no ensemble
    ensemble_metric  chooses those epochs; None takes `metric`
    judged           file of the best epoch's compact predictions; None keeps none
    task             of the trial, for them
    rows             the trial's epochs so far; last.pt holds them for records that lost them
    notes            sentences about damaged files that were deleted
    background       writes last.pt of a training on a GPU
    """

    checkpoints: Path
    predictions: Path
    metric: str
    mode: str
    keep_best: int
    ensemble: int = 1
    ensemble_metric: str | None = None
    judged: Path | None = None
    task: str = ""
    rows: list[dict[str, Any]] = field(default_factory=list, compare=False)
    notes: list[str] = field(default_factory=list, compare=False)
    background: InBackground = field(default_factory=InBackground, compare=False, repr=False)

    @classmethod
    def below(cls, run_dir: Path, trial_id: str, metric: str, mode: str, config: TrialConfig) -> TrialFiles:
        checkpoints, predictions = (trial_folder(run_dir, room, trial_id) for room in TRIAL_ROOMS)
        kept = config.keep_best, config.ensemble, config.ensemble_metric
        return cls(checkpoints, predictions, metric, mode, *kept, judged_file(run_dir, trial_id), config.task)

    @property
    def last(self) -> Path:
        return self.checkpoints / LAST_FILE

    def save(self, result: EpochResult, *, resumable: bool, row: dict[str, Any] | None = None) -> bool:
        """Store an epoch, and last.pt too if `resumable`. Return whether the epoch is kept.

        row: of the epoch, None: the result's own.
        """
        is_kept = self._keep_if_good(result)
        before = [row for row in self.rows if row["epoch"] < result.epoch]
        self._keep_judged(result, before)
        self.rows[:] = [*before, {"trial_id": self.checkpoints.name, **(row or result.row())}]
        if resumable:
            self.store_state(result)
        return is_kept

    def store_state(self, result: EpochResult, fold: int = 1, fold_seconds: float = 0.0) -> None:
        """Write last.pt: the state after an epoch of a fold, whose epochs took so long until then.

        A GPU does not wait until it is written (see `background.py`).
        """

        def write(packed: dict[str, Any]) -> None:
            write_whole(self.last, lambda path: torch.save(packed, path))

        def packed() -> dict[str, Any]:
            return {**_pack(result), "rows": list(self.rows), "fold": fold, "fold_seconds": fold_seconds}

        if next(result.state.model.parameters()).device.type in LATER:
            self.background.submit(packed, write)
        else:
            write(packed())

    def settle(self) -> None:
        """Wait until last.pt is written. A failure becomes a note: the state before it is still there."""
        try:
            self.background.wait()
        except Exception as error:
            self.notes.append(f"its last state was not stored ({one_line(error)}).")

    def save_part(self, path: Path, result: EpochResult) -> dict[str, float]:
        """Keep an epoch's predictions if it is the best so far. Return the metrics of the best."""
        if path.exists():
            try:
                stored = {0: read_metrics(path), 1: result.metrics}
                if _best_epochs(stored, self.metric, self.mode, 1) != [1]:
                    return stored[0]
            except RunError as error:
                self.notes.append(f"{path.name} is written anew: {error}")
        write_whole(path, lambda scratch: _save_npz(scratch, result))
        return result.metrics

    def best(self) -> tuple[int, dict[str, float]] | None:
        """Return (epoch, metrics) of the best kept epoch, None without any."""
        stored = self._stored()
        epochs = _best_epochs(stored, self.metric, self.mode, 1)
        return (epochs[0], stored[epochs[0]]) if epochs else None

    def averaged(self) -> list[int]:
        """Return the epochs that the exported model averages, best first.

        It is the one best epoch without an ensemble, and where no epoch has a value of `ensemble_metric`.
        """
        stored = self._stored()
        return self._ensemble(stored) or _best_epochs(stored, self.metric, self.mode, 1)

    def _keep_if_good(self, result: EpochResult) -> bool:
        self._drop_damaged()
        before = self._stored()
        before.pop(result.epoch, None)  # trained again after a crash
        after = {**before, result.epoch: result.metrics}
        kept = {*_best_epochs(after, self.metric, self.mode, self.keep_best), *self._ensemble(after)}
        if result.epoch not in kept:
            return False
        weights_file, predictions_file = self.files_of(result.epoch)
        weights = {
            name: tensor.detach().cpu().contiguous() for name, tensor in plain_state_dict(result.state.weights).items()
        }
        about = {"epoch": str(result.epoch), "metrics": json.dumps(result.metrics)}
        # An epoch counts as kept once its predictions exist. They are written after its weights, and the files of
        # displaced epochs are deleted last.
        write_whole(weights_file, lambda path: save_file(weights, path, metadata=about))
        write_whole(predictions_file, lambda path: _save_npz(path, result))
        for epoch in before.keys() - kept:
            for path in reversed(self.files_of(epoch)):
                path.unlink(missing_ok=True)
        return True

    def _keep_judged(self, result: EpochResult, before: list[dict[str, Any]]) -> None:
        """Store an epoch's compact predictions if it is the best so far."""
        if self.judged is None:
            return
        metrics = {row["epoch"]: row["metrics"] for row in before} | {result.epoch: result.metrics}
        if _best_epochs(metrics, self.metric, self.mode, 1) == [result.epoch]:
            arrays = compact(result.predictions, self.task)
            if arrays is not None:
                write_compact(self.judged, arrays, result.epoch, result.metrics)

    def _ensemble(self, stored: dict[int, dict[str, float]]) -> list[int]:
        if self.ensemble == 1:
            return []
        metric = self.ensemble_metric or self.metric
        mode = self.mode if metric == self.metric else mode_of(metric)
        return _best_epochs(stored, metric, mode, self.ensemble)

    def _stored(self) -> dict[int, dict[str, float]]:
        """Return epoch -> metrics of the kept epochs, read from the files themselves."""
        return {epoch_of(path): read_metrics(path) for path in kept_files(self.predictions)}

    def take_up(self, epochs_recorded: int) -> deque[dict[str, Any]]:
        """Read the epochs that last.pt holds, and return those that the run's records lack.

        The records lack an epoch if the driver died, or the power failed, before it was recorded.
        """
        self.rows[:] = stored_rows(self.last, self.checkpoints.name) if self.last.exists() else []
        return deque(row for row in self.rows if row["epoch"] > epochs_recorded)

    def note(self) -> dict[str, str]:
        """Return {"note": ...} for the user and forget it, {} without notes."""
        notes = " ".join(self.notes)
        self.notes.clear()
        return {"note": notes} if notes else {}

    def _drop_damaged(self) -> None:
        """Delete the files of every epoch whose predictions cannot be read."""
        for path in kept_files(self.predictions):
            try:
                read_metrics(path)
            except RunError as error:
                for file in reversed(self.files_of(epoch_of(path))):
                    file.unlink(missing_ok=True)
                self.notes.append(f"epoch {epoch_of(path)} is no longer kept: {error}")

    def files_of(self, epoch: int) -> tuple[Path, Path]:
        """Return the paths of (weights, validation predictions) of an epoch."""
        name = epoch_name(epoch)
        return self.checkpoints / f"{name}.safetensors", self.predictions / f"{name}.npz"


def _best_epochs(stored: dict[int, dict[str, float]], metric: str, mode: str, count: int) -> list[int]:
    """Return the `count` best epochs, best first, of those that have a value of the metric."""
    sign = sign_of(mode)
    having = [epoch for epoch, metrics in stored.items() if metric in metrics]
    # Ties go to the earlier epoch: it cost less.
    return sorted(having, key=lambda epoch: (-sign * stored[epoch][metric], epoch))[:count]


def _save_npz(path: Path, result: EpochResult) -> None:
    with path.open("wb") as file:  # given a name, numpy would append .npz to it
        arrays: dict[str, Any] = {"metrics": np.array(json.dumps(result.metrics)), **result.predictions}
        # As numpy writes it, but at zlib's lowest level: masks take 0.36 of the time, while a GPU waits.
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            for name, array in arrays.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, np.asanyarray(array), allow_pickle=False)


def _pack(result: EpochResult) -> dict[str, Any]:
    state = result.state
    return {
        "version": 1,
        "row": result.row(),
        **pack_weights(state),
        "optimizer": state.optimizer.state_dict(),
        "scaler": state.scaler.state_dict(),
        "epoch": state.epoch,
        "num_steps": state.num_steps,
        "best_watched": state.best_watched,
        "epochs_without_gain": state.epochs_without_gain,
        "gpu_seconds": state.gpu_seconds,
    }


def load_state(path: Path) -> Callable[[TrainState], None]:
    """Return a function for `fit(resume=...)` that fills a freshly built state with the one stored at `path`.

    Only tensors and plain values are read (weights_only), so that a foreign checkpoint cannot run code here.
    The function raises Damaged.
    """

    def fill(state: TrainState) -> None:
        device = next(state.model.parameters()).device
        try:
            stored = torch.load(path, map_location=device, weights_only=True)
            unpack_weights(state, stored)
            load_optimizer(state.optimizer, stored["optimizer"], state.model)
            if stored["scaler"]:  # empty if stored without one: another machine may compute in another precision
                state.scaler.load_state_dict(stored["scaler"])
            state.epoch, state.num_steps = stored["epoch"], stored["num_steps"]
            state.best_watched, state.epochs_without_gain = stored["best_watched"], stored["epochs_without_gain"]
            state.gpu_seconds = stored.get("gpu_seconds", 0.0)  # not in those of before 0.4
        except FileNotFoundError:
            raise
        except Exception as error:
            if is_out_of_memory(error):  # nothing is wrong with the file
                raise
            raise Damaged(path, one_line(error)) from None

    return fill
