"""VisionTrainable: fit() behind Ray Tune's interface (`door.py`), with actors that are reused from trial to trial.

Starting an actor imports torch and timm, which costs more than a short trial. A reused actor (`reset_config`) trains
the next configuration at once. This file and `door.py` alone import ray in this room.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import ray
import torch

from trainables.checkpoint import TrialFiles, load_state
from trainables.config.io import parse_config
from trainables.config.trial import TrialConfig
from trainables.data.dataset import Dataset
from trainables.data.formats import reopen_images
from trainables.data.loader import TrialData
from trainables.data.on_device.where import fallback
from trainables.device import less_fragmented, trial_device
from trainables.loop import EpochResult, fit
from trainables.parallel.processes import num_ranks
from trainables.precision import precision_in_force
from trainables.worker.failures import (
    end_loaders,
    failing,
    halved,
    is_loader_failure,
    is_out_of_memory,
    poisons_the_process,
)
from trainables.worker.fold_steps import FoldSteps
from trainables.worker.resources import TrialResources
from trainables.worker.settings import HALVED, TrialSettings
from trainables.worker.stopping import FirstBatches, Measured, StopSignal
from trainables.worker.threads import limit_threads
from trainables.worker.trial_mirror import TrialMirror, scratch
from visionsweep.core.errors import ConfigError, Damaged, DiskFull, Diverged, Interrupted, StorageError
from visionsweep.run_dir.files import LAST_FILE, PROCESS_FILE


class VisionTrainable:
    """One trial at a time. `step` trains one epoch and returns it as a flat result.

    The config has these keys. Other keys are ignored.

    trial_id         str
    config           the drawn dict
    epochs_recorded  of a resumed run, how many of the trial's epochs the records have
    HALVED           of a trial that continues at half its batch
    share            of a packed trial, see `resources.py`, constant per actor
    left_s           seconds until the search's deadline by the driver's clock, absent without one

    A trial with a last.pt is resumed from it. Every result has `trial_id`, `status` (running, or how the trial ended)
    and `reason`. It has a `note` if files were damaged. An epoch's result also has

    epoch, metrics, seconds, images_per_s, lr  see `loop.EpochResult`
    device, precision                          cpu or cuda, and the precision in force
    COSTS of `visionsweep.core.names`             latency, weights, memory, GPU time
    the search's metric                        under its own name, if it is defined on the split

    With folds the end of each has the keys of `fold_steps.py` too. Results of later folds' epochs have no `epoch`.
    A packed trial also returns results that are no epochs: `peak_memory_mb` of its first batches, and `out_of_memory`.
    """

    unrecorded: deque[dict[str, Any]]  # results that are stored but not reported yet
    mirror: TrialMirror | None = None
    epochs: Iterator[EpochResult]
    steps: FoldSteps
    files: TrialFiles
    parsed: TrialConfig
    loaders: int  # loader processes, 0 after they have failed once

    def setup(self, config: dict[str, Any], dataset: Dataset, settings: TrialSettings) -> None:
        self.settings = settings
        less_fragmented()
        self.device = trial_device(settings.gpu_share)
        limit_threads(int(self._share(config).cpus))
        self._share(config).limit(self.device)
        images = reopen_images(dataset, settings.short_side_px, settings.cache_dir, settings.views)
        self.data = TrialData(dataset, images)
        if ray.is_initialized() and ray.get_runtime_context().get_actor_id() is not None:
            # The libraries stay. After a trial, a collection of their 400,000 objects took 0.26 s instead of 0.001 s.
            gc.freeze()
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.cleanup()
        self._begin(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Train one epoch, or report one that is stored but not reported. Errors of the trial become results."""
        if self.unrecorded:
            return self._trained(self.unrecorded.popleft(), last=False, reason="")
        try:
            result = next(self.epochs)
            row = self.steps.take(result)
            if result.note:
                self.files.notes.append(result.note)
            if self.mirror is not None:
                self.mirror.send(row)
            if result.last and not self.steps.over:
                self.epochs = self._fit()  # the next fold's model is built in the next step, when this one is gone
        except Damaged as reason:
            return self._anew(reason)
        except StopIteration:  # resumed after its last epoch
            return self._ended("complete", "")
        except (Interrupted, StorageError) as reason:  # if S3 does not answer, the trial can be resumed later
            return self._ended("interrupted", reason)
        except Diverged as reason:
            return self._ended("diverged", reason)
        except Measured as seen:
            self._again(self.parsed, seen)
            return self._continuing(peak_memory_mb=seen.peak_memory_mb)
        # the search ends (`launch/search/callback.py`), and the trial can be resumed once there is room
        except DiskFull as reason:
            return {**self._ended("interrupted", reason), "disk_full": True}
        except Exception as error:
            if self.loaders and is_loader_failure(error):
                self.loaders = 0
                self.files.notes.append(end_loaders())
                self._again(self.parsed, error)
                return self.step()
            if is_out_of_memory(error):
                if self.share.of_one < 1:  # first try the same batch with all of the memory
                    self._again(self.parsed, error)
                    return self._continuing(out_of_memory=True)
                return self._smaller_batch(error)
            if poisons_the_process(error):
                raise  # Ray then drops this actor and starts a new one
            where = traceback.extract_tb(error.__traceback__)[-1]
            place = f"{Path(where.filename).name}:{where.lineno}"
            return self._ended("failed", f"{type(error).__name__}: {error} ({place})")
        if row is None:  # within a fold after the first
            return self._continuing(fold_epoch=result.epoch, seconds=result.seconds)
        last = result.last and self.steps.over
        return self._trained({**row, "waited_s": result.waited_s}, last=last, reason=result.reason if last else "")

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Write a checkpoint for schedulers that pause trials. A search itself uses `trainables/checkpoint.py`."""
        Path(checkpoint_dir, LAST_FILE).write_bytes(self.files.last.read_bytes())

    def load_checkpoint(self, checkpoint_dir: str | None) -> None:
        if checkpoint_dir is not None:
            self.unrecorded = deque()  # paused, not killed: all epochs were reported
            self.epochs = self._fit(Path(checkpoint_dir, LAST_FILE))

    def cleanup(self) -> None:
        self._release()
        self.files.settle()
        if self.mirror is not None:
            self.mirror.leave()

    def _begin(self, config: Mapping[str, Any]) -> None:
        self.trial, self.halved, self.share = config, False, self._share(config)
        self.loaders = self.share.num_workers
        self.parsed = parse_config(config["config"], f"trial {config['trial_id']}")
        root = self.settings.run_dir if self.settings.run_uri is None else scratch(self.settings.run_dir)
        self.files = TrialFiles.below(root, config["trial_id"], self.settings.metric, self.settings.mode, self.parsed)
        self.steps = FoldSteps(self.files, self.data)
        try:
            self._open_files()
        except StorageError as error:
            self.epochs = failing(error)
            self.unrecorded = deque()
            return
        # Ray also restarts a trial whose process died. Its folder belongs to this trial alone.
        resume = self.files.last.exists()
        ends = self.settings.deadline
        file = self.settings.stop_file
        self.should_stop: Callable[[], str | None] = StopSignal.of(ends, config.get("left_s"), file)
        if self.share.measure and not resume:
            self.should_stop = FirstBatches(self.should_stop, self.device, self.parsed.accumulate + 1)
        self.unrecorded = self.files.take_up(config.get("epochs_recorded", 0))
        self.steps.resumed()
        if not resume and (note := fallback(self.parsed, self.device)):
            self.files.notes.append(note)
        self.epochs = self._fit()
        if config.get(HALVED):
            self._begin_halved()

    def _begin_halved(self) -> None:
        """Continue at half the batch, after the process was ended because its machine ran low on memory."""
        self.halved = True
        try:
            smaller = halved(self.parsed, self.trial)
        except ConfigError:
            self.epochs = failing(MemoryError("its machine ran low on memory, and its batch cannot be halved"))
            return
        self.parsed = smaller
        self.epochs = self._fit()

    def _share(self, config: Mapping[str, Any]) -> TrialResources:
        """Return the trial's share if it is packed, else the run's settings."""
        every = self.settings
        plain = TrialResources(1.0, 0.0, every.cpus, every.gpu_share, every.num_workers)
        return TrialResources(**config["share"]) if "share" in config else plain

    def _open_files(self) -> None:
        """Fetch the files that another machine left, and record this process. It can then be ended if it hangs."""
        if self.settings.run_uri is not None:
            self.mirror = TrialMirror(self.settings.run_uri, self.trial["trial_id"], self.files)
            self.mirror.bring()
        if ray.is_initialized():
            where = {"node_id": ray.get_runtime_context().get_node_id(), "pid": os.getpid()}
            with contextlib.suppress(OSError):  # a full disk is reported when an epoch is stored
                self.files.checkpoints.mkdir(parents=True, exist_ok=True)
                (self.files.checkpoints / PROCESS_FILE).write_text(json.dumps(where))
        if self.mirror is not None:
            self.mirror.send()

    def _smaller_batch(self, error: Exception) -> dict[str, Any]:
        """Retry once, at half the batch and twice the accumulation: the same steps in less memory."""
        if self.halved:
            return self._ended("oom", error)
        try:
            smaller = halved(self.parsed, self.trial)
        except ConfigError:
            return self._ended("oom", error)
        self.halved = True
        self._again(smaller, error)
        # The packer must learn that this trial needs more memory than there is.
        return self._continuing(out_of_memory=True) if "share" in self.trial else self.step()

    def _anew(self, error: Damaged) -> dict[str, Any]:
        """Restart the trial from its first epoch, because its state cannot be read."""
        self.files.notes.append(f"its state cannot be read, so it begins anew ({error.why}).")
        self.files.last.unlink(missing_ok=True)
        self.steps.anew()
        self._again(self.parsed, error)
        return self.step()

    def _again(self, parsed: TrialConfig, error: Exception) -> None:
        """Continue from the last complete epoch, or from the start without one."""
        error.__traceback__ = None  # its frames hold the tensors that did not fit
        self._release()
        self.files.settle()
        self.parsed = parsed
        self.epochs = self._fit()

    def _fit(self, resume_from: Path | None = None) -> Iterator[EpochResult]:
        """Train the fold that the trial is in. resume_from: None takes what is stored of it."""
        if self.steps.over:
            return iter(())
        resume_from = resume_from or self.steps.state()
        # A generator: nothing is built before the first step, so every error of a trial appears in `step`.
        return fit(
            self.parsed,
            self.steps.trained_on(),
            self.device,
            resume=None if resume_from is None else load_state(resume_from),
            num_workers=self.loaders,
            gpu_share=self.share.gpus or 1.0,
            should_stop=self.should_stop,
            ranks=num_ranks(self.share.gpus) if self.share.of_one == 1 else 1,
        )

    def _trained(self, row: dict[str, Any], last: bool, reason: str) -> dict[str, Any]:
        result = {
            **row,
            "device": self.device.type,
            "precision": precision_in_force(self.parsed, self.device),
            "trial_id": self.trial["trial_id"],
            "status": "complete" if last else "running",
            "reason": reason,
            "done": last,
        }
        result |= self.files.note()
        value = row["metrics"].get(self.settings.metric)
        # The metric may be undefined on this split. ASHA lets a result without it pass.
        return result if value is None else {**result, self.settings.metric: value}

    def _continuing(self, **said: Any) -> dict[str, Any]:
        """Return a result between two epochs."""
        return {**self._ended("running", ""), "done": False, **said}

    def _ended(self, status: str, reason: object) -> dict[str, Any]:
        self.files.settle()  # its state is on the disk before its end is recorded
        plain = {"trial_id": self.trial["trial_id"], "status": status, "reason": str(reason), "done": True}
        return {**plain, **self.files.note()}

    def _release(self) -> None:
        """Free the old model and the GPU's memory before the next model is built."""
        with contextlib.suppress(Exception):
            self.epochs.close()  # type: ignore[attr-defined]
        self.epochs = iter(())
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
