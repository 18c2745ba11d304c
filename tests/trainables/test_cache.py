"""A cache is decoded once, completely or not at all, even if other processes build it too."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import shutil
import signal
import time
from collections import namedtuple
from dataclasses import dataclass
from multiprocessing.synchronize import Barrier
from pathlib import Path

import numpy as np
import pytest

from trainables.data.cache import Images, default_cache_dir, open_images
from visionsweep.core.errors import DataError

NAMES = tuple(f"{i}.jpg" for i in range(40))


@dataclass(frozen=True)
class Painted:
    """Image i has shade i and a size of its own. Every decode adds a line with its process to `log`."""

    log: Path | None = None
    delay_s: float = 0.0
    killed_at: int | None = None
    bad: tuple[int, ...] = ()

    def __call__(self, index: int) -> np.ndarray:
        if self.log:
            with open(self.log, "a") as file:
                file.write(f"{os.getpid()}\n")
        time.sleep(self.delay_s)
        if index == self.killed_at:
            os.kill(os.getpid(), signal.SIGKILL)
        if index in self.bad:
            raise DataError(f"image '{NAMES[index]}' cannot be read: it is bad")
        return np.full((20 + index, 40, 3), index, np.uint8)


def open_painted(reader: Painted, cache_dir: Path | None, short_side_px: int = 30) -> Images:
    return open_images(NAMES, reader, "0123456789abcdef", short_side_px, cache_dir)


def open_in_process(reader: Painted, cache_dir: Path, together: Barrier | None = None) -> None:
    if together:
        together.wait(timeout=60)
    images = open_painted(reader, cache_dir)
    assert images[39][0, 0, 0] == 39


def check(images: Images) -> None:
    assert len(images) == 40
    assert not images.bad
    assert images[5].shape == (25, 40, 3)  # smaller than 30 px: left as it is
    assert images[30].shape == (38, 30, 3)  # 50 x 40: the shorter side becomes 30
    for index in (0, 17, 39):
        assert (images[index] == index).all()


def test_images_come_back_resized_with_and_without_a_cache(tmp_path: Path) -> None:
    for images in (open_painted(Painted(), tmp_path), open_painted(Painted(), tmp_path), open_painted(Painted(), None)):
        check(images)
        images[0][:] = 7  # the caller's own: what it changes is not the cache
        check(images)
        with pytest.raises(IndexError):
            images[40]


def test_a_finished_cache_is_opened_without_decoding(tmp_path: Path) -> None:
    open_painted(Painted(), tmp_path)
    check(open_painted(Painted(log=tmp_path / "log"), tmp_path))
    assert not (tmp_path / "log").exists()


def test_each_size_has_its_own_cache(tmp_path: Path) -> None:
    assert open_painted(Painted(), tmp_path, short_side_px=10)[30].shape == (12, 10, 3)
    assert open_painted(Painted(), tmp_path, short_side_px=30)[30].shape == (38, 30, 3)


def test_cached_images_pickle_as_their_path(tmp_path: Path) -> None:
    packed = pickle.dumps(open_painted(Painted(), tmp_path))
    assert len(packed) < 500
    check(pickle.loads(packed))


@pytest.mark.parametrize("cached", [True, False])
def test_a_bad_image_keeps_its_place_and_its_reason(tmp_path: Path, cached: bool) -> None:
    for _ in range(2):
        images = open_painted(Painted(bad=(0, 7)), tmp_path if cached else None)
        assert images.bad == {i: f"image '{i}.jpg' cannot be read: it is bad" for i in (0, 7)}
        with pytest.raises(DataError, match=r"'7\.jpg' cannot be read"):
            images[7]
        assert (images[8] == 8).all()


def test_a_cache_of_bad_images_only_opens(tmp_path: Path) -> None:
    assert len(open_painted(Painted(bad=tuple(range(40))), tmp_path).bad) == 40


def test_of_two_processes_at_once_only_one_builds(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    together = spawn.Barrier(2)
    reader = Painted(log=tmp_path / "log", delay_s=0.02)
    processes = [spawn.Process(target=open_in_process, args=(reader, tmp_path / "cache", together)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=60)
    assert [process.exitcode for process in processes] == [0, 0]
    assert len(set((tmp_path / "log").read_text().split())) == 1
    check(open_painted(Painted(), tmp_path / "cache"))


def test_a_half_written_cache_is_never_read(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    killed = spawn.Process(target=open_in_process, args=(Painted(killed_at=38), tmp_path))
    killed.start()
    killed.join(timeout=60)
    assert killed.exitcode == -signal.SIGKILL
    assert list(tmp_path.glob("*.tmp-*"))
    assert not (tmp_path / "0123456789abcdef-30").exists()

    check(open_painted(Painted(), tmp_path))
    assert not list(tmp_path.glob("*.tmp-*"))  # the next build sweeps up


@pytest.mark.parametrize("name", ["pixels.u8", "index.npy", "meta.json"])
def test_a_damaged_cache_is_built_again(tmp_path: Path, name: str) -> None:
    open_painted(Painted(), tmp_path)
    file = tmp_path / "0123456789abcdef-30" / name
    file.write_bytes(file.read_bytes()[:20])
    check(open_painted(Painted(), tmp_path))
    file.unlink()
    check(open_painted(Painted(), tmp_path))


@pytest.mark.parametrize("name", ["index.npy", "meta.json", "pixels.u8"])
@pytest.mark.parametrize("content", [b"", b"\x93NUMPY", b"[" * 100_000, b"null", b"\0" * 300])
def test_whatever_a_cache_holds_it_is_opened_or_built_again(tmp_path: Path, name: str, content: bytes) -> None:
    open_painted(Painted(), tmp_path)
    (tmp_path / "0123456789abcdef-30" / name).write_bytes(content)
    check(open_painted(Painted(), tmp_path))


def test_too_little_room_is_refused_before_decoding_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9 - 1000, 1000))
    with pytest.raises(DataError) as caught:
        open_painted(Painted(log=tmp_path / "log"), tmp_path / "cache")
    message = str(caught.value)
    assert "needs about 0.1 MB for 40 images" in message
    assert f"'{tmp_path / 'cache'}' has 0.0 MB free" in message
    assert "--cache-dir, or pass --no-cache" in message
    assert len((tmp_path / "log").read_text().split()) < 40


def test_a_cache_that_cannot_be_written_is_refused_with_the_next_move(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match=r"cannot be written: .*--cache-dir, or pass --no-cache"):
        open_painted(Painted(), tmp_path / "file" / "cache")


def test_a_disk_that_fills_up_is_refused_and_left_clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DataError, match="No space left on device"):
        open_painted(Painted(), tmp_path)
    assert not list(tmp_path.glob("*.tmp-*"))


def test_the_cache_stands_where_the_environment_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISIONSWEEP_CACHE_DIR", str(tmp_path))
    assert default_cache_dir() == tmp_path
    monkeypatch.delenv("VISIONSWEEP_CACHE_DIR")
    assert default_cache_dir() == Path.home() / ".cache" / "visionsweep"
