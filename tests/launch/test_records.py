"""The run directory: whole lines, torn ends, what is kept."""

from __future__ import annotations

import errno
import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support import wait_until

from launch.search.records import Records
from trainables.config.io import load_config
from visionsweep.core.errors import RunError
from visionsweep.run_dir.load import load_run
from visionsweep.run_dir.lock import held
from visionsweep.run_dir.syncing import Syncer
from visionsweep.run_dir.trials import Trial, read_lines

SEARCH = {"search": {"metric": "val/accuracy", "mode": "max", "epochs": 3}, "data": {}}


@pytest.fixture
def records(tmp_path: Path) -> Records:
    return Records.create(tmp_path / "run", SEARCH)


def train(records: Records, trial_id: str, scores: list[float], status: str | None, reason: str = "") -> None:
    records.proposed(trial_id, {"lr": 0.1}, {"lr": 0.1}, "sampler")
    records.started(trial_id)
    for epoch, score in enumerate(scores, start=1):
        records.epoch({"trial_id": trial_id, "epoch": epoch, "metrics": {"val/accuracy": score}, "seconds": 1.5})
    if status:
        records.ended(trial_id, status, reason)


def test_what_was_written_is_read_back(records: Records) -> None:
    train(records, "0000", [0.5, 0.9, 0.8], "complete")
    train(records, "0001", [0.4], "pruned", "too low")
    run = load_run(records.run_dir)
    assert [trial.status for trial in run.trials] == ["complete", "pruned"]
    assert run.trials[0].best("val/accuracy", "max") == (0.9, 2)
    assert run.trials[0].seconds == 4.5
    assert run.trials[1].reason == "too low"
    again, search = Records.open(records.run_dir)
    assert again.trials == records.trials
    assert search["search"] == SEARCH["search"]
    assert list(run.curves()["val/accuracy"]) == [0.5, 0.9, 0.8, 0.4]


def test_a_line_that_a_crash_cut_off_is_left_out_and_the_next_one_does_not_join_it(records: Records) -> None:
    train(records, "0000", [0.5, 0.9], None)
    path = records.run_dir / "epochs.jsonl"
    path.write_bytes(path.read_bytes()[:-20])
    assert len(read_lines(path)) == 1
    again, _ = Records.open(records.run_dir)
    assert len(again.trials["0000"].epochs) == 1
    with again.locked():
        again.epoch({"trial_id": "0000", "epoch": 2, "metrics": {"val/accuracy": 0.7}, "seconds": 1.0})
    assert [row["epoch"] for row in read_lines(path)] == [1, 2]


def test_a_damaged_line_in_the_middle_is_named(records: Records) -> None:
    train(records, "0000", [0.5, 0.9], None)
    path = records.run_dir / "epochs.jsonl"
    first, second = path.read_text().splitlines()
    path.write_text(f"{first[:10]}\n{second}\n")
    with pytest.raises(RunError, match=r"epochs\.jsonl, line 1: is damaged"):
        load_run(records.run_dir)


def test_an_epoch_repeated_after_a_crash_counts_once(records: Records) -> None:
    train(records, "0000", [0.5, 0.9], None)
    records.epoch({"trial_id": "0000", "epoch": 2, "metrics": {"val/accuracy": 0.6}, "seconds": 1.0})
    run = load_run(records.run_dir)
    assert run.trials[0].values("val/accuracy") == {1: 0.5, 2: 0.6}


def test_only_the_best_and_the_unfinished_keep_their_files(records: Records) -> None:
    for trial_id, status in (
        ("0000", "complete"),
        ("0001", "pruned"),
        ("0002", "interrupted"),
        ("0003", None),
        ("0004", "complete"),
    ):
        train(records, trial_id, [0.5], status)
        for room in ("checkpoints", "predictions", "judged"):
            folder = records.run_dir / room / trial_id
            folder.mkdir(parents=True)
            (folder / "last.pt").write_text("")
            (folder / ".last.pt.123.partial").write_text("")
            (folder / "epoch-0001.npz").write_text("")
    records.keep_only(["0000"])
    kept = {str(path.relative_to(records.run_dir)) for path in records.run_dir.glob("checkpoints/*/*")}
    assert kept == {
        "checkpoints/0000/epoch-0001.npz",
        "checkpoints/0002/last.pt", "checkpoints/0002/epoch-0001.npz", "checkpoints/0002/.last.pt.123.partial",
        "checkpoints/0003/last.pt", "checkpoints/0003/epoch-0001.npz", "checkpoints/0003/.last.pt.123.partial",
    }  # fmt: skip
    judged = sorted(path.parent.name for path in records.run_dir.glob("judged/*/epoch-0001.npz"))
    assert judged == ["0000", "0002", "0003", "0004"], "what the best was chosen among stays, though not its weights"


