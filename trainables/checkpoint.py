"""Checkpoints: written whole or not at all, resumed exactly, and no more of them than asked for.

checkpoints/TRIAL/last.pt                what a running trial needs to go on
checkpoints/TRIAL/process.json           where a running trial runs: node_id (Ray's) and pid
checkpoints/TRIAL/epoch-0007.safetensors the weights of one of the trial's k best epochs
predictions/TRIAL/epoch-0007.npz         the validation predictions of that epoch: logits, or masks
"""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from search_spaces.errors import Damaged, RunError
from search_spaces.names import mode_of
from trainables.config import TrialConfig
from trainables.failures import is_out_of_memory
from trainables.files import one_line, parse_json, read_npz
from trainables.held_weights import pack_weights, unpack_weights
from trainables.loop import EpochResult
from trainables.models.adapters import plain_state_dict
from trainables.optimizers import load_optimizer
from trainables.safe_path import trial_folder
from trainables.state import TrainState
from trainables.writing import write_whole as write_whole

PROCESS_FILE = "process.json"


@dataclass(frozen=True)
class TrialFiles:
    """The files of one trial.

    metric, mode: which epochs are its best; `keep_best` of them are kept. ensemble, ensemble_metric: so many epochs
    are kept to be averaged, the best by that metric (None: the same one). rows: of the trial's epochs so far, which
    last.pt holds for records that lost them. notes: what was found damaged, and is gone.
    """

    checkpoints: Path
    predictions: Path
    metric: str
    mode: str
    keep_best: int
    ensemble: int = 1
    ensemble_metric: str | None = None
    rows: list[dict[str, Any]] = field(default_factory=list, compare=False)
    notes: list[str] = field(default_factory=list, compare=False)

    @classmethod
    def below(cls, run_dir: Path, trial_id: str, metric: str, mode: str, config: TrialConfig) -> TrialFiles:
        checkpoints, predictions = (trial_folder(run_dir, room, trial_id) for room in ("checkpoints", "predictions"))
        kept = config.keep_best, config.ensemble, config.ensemble_metric
        return cls(checkpoints, predictions, metric, mode, *kept)

    @property
    def last(self) -> Path:
        return self.checkpoints / "last.pt"

    def save(self, result: EpochResult, *, to_go_on: bool) -> bool:
        """Store an epoch; returns whether it is among those to keep. `to_go_on`: write last.pt as well."""
        is_kept = self._keep_if_good(result)
        before = [row for row in self.rows if row["epoch"] < result.epoch]
        self.rows[:] = [*before, {"trial_id": self.checkpoints.name, **result.row()}]
        if to_go_on:
            write_whole(self.last, lambda path: torch.save({**_pack(result), "rows": self.rows}, path))
        return is_kept

    def best(self) -> tuple[int, dict[str, float]] | None:
        """(epoch, metrics) of the best epoch that was kept."""
        stored = self._stored()
        epochs = _best_epochs(stored, self.metric, self.mode, 1)
        return (epochs[0], stored[epochs[0]]) if epochs else None

    def averaged(self) -> list[int]:
        """The epochs that the trial's exported model averages, best first; one where it is no ensemble, or where no
        epoch has a value of the metric that chooses them."""
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
        # The predictions are what says that an epoch is kept: written after its weights, and the displaced go last.
        write_whole(weights_file, lambda path: save_file(weights, path, metadata=about))
        write_whole(predictions_file, lambda path: _save_npz(path, result))
        for epoch in before.keys() - kept:
            for path in reversed(self.files_of(epoch)):
                path.unlink(missing_ok=True)
        return True

    def _ensemble(self, stored: dict[int, dict[str, float]]) -> list[int]:
        if self.ensemble == 1:
            return []
        metric = self.ensemble_metric or self.metric
        mode = self.mode if metric == self.metric else mode_of(metric)
        return _best_epochs(stored, metric, mode, self.ensemble)

    def _stored(self) -> dict[int, dict[str, float]]:
        """Epoch -> metrics of the epochs whose files are here: the files themselves are the memory."""
        return {epoch_of(path): _stored_metrics(path) for path in self.predictions.glob("epoch-*.npz")}

    def take_up(self, epochs_recorded: int) -> deque[dict[str, Any]]:
        """Remember the epochs that last.pt holds, and return those that are stored here and not recorded: the driver
        died in between, or the power failed."""
        self.rows[:] = stored_rows(self.last, self.checkpoints.name) if self.last.exists() else []
        return deque(row for row in self.rows if row["epoch"] > epochs_recorded)

    def note(self) -> dict[str, str]:
        """What a person should hear of, once."""
        notes = " ".join(self.notes)
        self.notes.clear()
        return {"note": notes} if notes else {}

    def _drop_damaged(self) -> None:
        """An epoch whose predictions cannot be read is no longer among the kept ones."""
        for path in self.predictions.glob("epoch-*.npz"):
            try:
                _stored_metrics(path)
            except RunError as error:
                for file in reversed(self.files_of(epoch_of(path))):
                    file.unlink(missing_ok=True)
                self.notes.append(f"epoch {epoch_of(path)} is no longer kept: {error}")

    def files_of(self, epoch: int) -> tuple[Path, Path]:
        """(weights, validation predictions) of an epoch."""
        name = f"epoch-{epoch:04d}"
        return self.checkpoints / f"{name}.safetensors", self.predictions / f"{name}.npz"


