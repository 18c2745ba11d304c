"""Checkpoints: written whole or not at all, resumed exactly, and no more of them than asked for.

checkpoints/TRIAL/last.pt                what a running trial needs to go on
checkpoints/TRIAL/epoch-0007.safetensors the weights of one of the trial's k best epochs
predictions/TRIAL/epoch-0007.npz         the validation logits of that epoch
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from search_spaces.errors import RunError
from trainables.loop import EpochResult
from trainables.state import TrainState


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a file beside `path`, then move it there: a reader sees the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        write(partial)
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@dataclass(frozen=True)
class TrialFiles:
    """The files of one trial; `metric` and `mode` say which epochs are its best, `keep_best` how many are kept."""

    checkpoints: Path
    predictions: Path
    metric: str
    mode: str
    keep_best: int

    @property
    def last(self) -> Path:
        return self.checkpoints / "last.pt"

    def save(self, result: EpochResult, *, to_go_on: bool) -> bool:
        """Store an epoch; returns whether it is among the trial's best. `to_go_on`: write last.pt as well."""
        is_best = self._keep_if_best(result)
        if to_go_on:
            write_whole(self.last, lambda path: torch.save(_pack(result), path))
        return is_best

    def _keep_if_best(self, result: EpochResult) -> bool:
        value = result.metrics.get(self.metric)
        if value is None:
            return False
        sign = 1 if self.mode == "max" else -1
        # Ties go to the earlier epoch: it cost less.
        others = [entry for entry in self._kept() if entry[1] != -result.epoch]  # trained again after a crash
        kept = sorted([*others, (sign * value, -result.epoch)], reverse=True)
        if (sign * value, -result.epoch) not in kept[: self.keep_best]:
            return False
        weights_file, logits_file = self.files_of(result.epoch)
        weights = {
            name: tensor.detach().cpu().contiguous() for name, tensor in result.state.weights.state_dict().items()
        }
        about = {"epoch": str(result.epoch), "metrics": json.dumps(result.metrics)}
        # The logits are what says that an epoch is kept: written after its weights, and the displaced go last.
        write_whole(weights_file, lambda path: save_file(weights, path, metadata=about))
        write_whole(logits_file, lambda path: _save_npz(path, result))
        for _, negative_epoch in kept[self.keep_best :]:
            for path in reversed(self.files_of(-negative_epoch)):
                path.unlink(missing_ok=True)
        return True

    def best(self) -> tuple[int, dict[str, float]] | None:
        """(epoch, metrics) of the best epoch that was kept."""
        kept = self._kept()
        if not kept:
            return None
        epoch = -max(kept)[1]
        return epoch, _stored_metrics(self.files_of(epoch)[1])

    def _kept(self) -> list[tuple[float, int]]:
        """(signed score, -epoch) of the epochs whose files are here: the files themselves are the memory."""
        sign = 1 if self.mode == "max" else -1
        scores = {
            epoch_of(path): _stored_metrics(path).get(self.metric) for path in self.predictions.glob("epoch-*.npz")
        }
        return [(sign * score, -epoch) for epoch, score in scores.items() if score is not None]

    def files_of(self, epoch: int) -> tuple[Path, Path]:
        """(weights, validation logits) of an epoch."""
        name = f"epoch-{epoch:04d}"
        return self.checkpoints / f"{name}.safetensors", self.predictions / f"{name}.npz"


def epoch_of(path: Path) -> int:
    """The epoch in a file name that `files_of` made."""
    match = re.fullmatch(r"epoch-(\d+)\.\w+", path.name)
    if match is None:
        raise RunError(f"{path}: is not named epoch-NNNN. Move it out of the run directory.")
    return int(match.group(1))


def _stored_metrics(path: Path) -> dict[str, float]:
    with np.load(path) as stored:
        metrics: dict[str, float] = json.loads(str(stored["metrics"]))
    return metrics


def _save_npz(path: Path, result: EpochResult) -> None:
    with path.open("wb") as file:  # given a name, numpy would append .npz to it
        np.savez_compressed(file, logits=result.logits.astype(np.float32), metrics=np.array(json.dumps(result.metrics)))


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
            state.optimizer.load_state_dict(stored["optimizer"])
            state.scaler.load_state_dict(stored["scaler"])
            if state.ema is not None:
                state.ema.load_state_dict(stored["ema"])
            state.epoch, state.num_steps = stored["epoch"], stored["num_steps"]
            state.best_watched, state.epochs_without_gain = stored["best_watched"], stored["epochs_without_gain"]
        except FileNotFoundError:
            raise
        except Exception as error:
            why = " ".join(str(error).split())[:200]
            raise RunError(
                f"{path}: cannot be read as a checkpoint of this configuration ({why}). "
                "Delete it to start the trial anew."
            ) from None

    return fill
