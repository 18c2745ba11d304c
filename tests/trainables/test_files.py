"""One way to read: whatever is wrong with a file is one sentence that names it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from visionsweep.core import files
from visionsweep.core.errors import ConfigError, RunError
from visionsweep.core.files import Hole, read_json, read_json_lines, read_npz, read_object, read_yaml
from visionsweep.core.writing import make_folder, write_whole

DEEP = "[" * 100_000 + "]" * 100_000
READERS: dict[str, Callable[[Path], Any]] = {
    "json": read_json,
    "lines": lambda path: list(read_json_lines(path)),
    "yaml": lambda path: read_yaml(path, "Name another."),
    "npz": read_npz,
}


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
def test_what_is_no_plain_file_is_refused_at_once(reader: Callable[[Path], Any], tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    (tmp_path / "round").symlink_to("round")
    said = {"folder": "is a folder, and must be a file", "pipe": "is no plain file", "zero": "is no plain file",
            "round": "cannot be read (Too many levels of symbolic links)"}  # fmt: skip
    for name, words in said.items():
        with pytest.raises(RunError) as caught:
            reader(tmp_path / name)
        assert str(caught.value).startswith(f"{tmp_path / name}: ")
        assert words in str(caught.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is damaged"), (b"{", "is damaged"), (DEEP.encode(), "nested more than 64 deep"),
        (b"[" * 65 + b"]" * 65, "nested more than 64 deep"), (b"9" * 5000, "is damaged"),
        (b'"\xff"', "is not UTF-8 text"), (b"\xff\xfe\x00", "is not UTF-8 text"),
    ],
)  # fmt: skip
def test_json_that_is_none_is_one_sentence(content: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(RunError) as caught:
        read_json(path)
    assert said in str(caught.value)
    assert str(caught.value).endswith("Restore it from a copy.")
    assert "\n" not in str(caught.value)


def test_json_as_deep_as_ours_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("[" * 64 + "]" * 64)
    read_json(path)
    path.write_text("[1]")
    with pytest.raises(ConfigError, match=r"must hold a JSON object, got a list. Write it anew"):
        read_object(path, "Write it anew.", ConfigError)


def test_every_line_is_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MAX_LINE_BYTES", 1000)
    path = tmp_path / "a.jsonl"
    long = json.dumps("x" * 5000)
    path.write_bytes(b'{"a": 1}\n{\n' + long.encode() + b'\n{"a": \0\0\0\n"\xff"\n' + DEEP[:400].encode() + b"\n7\n{")
    found = dict(read_json_lines(path))
    assert [number for number, value in found.items() if not isinstance(value, ValueError)] == [1, 7]
    assert len(found) == 7, "the last one has no end yet"
    assert "longer than" in str(found[3])
    assert isinstance(found[4], Hole)
    assert list(read_json_lines(tmp_path / "missing")) == []


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.json"
    with path.open("wb") as file:
        file.truncate(files.MAX_JSON_BYTES + 1)  # a sparse file takes no room
    with pytest.raises(RunError, match="is larger than 524288 kB, the most that is read"):
        read_json(path)


@pytest.mark.parametrize("damage", [
    lambda content: b"", lambda content: content[: len(content) // 2], lambda content: content[:-1],
    lambda content: content[:60] + bytes([content[60] ^ 255]) + content[61:], lambda content: b"\x80\x04N.",
    lambda content: b"\0" * len(content),
])  # fmt: skip
def test_damaged_arrays_are_one_sentence(damage: Callable[[bytes], bytes], tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez_compressed(path, logits=np.arange(1000.0))
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(RunError, match=r"a\.npz: cannot be read \(.+\)\. Delete it\."):
        read_npz(path)


def test_arrays_of_objects_and_single_arrays_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", logits=np.array([{}], dtype=object))
    with pytest.raises(RunError, match="cannot be read"):
        read_npz(tmp_path / "a.npz")
    np.save(tmp_path / "b.npy", np.zeros(3))
    with pytest.raises(RunError, match="cannot be read"):
        read_npz(tmp_path / "b.npy")


def test_arrays_that_unpack_to_more_than_memory_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez_compressed(tmp_path / "a.npz", logits=np.zeros(10**6))
    monkeypatch.setattr(files, "MAX_ARRAY_BYTES", 10**6)
    with pytest.raises(RunError, match="GB of arrays"):
        read_npz(tmp_path / "a.npz")


def test_a_file_that_is_written_whole_is_on_the_disk_with_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    real = os.fsync

    def told(descriptor: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", told)
    folder = tmp_path / "a" / "b"
    make_folder(folder)
    assert synced == [str(tmp_path), str(tmp_path / "a")]
    write_whole(folder / "file", lambda path: path.write_text("x"))
    assert synced[2:] == [str(folder / f".file.{os.getpid()}.partial"), str(folder)]


def test_what_a_killed_writer_left_is_deleted_by_the_next(tmp_path: Path) -> None:
    for name in (".file.123.partial", ".file.x.partial", ".other.123.partial"):
        (tmp_path / name).write_text("half")
    write_whole(tmp_path / "file", lambda path: path.write_text("x"))
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == [".file.x.partial", ".other.123.partial", "file"]


def test_what_another_process_still_writes_is_not_deleted(tmp_path: Path) -> None:
    command = "import sys, time; from pathlib import Path; from visionsweep.core.writing import write_whole; "
    command += "write_whole(Path(sys.argv[1]), lambda path: [path.write_text('theirs'), print(flush=True), input()])"
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", command, str(tmp_path / "file")], stdin=pipe, stdout=pipe) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        other.stdout.readline()
        write_whole(tmp_path / "file", lambda path: path.write_text("ours"))
        assert (tmp_path / f".file.{other.pid}.partial").read_text() == "theirs"
        other.stdin.write(b"\n")
    assert other.returncode == 0
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "theirs"


def test_a_pipe_or_a_folder_of_such_a_name_is_no_obstacle(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / ".file.1.partial")
    (tmp_path / ".file.2.partial").mkdir()
    (tmp_path / ".file.3.partial").symlink_to(tmp_path / "elsewhere")
    write_whole(tmp_path / "file", lambda path: path.write_text("x"))
    assert (tmp_path / "file").read_text() == "x"
