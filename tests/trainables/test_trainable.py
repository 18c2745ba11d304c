"""VisionTrainable's own methods, called as Ray's actor would call them."""

from __future__ import annotations

import gc
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray
import torch
from support import tiny_config

from trainables.config.trial import TrialConfig
from trainables.data.loader import TrialData
from trainables.loop import EpochResult, fit
from trainables.worker import trainable as module
from trainables.worker.door import TrialDoor
from trainables.worker.settings import HALVED, TrialSettings
from trainables.worker.trainable import VisionTrainable

pytestmark = pytest.mark.usefixtures("one_thread")

CONFIG = tiny_config(task="multiclass", optimizer={"name": "sgd", "lr": 0.05}, batch_size=16, fit_image="squash")
Started = Callable[..., VisionTrainable]


@pytest.fixture
def started(digits: Callable[..., TrialData], tmp_path: Path) -> Iterator[Started]:
    running: list[VisionTrainable] = []

    def start(**changed: Any) -> VisionTrainable:
        settings = TrialSettings(
            run_dir=tmp_path, metric="val/accuracy", mode="max", short_side_px=32, cache_dir=None, cpus=1, gpu_share=0.0,
            num_workers=0, deadline=None, stop_file=tmp_path / "stop",
        )  # fmt: skip
        actor = VisionTrainable.__new__(VisionTrainable)  # Ray's __init__ wants a session
        actor.setup({"trial_id": "0000", "config": {**CONFIG, **changed}, "resume": False}, digits().dataset, settings)
        running.append(actor)
        return actor

    yield start
    for actor in running:
        actor.cleanup()


