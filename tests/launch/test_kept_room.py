"""Room on the disk that is kept for a search's last lines."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import lines

from launch.search.kept_room import ROOM_BYTES, kept_room
from launch.search.records import Records
from visionsweep.core.errors import RunError


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MB of its own."""
    disk = tmp_path / "small"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(disk)]
    if os.geteuid() or shutil.which("mount") is None or subprocess.run(mount, check=False).returncode:
        pytest.skip("this machine does not let tests mount a disk")
    try:
        yield disk
    finally:
        subprocess.run(["umount", disk], check=True)


def test_on_a_full_disk_trials_still_get_their_last_lines(small_disk: Path) -> None:
    records = Records.create(small_disk / "run", {"search": {}})
    records.proposed("0000", {}, {}, "sampler")
    with kept_room(records.run_dir) as free:
        (small_disk / "filler").write_bytes(bytes(shutil.disk_usage(small_disk).free))
        long = "x" * 5000
        with pytest.raises(RunError, match="No space left on device"):
            records.ended("0000", "failed", long)
        free()
        records.ended("0000", "interrupted", "the search was stopped")
    assert lines(records.run_dir / "trials.jsonl")[-1]["status"] == "interrupted"
    assert not (records.run_dir / ".room").exists()


def test_a_disk_without_room_to_keep_is_no_error(small_disk: Path) -> None:
    (small_disk / "filler").write_bytes(bytes(shutil.disk_usage(small_disk).free - ROOM_BYTES // 2))
    with kept_room(small_disk) as free:
        free()
        free()
