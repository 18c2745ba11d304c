"""last.pt of a training on a GPU: written by a thread, from a copy, and never more than one at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from trainables import background, checkpoint
from trainables.background import InBackground, on_host
from trainables.checkpoint import TrialFiles, load_state
from trainables.config.trial import TrialConfig
from trainables.data.loader import TrialData
from trainables.loop import fit
from trainables.stored_rows import stored_row
from visionsweep.core.errors import DiskFull

CPU = torch.device("cpu")


def test_what_is_written_is_the_state_at_the_time_of_the_call() -> None:
    weights = torch.ones(3)
    begin = threading.Event()
    written: list[torch.Tensor] = []

    def write(state: dict[str, torch.Tensor]) -> None:
        begin.wait()
        written.append(state["weights"])

    writer = InBackground()
    assert writer.submit(lambda: {"weights": weights}, write)
    weights.zero_()  # the training goes on
    assert not writer.submit(lambda: {"weights": weights}, write), "the first one is still being written"
    begin.set()
    writer.wait()
    assert [one.tolist() for one in written] == [[1.0, 1.0, 1.0]]


def test_copies_take_a_small_share_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([0.0, 1.0, 20.9, 21.1, 21.6])  # a copy begins, ends, comes too early, begins, ends
    monkeypatch.setattr(background.time, "monotonic", lambda: next(now))
    writer = InBackground()
    taken = []
    for _ in range(3):
        taken.append(writer.submit(dict, lambda state: None))
        writer.wait()
    assert taken == [True, False, True]


def test_a_copy_shares_nothing_with_the_original() -> None:
    original = {"state": {0: {"step": torch.tensor(1.0)}}, "groups": [{"betas": (0.9, 0.99)}], "epoch": 3}
    copied = on_host(original)
    original["state"][0]["step"] += 1
    assert copied == {"state": {0: {"step": torch.tensor(1.0)}}, "groups": [{"betas": (0.9, 0.99)}], "epoch": 3}


def test_a_training_whose_state_was_written_later_resumes_as_ever(
    digits: Callable[..., TrialData],
    tiny: Callable[..., TrialConfig],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(checkpoint, "LATER", ("cpu",))
    monkeypatch.setattr(background, "LONGEST_SHARE", 1e-9)
    config = tiny(epochs=3, optimizer={"name": "adam", "lr": 3e-3}, ema_decay=0.9)
    data = digits(train=50)
    straight = list(fit(config, data, CPU))
    trial = TrialFiles(tmp_path / "c/t1", tmp_path / "p/t1", "val/accuracy", "max", 1)
    stopped = fit(config, data, CPU)
    trial.save(next(stopped), resumable=True)
    trial.save(next(stopped), resumable=True)  # left out: it comes at once
    stopped.close()
    trial.settle()
    assert trial.notes == []
    assert (stored_row(trial.last) or {})["epoch"] == 1
    resumed = list(fit(config, data, CPU, resume=load_state(trial.last)))
    assert [one.metrics for one in resumed] == [one.metrics for one in straight[1:]]


def test_a_disk_that_is_full_is_said_at_the_next_epoch_or_the_end(tmp_path: Path) -> None:
    def write(state: object) -> None:
        raise DiskFull("last.pt: the disk is full. Free some space.")

    trial = TrialFiles(tmp_path / "c/t1", tmp_path / "p/t1", "val/accuracy", "max", 1)
    trial.background.submit(dict, write)
    trial.settle()
    assert "the disk is full" in trial.notes[0]
    writer = InBackground()
    writer.submit(dict, write)
    while not writer._writing.done():  # type: ignore[union-attr]
        pass
    with pytest.raises(DiskFull):
        writer.submit(dict, write)
