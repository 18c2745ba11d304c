"""Packing of trials by memory: `--gpus-per-trial auto`, or `--cpus-per-trial auto` without a GPU.

A trial gets one of a few shares, 1, 1/2, 1/4, ... of a GPU or of a machine's memory. So Ray Tune can reuse the
processes of a share. A model of the measured memory chooses the share (`launch/machines/memory_model.py`). While the
model does not know, a trial gets a large share and trains a few batches to be measured. It is moved to a smaller share
where another trial waits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from ray.tune.schedulers import TrialScheduler

from launch.machines.capacity import Capacity
from launch.machines.cluster import Slots
from launch.machines.memory_kills import IN_RAYS_WORDS
from launch.machines.memory_model import MemoryModel
from launch.machines.placement import resources_of
from launch.pruners.around import SchedulerAround
from launch.search.records import Records
from search_spaces.grammar import Space
from trainables.worker.resources import TrialResources


class Packer:
    """Gives each trial of a run its share.

    Measurements are read from the records, so they survive a resume. Live trials are tracked here.

        capacity  what trials are packed into
        space     the search space
        records   of the run
        machines  current capacity, None if it does not change
    """

    def __init__(
        self, capacity: Capacity, space: Space, records: Records, machines: Callable[[], Slots] | None = None
    ) -> None:
        self.capacity = capacity
        self.space = space
        self.records = records
        self.machines = machines
        self.live: dict[str, TrialResources] = {}
        found = {name: trial.peak_memory_mb for name, trial in records.trials.items()}
        self.peaks_mb = {name: peak for name, peak in found.items() if peak is not None}
        self._model: tuple[Mapping[str, float], MemoryModel] | None = None

    def has_room(self) -> bool:
        """Whether another trial of the smallest share could start. A trial without any other beside it always can."""
        if self.machines is not None:
            self.capacity = self.capacity.resized(self.machines())
        used = sum(share.of_one for share in self.live.values())
        fits = used + self.capacity.fractions[-1] <= self.capacity.devices + 1e-9
        return not self.live or (fits and len(self.live) < self.capacity.most)

    def begin(self, trial_id: str) -> dict[str, Any]:
        """Choose the share of a trial that is about to be handed to Ray, and return it as plain values."""
        record = self.records.trials[trial_id]
        share = self.capacity.resources(*self._fraction(trial_id, record.params))
        self.live[trial_id] = share
        return asdict(share)

    def ended(self, trial_id: str) -> None:
        self.live.pop(trial_id, None)

    def after_result(self, trial_id: str, result: Mapping[str, Any]) -> TrialResources | None:
        """Learn from a result of a running trial, and return the share to move it to, or None to leave it."""
        share = self.live[trial_id]
        if result.get("out_of_memory"):
            self._outgrown(trial_id, share)
            return None if share.of_one >= 1 else self._move(trial_id, 1.0)
        peak = result.get("peak_memory_mb")
        if peak is None:
            return None
        self.peaks_mb[trial_id] = max(float(peak), self.peaks_mb.get(trial_id, 0.0))
        if "epoch" not in result:
            self.records.measured(trial_id, float(peak))
        fraction = self.capacity.fraction_for(float(peak))
        # A running trial is moved only if it exceeds its share, not because it eats into the safety margin.
        if fraction > share.of_one and ("epoch" not in result or peak > share.memory_mb):
            return self._move(trial_id, fraction)
        if fraction < share.of_one and share.measure and self._others_wait():
            return self._move(trial_id, fraction)
        return None

    def after_death(self, trial_id: str, why: str) -> TrialResources | None:
        """Learn from the death of a trial's process, and return the share to move the trial to, or None to leave it.

        A process that filled its machine may be killed without a message.
        """
        share = self.live.get(trial_id)
        if share is None or share.of_one >= 1:
            return None
        if any(words in why for words in IN_RAYS_WORDS):
            self._outgrown(trial_id, share)
        return self._move(trial_id, 1.0)

    def after_end(self, trial_id: str, result: Mapping[str, Any]) -> None:
        """Learn from a trial that ended for lack of memory."""
        if result.get("status") == "oom" and trial_id in self.live:
            self._outgrown(trial_id, self.live[trial_id])

    def _fraction(self, trial_id: str, params: Mapping[str, Any]) -> tuple[float, bool]:
        """Return (share, whether the trial is to be measured)."""
        known = self.peaks_mb.get(trial_id)
        if known is not None:  # it ran before
            return self.capacity.fraction_for(known), False
        model = self._fitted()
        if model is None:
            return self.capacity.unknown, len(self.capacity.fractions) > 1
        estimate = model.estimate(params)
        likely = self.capacity.fraction_for(estimate.expected_mb)
        careful = self.capacity.fraction_for(estimate.upper_mb)
        return min(careful, max(likely, self.capacity.unknown)), likely < careful

    def _fitted(self) -> MemoryModel | None:
        if not self.peaks_mb:
            return None
        if self._model is None or self._model[0] != self.peaks_mb:
            params = [self.records.trials[name].params for name in self.peaks_mb]
            self._model = dict(self.peaks_mb), MemoryModel(self.space, params, list(self.peaks_mb.values()))
        return self._model[1]

    def _others_wait(self) -> bool:
        return not self.has_room() and len(self.live) < self.capacity.most

    def _move(self, trial_id: str, fraction: float) -> TrialResources:
        self.live[trial_id] = self.capacity.resources(fraction)
        return self.live[trial_id]

    def _outgrown(self, trial_id: str, share: TrialResources) -> None:
        self.records.outgrown(trial_id, share.memory_mb)
        self.peaks_mb[trial_id] = max(share.memory_mb, self.peaks_mb.get(trial_id, 0.0))


class PackedTrials(SchedulerAround):
    """A Ray Tune scheduler that moves trials between shares, around another scheduler that knows nothing of shares.

    A trial is moved by a pause: its state is in its last.pt, from which a process of the other share continues. Ray's
    own ResourceChangingScheduler does not work with reused processes.
    """

    def __init__(self, base: TrialScheduler, packer: Packer) -> None:
        super().__init__(base)
        self.packer = packer
        self.moving: dict[Any, TrialResources] = {}

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> Any:
        decision = TrialScheduler.CONTINUE  # the other scheduler sees epochs only
        if "epoch" in result:
            decision = self.base.on_trial_result(tune_controller, trial, result)
        share = self.packer.after_result(trial.config["trial_id"], result)
        if share is None or decision != TrialScheduler.CONTINUE:
            return decision
        self.moving[trial] = share
        tune_controller.pause_trial(trial, should_checkpoint=False)
        return TrialScheduler.NOOP

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        if trial.status == "ERROR":  # Ray will retry it; otherwise it has failed for good
            why = f"{trial.get_error() or ''} {trial.get_pickled_error() or ''}"
            share = self.packer.after_death(trial.config["trial_id"], why)
            if share is not None:
                self._give(trial, share)
        self.base.on_trial_error(tune_controller, trial)

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        self.packer.after_end(trial.config["trial_id"], result)
        self.base.on_trial_complete(tune_controller, trial, result)

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        for trial, share in self.moving.items():
            if trial.status == "PAUSED":
                del self.moving[trial]
                self._give(trial, share)
                return trial
        return super().choose_trial_to_run(tune_controller)

    def _give(self, trial: Any, share: TrialResources) -> None:
        recorded = self.packer.records.trials[trial.config["trial_id"]].epochs_recorded
        trial.config.update(share=asdict(share), epochs_recorded=recorded)
        trial.update_resources(resources_of(trial.config))