def test_a_reason_that_names_a_file_of_other_bytes_can_be_shown(records: Records) -> None:
    train(records, "0000", [0.5], "failed", "caf\udce9.png cannot be read")
    assert load_run(records.run_dir).trials[0].reason == records.trials["0000"].reason == "caf?.png cannot be read"


def test_another_format_version_is_refused(records: Records) -> None:
    path = records.run_dir / "search.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "version": 99}))
    with pytest.raises(RunError, match="is in format 99, and this version of visionsweep reads 1"):
        load_run(records.run_dir)


def test_a_missing_run_offers_its_nearest_neighbour(records: Records) -> None:
    with pytest.raises(RunError, match=f"Did you mean '{records.run_dir}'"):
        load_run(records.run_dir.with_name("rum"))


def test_a_run_is_never_written_over(records: Records) -> None:
    with pytest.raises(RunError, match="exists already"):
        Records.create(records.run_dir, SEARCH)


def test_one_process_at_a_time_works_on_a_run(records: Records) -> None:
    with records.locked():
        other, _ = Records.open(records.run_dir)
        with pytest.raises(RunError, match="another process is working on this run"), other.locked():
            pass
    with records.locked():
        pass  # the lock was given back


def test_a_second_process_that_is_refused_changes_no_byte(records: Records) -> None:
    train(records, "0000", [0.5, 0.9], None)
    path = records.run_dir / "epochs.jsonl"
    with path.open("ab") as file:
        file.write(b'{"half a line')  # the first process is about to write the rest
    before = {file: file.read_bytes() for file in records.run_dir.iterdir()}
    with records_of_another_process(records.run_dir):
        again, _ = Records.open(records.run_dir)
        with pytest.raises(RunError, match="another process is working on this run"), again.locked():
            pass
    assert {file: file.read_bytes() for file in records.run_dir.iterdir()} == before


def test_only_what_is_torn_is_cut(records: Records) -> None:
    train(records, "0000", [0.5, 0.9], None)
    paths = [records.run_dir / name for name in ("trials.jsonl", "epochs.jsonl")]
    whole = [(path.read_bytes(), path.stat().st_mtime_ns) for path in paths]
    with records.locked():
        pass
    assert [(path.read_bytes(), path.stat().st_mtime_ns) for path in paths] == whole
    for tail in (b"{", b"\0" * 5000, b'{"trial_id": "0000"}', b"x" * 3 * 2**20):
        with paths[1].open("ab") as file:
            file.write(tail)
        with records.locked():
            assert paths[1].read_bytes() == whole[1][0]


def test_a_hole_that_a_power_cut_left_is_passed_over_and_the_epoch_is_asked_for_again(records: Records) -> None:
    train(records, "0000", [0.5, 0.9, 0.7], None)
    path = records.run_dir / "epochs.jsonl"
    first, second, third = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first + second[:10] + b"\0" * (len(second) - 11) + b"\n" + third)
    with records.locked():
        trial = records.trials["0000"]
        assert [row["epoch"] for row in trial.epochs] == [1, 3]
        assert trial.epochs_recorded == 1
        for epoch in (2, 3):
            records.epoch({"trial_id": "0000", "epoch": epoch, "metrics": {}, "seconds": 1.0})
    assert [row["epoch"] for row in load_run(records.run_dir).trials[0].epochs] == [1, 2, 3]


def test_a_trial_that_begins_anew_leaves_what_it_had_behind(records: Records) -> None:
    train(records, "0000", [0.5, 0.9, 0.7], None)
    records.epoch({"trial_id": "0000", "epoch": 1, "metrics": {"val/accuracy": 0.4}, "seconds": 1.0})
    assert load_run(records.run_dir).trials[0].values("val/accuracy") == {1: 0.4}
    assert records.trials["0000"].values("val/accuracy") == {1: 0.4}


def test_files_and_lines_of_a_trial_whose_proposal_was_lost_are_gone_before_another_gets_its_number(
    records: Records,
) -> None:
    train(records, "0000", [0.5], "complete")
    train(records, "0001", [0.6], None)
    folder = records.run_dir / "checkpoints" / "0001"
    folder.mkdir(parents=True)
    (folder / "last.pt").write_text("of another configuration")
    path = records.run_dir / "trials.jsonl"
    path.write_text("".join(line for line in path.read_text().splitlines(keepends=True) if "0001" not in line))
    with records.locked():
        assert list(records.trials) == ["0000"]
        assert not folder.exists()
        assert "0001" not in (records.run_dir / "epochs.jsonl").read_text()


def test_a_number_is_never_given_twice_where_a_line_in_the_middle_is_gone(records: Records) -> None:
    for trial_id in ("0000", "0001", "0002"):
        train(records, trial_id, [0.5], "complete")
    path = records.run_dir / "trials.jsonl"
    path.write_text("".join(line for line in path.read_text().splitlines(keepends=True) if "0001" not in line))
    assert Records.open(records.run_dir)[0].next_number == 3


