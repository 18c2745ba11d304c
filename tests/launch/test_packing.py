"""A trial's share, when it is moved, and what a resumed run knows of it, with scripted trials."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from scripted_search import CONDITIONAL, EPOCHS, Searching, bumpy, search
from support import Outcome

from launch.machines.capacity import Capacity, Device, capacity_of
from launch.machines.packing import PackedTrials, Packer
from launch.machines.placement import resources_of
from launch.search.check import look_at_capacity
from launch.search.records import Records
from launch.search.searcher import StudySearcher
from search_spaces import Pick
from trainables.worker.resources import GPU_CONTEXT_MB

pytestmark = pytest.mark.with_ray

SPACE = {"batch_size": Pick(16, 32, 64, 128)}
GPU = capacity_of([Device(24_000, 16)], True, None, None)
MACHINE = capacity_of([Device(16_000, 8)], False, 1.0, None)


def packer(folder: Path, capacity: Capacity, *batches: int) -> Packer:
    records = Records.create(folder / "run", {"search": {}})
    for number, batch in enumerate(batches):
        records.proposed(f"{number:04d}", {"batch_size": batch}, {}, "sampler")
    return Packer(capacity, SPACE, records)


def epoch(peak_memory_mb: float, number: int = 1) -> dict[str, Any]:
    return {"epoch": number, "peak_memory_mb": peak_memory_mb, "metrics": {}, "seconds": 1.0}


def test_the_levels_of_a_gpu_are_eighths_at_the_least_with_their_part_of_the_cores() -> None:
    assert GPU.fractions == (1, 0.5, 0.25, 0.125)
    assert GPU.most == 8
    quarter = GPU.resources(0.25)
    assert (quarter.gpus, quarter.cpus, quarter.num_workers, quarter.memory_mb) == (0.25, 4, 3, 6000)
    assert resources_of({"share": vars(quarter)}).required_resources == {"CPU": 4, "GPU": 0.25}
    assert capacity_of([Device(24_000, 16)], True, 4.0, None).fractions == (1, 0.5, 0.25), (
        "four cores each: four trials"
    )
    assert capacity_of([Device(24_000, 4)], True, None, None).resources(0.125).cpus == 0.5


def test_the_levels_of_a_machine_without_gpus_go_down_to_one_for_each_core() -> None:
    assert MACHINE.fractions == (1, 0.5, 0.25, 0.125)
    assert resources_of({"share": vars(MACHINE.resources(0.5))}).required_resources == {
        "CPU": 1,
        "memory": 8000 * 2**20,
    }
    assert capacity_of([Device(16_000, 6)], False, 1.0, None).fractions[-1] == 0.125, (
        "less than a sixth, so that six fit"
    )
    assert capacity_of([Device(16_000, 6)], False, 1.0, None).most == 6
    assert capacity_of([Device(16_000, 1)], False, 1.0, None).fractions == (1,)


def test_shares_are_of_the_smallest_machine_and_a_larger_one_holds_more_of_them() -> None:
    capacity = capacity_of([Device(16_000, 8), Device(40_000, 8)], False, 1.0, None)
    assert (capacity.device_mb, capacity.devices, capacity.most) == (16_000, 3.5, 16)


def test_no_more_run_at_once_than_are_asked_for() -> None:
    capacity = capacity_of([Device(16_000, 64)], False, 1.0, 3)
    assert (capacity.most, capacity.fractions) == (3, (1, 0.5, 0.25))


def test_a_share_holds_what_is_needed_with_a_margin_and_on_a_gpu_what_cuda_takes() -> None:
    assert [MACHINE.fraction_for(mb) for mb in (500, 1800, 1850, 7000, 7400, 15_000, 99_000)] == [
        0.125, 0.125, 0.25, 0.5, 1, 1, 1,
    ]  # fmt: skip
    fits = (3000 - GPU_CONTEXT_MB) / 1.1
    assert (GPU.fraction_for(fits - 1), GPU.fraction_for(fits + 1)) == (0.125, 0.25)


def test_on_a_gpu_the_first_trial_has_it_to_itself_until_its_first_batches_tell(tmp_path: Path) -> None:
    packed = packer(tmp_path, GPU, 16, 16)
    assert packed.has_room()
    first = packed.begin("0000")
    assert (first["of_one"], first["measure"]) == (1, True)
    assert not packed.has_room()
    moved = packed.after_result("0000", {"peak_memory_mb": 1500.0})
    assert moved is not None
    assert (moved.of_one, moved.measure) == (0.125, False)
    assert packed.has_room()
    second = packed.begin("0001")
    assert (second["of_one"], second["measure"]) == (0.125, False), "its like was measured"


def test_of_another_batch_it_is_not_sure_and_gets_what_is_careful_and_measured(tmp_path: Path) -> None:
    packed = packer(tmp_path, GPU, 16, 64)
    packed.begin("0000")
    packed.after_result("0000", {"peak_memory_mb": 2000.0})
    share = packed.begin("0001")
    assert share["of_one"] > 0.125
    assert share["measure"]


def test_a_measured_trial_stays_where_it_is_in_nobodys_way(tmp_path: Path) -> None:
    packed = packer(tmp_path, MACHINE, 16)
    assert packed.begin("0000")["of_one"] == 0.5, "two of which nothing is known beside each other"
    assert packed.after_result("0000", {"peak_memory_mb": 1000.0}) is None
    assert packed.has_room()


def test_a_trial_that_takes_more_than_its_share_is_moved_to_one_that_holds_it(tmp_path: Path) -> None:
    packed = packer(tmp_path, MACHINE, 16, 16)
    packed.begin("0000")
    packed.after_result("0000", epoch(1500.0))
    assert packed.begin("0001")["of_one"] == 0.125
    assert packed.after_result("0001", epoch(1900.0)) is None, "its margin shrinks, and that is what it is for"
    moved = packed.after_result("0001", epoch(3000.0, 2))
    assert moved is not None
    assert moved.of_one == 0.25


def test_out_of_memory_in_a_part_is_tried_in_all_of_it_and_the_next_ones_get_more(tmp_path: Path) -> None:
    packed = packer(tmp_path, GPU, 16, 16, 16)
    packed.begin("0000")
    packed.after_result("0000", epoch(1500.0))
    assert packed.begin("0001")["of_one"] == 0.125
    moved = packed.after_result("0001", {"out_of_memory": True})
    assert moved is not None
    assert (moved.of_one, moved.measure) == (1, False)
    assert packed.after_result("0001", {"out_of_memory": True}) is None, "there is no more: its batch is halved"
    assert packed.records.trials["0001"].measured_mb == 24_000
    packed.ended("0001")
    assert packed.begin("0002")["of_one"] > 0.125


@pytest.mark.parametrize(
    "killed",
    [
        "ray.exceptions.OutOfMemoryError: killed",
        "ray.exceptions.ActorDiedError: The actor died: Task was killed due to the node running low on memory.",
    ],
)
def test_what_was_measured_is_known_to_a_run_that_is_gone_on_with(tmp_path: Path, killed: str) -> None:
    packed = packer(tmp_path, MACHINE, 16, 32, 64)
    packed.begin("0000")
    packed.after_result("0000", {"peak_memory_mb": 900.0})
    share = packed.begin("0001")
    assert share["of_one"] < 1
    packed.after_death("0001", killed)
    assert packed.records.trials["0001"].measured_mb == share["memory_mb"], "at least what it had"
    packed.records.epoch({"trial_id": "0000", **epoch(1200.0)})
    packed.after_result("0000", epoch(1200.0))
    again = Packer(MACHINE, SPACE, Records.open(tmp_path / "run")[0])
    assert again.peaks_mb == packed.peaks_mb == {"0000": 1200.0, "0001": share["memory_mb"]}
    assert again.begin("0000")["of_one"] == 0.125
    packed.ended("0000"), packed.ended("0001")
    assert again.begin("0002") == packed.begin("0002")


def test_the_share_of_a_trial_stands_in_the_records(tmp_path: Path) -> None:
    packed = packer(tmp_path, GPU, 16)
    packed.records.started("0000", packed.begin("0000"))
    packed.records.started("0000", vars(GPU.resources(0.25)))
    share = Records.open(tmp_path / "run")[0].trials["0000"].share
    assert share is not None
    assert (share["of_one"], share["gpus"], share["memory_mb"]) == (0.25, 0.25, 6000)


class FakeTrial:
    """The parts of Ray's trial that a scheduler reads."""

    def __init__(self, share: dict[str, Any]) -> None:
        self.config: dict[str, Any] = {"trial_id": "0000", "config": {}, "share": share}
        self.status = "RUNNING"
        self.given = None

    def update_resources(self, given: Any) -> None:
        assert self.status != "RUNNING"
        self.given = given

    def get_error(self) -> str:
        return "ActorDiedError: the process died"

    get_pickled_error = get_error


