"""cluster.yaml as Ray reads it, as a shell reads its commands, and as `ray up` executes it.

An ssh and an rsync that only log their arguments are used, so no machine is touched.
"""

from __future__ import annotations

import os
import re
import shlex
import stat
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "cluster.yaml").read_text()
CONFIG: dict[str, Any] = yaml.safe_load(TEXT)
COMMANDS = [
    (kind, command)
    for kind in ("initialization_commands", "setup_commands", "head_start_ray_commands", "worker_start_ray_commands")
    for command in CONFIG.get(kind, [])
]
STARTS = [command for _, command in COMMANDS if "ray start" in command]
PLACEHOLDER = re.compile(r"\b[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+\b")
OURS = {"RAY_AUTH_MODE", "RAY_USAGE_STATS_ENABLED", "RAY_HEAD_IP"}  # names of variables, not placeholders

# Replaces ssh and rsync: logs its arguments.
NOTE = """#!/bin/sh
printf '%s %s\\n' "$(basename "$0")" "$*" >> "$NOTED"
"""


def command_with(words: str, kind: str = "setup_commands") -> str:
    return next(command for where, command in COMMANDS if where == kind and words in command)


def run(command: str, home: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", command], env={**os.environ, "HOME": str(home)}, capture_output=True, text=True, check=False
    )


def by_ray(config: dict[str, Any]) -> dict[str, Any]:
    """Do what `ray up` does before it contacts a machine: fill in defaults, then check Ray's own schema."""
    from ray.autoscaler._private.util import prepare_config, validate_config

    filled: dict[str, Any] = prepare_config(config)
    validate_config(filled)
    return filled


def test_ray_fills_it_in_and_finds_it_valid() -> None:
    filled = by_ray(CONFIG)
    nodes = filled["available_node_types"][filled["head_node_type"]]
    num_workers = len(CONFIG["provider"]["worker_ips"])
    assert CONFIG["min_workers"] == CONFIG["max_workers"] == num_workers, "Ray would correct them with a warning"
    assert nodes["min_workers"] == nodes["max_workers"] == filled["max_workers"] == num_workers
    for kind in ("head_start_ray_commands", "worker_start_ray_commands"):
        assert filled[kind] == CONFIG[kind], "none of Ray's defaults, which know no token"


@pytest.mark.parametrize("wrong", [{"file_mount": {}}, {"max_workers": "two"}, {"setup_commands": "ls"}])
def test_ray_would_refuse_a_wrong_key_or_value(wrong: dict[str, Any]) -> None:
    from jsonschema import ValidationError

    with pytest.raises((ValidationError, TypeError)):
        by_ray({**CONFIG, **wrong})


@pytest.mark.parametrize(("kind", "command"), COMMANDS)
def test_a_shell_can_parse_every_command(kind: str, command: str) -> None:
    done = subprocess.run(["bash", "-n", "-c", f"({command})"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{kind}: {command}\n{done.stderr}"


def test_every_start_asks_for_the_token_before_ray_starts() -> None:
    assert len(STARTS) == 2, "one of the head, one of a worker"
    for command in STARTS:
        before, _, _ = command.partition("ray start")
        assert "RAY_AUTH_MODE=token" in shlex.split(before[before.index("export") :].replace(";", " ; "))


def test_the_dashboard_and_the_head_are_not_opened_to_the_world() -> None:
    (head,) = [command for command in STARTS if "--head" in command]
    assert "--dashboard-host=127.0.0.1" in shlex.split(head)
    assert "0.0.0.0" not in TEXT
    assert "--ray-debugger-external" not in TEXT


def test_the_token_reaches_the_default_place_and_is_closed_there(tmp_path: Path) -> None:
    from ray._private.authentication.authentication_token_setup import _get_default_token_path

    token = Path("~/.ray/auth_token")
    assert CONFIG["file_mounts"] == {str(token): str(token)}
    assert token.expanduser() == _get_default_token_path()
    (tmp_path / ".ray").mkdir(mode=0o755)
    (tmp_path / ".ray" / "auth_token").write_text("abc")
    (tmp_path / ".ray" / "auth_token").chmod(0o644)
    assert run(command_with("auth_token"), tmp_path).returncode == 0
    assert stat.S_IMODE((tmp_path / ".ray" / "auth_token").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / ".ray").stat().st_mode) == 0o700


def test_a_machine_without_the_shared_folder_is_told_so(tmp_path: Path) -> None:
    check = command_with("test -w")
    missing = run(check.replace("SHARED_FOLDER", str(tmp_path / "nowhere")), tmp_path)
    assert missing.returncode == 1
    assert "nowhere is not here" in missing.stdout
    assert run(check.replace("SHARED_FOLDER", str(tmp_path)), tmp_path).returncode == 0


def test_setting_a_machine_up_twice_adds_one_line_to_its_shell(tmp_path: Path) -> None:
    (tmp_path / ".bashrc").write_text("# mine\n")
    for _ in range(2):
        assert run(command_with(".bashrc"), tmp_path).returncode == 0
    mine, ours = (tmp_path / ".bashrc").read_text().splitlines()
    shell = run(f'. ~/.bashrc; printf "%s %s" "$RAY_AUTH_MODE" "{"${PATH%%:*}"}"', tmp_path)
    assert (mine, ours.split()[0]) == ("# mine", "export")
    assert shell.stdout == f"token {tmp_path}/visionsweep/.venv/bin"


def test_what_it_installs_is_there(tmp_path: Path) -> None:
    words = shlex.split(command_with("pip install"))
    assert (ROOT / words[words.index("--constraint") + 1]).is_file()
    (extra,) = re.findall(r"\.\[(\w+)\]", words[words.index("--editable") + 1])
    assert extra in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]


