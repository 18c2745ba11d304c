"""How the smoke tests run a benchmark: its own `main`, with a command line, in this process."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
BENCHMARKS = ROOT / "benchmarks"
DATA = ROOT.parent / "shared" / "data"

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
