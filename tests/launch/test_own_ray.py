"""The Ray that a search starts for itself: its folder, what it knows, and what it leaves. Real Ray, in processes of
their own."""

from __future__ import annotations

import fcntl
import os
import re
import stat
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from s3_server import client, keys, upload_folder
from support import lines, tiny_search, wait_until

from launch.machines import own_folder as module
from launch.machines.auth_token import close_token_file, has_token, own_token, use_token
from launch.machines.own_folder import MAX_PLACE, OLD_S, own_folder
from visionsweep.core.errors import ConfigError

pytestmark = pytest.mark.with_ray(turn=9)

BIN = Path(sys.executable).parent
# What the GCS of a Ray knows, as its own driver would be told it.
DUMP = """
import sys, ray
from ray._private import ray_constants
from ray._private import state
from ray.experimental.internal_kv import _internal_kv_get, _internal_kv_list
ray_constants.ENABLE_RAY_CLUSTER = False  # or it would look for 127.0.0.1 at this machine's other address
ray.init(address=sys.argv[1], log_to_driver=False, logging_level='ERROR')
known = state.state
print(known.job_table(), known.node_table(), known.actor_table(None), known.workers())
for space in (None, 'job', 'fun', 'package', 'dashboard', 'session', 'tracing', 'runtime_env', 'usage', 'cluster'):
    for key in _internal_kv_list(b'', namespace=space):
        print(space, key, _internal_kv_get(key, namespace=space))
print('THE WHOLE')
"""


def arguments(work: Path, epochs: int, *more: object) -> list[str]:
    (work / "s.py").write_text(tiny_search(task="binary", epochs=epochs))
    return [str(BIN / "visionsweep"), "run", "s.py", "--name", "s", "--no-cache", *map(str, more)]


def holds(text: bytes, secrets: list[str]) -> list[str]:
    return [secret for secret in secrets if secret.encode() in text]


def test_no_secret_of_the_environment_is_in_a_file_a_log_a_command_line_or_an_answer_of_ray(
    work: Path, bucket: str, short: Path
) -> None:
    """The search's data and run are on S3, so its trials need the keys, and have them."""
    # Every secret has a value that can be searched for.
    canary = {
        name: f"canary-{uuid.uuid4().hex}"
        for name in (
            "AWS_SECRET_ACCESS_KEY",
            "AWS_SESSION_TOKEN",
            "AWS_SECURITY_TOKEN",
            "WANDB_API_KEY",
            "MY_OWN_SECRET",
        )
    }
    password = f"canary-{uuid.uuid4().hex}"
    environment = {
        **os.environ, **canary, "VISIONSWEEP_CACHE_DIR": str(work / "cache"), "RAY_TMPDIR": str(short),
        "MLFLOW_TRACKING_URI": f"http://user:{password}@127.0.0.1:1", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    }  # fmt: skip
    # Search with them.
    upload_folder(work / "photos", bucket, "photos")
    place = ("--data", f"s3://{bucket}/photos", "--runs-dir", f"s3://{bucket}/runs", "--trials", 2, "--log", "mlflow")
    began = time.time()
    with (work / "out.log").open("wb") as out:
        running = subprocess.Popen(
            arguments(work, 60, *place), cwd=work, env=environment, stdout=out, stderr=out, start_new_session=True
        )
    try:
        wait_until(lambda: any(key.endswith("epochs.jsonl") for key in keys(bucket, "runs/")), running, 180)
        # While it runs, look at command lines, at Ray's folder and at Ray's answers.
        own = [pid for pid in Path("/proc").iterdir() if pid.name.isdigit() and session_of(pid) == running.pid]
        secrets = [*canary.values(), password, token_of(own)]
        for pid in own:
            assert not holds(read(pid / "cmdline"), secrets), read(pid / "cmdline")
        # Where no other search of this machine has its folder.
        (folder,) = [folder for folder in short.glob("vsw-*") if list(folder.glob("r/session_*"))]
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        looked_at = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
        assert {"runtime_env_agent.log", "raylet.out", "gcs_server.out"} <= {path.name for path in looked_at}
        assert {path: found for path in looked_at if (found := holds(read(path), secrets))} == {}
        dumped = subprocess.run(
            [sys.executable, "-c", DUMP, address_of(own)],
            env={**environment, "RAY_AUTH_TOKEN": secrets[-1], "RAY_AUTH_MODE": "token"},
            capture_output=True, timeout=120, check=False,
        )  # fmt: skip
        assert b"THE WHOLE" in dumped.stdout, dumped.stderr.decode()[-2000:]
        assert not holds(dumped.stdout, secrets)
        assert running.wait(timeout=240) == 0, (work / "out.log").read_text()
    finally:
        if running.poll() is None:
            running.kill()
            running.wait()
    # Afterwards, look at its output and at all files, here and on S3.
    said = (work / "out.log").read_text()
    assert "--log mlflow: cannot be written any more" in said
    assert "http://***@127.0.0.1:1" in said
    assert not folder.exists()
    left = [path for place in (work, *written_to_since(began)) for path in [place, *place.rglob("*")] if path.is_file()]
    assert {path: found for path in left if (found := holds(read(path), secrets))} == {}
    for key in keys(bucket, "runs/"):
        assert not holds(client().get_object(Bucket=bucket, Key=key)["Body"].read(), secrets), key


def session_of(pid: Path) -> int:
    try:
        return os.getsid(int(pid.name))
    except OSError:
        return -1


def read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # a socket, or gone by now
        return b""


def token_of(processes: list[Path]) -> str:
    values = [value for pid in processes for value in read(pid / "environ").split(b"\0")]
    return next(value for value in values if value.startswith(b"RAY_AUTH_TOKEN=")).decode().partition("=")[2]


