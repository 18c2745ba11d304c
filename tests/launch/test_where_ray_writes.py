"""Where Ray cannot keep its sockets, its files or its token, a command says so in one sentence."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from launch.machines.cluster import MAX_TMPDIR
from launch.machines.token import close_token_file, make_token, token_path, use_token
from search_spaces.errors import ConfigError

ROOT = Path(__file__).parents[2]
START = """
from launch.machines.cluster import local_ray, ready
from search_spaces.errors import ConfigError
try:
    with local_ray(num_cpus=1):
        ready()
except ConfigError as error:
    print(error)
"""
NOWHERE = "/proc/nowhere"  # no folder can be made there, by root neither


def started_with(**own: str) -> str:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    done = subprocess.run(
        [sys.executable, "-c", START], cwd=ROOT, env={**environment, **own}, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("variable", ["TMPDIR", "RAY_TMPDIR"])
def test_a_folder_whose_path_is_too_long_for_sockets_is_named_with_its_length(variable: str, tmp_path: Path) -> None:
    folder = tmp_path / ("t" * 60)
    folder.mkdir()
    said = started_with(**{variable: str(folder)}, RAY_AUTH_TOKEN="0" * 64)
    assert said == (
        f"Ray's sockets lie in the folder for temporary files, whose path may have {MAX_TMPDIR} characters, got {folder} "
        f"with {len(str(folder))}. Set RAY_TMPDIR to a shorter one, such as RAY_TMPDIR=/tmp."
    )


def test_a_folder_for_temporary_files_that_cannot_be_written_is_named() -> None:
    said = started_with(RAY_TMPDIR=NOWHERE, RAY_AUTH_TOKEN="0" * 64)
    assert said.startswith(
        "Ray's files are kept in the folder for temporary files, and /proc/nowhere cannot be written ("
    )
    assert said.endswith("Set RAY_TMPDIR to one that can, such as RAY_TMPDIR=/tmp.")


@pytest.fixture
def no_token(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_MODE"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def test_a_home_that_cannot_be_written_is_said_with_the_next_move(no_token: pytest.MonkeyPatch, tmp_path: Path) -> None:
    no_token.setenv("HOME", NOWHERE)
    with pytest.raises(ConfigError) as refused:
        make_token()
    assert str(refused.value) == (
        "Ray's token is kept in a file of its own, and /proc/nowhere/.ray/auth_token cannot be written (No such file or "
        "directory). Set RAY_AUTH_TOKEN_PATH to a file in a folder that can be written, or set HOME."
    )
    no_token.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "new" / "token"))
    make_token()
    assert (tmp_path / "new" / "token").stat().st_mode & 0o777 == 0o600


def test_a_user_without_a_home_is_told_what_to_set(no_token: pytest.MonkeyPatch) -> None:
    def nobody() -> Path:
        raise RuntimeError("Could not determine home directory.")

    no_token.setattr(Path, "home", nobody)
    with pytest.raises(ConfigError, match=r"this user has none\. Set HOME, or RAY_AUTH_TOKEN_PATH"):
        token_path()
    use_token()  # which every command does, also those that need no Ray
    close_token_file()


def test_a_token_that_others_can_read_and_nobody_can_close_is_refused(
    no_token: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refuse(self: Path, mode: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    token = tmp_path / "token"
    token.write_text("0" * 64)
    token.chmod(0o644)
    no_token.setenv("RAY_AUTH_TOKEN_PATH", str(token))
    no_token.setattr(Path, "chmod", refuse)
    with pytest.raises(ConfigError, match=r"others can read .*token \(Operation not permitted\)\. Run `chmod 600 "):
        close_token_file()
