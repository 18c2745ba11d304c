"""The name that people import, and the command line under that name."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest
from support import Outcome

import search_spaces
import visionsweep
from visionsweep.run_dir.load import load_run

ROOT = Path(__file__).parents[1]


def test_public_names_are_those_of_the_rooms() -> None:
    assert visionsweep.load_run is load_run
    for name in ("Branch", "Float", "Int", "Maybe", "Pick", "Search", "recipe"):
        assert getattr(visionsweep, name) is getattr(search_spaces, name)
    assert visionsweep.__version__ == version("visionsweep")


def test_every_public_name_is_listed_and_can_be_had() -> None:
    assert set(visionsweep.__all__) <= set(dir(visionsweep))
    for name in visionsweep.__all__:
        assert getattr(visionsweep, name) is not None


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'visionsweep' has no attribute 'Serach'"):
        visionsweep.Serach  # noqa: B018


def test_importing_it_loads_no_room_and_no_library() -> None:
    code = "import sys, visionsweep; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert loaded.isdisjoint({"search_spaces", "trainables", "launch", "analysis", "numpy", "pandas", "torch", "ray"})


def test_the_command_says_its_version(visionsweep: Callable[..., Outcome]) -> None:
    said = visionsweep("--version")
    assert (said.code, said.out) == (0, f"visionsweep {version('visionsweep')}\n")


@pytest.mark.parametrize("name", ["launch", "search_spaces", "torch", "typer"])
def test_python_m_visionsweep_is_the_command_and_a_file_beside_the_data_hides_nothing(
    tmp_path: Path, name: str
) -> None:
    (tmp_path / f"{name}.py").write_text("raise RuntimeError('the wrong file was imported')")
    done = subprocess.run(
        [sys.executable, "-m", "visionsweep", "spaces"],
        cwd=tmp_path, env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "quickstart" in done.stdout


def test_a_clone_of_that_name_in_the_current_folder_hides_nothing(tmp_path: Path) -> None:
    """Python takes a folder without __init__.py for a package where no later place has a real one."""
    (tmp_path / "visionsweep").symlink_to(ROOT)
    code = "import visionsweep; print(visionsweep.__version__, visionsweep.load_run.__name__)"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.split() == [version("visionsweep"), "load_run"], done.stderr
