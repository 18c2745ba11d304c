"""Helpers of the tests: small folders of images, and checks of a command's output and files."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from search_spaces import Float

# The space of a search file of tests. `{**TINY_SPACE, "batch_size": 4}` changes a part of it.
TINY_SPACE: dict[str, Any] = {
    "model": {"backbone": "test_resnet"},
    "optimizer": {"name": "sgd", "lr": Float(0.01, 0.1)},
    "batch_size": 8,
}


ROOMS = ("visionsweep", "search_spaces", "trainables", "launch", "analysis")
# past the first a file is named after the tests, past the second a test fails
MANY_LINES = 250
MAX_LINES = 400


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str


def command_in(folder: Path, *arguments: object) -> Outcome:
    """Run the command line in this process, in `folder` with its own cache, for fixtures of many tests."""
    from launch.cli import main

    out = io.StringIO()
    err = io.StringIO()
    code = 0
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.chdir(folder)
        patch.setenv("VISIONSWEEP_CACHE_DIR", str(folder / "cache"))
        patch.setattr(sys, "argv", ["visionsweep", *map(str, arguments)])
        try:
            main()
        except SystemExit as ended:
            code = int(ended.code or 0)
    return Outcome(code, out.getvalue(), err.getvalue())


def tiny_search(**changes: Any) -> str:
    """Return the source of a search file over a tiny network that trains for one epoch.

    changes: arguments of `Search` in place of these. epochs is the grace period too unless that is given, so that no
    trial is pruned.
    """
    arguments = {
        "task": "classification",
        "space": TINY_SPACE,
        "fixed": {"model": {"weights": "none"}, "image_size": 32},
        "epochs": 1,
        **changes,
    }
    arguments.setdefault("grace_epochs", arguments["epochs"])
    listed = "".join(f"    {name}={value!r},\n" for name, value in arguments.items())
    return f"from search_spaces import Branch, Float, Int, Maybe, Pick, Search\n\nSEARCH = Search(\n{listed})\n"


def tiny_config(**changes: Any) -> dict[str, Any]:
    """Return the configuration of a trial that trains a tiny network for two epochs, with these keys changed."""
    return {
        "task": "binary",
        "model": {"backbone": "test_resnet", "weights": "none"},
        "optimizer": {"name": "adam", "lr": 0.003},
        "epochs": 2,
        "batch_size": 8,
        "image_size": 32,
        **changes,
    }


def long_files(root: Path) -> dict[str, int]:
    """Files of the rooms with more than MANY_LINES lines, the longest first."""
    paths = (path for room in ROOMS for path in (root / room).rglob("*.py"))
    lengths = {path.relative_to(root).as_posix(): len(path.read_text().splitlines()) for path in paths}
    long = {name: number for name, number in lengths.items() if number > MANY_LINES}
    return dict(sorted(long.items(), key=lambda one: -one[1]))


def make_photos(folder: Path, counts: dict[str, int], size: tuple[int, int] = (40, 32)) -> Path:
    """Write DIR/class/NN.png. Each class has its own dominant colour."""
    rng = np.random.default_rng(sum(str(folder.name).encode()))  # no two folders hold copies of one image
    for channel, (name, count) in enumerate(counts.items()):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            pixels = rng.integers(0, 120, (size[1], size[0], 3), dtype=np.uint8)
            pixels[..., channel % 3] += 120
            Image.fromarray(pixels).save(folder / name / f"{number:02d}.png")
    return folder


def lines(path: Path) -> list[dict[str, Any]]:
    """Return the complete lines of a .jsonl that may be written meanwhile, none if it does not exist."""
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def wait_until(holds: Callable[[], object], running: subprocess.Popen[Any] | None = None, seconds: float = 90) -> None:
    """Wait until `holds()` is true. running: a process without which it never will be."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it did not come"
        assert running is None or running.poll() is None, "the process has ended"
        time.sleep(0.1)


def moved(run_dir: Path) -> bool:
    """Whether a trial has epochs of two processes."""
    pids: dict[str, set[int]] = {}
    for row in lines(run_dir / "epochs.jsonl"):
        pids.setdefault(row["trial_id"], set()).add(row["pid"])
    return any(len(found) > 1 for found in pids.values())


def make_sides(folder: Path, noise: int, brighter: int) -> Path:
    """Write forty scenes with masks: noise below a grey value, with a brighter place to the left or right."""
    rng = np.random.default_rng(0)
    for number in range(40):
        image = rng.integers(0, noise, (32, 32, 3), dtype=np.uint8)
        mask = np.zeros((32, 32), np.uint8)
        place = np.s_[8:24, 4:14] if number % 2 else np.s_[8:24, 18:28]
        image[place] += brighter
        mask[place] = 1 + number % 2
        mask[:3, :3] = 255
        for room, array in (("images", image), ("masks", mask)):
            (folder / room).mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(folder / room / f"{number:02d}.png")
    (folder / "classes.txt").write_text("background\nleft\nright\n")
    return folder
