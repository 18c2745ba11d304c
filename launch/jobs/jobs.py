"""Jobs on a cluster from a laptop, through the one open port: send, look at and stop them.

The port is that of the cluster's dashboard, or of Ray's client. A job is a command that Ray runs on the head. It keeps
running when the sender disconnects.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import shlex
import shutil
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import search_spaces
from launch.jobs import ray_client
from launch.machines.auth_token import has_token, token_path
from visionsweep.core.errors import ConfigError, RunError, VisionsweepError
from visionsweep.core.masked import masked, masked_line
from visionsweep.core.names import did_you_mean

ANSWER_S = 10.0
AGENT_S = 60.0
URL_VARIABLES = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")  # as Ray's own `ray job` reads them
ROOMS = ("visionsweep", "search_spaces", "trainables", "launch", "analysis")
RUN_DIR = "visionsweep_run_dir"  # in a job's metadata: the run that it works on
ENDED = ("STOPPED", "SUCCEEDED", "FAILED")
# Ray asks a job to end with SIGTERM, and kills it after this time: 3 seconds by default. A search needs longer, to end
# its trials after their current batch and print its ranking.
STOP_WAIT_S = 120
# A job's command is for a shell, whose `python` need not be the one that Ray was started with. Ray's own Python is
# found by the library that the shell's parent, a process of Ray, has loaded.
PYTHON = r"""
libraries=$(sed -n 's|.* \(/.*\)/ray/_raylet.so$|\1|p' /proc/$PPID/maps 2>/dev/null | head -n 1)
python=${libraries%/lib*/python3*}/bin/python
[ -n "$libraries" ] && [ -x "$python" ] || python=$(command -v python || command -v python3)
exec "$python" "$@"
"""


def cluster_url(given: str | None) -> str:
    """Return the address of a cluster's dashboard, from --cluster or from Ray's own variables.

    Raises ConfigError where there is none, or for another kind of address.
    """
    source = "--cluster"
    url = given
    for name in URL_VARIABLES:
        if url is None and os.environ.get(name):
            source = name
            url = os.environ[name]
    if url is None:
        raise ConfigError(
            f"no cluster is named. Add --cluster http://HEAD:8265, the address of its dashboard, or set "
            f"{URL_VARIABLES[0]}."
        )
    if source == "--cluster" and "://" not in url:
        url = f"http://{url}"
    if not url.startswith(("http://", "https://", ray_client.SCHEME)):
        raise ConfigError(
            f"{source} takes the address of a cluster's dashboard, got '{masked(url)}'. Give it as --cluster "
            "http://HEAD:8265, or as ray://HEAD:10001 where that is the port that can be reached."
        )
    return url.rstrip("/")


def connect(url: str) -> Any:
    """Return Ray's job client, or its equivalent through the port of Ray's client.

    Raises ConfigError where no Ray answers at the address, or it refuses our token.
    """
    if url.startswith(ray_client.SCHEME):
        return ray_client.connect(url)
    try:
        import aiohttp  # noqa: F401 (Ray's client reports only later that it is missing)
        from ray.exceptions import AuthenticationError
        from ray.job_submission import JobSubmissionClient
    except ImportError as error:
        raise ConfigError(
            f"Ray's job client is not installed ({error}). Install it: pip install 'ray[default]' "
            "--constraint constraints.txt."
        ) from None
    _look_at(url)
    for name in ("dashboard.modules.dashboard_sdk", "dashboard.modules.job.sdk", "_private.runtime_env.packaging"):
        logging.getLogger(f"ray.{name}").setLevel(logging.ERROR)
    try:
        with _only_address(url):
            return JobSubmissionClient(url)
    except AuthenticationError:
        what = "the one of this machine is not its own" if has_token() else "this machine has none"
        raise ConfigError(
            f"the cluster at {masked(url)} asks for its token, and {what}. Copy the head's "
            f"~/.ray/auth_token to {token_path() or '~/.ray/auth_token'} and close it to others (chmod 600)."
        ) from None
    except Exception as error:
        raise _no_ray(url, error) from None


def _look_at(url: str) -> None:
    """Check that Ray answers at the address, before a token is sent.

    Ray's own client would wait forever for a silent machine.
    """
    try:
        with urllib.request.urlopen(f"{url}/api/version", timeout=ANSWER_S) as answer:
            if b"ray_version" not in answer.read(10_000):
                raise _no_ray(url, "something else does")
    except urllib.error.HTTPError as error:
        error.close()
        if error.code not in (401, 403):
            raise _no_ray(url, error) from None
    except (OSError, ValueError) as error:
        raise _no_ray(url, getattr(error, "reason", error)) from None


def _no_ray(url: str, why: object) -> ConfigError:
    return ConfigError(
        f"no Ray dashboard answers at {masked(url)} ({masked_line(why)}). Give --cluster the address of the head's, "
        "http://HEAD:8265; `ray dashboard cluster.yaml` brings it to http://localhost:8265."
    )


@contextmanager
def _only_address(url: str) -> Iterator[None]:
    """Set Ray's address variable to `url` in the body, because its client prefers the variable to its argument."""
    before = os.environ.get(URL_VARIABLES[0])
    os.environ[URL_VARIABLES[0]] = url
    try:
        yield
    finally:
        if before is None:
            del os.environ[URL_VARIABLES[0]]
        else:
            os.environ[URL_VARIABLES[0]] = before