def test_a_trial_whose_last_epochs_were_lost_after_its_end_goes_on(records: Records) -> None:
    train(records, "0000", [0.5, 0.9, 0.7], "complete")
    last = records.run_dir / "checkpoints" / "0000" / "last.pt"
    last.parent.mkdir(parents=True)
    path = records.run_dir / "epochs.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:2]))
    with records.locked():
        assert records.trials["0000"].status == "complete", "without its state it would have to begin anew"
    last.write_text("its state")
    with records.locked():
        assert records.trials["0000"].status == "interrupted"


def test_of_two_runs_of_one_name_at_one_moment_one_is_refused_in_words(tmp_path: Path) -> None:
    for number in range(30):
        barrier = threading.Barrier(2)
        said = list[str]()

        def create(place: Path, barrier: threading.Barrier, said: list[str]) -> None:
            barrier.wait()
            try:
                Records.create(place, SEARCH)
            except RunError as error:
                said.append(str(error))

        both = [
            threading.Thread(target=create, args=(tmp_path / "runs" / f"{number}", barrier, said)) for _ in range(2)
        ]
        for one in both:
            one.start()
        for one in both:
            one.join()
        assert len(said) == 1
        assert "exists already" in said[0]


def test_lines_are_on_the_disk_within_seconds_and_at_a_trials_end(
    records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[tuple[str, int, str]] = []
    real = os.fdatasync

    def told(descriptor: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        synced.append((path.name, path.stat().st_size, threading.current_thread().name))
        real(descriptor)

    monkeypatch.setattr(os, "fdatasync", told)
    monkeypatch.setattr("visionsweep.run_dir.syncing.SYNC_EVERY_S", 0.2)
    with records.locked():
        train(records, "0000", [0.5, 0.9], None)
        wait_until(lambda: {name for name, _, _ in synced} == {"trials.jsonl", "epochs.jsonl"}, seconds=5)
        monkeypatch.setattr("visionsweep.run_dir.syncing.SYNC_EVERY_S", 1000)
        wait_until(lambda: time.sleep(0.5) or True, seconds=5)
        records.ended("0000", "complete", "")
        size = (records.run_dir / "trials.jsonl").stat().st_size
        wait_until(lambda: ("trials.jsonl", size, "records-sync") in synced, seconds=5)
        assert {thread for _, _, thread in synced} == {"records-sync"}, "never on the search's path"


def test_state_is_deleted_only_after_the_lines_that_say_why(records: Records, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Syncer, "start", lambda self: None)
    with records.locked():
        train(records, "0000", [0.5], "complete")
        last = records.run_dir / "checkpoints" / "0000" / "last.pt"
        last.parent.mkdir(parents=True)
        last.write_text("")
        records.keep_only(["0000"])
        assert last.exists()
        assert records.syncer is not None
        records.syncer.sync()
        assert not last.exists()


def test_a_disk_that_refuses_to_sync_ends_the_search_with_a_sentence(
    records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(descriptor: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with records.locked():
        assert records.syncer is not None
        train(records, "0000", [0.5], None)
        with monkeypatch.context() as patch:
            patch.setattr(os, "fdatasync", broken)
            records.syncer.sync()
        with pytest.raises(RunError, match=r"could not be brought to the disk \(Input/output error\)"):
            records.ended("0000", "complete", "")


@contextmanager
def records_of_another_process(run_dir: Path) -> Iterator[None]:
    """Hold the lock as another process would. flock belongs to the open file, so a second opening suffices."""
    with held(run_dir):
        yield


def test_the_best_configuration_is_written_whole_and_can_be_trained(records: Records) -> None:
    config = {
        "task": "binary",
        "model": {"backbone": "test_resnet"},
        "optimizer": {"name": "sgd", "lr": 0.1},
        "epochs": 1,
        "batch_size": 2,
    }
    records.write_best(Trial("0003", {}, config))
    path = records.run_dir / "best.yaml"
    assert path.read_text().startswith("# trial 0003 of run run\n")
    assert load_config(path).optimizer.lr == 0.1
    records.write_best(None)
    assert [file.name for file in records.run_dir.glob("*best*")] == ["best.yaml"]


def test_a_search_json_that_cannot_be_written_is_one_sentence_and_leaves_the_old_one(records: Records) -> None:
    (records.run_dir / f".search.json.{os.getpid()}.partial").mkdir()  # in its way, as a full disk would be
    with pytest.raises(RunError, match=r"cannot be written \(Is a directory\). Free some space"):
        records.write_search({**SEARCH, "resumed": [1.0]})
    assert "resumed" not in Records.open(records.run_dir)[1]