@pytest.fixture
def moved(tmp_path: Path) -> tuple[PackedTrials, FakeTrial, Any]:
    packed = packer(tmp_path, GPU, 16)
    trial = FakeTrial(packed.begin("0000"))
    controller = SimpleNamespace(
        pause_trial=lambda paused, should_checkpoint: setattr(paused, "status", "PAUSED"), get_trials=lambda: [trial]
    )
    return PackedTrials(FIFOScheduler(), packed), trial, controller


def test_a_trial_is_moved_by_a_pause_and_goes_on_after_its_last_epoch(
    moved: tuple[PackedTrials, FakeTrial, Any],
) -> None:
    scheduler, trial, controller = moved
    decision = scheduler.on_trial_result(controller, trial, epoch(1500.0))
    assert (decision, trial.status) == (TrialScheduler.NOOP, "PAUSED")
    scheduler.packer.records.epoch({"trial_id": "0000", **epoch(1500.0)})
    assert scheduler.choose_trial_to_run(controller) is trial
    assert trial.config["share"]["of_one"] == 0.125
    assert trial.config["epochs_recorded"] == 1
    assert trial.given == resources_of(trial.config)


def test_a_trial_whose_process_died_in_a_part_goes_on_in_all_of_it(moved: tuple[PackedTrials, FakeTrial, Any]) -> None:
    scheduler, trial, controller = moved
    scheduler.packer.live["0000"] = GPU.resources(0.25)
    trial.status = "ERROR"  # Ray tries it again
    scheduler.on_trial_error(controller, trial)
    assert trial.config["share"]["of_one"] == 1
    assert trial.given == resources_of(trial.config)


