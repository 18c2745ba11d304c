"""Jobs on a cluster through the port of Ray's client, ray://HEAD:10001, where its dashboard cannot be reached.

An actor on the head talks to the dashboard there, as Ray's job client does here, and answers in plain values.
"""

from __future__ import annotations

import logging
import re
import socket
import warnings
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from launch.cli.signals import kept_handlers
from visionsweep.core.errors import ConfigError
from visionsweep.core.masked import masked

SCHEME = "ray://"
ANSWER_S = 10.0
CONNECT_S = 60
TRIES = 3
ON_HEAD = {"node:__internal_head__": 0.001}  # a resource that only Ray's head has


class ClientJobs:
    """The methods of Ray's JobSubmissionClient that `jobs.py` uses, forwarded to one on the head."""

    def __init__(self, actor: Any, get: Callable[[Any], Any]) -> None:
        self._actor = actor
        self._get = get

    def submit_job(
        self, *, entrypoint: str, submission_id: str, runtime_env: Mapping[str, Any], metadata: Mapping[str, str]
    ) -> str:
        """Submit a job. The `working_dir` of runtime_env is a folder of this machine, which is copied to the head."""
        files = _contents(Path(runtime_env["working_dir"]))
        call = self._actor.submit.remote(entrypoint, submission_id, files, runtime_env["env_vars"], dict(metadata))
        return str(self._get(call))

    def list_jobs(self) -> list[SimpleNamespace]:
        return [SimpleNamespace(**job) for job in self._get(self._actor.jobs.remote())]

    def get_job_info(self, job_id: str) -> SimpleNamespace:
        return SimpleNamespace(**self._get(self._actor.job.remote(job_id)))

    def stop_job(self, job_id: str) -> bool:
        return bool(self._get(self._actor.stop.remote(job_id)))

    def get_job_logs(self, job_id: str) -> str:
        return str(self._get(self._actor.log.remote(job_id)))

    async def tail_job_logs(self, job_id: str) -> AsyncIterator[str]:
        """Yield what a job prints, as it is printed, until it ends."""
        while (piece := self._get(self._actor.more.remote(job_id))) is not None:
            yield str(piece)


def connect(url: str) -> ClientJobs:
    """Connect to ray://HOST:PORT.

    Raises ConfigError where no server of Ray's client answers there, or it refuses us.
    """
    found = re.fullmatch(r"ray://([^/\s]+):(\d{1,5})", url)
    if found is None:
        raise ConfigError(
            f"the address of a Ray client's server is ray://HOST:PORT, got '{masked(url)}'. Its port is 10001."
        )
    try:
        socket.create_connection((found[1].strip("[]"), int(found[2])), ANSWER_S).close()  # Ray itself tries longer
    except (OSError, OverflowError) as error:
        raise _no_answer(url, error) from None
    try:
        import grpc  # noqa: F401 (Ray's client reports only later that it is missing)
        import ray
    except ImportError as error:
        raise ConfigError(
            f"Ray's client is not installed ({error}). Install it: pip install 'ray[client]' --constraint "
            "constraints.txt."
        ) from None
    logging.getLogger("ray").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", "Ray Client connection timed out")  # the error repeats it
    try:
        with kept_handlers():
            _join(url)
        actor = ray.remote(num_cpus=0, resources=ON_HEAD)(_desk()).remote()
        ray.get(actor.ready.remote(), timeout=CONNECT_S)
    except Exception as error:  # grpc's, Ray's
        raise _no_answer(url, error) from None
    return ClientJobs(actor, ray.get)


def _join(url: str) -> None:
    """Connect, with retries: a new head accepts connections some seconds before it can start a process for each."""
    import ray

    for attempt in range(TRIES):
        try:
            ray.init(url, log_to_driver=False, logging_level=logging.ERROR)
            return
        except Exception as error:
            if "Starting Ray client server failed" not in str(error) or attempt == TRIES - 1:
                raise
            ray.shutdown()


def _no_answer(url: str, error: BaseException) -> ConfigError:
    why = " ".join(masked(str(error)).split())[-300:] or type(error).__name__
    return ConfigError(
        f"no Ray client's server answers at {masked(url)} ({why}). `ray start --head` starts one on port 10001, of "
        "the same versions of Ray and Python as here; a cluster that asks for a token wants its own in "
        "~/.ray/auth_token. Where the dashboard can be reached, http://HEAD:8265 does as well."
    )


def _contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _desk() -> type:
    """Return the actor's class.

    A class that is made inside a function is pickled with its code. So the head need not have our package.
    """

    class Desk:
        def __init__(self) -> None:
            from ray._private.services import get_webui_url_from_internal_kv
            from ray.job_submission import JobSubmissionClient

            self.client: Any = JobSubmissionClient(f"http://{get_webui_url_from_internal_kv()}")
            self.tails: dict[str, Any] = {}

        def ready(self) -> None: ...

        def submit(
            self,
            entrypoint: str,
            job_id: str,
            files: dict[str, bytes],
            env_vars: dict[str, str],
            metadata: dict[str, str],
        ) -> str:
            import tempfile
            from pathlib import Path

            with tempfile.TemporaryDirectory() as folder:
                for name, raw in files.items():
                    Path(folder, name).parent.mkdir(parents=True, exist_ok=True)
                    Path(folder, name).write_bytes(raw)
                environment = {"working_dir": folder, "env_vars": env_vars}
                return str(
                    self.client.submit_job(
                        entrypoint=entrypoint, submission_id=job_id, runtime_env=environment, metadata=metadata
                    )
                )

        def jobs(self) -> list[dict[str, Any]]:
            return [self._plain(job) for job in self.client.list_jobs()]

        def job(self, job_id: str) -> dict[str, Any]:
            return self._plain(self.client.get_job_info(job_id))

        def stop(self, job_id: str) -> bool:
            return bool(self.client.stop_job(job_id))

        def log(self, job_id: str) -> str:
            return str(self.client.get_job_logs(job_id))

        async def more(self, job_id: str) -> str | None:
            pieces = self.tails.setdefault(job_id, self.client.tail_job_logs(job_id))
            return await anext(pieces, None)

        def _plain(self, job: Any) -> dict[str, Any]:
            return {
                "submission_id": job.submission_id,
                "status": job.status.value,
                "message": job.message,
                "metadata": dict(job.metadata or {}),
                "start_time": job.start_time,
                "end_time": job.end_time,
            }

    return Desk
