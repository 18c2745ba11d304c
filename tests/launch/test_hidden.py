"""Files of the user's that are called as one of our packages, or as a library."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from launch.cli.hidden import ROOT
from launch.cli.loading import load_search
from visionsweep.core.errors import ConfigError

SHADOW = "raise RuntimeError('the wrong file was imported')"
BIN = Path(sys.executable).parent


def said(folder: Path, *command: str, **environment: str) -> tuple[int, str]:
    known = {"PATH": "/usr/bin:/bin", "HOME": str(folder)}
    ended = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, env={**known, **environment}
    )
    return ended.returncode, ended.stdout + ended.stderr


@pytest.mark.parametrize(
    "name", ["analysis", "trainables", "search_spaces", "visionsweep", "torch", "rich", "struct", "json"]
)
def test_a_file_beside_the_data_hides_nothing_from_the_command_and_is_named_where_it_would(
    tmp_path: Path, name: str
) -> None:
    (tmp_path / f"{name}.py").write_text(SHADOW)
    code, out = said(tmp_path, str(BIN / "visionsweep"), "spaces")
    assert code == 0, out
    assert "quickstart" in out
    for command, environment in (
        ((sys.executable, "-m", "launch.cli", "spaces"), {"PYTHONPATH": str(ROOT)}),
        ((str(BIN / "visionsweep"), "spaces"), {"PYTHONPATH": ":"}),
    ):
        code, out = said(tmp_path, *command, **environment)
        if "the wrong file was imported" in out:
            assert name in ("json", "struct"), "only what Python needs to start at all"
            continue
        assert code == 2, out
        assert out.startswith(f"visionsweep: {tmp_path / name}.py hides "), out
        assert len(out.splitlines()) == 1


def test_a_folder_without_modules_hides_nothing(tmp_path: Path) -> None:
    (tmp_path / "torch").mkdir()
    (tmp_path / "analysis").mkdir()
    code, out = said(tmp_path, sys.executable, "-m", "launch.cli", "spaces", PYTHONPATH=str(ROOT))
    assert code == 0, out


def test_a_neighbour_of_a_search_that_takes_a_librarys_name_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "cmaes", raising=False)
    (tmp_path / "cmaes.py").write_text("X = 1")
    (tmp_path / "mine.py").write_text("import cmaes\n")
    with pytest.raises(ConfigError, match=r"cmaes\.py hides the library 'cmaes': Python finds it first\. Rename it"):
        load_search(str(tmp_path / "mine.py"))