def epoch_of(path: Path) -> int:
    """The epoch in a file name that `files_of` made."""
    match = re.fullmatch(r"epoch-(\d+)\.\w+", path.name)
    if match is None:
        raise RunError(f"{path}: is not named epoch-NNNN. Move it out of the run directory.")
    return int(match.group(1))


def _best_epochs(stored: dict[int, dict[str, float]], metric: str, mode: str, count: int) -> list[int]:
    """The `count` best epochs, best first; those without a value of the metric are none."""
    sign = 1 if mode == "max" else -1
    having = [epoch for epoch, metrics in stored.items() if metric in metrics]
    # Ties go to the earlier epoch: it cost less.
    return sorted(having, key=lambda epoch: (-sign * stored[epoch][metric], epoch))[:count]


def _stored_metrics(path: Path) -> dict[str, float]:
    told = str(read_npz(path, only=("metrics",))["metrics"])
    try:
        metrics = parse_json(told)
        if not isinstance(metrics, dict) or not all(isinstance(value, (int, float)) for value in metrics.values()):
            raise ValueError("its metrics are no numbers")
    except ValueError as error:
        raise RunError(f"{path}: cannot be read ({one_line(error)}). Delete it.") from None
    return metrics


def _save_npz(path: Path, result: EpochResult) -> None:
    with path.open("wb") as file:  # given a name, numpy would append .npz to it
        arrays: dict[str, Any] = {"metrics": np.array(json.dumps(result.metrics)), **result.predictions}
        np.savez_compressed(file, **arrays)


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


def stored_row(path: Path) -> dict[str, Any] | None:
    """The result of the epoch that a last.pt was written after; None where it cannot be read: `load_state` says why."""
    try:
        row: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True, mmap=True)["row"]
    except Exception:
        return None
    return row


def stored_rows(path: Path, trial_id: str) -> list[dict[str, Any]]:
    """The results of the trial's epochs up to the one that a last.pt was written after, without those of a trial that
    it was copied from; none where it cannot be read."""
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        rows: list[dict[str, Any]] = stored.get("rows", [{"trial_id": trial_id, **stored["row"]}])  # none before 0.5
        return [row for row in rows if row["trial_id"] == trial_id]
    except Exception:
        return []


def load_state(path: Path) -> Callable[[TrainState], None]:
    """What `fit(resume=...)` takes: fills a freshly built state with the one stored at `path`.

    Tensors and plain values only (weights_only): a checkpoint from somewhere else cannot run code here.
    The filling raises Damaged.
    """

    def fill(state: TrainState) -> None:
        device = next(state.model.parameters()).device
        try:
            stored = torch.load(path, map_location=device, weights_only=True)
            unpack_weights(state, stored)
            load_optimizer(state.optimizer, stored["optimizer"], state.model)
            if stored["scaler"]:  # empty where it was stored without one: another machine computes in another precision
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
