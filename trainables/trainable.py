"""VisionTrainable: fit() behind Ray Tune's interface, with actors that live on from trial to trial.

Starting an actor imports torch and timm, which costs more than a short trial; a reused one (`reset_config`)
trains the next configuration at once. The only file of this room that imports ray.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import time
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import torch
from ray import tune

from search_spaces.errors import ConfigError, Diverged, Interrupted
from trainables.checkpoint import PROCESS_FILE, TrialFiles, load_state, stored_row
from trainables.config_io import parse_config
from trainables.data.dataset import Dataset
from trainables.data.formats import reopen_images
from trainables.data.loader import TrialData
from trainables.loop import EpochResult, fit
from trainables.threads import limit_threads


@dataclass(frozen=True)
class TrialSettings:
    """What all trials of a run share; crosses process borders once per actor.

    metric, mode: which epochs are a trial's best. cpus, num_workers: threads for arithmetic, loader processes.
    gpu_share: of one GPU (more than 1: so many), 0 without. cache_dir: None decodes at every access. deadline: seconds
    since the Unix epoch, or None.
    stop_file: when it exists, trials end after their current batch.
    """

    run_dir: Path
    metric: str
    mode: str
    short_side_px: int
    cache_dir: Path | None
    cpus: int
    gpu_share: float
    num_workers: int
    deadline: float | None
    stop_file: Path


class VisionTrainable(tune.Trainable):  # type: ignore[misc]
    """One trial at a time; `step` trains one epoch and returns it as a flat result.

    config: {"trial_id": str, "config": the drawn dict}, and of a trial of a run that is gone on with "epochs_recorded".
    A trial goes on from its last.pt, where it has one. Every result carries `trial_id`,
    `status` (running, or how the trial ended) and, for a trained epoch, `epoch`, `metrics`, `seconds`,
    `images_per_s`, `lr`, `device` (cpu or cuda), what it costs (COSTS of `search_spaces.names`) and the metric under
    its own name.
    """

    unrecorded: dict[str, Any] | None = None  # a result that is stored and not yet reported

    def setup(self, config: dict[str, Any], dataset: Dataset, settings: TrialSettings) -> None:
        limit_threads(settings.cpus)
        self.settings = settings
        # Not by what is visible: Ray shows all GPUs to an actor that asked for none.
        self.device = torch.device("cuda" if settings.gpu_share else "cpu")
        self.data = TrialData(dataset, reopen_images(dataset, settings.short_side_px, settings.cache_dir))
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._release()
        self._begin(new_config)
        return True

    def step(self) -> dict[str, Any]:
        stored, self.unrecorded = self.unrecorded, None
        if stored is not None:
            return self._trained(stored, last=False, reason="")
        try:
            result = next(self.epochs)
            row = result.row()
            # A trial that ends here needs no last.pt; one that ASHA may still end does until it is told.
            self.files.save(result, to_go_on=not result.last)
        except StopIteration:  # gone on with after its very last epoch
            return self._ended("complete", "")
        except Interrupted as reason:
            return self._ended("interrupted", reason)
        except Diverged as reason:
            return self._ended("diverged", reason)
        except Exception as error:
            if _is_out_of_memory(error):
                return self._smaller_batch(error)
            if _poisons_the_process(error):
                raise  # Ray then drops this actor and starts a new one
            where = traceback.extract_tb(error.__traceback__)[-1]
            place = f"{Path(where.filename).name}:{where.lineno}"
            return self._ended("failed", f"{type(error).__name__}: {error} ({place})")
        return self._trained(row, last=result.last, reason=result.reason)

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """For schedulers that pause trials; a running search keeps its own files (see `checkpoint.py`)."""
        Path(checkpoint_dir, "last.pt").write_bytes(self.files.last.read_bytes())

    def load_checkpoint(self, checkpoint_dir: str | None) -> None:
        if checkpoint_dir is not None:
            self.unrecorded = None  # paused, not killed: all of it was reported
            self.epochs = self._fit(Path(checkpoint_dir, "last.pt"))

    def cleanup(self) -> None:
        self._release()

    def _begin(self, config: Mapping[str, Any]) -> None:
        self.trial, self.halved = config, False
        self.parsed = parse_config(config["config"], f"trial {config['trial_id']}")
        self.files = TrialFiles(
            self.settings.run_dir / "checkpoints" / config["trial_id"],
            self.settings.run_dir / "predictions" / config["trial_id"],
            self.settings.metric,
            self.settings.mode,
            self.parsed.keep_best,
            self.parsed.ensemble,
            self.parsed.ensemble_metric,
        )
        self._note_process()
        # Also where Ray starts the trial again by itself, after its process died: the folder is this trial's alone.
        resume = self.files.last.exists()
        self.epochs = self._fit(self.files.last if resume else None)
        # Stored here, but its result never reached the run directory: the driver died in between.
        row = stored_row(self.files.last) if resume else None
        recorded = row is None or row["epoch"] <= config.get("epochs_recorded", 0)
        self.unrecorded = None if recorded else row

    def _note_process(self) -> None:
        """For whoever has to end it from outside, should it hang."""
        if ray.is_initialized():
            self.files.checkpoints.mkdir(parents=True, exist_ok=True)
            where = {"node_id": ray.get_runtime_context().get_node_id(), "pid": os.getpid()}
            (self.files.checkpoints / PROCESS_FILE).write_text(json.dumps(where))

    def _smaller_batch(self, error: Exception) -> dict[str, Any]:
        """Once, at half the batch and twice the accumulation, which takes the same steps in less memory."""
        if self.halved or self.parsed.batch_size % 2:
            return self._ended("oom", error)
        try:
            # Through the schema: a network that needs two images at once refuses a batch of one.
            halves = {"batch_size": self.parsed.batch_size // 2, "accumulate": self.parsed.accumulate * 2}
            smaller = parse_config({**self.trial["config"], **halves}, f"trial {self.trial['trial_id']}")
        except ConfigError:
            return self._ended("oom", error)
        error.__traceback__ = None  # its frames hold the tensors that did not fit
        self._release()
        self.halved, self.parsed = True, smaller
        self.epochs = self._fit(self.files.last if self.files.last.exists() else None)
        return self.step()

    def _fit(self, resume_from: Path | None) -> Iterator[EpochResult]:
        # A generator: nothing is built before the first step, so every error of a trial appears in `step`.
        return fit(
            self.parsed,
            self.data,
            self.device,
            resume=None if resume_from is None else load_state(resume_from),
            num_workers=self.settings.num_workers,
            gpu_share=self.settings.gpu_share or 1.0,
            should_stop=StopSignal(self.settings.deadline, self.settings.stop_file),
        )

    def _trained(self, row: dict[str, Any], last: bool, reason: str) -> dict[str, Any]:
        result = {
            **row,
            "device": self.device.type,
            "trial_id": self.trial["trial_id"],
            "status": "complete" if last else "running",
            "reason": reason,
            "done": last,
        }
        value = row["metrics"].get(self.settings.metric)
        # Where the metric is not defined on this split there is nothing to compare: ASHA lets such a result pass.
        return result if value is None else {**result, self.settings.metric: value}

    def _ended(self, status: str, reason: object) -> dict[str, Any]:
        return {"trial_id": self.trial["trial_id"], "status": status, "reason": str(reason), "done": True}

    def _release(self) -> None:
        """Free the old model and the GPU's memory before the next one is built."""
        with contextlib.suppress(Exception):
            self.epochs.close()  # type: ignore[attr-defined]
        self.epochs = iter(())
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()


@dataclass
class StopSignal:
    """Says why a trial should stop now: the budget is spent, or someone asked. Looks at the disk once a second."""

    deadline: float | None
    stop_file: Path
    checked_at: float = 0.0

    def __call__(self) -> str | None:
        now = time.time()
        if self.deadline is not None and now >= self.deadline:
            return "the budget is spent"
        if now - self.checked_at >= 1.0:
            self.checked_at = now
            if self.stop_file.exists():
                return "the search was asked to stop"
        return None


def _is_out_of_memory(error: Exception) -> bool:
    """Of the GPU, in the words of torch or one of CUDA's libraries, or of this machine."""
    words = str(error).lower()
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or any(
        said in words for said in ("out of memory", "alloc_failed", "can't allocate memory")
    )


def _poisons_the_process(error: Exception) -> bool:
    # After a device-side assert every later call on this context fails as well.
    return "CUDA error" in str(error)
