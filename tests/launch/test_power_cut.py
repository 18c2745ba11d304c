"""A power cut at every moment of a search.

Whatever the file system left, the run can be read and resumed, and has lost nothing that was on the disk.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from power_cut import Disk, Recording, lay_out
from torch import nn

from launch.search.records import Records
from trainables.checkpoint import TrialFiles
from trainables.config.io import load_config
from trainables.loop import EpochResult
from trainables.state import TrainState
from trainables.stored_rows import stored_rows
from visionsweep.core.errors import RunError
from visionsweep.run_dir.load import load_run
from visionsweep.run_dir.syncing import Syncer
from visionsweep.run_dir.trials import Trial

SEARCH = {
    "search": {"task": "binary", "metric": "val/f1", "mode": "max", "epochs": 3, "space": {}},
    "data": {},
    "options": {"data": "x"},
    "started": 1.0,
}
CONFIG = {
    "task": "binary",
    "model": {"backbone": "test_resnet"},
    "optimizer": {"name": "sgd", "lr": 0.1},
    "epochs": 3,
    "batch_size": 2,
}


def state() -> TrainState:
    model = nn.Linear(1, 1)
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    return TrainState(model, torch.optim.SGD(model.parameters(), lr=0.1), scaler, None)  # type: ignore[arg-type]


def result(epoch: int, value: float, *, last: bool) -> EpochResult:
    return EpochResult(
        epoch, {"val/f1": value}, 1.0, 10.0, 0.1, 1.0, 2, 3.0, 4.0, {"logits": np.zeros((1, 1))}, state(), last
    )


class Searching:
    """A search as its processes write it, without trainings."""

    def __init__(self, run: Path) -> None:
        self.run = run
        self.created = False
        self.records = Records(run)

    def __call__(self) -> None:
        self.records = Records.create(self.run, SEARCH)
        self.created = True
        with self.records.locked():
            self.trial("0000", [0.5, 0.7, 0.6], "complete")
            self.trial("0001", [0.1], "pruned")
            self.trial("0002", [0.6, 0.8, 0.9], "complete")
            self.trial("0003", [0.2, 0.3], None)
        with Records(self.run).locked():  # and once more
            pass

    def trial(self, trial_id: str, values: list[float], status: str | None) -> None:
        records = self.records
        records.proposed(trial_id, {"lr": 0.1}, CONFIG, "sampler")
        records.started(trial_id)
        for epoch, value in enumerate(values, start=1):
            trained = result(epoch, value, last=epoch == 3)
            files = TrialFiles(
                self.run / "checkpoints" / trial_id, self.run / "predictions" / trial_id, "val/f1", "max", 1
            )
            files.take_up(epoch)
            files.save(trained, resumable=not trained.last)
            records.epoch({"trial_id": trial_id, **trained.row()})
            if epoch == 2:  # a few seconds have passed
                records.syncer.sync()  # type: ignore[union-attr]
        if status is not None:
            records.ended(trial_id, status, "")
            best = max(records.trials.values(), key=lambda trial: trial.best("val/f1", "max") or (0.0, 0))
            records.keep_only([best.trial_id])
            records.write_best(best)
            records.syncer.sync()  # type: ignore[union-attr]


class Checked:
    """Lay out, open and resume each state that may be left."""

    def __init__(self, searching: Searching, copy: Path) -> None:
        self.searching = searching
        self.copy = copy
        self.num_moments = self.num_refused = 0
        self.seen: set[int] = set()

    def __call__(self, disk: Disk) -> None:
        self.num_moments += 1
        sure = {name: file.synced for name, file in disk.sure.items() if name.endswith(".jsonl") and file is not None}
        for which, left in disk.left():
            key = (
                self.searching.created,
                *sorted(sure.items()),
                *sorted((name, str(one)) for name, one in left.items()),
            )
            if hash(key) in self.seen:
                continue
            self.seen.add(hash(key))
            lay_out(left, self.copy)
            problem = self._problem(sure)
            if problem is not None:  # before the run was made there may be half of it, which is refused in a sentence
                assert not self.searching.created, f"{which}: {problem}"
                self.num_refused += 1

    def _problem(self, sure: dict[str, bytes]) -> RunError | None:
        try:
            self._check_resume(self.copy / "run", sure)
        except RunError as error:
            return error
        return None

    def _check_resume(self, run: Path, sure: dict[str, bytes]) -> None:
        before, _ = Records.open(run)
        assert [name for name in sure if not (self.copy / name).read_bytes().startswith(sure[name])] == []
        records = Records(run)
        with records.locked():
            assert records.trials.keys() == before.trials.keys()
            for trial in records.trials.values():
                self._is_whole(run, trial)
            for room in ("checkpoints", "predictions"):
                assert {folder.name for folder in (run / room).glob("*")} <= records.trials.keys()
            number = records.next_number
            assert f"{number:04d}" not in records.trials
            records.proposed(f"{number:04d}", {"lr": 0.2}, CONFIG, "sampler")
        again = load_run(run)
        assert {trial.trial_id for trial in again.trials} == {*before.trials, f"{number:04d}"}
        if (run / "best.yaml").exists():
            load_config(run / "best.yaml")

    def _is_whole(self, run: Path, trial: Trial) -> None:
        """Check that recorded and re-reported epochs are all of a trial's, or that it begins anew."""
        epochs = [row["epoch"] for row in trial.epochs]
        assert epochs == sorted(set(epochs))
        if trial.status not in ("running", "interrupted"):
            assert len(epochs) == trial.num_epochs_told, "nothing is missing of one that has ended"
            return
        last = run / "checkpoints" / trial.trial_id / "last.pt"
        if not last.exists():
            return
        stored = torch.load(last, weights_only=True)  # never half of one
        again = [row["epoch"] for row in stored_rows(last, trial.trial_id) if row["epoch"] > trial.epochs_recorded]
        assert [*range(1, trial.epochs_recorded + 1), *again][: stored["row"]["epoch"]] == [
            *range(1, stored["row"]["epoch"] + 1)
        ]


@pytest.mark.timeout(300)
def test_whatever_a_power_cut_leaves_is_read_and_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Syncer, "start", lambda self: None)  # the script decides when seconds have passed
    searching = Searching(tmp_path / "disk" / "run")
    (tmp_path / "disk").mkdir()
    checked = Checked(searching, tmp_path / "copy")
    with monkeypatch.context() as patch:
        Recording(tmp_path / "disk", checked).start(patch)
        searching()
    print(f"{checked.num_moments} moments, {len(checked.seen)} states, {checked.num_refused} refused")
    assert checked.num_moments > 100
    assert len(checked.seen) > 500


def test_without_a_sync_of_the_folder_the_same_test_finds_what_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That the states which are laid out are those of a real power cut."""
    monkeypatch.setattr(Syncer, "start", lambda self: None)
    monkeypatch.setattr("launch.search.records.sync_folder", lambda folder: None)
    monkeypatch.setattr("visionsweep.core.writing.sync_folder", lambda folder: None)
    searching = Searching(tmp_path / "disk" / "run")
    (tmp_path / "disk").mkdir()
    with monkeypatch.context() as patch:
        Recording(tmp_path / "disk", Checked(searching, tmp_path / "copy")).start(patch)
        with pytest.raises((AssertionError, RunError)):
            searching()
