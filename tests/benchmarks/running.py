"""How the smoke tests run a benchmark: its own `main`, with a command line, in this process."""

from __future__ import annotations

import csv
import importlib
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import make_photos

ROOT = Path(__file__).parents[2]
BENCHMARKS = ROOT / "benchmarks"
DATA = ROOT.parent / "shared" / "data"

Sides = tuple[np.ndarray, np.ndarray]

needs_curves = pytest.mark.skipif(not (DATA / "hpo").is_dir(), reason=f"the learning curves are not at {DATA}/hpo")


def main_of(name: str, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return benchmarks/NAME.py as a function of its command line.

    Importing it here saves a start of Python, and the imports that it shares with other benchmarks.
    """
    module = importlib.import_module(f"benchmarks.{name}")

    def call(*arguments: object) -> None:
        monkeypatch.setattr(sys, "argv", [str(BENCHMARKS / f"{name}.py"), *map(str, arguments)])
        module.main()

    return call


def drawn_set(
    root: Path, places: Iterable[tuple[int, int]], is_test: Callable[[int], bool], features: Callable[[Sides], Sides]
) -> Path:
    """Write a set 'drawn' of 120 photos of three classes, and the kept features of its frozen backbones. Return root.

    root      gets many/drawn and features/
    places    number and size in pixels of each backbone, which name its file of features
    is_test   whether the image of a number is in the test split
    features  of the class numbers of (train, test), each (n, num_features)
    """
    folder = make_photos(root / "many" / "drawn", dict.fromkeys("abc", 40))
    files = sorted(folder.glob("*/*"))
    with (folder / "split.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["image", "label", "split"])
        for number, path in enumerate(files):
            table.writerow([path.relative_to(folder), path.parent.name, "test" if is_test(number) else "train"])
    of_class = np.arange(120) // 40
    sides = np.array([is_test(number) for number in range(120)])
    (root / "features").mkdir()
    for number, px in places:
        train, test = features((of_class[~sides], of_class[sides]))
        np.savez(root / "features" / f"drawn-lite{number}-{px}.npz", train=train, test=test)
    return root


class InThisProcess:
    """A substitute for `subprocess` where a benchmark starts `visionsweep`, so that one Ray serves all of them."""

    def __init__(self, visionsweep: Callable[..., Any]) -> None:
        self.visionsweep = visionsweep
        self.commands = list[list[str]]()
        self.DEVNULL = subprocess.DEVNULL

    def run(self, command: list[str], *, check: bool, **options: Any) -> None:
        assert check
        assert self.Popen(command, **options).wait() == 0

    def Popen(self, command: list[str], **options: Any) -> _Ended:  # noqa: N802 (its name in `subprocess`)
        program, *arguments = map(str, command)
        assert Path(program).name == "visionsweep"
        argv = sys.argv
        try:
            ended = self.visionsweep(*arguments)
        finally:
            sys.argv = argv
        self.commands.append(arguments)
        return _Ended(ended.code, ended.err)


class _Ended:
    def __init__(self, returncode: int, err: str) -> None:
        self.returncode = returncode
        self.err = err

    def wait(self) -> int:
        assert self.returncode == 0, self.err
        return self.returncode
