"""Rows of features on the disk: computed once, checked, shared, given up where room is needed."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from filelock import FileLock
from torch import Tensor

from trainables.features.feature_store import kept_rows
from visionsweep.core.errors import Interrupted

KEY = {"weights": "abc", "side": 64}
ROWS = torch.arange(40, dtype=torch.float32).reshape(10, 4) / 7
MB = 10**6


class Usage(NamedTuple):
    total: int
    used: int
    free: int


class Computing:
    """Computes rows, four at a time, and counts how often."""

    def __init__(self, rows: Tensor = ROWS) -> None:
        self.rows = rows
        self.times = 0

    def __call__(self) -> Iterator[Tensor]:
        self.times += 1
        yield from torch.split(self.rows, 4)


def kept(store: Path | None, compute: Computing, key: dict[str, Any] = KEY, most: int = MB) -> Tensor | None:
    return kept_rows(store, key, len(compute.rows), compute, most_in_memory=most)


def folders(store: Path) -> list[Path]:
    return sorted(path for path in store.iterdir() if path.is_dir())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_rows_come_back_bit_for_bit_and_are_computed_once(tmp_path: Path, dtype: torch.dtype) -> None:
    compute = Computing(ROWS.to(dtype))
    for _ in range(2):
        found = kept(tmp_path / "store", compute)
        assert found is not None
        assert found.dtype == dtype
        assert torch.equal(found, ROWS.to(dtype))
    assert compute.times == 1


def test_another_key_has_rows_of_its_own(tmp_path: Path) -> None:
    kept(tmp_path, Computing())
    other = kept(tmp_path, Computing(ROWS + 1), {**KEY, "side": 65})
    assert other is not None
    assert torch.equal(other, ROWS + 1)
    assert len(folders(tmp_path)) == 2


def _cut(folder: Path) -> None:
    with (folder / "rows.bin").open("r+b") as file:
        file.truncate(100)


def _flip(folder: Path) -> None:
    with (folder / "rows.bin").open("r+b") as file:
        file.seek(17)
        byte = file.read(1)
        file.seek(17)
        file.write(bytes([byte[0] ^ 1]))


def _say(folder: Path, **changed: Any) -> None:
    meta = folder / "meta.json"
    meta.write_text(json.dumps({**json.loads(meta.read_text()), **changed}))


DAMAGE: dict[str, Callable[[Path], object]] = {
    "cut short": _cut,
    "one bit": _flip,
    "no rows": lambda folder: (folder / "rows.bin").unlink(),
    "no meta": lambda folder: (folder / "meta.json").unlink(),
    "half a meta": lambda folder: (folder / "meta.json").write_text('{"key": '),
    "a list as meta": lambda folder: (folder / "meta.json").write_text("[]"),
    "another key": lambda folder: _say(folder, key="{}"),
    "another shape": lambda folder: _say(folder, shape=[4, 10]),
    "no shape": lambda folder: _say(folder, shape=3),
    "an unknown type": lambda folder: _say(folder, dtype="float8"),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_damaged_rows_are_computed_again(tmp_path: Path, damage: Callable[[Path], object]) -> None:
    compute = Computing()
    kept(tmp_path, compute)
    (folder,) = folders(tmp_path)
    damage(folder)
    for _ in range(2):
        found = kept(tmp_path, compute)
        assert found is not None
        assert torch.equal(found, ROWS)
    assert compute.times == 2


def _in_a_process(store: Path, log: Path, barrier: Any) -> None:
    def compute() -> Iterator[Tensor]:
        with log.open("a") as file:
            file.write(f"{os.getpid()}\n")
        time.sleep(1)
        yield ROWS

    barrier.wait(60)
    found = kept_rows(store, KEY, len(ROWS), compute, most_in_memory=0)
    assert found is not None
    assert torch.equal(found, ROWS)


def test_two_processes_compute_rows_once(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    barrier = spawn.Barrier(2)
    log = tmp_path / "log"
    processes = [spawn.Process(target=_in_a_process, args=(tmp_path / "store", log, barrier)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0, 0]
    assert len(log.read_text().splitlines()) == 1


def test_who_waits_for_another_process_can_be_stopped(tmp_path: Path) -> None:
    kept(tmp_path, Computing())
    (folder,) = folders(tmp_path)
    shutil.rmtree(folder)

    def stop() -> None:
        raise Interrupted("the budget is spent")

    with FileLock(folder.with_name(f"{folder.name}.lock")), pytest.raises(Interrupted):
        kept_rows(tmp_path, KEY, len(ROWS), Computing(), most_in_memory=MB, ask=stop)


def test_a_computation_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    def compute() -> Iterator[Tensor]:
        yield ROWS[:4]
        raise Interrupted("the budget is spent")

    with pytest.raises(Interrupted):
        kept_rows(tmp_path, KEY, len(ROWS), compute, most_in_memory=MB)
    assert folders(tmp_path) == []


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    kept(tmp_path, Computing())
    (folder,) = folders(tmp_path)
    os.rename(folder, folder.with_name(f"{folder.name}.tmp-1"))
    kept(tmp_path, Computing())
    assert folders(tmp_path) == [folder]


@pytest.mark.parametrize(("most", "held"), [(160, True), (159, False)])
def test_without_a_store_rows_are_held_as_far_as_the_memory_may_be_used(most: int, held: bool) -> None:
    compute = Computing()
    found = kept(None, compute, most=most)
    assert (found is not None) == held
    if found is not None:
        assert torch.equal(found, ROWS)


def test_where_the_disk_is_full_rows_are_held_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("trainables.features.feature_store.shutil.disk_usage", lambda path: Usage(MB, MB - 300, 300))
    with caplog.at_level(logging.WARNING):
        found = kept(tmp_path, Computing())  # 160 bytes, where half of 300 may be used
    assert found is not None
    assert torch.equal(found, ROWS)
    assert folders(tmp_path) == []
    assert "They are held in memory." in caplog.text


def test_where_the_store_is_no_folder_rows_are_held_in_memory(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "file"
    file.write_text("")
    with caplog.at_level(logging.WARNING):
        found = kept(file / "store", Computing())
    assert found is not None
    assert torch.equal(found, ROWS)
    assert str(file) in caplog.text


def test_rows_that_were_used_longest_ago_are_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = Usage(MB, 0, MB)
    monkeypatch.setattr("trainables.features.feature_store.shutil.disk_usage", lambda path: usage)
    keys = [{**KEY, "side": side} for side in (1, 2, 3)]
    mapped = []
    for age, key in zip((300, 200), keys, strict=False):
        mapped.append(kept(tmp_path, Computing(), key))
        for folder in folders(tmp_path):
            os.utime(folder, (time.time() - age, time.time() - age))
    again = Computing()
    kept(tmp_path, again, keys[0])  # now used last
    usage = Usage(MB, MB - 340, 340)  # with the 320 bytes that are held, half of it has room for two
    kept(tmp_path, Computing(), keys[2])
    assert len(folders(tmp_path)) == 2
    kept(tmp_path, again, keys[0])
    assert again.times == 0
    lost = Computing()
    kept(tmp_path, lost, keys[1])
    assert lost.times == 1
    # Processes that had them open can still read them.
    assert all(found is not None and torch.equal(found, ROWS) for found in mapped)
