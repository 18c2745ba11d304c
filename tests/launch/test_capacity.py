"""The capacity that machines add to a search, at its start and when they join."""

from __future__ import annotations

from pathlib import Path

from launch.machines.capacity import Device, capacity_of, slots_of
from launch.machines.cluster import MachineShare, Slots, trials_on
from launch.machines.packing import Packer
from launch.machines.placement import resources_of
from launch.search.records import Records
from search_spaces import Pick

MB = 2.0**20
HEAD = {"CPU": 16.0, "memory": 64_000 * MB}
WORKER = {"CPU": 8.0, "GPU": 4.0, "memory": 32_000 * MB}


def test_trials_fit_onto_one_machine_each_not_onto_the_sum_of_all() -> None:
    assert trials_on(WORKER, cpus=2, gpus=1) == 4
    assert trials_on(WORKER, cpus=3, gpus=1) == 2, "two have cores enough, whatever GPUs are left"
    assert trials_on(WORKER, cpus=0.5, gpus=0.25) == 16
    assert trials_on(HEAD, cpus=2, gpus=1) == 0
    assert trials_on(HEAD, cpus=3, gpus=0) == 5
    assert trials_on({"memory": 1.0}, cpus=1, gpus=0) == 0


def test_a_machine_adds_its_trials_and_where_they_are_packed_its_memory() -> None:
    share = MachineShare(cpus=2, gpus=1, concurrent=4, num_workers=1)
    assert slots_of(share, None, {"Resources": WORKER}, None) == Slots(4)
    capacity = capacity_of([Device(24_000, 2)], True, None, None)
    assert slots_of(share, capacity, {"Resources": WORKER}, 24_000 * MB / 1e9) == Slots(32, 4.0)
    assert slots_of(share, capacity, {"Resources": HEAD}, 0.0) == Slots(0)
    small = slots_of(share, capacity, {"Resources": WORKER}, 16_000 * MB / 1e9)
    assert small.trials == 0
    assert small.why_none == "its GPU has 16000 MB, and trials are packed for 24000 MB"
    cores = capacity_of([Device(16_000, 8)], False, 1.0, None)
    assert slots_of(share, cores, {"Resources": WORKER}, None) == Slots(8, 2.0)


def test_trials_are_packed_into_machines_that_join_and_not_into_those_that_leave(tmp_path: Path) -> None:
    capacity = capacity_of([Device(24_000, 16)], True, None, None)
    there = [Slots(8, 1.0)]
    records = Records.create(tmp_path / "run", {"search": {}})
    packer = Packer(capacity, {"batch_size": Pick(16, 32)}, records, lambda: sum(there, Slots(0)))
    for number in range(3):
        records.proposed(f"{number:04d}", {"batch_size": 16}, {}, "sampler")
    assert packer.begin("0000")["of_one"] == 1
    assert not packer.has_room()
    there.append(Slots(8, 1.0))
    assert packer.has_room()
    assert packer.capacity.most == 16
    packer.begin("0001")
    assert not packer.has_room()
    packer.ended("0000")
    there.pop()
    assert not packer.has_room(), "the one that runs has what is left"


def test_no_more_trials_at_once_than_the_user_allows_whoever_joins() -> None:
    capacity = capacity_of([Device(24_000, 16)], True, None, 3)
    assert capacity.most == 3
    assert capacity.resized(Slots(80, 10.0)).most == 3


def test_a_trial_keeps_away_from_machines_that_do_not_fit() -> None:
    config = {"trial_id": "0000", "config": {}}
    plain = resources_of(config, cpus=2, gpus=1)
    assert plain.required_resources == {"CPU": 2, "GPU": 1}
    away = resources_of({**config, "avoid": ["cd", "ab"]}, cpus=2, gpus=1)
    assert away.required_resources == plain.required_resources
    assert away != plain, "its process is not one that may be anywhere"
    assert away._kwargs == {"bundle_label_selector": [{"ray.io/node-id": "!in(ab,cd)"}]}
