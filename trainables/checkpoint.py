"""Checkpoints: written whole or not at all, resumed exactly, and no more of them than asked for.

checkpoints/TRIAL/last.pt                what a running trial needs to go on
checkpoints/TRIAL/process.json           where a running trial runs: node_id (Ray's) and pid
checkpoints/TRIAL/epoch-0007.safetensors the weights of one of the trial's k best epochs
predictions/TRIAL/epoch-0007.npz         the validation predictions of that epoch: logits, or masks
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from search_spaces.errors import DiskFull, RunError
from search_spaces.names import mode_of
from trainables.loop import EpochResult
from trainables.optimizers import load_optimizer
from trainables.state import TrainState

PROCESS_FILE = "process.json"


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a file beside `path`, then move it there: a reader sees the old file or the new one.

    Raises DiskFull where there is no room for it, whatever `write` makes of that.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        write(partial)
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    except Exception as error:
        if not _is_full(error, path.parent):
            raise
        raise DiskFull(f"{path}: the disk is full. Free some space.") from None
    finally:
        partial.unlink(missing_ok=True)


def _is_full(error: Exception, folder: Path) -> bool:
    """torch and safetensors say it in words of their own; what was written by then still takes the room."""
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    return shutil.disk_usage(folder).free < 2**20


@dataclass(frozen=True)
class TrialFiles:
    """The files of one trial.

    metric, mode: which epochs are its best; `keep_best` of them are kept. ensemble, ensemble_metric: so many epochs
    are kept to be averaged, the best by that metric (None: the same one).
    """

    checkpoints: Path
    predictions: Path
    metric: str
    mode: str
    keep_best: int
    ensemble: int = 1
    ensemble_metric: str | None = None

    @property
    def last(self) -> Path:
        return self.checkpoints / "last.pt"

    def save(self, result: EpochResult, *, to_go_on: bool) -> bool:
        """Store an epoch; returns whether it is among those to keep. `to_go_on`: write last.pt as well."""
        is_kept = self._keep_if_good(result)
        if to_go_on:
            write_whole(self.last, lambda path: torch.save(_pack(result), path))
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
        before = self._stored()
        before.pop(result.epoch, None)  # trained again after a crash
        after = {**before, result.epoch: result.metrics}
        kept = {*_best_epochs(after, self.metric, self.mode, self.keep_best), *self._ensemble(after)}
        if result.epoch not in kept:
            return False
        weights_file, predictions_file = self.files_of(result.epoch)
        weights = {
            name: tensor.detach().cpu().contiguous() for name, tensor in result.state.weights.state_dict().items()
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
    try:
        with np.load(path) as stored:
            metrics: dict[str, float] = json.loads(str(stored["metrics"]))
    except (ValueError, KeyError, OSError) as error:
        raise RunError(f"{path}: cannot be read ({' '.join(str(error).split())[:200]}). Delete it.") from None
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
        "model": state.model.state_dict(),
        "optimizer": state.optimizer.state_dict(),
        "scaler": state.scaler.state_dict(),
        "ema": None if state.ema is None else state.ema.state_dict(),
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


def load_state(path: Path) -> Callable[[TrainState], None]:
    """What `fit(resume=...)` takes: fills a freshly built state with the one stored at `path`.

    Tensors and plain values only (weights_only): a checkpoint from somewhere else cannot run code here.
    """

    def fill(state: TrainState) -> None:
        device = next(state.model.parameters()).device
        try:
            stored = torch.load(path, map_location=device, weights_only=True)
            state.model.load_state_dict(stored["model"])
            load_optimizer(state.optimizer, stored["optimizer"], state.model)
            if stored["scaler"]:  # empty where it was stored without one: another machine computes in another precision
                state.scaler.load_state_dict(stored["scaler"])
            if state.ema is not None:
                state.ema.load_state_dict(stored["ema"])
            state.epoch, state.num_steps = stored["epoch"], stored["num_steps"]
            state.best_watched, state.epochs_without_gain = stored["best_watched"], stored["epochs_without_gain"]
            state.gpu_seconds = stored.get("gpu_seconds", 0.0)  # not in those of before 0.4
        except FileNotFoundError:
            raise
        except Exception as error:
            why = " ".join(str(error).split())[:200]
            raise RunError(
                f"{path}: cannot be read as a checkpoint of this configuration ({why}). "
                "Delete it to start the trial anew."
            ) from None

    return fill
