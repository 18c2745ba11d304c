"""A run directory that is packed, sent as lines of a log, and unpacked again."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support import Outcome

from launch.jobs import transfer
from visionsweep.core.errors import RunError

CLI = Callable[..., Outcome]


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """A run with a file longer than a line of the transfer, and with links, which are not followed."""
    folder = tmp_path / "runs" / "one"
    (folder / "checkpoints" / "0000").mkdir(parents=True)
    (folder / "search.json").write_text('{"version": 1}')
    (folder / "trials.jsonl").write_text("")
    (folder / "checkpoints" / "0000" / "epoch-0001.safetensors").write_bytes(os.urandom(3 * transfer.LINE + 17))
    (tmp_path / "secret.txt").write_text("mine")
    (folder / "link.txt").symlink_to(tmp_path / "secret.txt")
    return folder


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.is_symlink()
    }


def log_of(run_dir: Path, log: Path) -> str:
    """Return the job's output as a process that writes to a file, and is stopped when it waits to be read."""
    with log.open("a") as out:
        job = subprocess.Popen([sys.executable, "-m", "launch.jobs.transfer", str(run_dir)], stdout=out)
        while job.poll() is None and transfer.END not in log.read_text():
            time.sleep(0.02)
        said = log.read_text()
        job.send_signal(signal.SIGTERM)
        assert job.wait(30) == (0 if transfer.END in said else 2)
    return said


def test_a_run_comes_out_of_a_log_as_it_was_and_the_log_is_emptied(run_dir: Path, tmp_path: Path) -> None:
    said = log_of(run_dir, tmp_path / "log")
    assert (tmp_path / "log").read_text() == "", "weights do not stay in the head's logs"
    said = f"INFO Runtime env is setting up.\n{said}"
    pieces = [said[start : start + 1000] for start in range(0, len(said), 1000)]
    tar = io.BytesIO()
    transfer.receive(pieces, tar)
    tar.seek(0)
    transfer.unpack(tar, tmp_path / "home" / "one")
    assert files(tmp_path / "home" / "one") == files(run_dir)
    assert not (tmp_path / "home" / "one" / "link.txt").exists()
    assert [path.name for path in (tmp_path / "home").iterdir()] == ["one"], "nothing half done beside it"

    letters = list(said)
    place = said.index(transfer.BEGIN) + len(transfer.BEGIN) + 5000
    letters[place] = "A" if letters[place] != "A" else "B"
    with pytest.raises(RunError, match="arrived damaged"):
        transfer.receive(["".join(letters)], io.BytesIO())
    with pytest.raises(RunError, match="did not arrive: its log ended too soon"):
        transfer.receive([said[:-100]], io.BytesIO())


def test_what_the_job_says_instead_is_passed_on(tmp_path: Path) -> None:
    said = log_of(tmp_path, tmp_path / "log")
    with pytest.raises(RunError, match=f"did not arrive: {tmp_path}: is not a run directory"):
        transfer.receive([said], io.BytesIO())


def test_a_run_that_is_too_large_for_it_is_refused(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "MAX_BYTES", 1000)
    with pytest.raises(RunError, match="Copy it with rsync"):
        transfer.pack(run_dir, io.BytesIO())


@pytest.mark.parametrize("name", ["../out.txt", "/tmp/visionsweep-out.txt", "link"])
def test_an_archive_cannot_write_outside_of_its_folder(tmp_path: Path, name: str) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for member_name in ("search.json", name):
            member = tarfile.TarInfo(member_name)
            if member_name == "link":
                member.type = tarfile.SYMTYPE
                member.linkname = "/etc/hostname"
            member.size = 0
            tar.addfile(member)
    packed.seek(0)
    before = set(tmp_path.iterdir())
    with pytest.raises(RunError, match="home: "):
        transfer.unpack(packed, tmp_path / "home")
    assert set(tmp_path.iterdir()) == before


def test_a_run_that_is_readable_here_is_copied_and_never_over_another(
    visionsweep: CLI, run_dir: Path, tmp_path: Path
) -> None:
    said = visionsweep("fetch", run_dir, "--to", tmp_path / "home")
    assert said.code == 0, said.err
    assert files(tmp_path / "home" / "one") == files(run_dir)
    refused = visionsweep("fetch", run_dir, "--to", tmp_path / "home")
    assert refused.code == 2
    assert "home/one: exists already, and is not written over" in refused.err