def test_in_ray_s_process_what_is_imported_is_left_out_of_the_collections_between_trials(
    started: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = gc.get_freeze_count()
    started()
    assert gc.get_freeze_count() == before, "this process is none of Ray's"
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    here = SimpleNamespace(get_actor_id=lambda: "an actor", get_node_id=lambda: "a node")
    monkeypatch.setattr(ray, "get_runtime_context", lambda: here)
    trial = started()
    assert gc.get_freeze_count() > before
    assert trial.step()["epoch"] == 1


def memory_for(most: int, asked: list[TrialConfig], from_epoch: int = 1) -> Callable[..., Iterator[EpochResult]]:
    """Return fit() on a device that holds batches of `most` images, from an epoch on."""

    def limited(config: TrialConfig, *arguments: Any, **options: Any) -> Iterator[EpochResult]:
        asked.append(config)
        for result in fit(config, *arguments, **options):
            if config.batch_size > most and result.epoch >= from_epoch:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
            yield result

    return limited


def test_out_of_memory_is_tried_again_at_half_the_batch_and_twice_the_accumulation(
    started: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[TrialConfig] = []
    monkeypatch.setattr(module, "fit", memory_for(8, asked))
    trial = started()
    results = [trial.step(), trial.step()]
    assert [(config.batch_size, config.accumulate) for config in asked] == [(16, 1), (8, 2)]
    assert [result["epoch"] for result in results] == [1, 2]
    assert results[-1]["status"] == "complete"


def test_what_was_trained_before_the_memory_ran_out_is_kept(started: Started, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[TrialConfig] = []
    monkeypatch.setattr(module, "fit", memory_for(8, asked, from_epoch=2))
    trial = started()
    assert trial.step()["epoch"] == 1
    second = trial.step()
    assert (second["epoch"], second["status"]) == (2, "complete")
    assert len(asked) == 2, "one training at the full batch, one that goes on at half of it"


def test_out_of_memory_at_half_the_batch_too_ends_the_trial(started: Started, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[TrialConfig] = []
    monkeypatch.setattr(module, "fit", memory_for(4, asked))
    last = started().step()
    assert (last["status"], last["done"]) == ("oom", True)
    assert "out of memory" in last["reason"]
    assert [config.batch_size for config in asked] == [16, 8]


def test_a_batch_that_cannot_be_halved_ends_the_trial_at_once(
    started: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[TrialConfig] = []
    monkeypatch.setattr(module, "fit", memory_for(4, asked))
    assert started(batch_size=15).step()["status"] == "oom"
    assert len(asked) == 1


@pytest.mark.parametrize(("backbone", "batches"), [("test_resnet", [2]), ("test_convnext", [2, 1])])
def test_out_of_memory_at_two_images_is_that_and_no_failure_where_batch_norm_needs_both(
    started: Started, monkeypatch: pytest.MonkeyPatch, backbone: str, batches: list[int]
) -> None:
    asked: list[TrialConfig] = []
    monkeypatch.setattr(module, "fit", memory_for(0, asked))
    last = started(batch_size=2, model={"backbone": backbone, "weights": "none"}).step()
    assert (last["status"], last["done"]) == ("oom", True)
    assert "out of memory" in last["reason"]
    assert [config.batch_size for config in asked] == batches


def test_the_next_trial_of_an_actor_starts_at_its_own_batch(started: Started, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[TrialConfig] = []
    monkeypatch.setattr(module, "fit", memory_for(8, asked))
    actor = started()
    actor.step()
    actor.reset_config({"trial_id": "0001", "config": {**CONFIG, "batch_size": 16}, "resume": False})
    assert actor.step()["epoch"] == 1
    assert [config.batch_size for config in asked] == [16, 8, 16, 8]


def part(of_one: float, measure: bool = False) -> dict[str, Any]:
    """Return the share of a packed trial, as in its configuration for Ray."""
    return {
        "of_one": of_one, "memory_mb": 1000.0, "cpus": 1.0, "gpus": 0.0, "num_workers": 0, "measure": measure,
    }  # fmt: skip


def packed(actor: VisionTrainable, share: dict[str, Any]) -> VisionTrainable:
    actor.reset_config({"trial_id": "0001", "config": CONFIG, "resume": False, "share": share})
    return actor


def test_a_trial_that_is_to_be_measured_first_says_what_its_first_batches_take_and_trains_the_same(
    started: Started,
) -> None:
    actor = started()
    plain = [actor.step(), actor.step()]
    measured = packed(actor, part(0.5, measure=True)).step()
    assert "epoch" not in measured
    assert (measured["status"], measured["done"]) == ("running", False)
    assert measured["peak_memory_mb"] > 100
    found = [actor.step(), actor.step()]
    assert [result["metrics"] for result in found] == [result["metrics"] for result in plain]
    assert [result["status"] for result in found] == ["running", "complete"]


def test_a_trial_that_goes_on_is_not_measured_again(started: Started) -> None:
    actor = started()
    packed(actor, part(0.5, measure=True)).step()
    assert actor.step()["epoch"] == 1
    again = packed(actor, part(0.25, measure=True)).step()
    assert again["epoch"] == 1, "stored, and to be told"
    assert actor.step()["epoch"] == 2


def test_out_of_memory_in_a_part_is_told_before_the_batch_is_halved_in_all_of_it(
    started: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[TrialConfig] = []
    actor = started()
    monkeypatch.setattr(module, "fit", memory_for(8, asked))
    told = packed(actor, part(0.5)).step()
    assert (told["status"], told["out_of_memory"], told["done"]) == ("running", True, False)
    told = packed(actor, part(1.0)).step()
    assert told["out_of_memory"], "the one who packs trials learns that this one needs more than there is"
    assert [actor.step()["epoch"], actor.step()["epoch"]] == [1, 2]
    assert asked[0].batch_size == asked[-2].batch_size == 16
    assert asked[-1].batch_size == 8


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MB of its own, at tmp_path / "small"."""
    disk = tmp_path / "small"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(disk)]
    if os.geteuid() or shutil.which("mount") is None or subprocess.run(mount, check=False).returncode:
        pytest.skip("this machine does not let tests mount a disk")
    try:
        yield disk
    finally:
        subprocess.run(["umount", disk], check=True)


def fill(disk: Path, left: int) -> None:
    (disk / "filler").write_bytes(b"0" * (shutil.disk_usage(disk).free - left))


def test_an_epoch_that_does_not_fit_on_the_disk_interrupts_the_trial_which_goes_on_when_there_is_room(
    digits: Callable[..., TrialData], small_disk: Path
) -> None:
    settings = TrialSettings(
        run_dir=small_disk, metric="val/accuracy", mode="max", short_side_px=32, cache_dir=None, cpus=1, gpu_share=0.0,
        num_workers=0, deadline=None, stop_file=small_disk / "stop",
    )  # fmt: skip
    trial = VisionTrainable.__new__(VisionTrainable)
    asked = {"trial_id": "0000", "config": {**CONFIG, "epochs": 3}, "resume": False}
    trial.setup(asked, digits().dataset, settings)
    assert trial.step()["epoch"] == 1
    stored = trial.files.last.read_bytes()
    fill(small_disk, left=100_000)
    result = trial.step()
    assert (result["status"], result["done"], result["disk_full"]) == ("interrupted", True, True)
    assert "the disk is full. Free some space." in result["reason"]
    assert trial.files.last.read_bytes() == stored, "what was stored is whole"
    assert not list(small_disk.rglob("*.partial"))
    (small_disk / "filler").unlink()
    trial.reset_config({**asked, "resume": True, "epochs_recorded": 1})
    assert [trial.step()["epoch"], trial.step()["epoch"]] == [2, 3]
    trial.cleanup()


def test_a_machine_without_room_for_decoded_images_decodes_them_every_time(
    digits: Callable[..., TrialData], small_disk: Path, tmp_path: Path
) -> None:
    fill(small_disk, left=10_000)
    settings = TrialSettings(
        run_dir=tmp_path, metric="val/accuracy", mode="max", short_side_px=32, cache_dir=small_disk / "cache", cpus=1,
        gpu_share=0.0, num_workers=0, deadline=None, stop_file=tmp_path / "stop",
    )  # fmt: skip
    trial = VisionTrainable.__new__(VisionTrainable)
    trial.setup({"trial_id": "0000", "config": CONFIG, "resume": False}, digits().dataset, settings)
    assert trial.step()["status"] == "running"
    trial.cleanup()


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "cut to a thousand bytes": lambda content: content[:1000],
    "emptied": lambda content: b"",
    "of zeros": lambda content: b"\0" * len(content),
    "no checkpoint": lambda content: b"something else",
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_state_costs_the_trial_its_progress_and_not_the_trial(
    started: Started, tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    trial = started(epochs=2)
    assert trial.step()["epoch"] == 1
    last = trial.files.last
    last.write_bytes(damage(last.read_bytes()))
    trial.reset_config({"trial_id": "0000", "config": {**CONFIG, "epochs": 2}, "resume": True, "epochs_recorded": 1})
    again = [trial.step(), trial.step()]
    assert [result["epoch"] for result in again] == [1, 2]
    assert again[0]["note"].startswith("its state cannot be read, so it begins anew (")
    assert "note" not in again[1]
    assert again[1]["status"] == "complete"


def test_damaged_predictions_of_an_epoch_cost_that_epoch(started: Started) -> None:
    trial = started(epochs=3, keep_best=3)
    trial.step()
    kept = trial.files.files_of(1)
    kept[1].write_bytes(b"")
    result = trial.step()
    assert result["status"] == "running"
    assert "epoch 1 is no longer kept" in result["note"]
    assert not any(file.exists() for file in kept)
    assert all(file.is_file() for file in trial.files.files_of(2))


def test_no_epoch_is_missing_and_none_twice_where_the_records_are_behind_the_state(started: Started) -> None:
    trial = started(epochs=4)
    for _ in range(3):
        trial.step()
    asked = {"trial_id": "0000", "config": {**CONFIG, "epochs": 4}, "resume": True}
    trial.reset_config({**asked, "epochs_recorded": 1})
    assert [trial.step()["epoch"] for _ in range(3)] == [2, 3, 4]


def test_what_a_copy_was_copied_from_is_not_reported_as_its_own(started: Started, tmp_path: Path) -> None:
    trial = started(epochs=4)
    for _ in range(2):
        trial.step()
    heir = tmp_path / "checkpoints" / "0007" / "last.pt"
    heir.parent.mkdir(parents=True)
    shutil.copyfile(trial.files.last, heir)
    trial.reset_config({"trial_id": "0007", "config": {**CONFIG, "epochs": 4}, "resume": True})
    assert [trial.step()["epoch"] for _ in range(2)] == [3, 4]


def test_memory_that_runs_out_while_a_state_is_read_does_not_delete_it(
    started: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = started(epochs=2)
    trial.step()
    last = trial.files.last
    trial.reset_config({"trial_id": "0000", "config": {**CONFIG, "epochs": 2, "batch_size": 15}, "resume": True,
                        "epochs_recorded": 1})  # fmt: skip

    def full(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(torch, "load", full)
    assert trial.step()["status"] == "oom"
    assert last.exists()


def test_a_trial_whose_machine_ran_low_on_memory_goes_on_at_half_the_batch_from_its_last_epoch(
    started: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = started()
    assert trial.step()["epoch"] == 1
    asked: list[TrialConfig] = []
    monkeypatch.setattr(module, "fit", memory_for(16, asked))
    trial.reset_config({"trial_id": "0000", "config": CONFIG, "resume": False, HALVED: True, "epochs_recorded": 1})
    result = trial.step()
    assert (asked[-1].batch_size, asked[-1].accumulate) == (8, 2)
    assert (result["epoch"], result["status"]) == (2, "complete")


def test_a_batch_that_cannot_be_halved_is_out_of_memory_at_once(started: Started) -> None:
    trial = started(batch_size=15)
    odd = {"trial_id": "0000", "config": {**CONFIG, "batch_size": 15}, "resume": False, HALVED: True}
    trial.reset_config(odd)
    result = trial.step()
    assert (result["status"], result["done"]) == ("oom", True)
    assert result["reason"] == "its machine ran low on memory, and its batch cannot be halved"


def test_the_door_hands_what_ray_asks_on_to_the_trial(started: Started, tmp_path: Path) -> None:
    door = TrialDoor.__new__(TrialDoor)
    door.trial = started(epochs=3)
    assert door.step()["epoch"] == 1
    (tmp_path / "paused").mkdir()
    door.save_checkpoint(str(tmp_path / "paused"))
    assert door.step()["epoch"] == 2
    door.load_checkpoint(str(tmp_path / "paused"))
    assert door.step()["epoch"] == 2, "from the checkpoint"
    assert door.reset_config({"trial_id": "0001", "config": {**CONFIG, "epochs": 1}})
    last = door.step()
    assert (last["trial_id"], last["epoch"], last["status"]) == ("0001", 1, "complete")
    door.cleanup()
    again = TrialDoor.__new__(TrialDoor)
    again.setup({"trial_id": "0002", "config": {**CONFIG, "epochs": 1}}, door.trial.data.dataset, door.trial.settings)
    assert again.step()["status"] == "complete"
    again.cleanup()