def address_of(processes: list[Path]) -> str:
    words = [word for pid in processes for word in read(pid / "cmdline").split(b"\0")]
    return next(word for word in words if word.startswith(b"--gcs-address=")).decode().partition("=")[2]


def written_to_since(began: float) -> list[Path]:
    """Return what Ray, or Tune, may have written outside the given folder."""
    known = ("ray", "_ray_lockfiles", "visionsweep-*", "vsw-*", "mlflow*", "tune*")
    found = [path for name in known for path in Path(tempfile.gettempdir()).glob(name)]
    return [path for path in (*found, Path.home() / "ray_results") if path.exists() and path.stat().st_mtime >= began]


@pytest.mark.parametrize("variable", ["TMPDIR", "RAY_TMPDIR"])
def test_a_long_or_unwritable_folder_for_temporary_files_is_passed_over_with_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], variable: str
) -> None:
    for name in ("TMPDIR", "RAY_TMPDIR"):
        monkeypatch.delenv(name, raising=False)
    long = tmp_path / ("t" * 60)
    long.mkdir()
    for place, why in (
        (str(long), f"and the path of a socket leaves room for {MAX_PLACE}"),
        ("/proc/none", "cannot be"),
    ):
        monkeypatch.setenv(variable, place)
        with own_folder() as folder:
            assert folder.parent == Path("/tmp")
            assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        said = capsys.readouterr().err
        assert len(said.splitlines()) == 1
        assert f"Ray's folder cannot lie in {variable} ({place}): " in said
        assert why in said
        assert said.endswith("It takes /tmp instead.\n")


def test_where_no_folder_can_be_written_one_sentence_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_why_not", lambda path, most: "it cannot be written (Read-only file system)")
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    with (
        pytest.raises(ConfigError, match=r"cannot be written \(Read-only file system\)\. Set RAY_TMPDIR"),
        own_folder(),
    ):
        pass


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for temporary files with a short path."""
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="t") as folder:
        monkeypatch.setenv("RAY_TMPDIR", folder)
        yield Path(folder)


def test_what_a_killed_search_has_left_is_removed_and_nothing_else(short: Path) -> None:
    dead, alive, new, old, recent = (short / name for name in ("vsw-deaddead", "vsw-liveliv_", "vsw-newnewne", "visionsweep-a", "visionsweep-b"))  # fmt: skip
    for folder in (dead, alive, new, old, recent, short / "vsw-not", short / "mine"):
        folder.mkdir()
    for folder in (dead, alive):
        (folder / "lock").touch()
    os.utime(old, (time.time() - 2 * OLD_S,) * 2)
    (short / "vsw-linklink").symlink_to(short / "mine")
    with (alive / "lock").open("r+b") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with own_folder() as folder:
            left = {path.name for path in short.iterdir()}
    assert left == {alive.name, new.name, recent.name, "vsw-not", "mine", "vsw-linklink", folder.name}
    assert not folder.exists()


def test_a_search_that_is_killed_leaves_a_folder_that_the_next_one_removes(work: Path, short: Path) -> None:
    asked = arguments(work, 100_000, "--data", "photos", "--trials", 1)
    running = subprocess.Popen(asked, cwd=work, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: lines(work / "runs" / "s" / "epochs.jsonl"), running, 180)
    finally:
        running.kill()
        running.wait()
    assert list(short.glob("vsw-*"))
    with own_folder() as folder:
        wait_until(lambda: [path for path in short.glob("vsw-*") if path != folder] == [])


def test_without_a_home_a_search_runs_and_a_file_beside_the_data_changes_nothing(work: Path, short: Path) -> None:
    """And its driver, with one trial nothing to compare, has imported neither torch nor timm."""
    for name in ("analysis", "trainables", "torch", "ray"):
        (work / f"{name}.py").write_text("raise RuntimeError('the wrong file was imported')")
    (work / "launch").mkdir()
    (work / "launch" / "__init__.py").write_text("raise RuntimeError('the wrong file was imported')")
    environment = {**os.environ, "HOME": "/proc/nohome"}
    asked = [sys.executable, "-X", "importtime", *arguments(work, 1, "--data", "photos", "--trials", 1)]
    ran = subprocess.run(asked, cwd=work, env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr[-3000:]
    assert "trial 0000 complete" in ran.stdout
    imported = set(re.findall(r"^import time: .*\| +(\S+)$", ran.stderr, re.M))
    assert {"ray.tune", "optuna", "launch.search.tuning"} <= imported
    assert imported.isdisjoint({"torch", "torchvision", "timm", "torchmetrics", "albumentations", "sklearn"})
    assert list(short.iterdir()) == []


@pytest.mark.parametrize("home", ["/proc/nohome", "/" + "a" * 300])
def test_a_home_that_cannot_be_looked_into_is_no_error(home: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", home)
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_MODE"):
        monkeypatch.delenv(name, raising=False)
    use_token()
    close_token_file()
    assert not has_token()
    with own_token():
        assert len(os.environ["RAY_AUTH_TOKEN"]) == 64
    assert "RAY_AUTH_TOKEN" not in os.environ


def test_a_machine_that_is_short_of_memory_ends_a_trial_as_oom_after_half_the_batch(work: Path) -> None:
    environment = {**os.environ, "RAY_memory_usage_threshold": "0.01"}  # Ray then ends every process that it may
    asked = arguments(work, 100_000, "--data", "photos", "--trials", 1)
    ran = subprocess.run(asked, cwd=work, env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert "Traceback" not in ran.stdout + ran.stderr
    (ended,) = [row for row in lines(work / "runs" / "s" / "trials.jsonl") if row["event"] == "ended"]
    assert ended["status"] == "oom"
    assert ended["reason"] == "its machine ran low on memory, and Ray ended its process, at half the batch too"