@contextmanager
def asking(url: str) -> Iterator[None]:
    """Turn errors between this machine and the cluster into a RunError."""
    try:
        yield
    except VisionsweepError:
        raise
    except Exception as error:  # Ray's, requests', aiohttp's
        why = " ".join(masked(str(error)).split())
        raise RunError(
            f"the cluster at {masked(url)} could not do that ({why[-300:]}). Try again, or look there."
        ) from None


def send(
    client: Any, url: str, name: str, arguments: Sequence[str], files: Mapping[str, Path], metadata: Mapping[str, str]
) -> str:
    """Run `python -m ARGUMENTS` on the cluster's head and return the job's id: the name and a random suffix.

    client     see `connect`
    url        of the cluster, for messages
    name       of the job
    arguments  of the command
    files      to copy there, by their names there; our code is copied too
    metadata   of the job
    """
    job = f"{_plain(name)}-{secrets.token_hex(3)}"
    with tempfile.TemporaryDirectory(prefix="visionsweep-") as folder, asking(url):
        _stage(Path(folder), files)
        end = time.monotonic() + AGENT_S
        while True:
            try:
                return str(
                    client.submit_job(
                        entrypoint=f"exec sh python.sh -m {shlex.join(arguments)}",
                        submission_id=job,
                        # The working directory and not Ray's py_modules: Python imports from the working directory
                        # first, and the head may have been started in a folder with an older copy of this code.
                        runtime_env={"working_dir": folder, "env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": str(STOP_WAIT_S)}},
                        metadata=dict(metadata),
                    )
                )
            except RuntimeError as error:  # a head's job agent starts some seconds after its dashboard
                if "No available agent" not in str(error) or time.monotonic() > end:
                    raise
                time.sleep(1)


def _stage(folder: Path, files: Mapping[str, Path]) -> None:
    root = Path(search_spaces.__file__).parents[1]
    for room in ROOMS:
        shutil.copytree(root / room, folder / room, ignore=shutil.ignore_patterns("__pycache__"))
    for name, path in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, folder / name)
    (folder / "python.sh").write_text(PYTHON)
    # Metadata with the version of the copied code, whatever is installed there.
    ours = version("visionsweep")
    about = folder / f"visionsweep-{ours}.dist-info" / "METADATA"
    about.parent.mkdir()
    about.write_text(f"Metadata-Version: 2.1\nName: visionsweep\nVersion: {ours}\n")


def find(client: Any, url: str, wanted: str) -> Any:
    """Return the job with that id, or the newest job of the run with that name or directory. Raises RunError."""
    with asking(url):
        ours = [job for job in client.list_jobs() if job.submission_id and RUN_DIR in (job.metadata or {})]
    by_id = [job for job in ours if job.submission_id == wanted]
    by_run = [job for job in ours if wanted.rstrip("/") in (job.metadata[RUN_DIR], Path(job.metadata[RUN_DIR]).name)]
    found = by_id or sorted(by_run, key=lambda job: int(job.start_time or 0))
    if not found:
        known = [str(job.submission_id) for job in ours]
        hint = did_you_mean(wanted, known) if known else "`visionsweep submit` sends one."
        raise RunError(f"no job '{wanted}' on the cluster at {masked(url)}. {hint}")
    return found[-1]


def state(job: Any) -> str:
    """Return the job's state: PENDING, RUNNING or one of ENDED."""
    return str(getattr(job.status, "value", job.status))


def stop(client: Any, url: str, job_id: str) -> str:
    """Ask a job to end, wait until it has, and return its state."""
    with asking(url):
        client.stop_job(job_id)
        end = time.monotonic() + STOP_WAIT_S + 10
        while (now := state(client.get_job_info(job_id))) not in ENDED and time.monotonic() < end:
            time.sleep(0.5)
    return now


def follow(client: Any, job_id: str) -> Iterator[str]:
    """Yield a job's log in pieces, as they are written, until the job ends."""
    loop = asyncio.new_event_loop()
    pieces = client.tail_job_logs(job_id)
    try:
        while True:
            try:
                yield loop.run_until_complete(anext(pieces))
            except StopAsyncIteration:
                return
    finally:
        loop.run_until_complete(pieces.aclose())
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


def _plain(name: str) -> str:
    """Return the name with only characters that are safe in a URL, a file name and a shell."""
    return "".join(letter if letter.isascii() and (letter.isalnum() or letter in "-_.") else "-" for letter in name)