def test_every_placeholder_is_named_at_the_top() -> None:
    top, _, _ = TEXT.partition("# Once, on the machine")
    used = {name for name in PLACEHOLDER.findall(yaml.safe_dump(CONFIG, width=1000)) if name not in OURS}
    assert used == set(PLACEHOLDER.findall(top))
    assert {"HEAD_HOST", "SSH_USER", "GIT_URL"} <= used


def test_it_names_no_machine_and_no_package_index() -> None:
    paths = re.findall(r"(?<![\w~./:])/(?:home|root|work|opt|Users|mnt)\b\S*", TEXT)
    addresses = [url for url in re.findall(r"\w+://\S+", TEXT) if not url.startswith("http://localhost:")]
    assert (paths, addresses) == ([], [])
    assert not re.search(r"index-url|find-links|trusted-host|\b\d{1,3}(\.\d{1,3}){3}\b(?<!127\.0\.0\.1)", TEXT)


def test_ray_up_sends_the_token_then_sets_up_then_starts_the_head(tmp_path: Path) -> None:
    """Ray has no dry run, so this is `ray up` itself, with an ssh and an rsync that only log their arguments."""
    for name in ("ssh", "rsync"):
        (tmp_path / name).write_text(NOTE)
        (tmp_path / name).chmod(0o755)
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("abc")
    (tmp_path / "key").write_text("key")
    filled = TEXT.replace("HEAD_HOST", "127.0.0.1").replace("SSH_KEY", str(tmp_path / "key"))
    (tmp_path / "cluster.yaml").write_text(filled.replace("WORKER_1_HOST", "127.0.0.2"))
    own = {"HOME": tmp_path, "RAY_TMPDIR": tmp_path, "TMPDIR": tmp_path, "NOTED": tmp_path / "noted"}
    path = os.environ["PATH"]
    done = subprocess.run(
        [Path(sys.executable).with_name("ray"), "up", "--yes", "--no-config-cache", tmp_path / "cluster.yaml"],
        env={**os.environ, **{name: str(place) for name, place in own.items()}, "PATH": f"{tmp_path}:{path}"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    noted = (tmp_path / "noted").read_text()
    steps = ["auth_token SSH_USER@127.0.0.1:~/.ray/auth_token", "chmod 600 ~/.ray/auth_token", "git clone", "ray start"]
    assert [noted.count(step) for step in steps] == [1, 1, 1, 1], noted
    assert sorted(steps, key=noted.index) == steps
    # The last word counts, and it is ours: Ray puts its own variables before the command.
    assert re.findall(r"RAY_enable_autoscaler_v2=(\d)", noted)[-1] == "0"
    assert "@127.0.0.2" not in noted, "the head sets the workers up, not this machine"