class Packed(Searching):
    """Its trials are packed into a GPU: each takes its whole share at first and is moved."""

    def __init__(self, folder: Path, *arguments: Any) -> None:
        super().__init__(folder, *arguments)
        self.searcher.packer = Packer(GPU, self.search.full_space, self.records)

    def propose(self, name: str) -> dict[str, Any]:
        proposal = super().propose(name)
        assert proposal["share"]["of_one"] in GPU.fractions
        assert self.searcher.packer is not None
        self.searcher.packer.after_result(proposal["trial_id"], {"peak_memory_mb": 700.0 + len(self.records.trials)})
        return proposal


def test_one_worker_is_proposed_the_same_with_and_without_packing_also_after_a_resume(tmp_path: Path) -> None:
    plain = Searching(tmp_path / "plain", search(CONDITIONAL), bumpy)
    packed = Packed(tmp_path / "packed", search(CONDITIONAL), bumpy)
    expected = [plain.step() for _ in range(14)]
    found = [packed.step() for _ in range(7)]
    found += [again.step() for again in [Packed(tmp_path / "packed", search(CONDITIONAL), bumpy)] for _ in range(7)]
    assert found == expected
    assert EPOCHS in packed.records.trials["0000"].values("val/accuracy")


def test_nothing_is_proposed_before_it_could_start(tmp_path: Path) -> None:
    records = Records.create(tmp_path / "run", {"search": {}})
    searcher = StudySearcher(search(SPACE), records, 0, None, None, lambda config: None)
    searcher.packer = Packer(GPU, SPACE, records)
    first = searcher.suggest("a")
    assert isinstance(first, dict)
    assert searcher.suggest("b") is None, "the first one has all of the GPU"
    assert len(records.trials) == 1
    searcher.packer.after_result(first["trial_id"], {"peak_memory_mb": 1000.0})
    assert isinstance(searcher.suggest("b"), dict)
    searcher.on_trial_complete("a", {"status": "complete"})
    assert first["trial_id"] not in searcher.packer.live


def test_check_says_which_part_the_costliest_trial_would_get() -> None:
    (found,) = look_at_capacity(MACHINE, 5000.0, "1.0 s for a first batch")
    assert "up to about 5.2 GB and 1.0 s" in found.text
    assert "gets 1/2 of a machine's memory (8.4 GB); 2 of the costliest at once, up to 8 of the smallest" in found.text
    fits, too_large = look_at_capacity(GPU, 25_000.0, "2.0 s for a first batch")
    assert "gets all of a GPU's memory" in fits.text
    assert "more than all of a GPU's 25.2 GB" in too_large.text


@pytest.mark.usefixtures("ray_session")
@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--gpus-per-trial", "auto"), "shares GPUs, and there are none. Give --cpus-per-trial auto."),
        (("--cpus-per-trial", "auto", "--gpus-per-trial", "1"), "Give --gpus-per-trial auto to share the GPUs"),
        (("--cpus-per-trial", "auto", "--pruner", "pbt"), "--pruner pbt has trials take turns"),
        (("--cpus-per-trial", "some"), "takes auto, or a number of 0.01 or more, got 'some'"),
        (("--gpus-per-trial", "-1"), "takes auto, or a number of 0 or more, got '-1'"),
        (("--gpus-per-trial", "two"), "takes auto, or a number of 0 or more, got 'two'"),
    ],
)
def test_what_cannot_be_packed_is_refused_with_the_next_move(
    visionsweep: Callable[..., Outcome], tmp_path: Path, options: tuple[str, ...], said: str
) -> None:
    refused = visionsweep("run", "quickstart", "--name", "a", *options)
    assert refused.code == 2
    assert said in " ".join(refused.err.replace("│", " ").split())
    assert not (tmp_path / "runs" / "a").exists()
