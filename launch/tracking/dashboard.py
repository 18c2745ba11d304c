"""`visionsweep dashboard`: optuna-dashboard on the journals of one or more runs, on this machine alone.

It is read-only: a request that would change a study is refused. Journals of running searches are read as they grow.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from optuna.storages import JournalStorage
from optuna.storages.journal import BaseJournalBackend
from rich.console import Console

from launch.tracking.journal import METRIC_NAMES
from visionsweep.core.errors import ConfigError, RunError
from visionsweep.core.files import json_or_error, one_line
from visionsweep.run_dir.files import STUDY_FILE
from visionsweep.run_dir.trials import read_search

_log = logging.getLogger(__name__)

LOOPBACK = ("127.0.0.1", "localhost")
# Operations of Optuna's journal (optuna.storages.journal._storage.JournalOperation).
CREATE_STUDY = 0
DELETE_STUDY = 1
SET_USER_ATTRIBUTE = 2  # of a study
SET_SYSTEM_ATTRIBUTE = 3
CREATE_TRIAL = 4


class Journals(BaseJournalBackend):
    """Several runs' study.journal files as one journal, in which every run is a study.

    Each file counts its studies and trials from zero. Here they get new numbers. A file that was replaced, as `resume`
    does, is read anew, and its old study is removed. A damaged file is shown up to the damage, the other runs whole.
    Nothing is ever written.
    """

    def __init__(self, files: dict[str, Path]) -> None:
        """Take the files: journals by the names that their studies get."""
        self.files = {name: _File(path) for name, path in files.items()}
        self.logs: list[dict[str, Any]] = []
        self.num_studies = self.num_trials = 0

    def read_logs(self, log_number_from: int) -> Iterable[dict[str, Any]]:
        for name, file in self.files.items():
            if file.was_replaced():
                if file.study is not None:
                    self.logs.append({"op_code": DELETE_STUDY, "worker_id": name, "study_id": file.study})
                self.files[name] = file = _File(file.path)
            for log in file.new_logs():
                self._take(name, file, log)
        return self.logs[log_number_from:]

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        raise RuntimeError("the dashboard only looks")

    def _take(self, name: str, file: _File, log: dict[str, Any]) -> None:
        if "trial_id" in log and log["trial_id"] not in range(len(file.trials)):
            return  # Optuna ignores operations on a trial that was never created
        if log["op_code"] == CREATE_STUDY:
            file.study = self.num_studies
            log = {**log, "study_name": name}
            self.num_studies += 1
        elif log["op_code"] == CREATE_TRIAL:
            file.trials.append(self.num_trials)
            self.num_trials += 1
        if "study_id" in log:
            log = {**log, "study_id": file.study}
        if "trial_id" in log:
            log = {**log, "trial_id": file.trials[log["trial_id"]]}
        self.logs.append(log)
        if log["op_code"] == SET_USER_ATTRIBUTE and "objectives" in log["user_attr"]:  # unnamed metrics, before 0.5
            names = {METRIC_NAMES: log["user_attr"]["objectives"]}
            self.logs.append({**log, "op_code": SET_SYSTEM_ATTRIBUTE, "system_attr": names})


class _Sound(BaseJournalBackend):
    """Lines of one journal that Optuna can read. Each is tried on a storage of the journal's own."""

    def __init__(self) -> None:
        self.logs: list[dict[str, Any]] = []
        self.storage = JournalStorage(self)

    def add(self, log: Any) -> str | None:
        """Append a line, or return why it is invalid."""
        if not isinstance(log, dict):
            return str(log) if isinstance(log, ValueError) else "it is no JSON object"
        for key in ("op_code", "study_id", "trial_id"):
            if type(log.get(key, 0)) is not int:  # Optuna takes 1.0 and true for trial 1
                return f"its {key} is {log[key]!r}, and no whole number"
        self.logs.append(log)
        try:
            self.storage.get_all_studies()  # reads the line
        except Exception as error:  # Optuna's replay of nonsense may raise anything
            self.logs.pop()
            return one_line(repr(error))
        return None

    def read_logs(self, log_number_from: int) -> Iterable[dict[str, Any]]:
        return self.logs[log_number_from:]

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        raise RuntimeError("the dashboard only looks")


class _File:
    """One journal, read from where the last read ended. It holds one study, that of a run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.offset = 0
        self.first_line = b""
        self.study: int | None = None
        self.trials: list[int] = []  # the merged number of each of its trials
        self.sound = _Sound()
        self.is_damaged = False

    def was_replaced(self) -> bool:
        """Whether the first line, which says who made the study, has changed.

        Inode and size do not tell: a new file may have the old one's inode, or be longer.
        """
        return self._read(0, len(self.first_line)) not in (b"", self.first_line)

    def new_logs(self) -> list[dict[str, Any]]:
        if self.is_damaged:
            return []
        text = self._read(self.offset)
        whole = text[: text.rfind(b"\n") + 1]  # a line that is being written comes with the next look
        self.offset += len(whole)
        self.first_line = self.first_line or whole.partition(b"\n")[0]
        before = len(self.sound.logs)
        for line in whole.splitlines():
            problem = self.sound.add(json_or_error(line))
            if problem:
                self.is_damaged = True
                number = len(self.sound.logs) + 1
                _log.warning(f"{self.path}, line {number}: is damaged ({problem}). What stands before it is shown.")
                break
        return self.sound.logs[before:]

    def _read(self, offset: int, size: int = -1) -> bytes:
        try:
            with self.path.open("rb") as file:
                file.seek(offset)
                return file.read(size)
        except FileNotFoundError:  # about to be written anew
            return b""


def watched(run_dirs: list[Path]) -> dict[str, Path]:
    """Return the runs' journals by name: the folder's, or the path if two have the same name.

    Raises RunError for a folder that is no run, or a run without a journal.
    """
    for run_dir in run_dirs:
        read_search(run_dir)
        if not (run_dir / STUDY_FILE).is_file():
            raise RunError(f"{run_dir}: has no study.journal. `visionsweep resume {run_dir}` writes it.")
    paths = list(dict.fromkeys(run_dir.resolve() for run_dir in run_dirs))
    names = [path.name for path in paths]
    return {path.name if names.count(path.name) == 1 else str(path): path / STUDY_FILE for path in paths}


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None: ...


def server(run_dirs: list[Path], host: str, port: int) -> WSGIServer:
    """Return the dashboard's server, which listens; `serve_forever` serves. port: 0 takes a free one.

    Raises ConfigError for an address that others could reach, a port that is taken, or a missing package.
    """
    if host not in LOOPBACK:
        raise ConfigError(
            f"--host {host}: optuna-dashboard asks nobody for a token, so it listens on this machine alone. From "
            f"another one: `ssh -L {port}:127.0.0.1:{port} THIS_MACHINE`, then http://localhost:{port}."
        )
    journals = watched(run_dirs)
    # Every view draws and judges anew, and would warn each time of every arm with few trials.
    warnings.filterwarnings("ignore", message="Some regimes for parameter")
    logging.getLogger("optuna.visualization").setLevel(logging.ERROR)
    try:
        from optuna_dashboard import wsgi
    except ImportError:
        raise ConfigError(
            "dashboard needs the package optuna-dashboard, which is not installed: "
            "pip install -e '.[dashboard]' --constraint constraints.txt."
        ) from None
    app = only_looking(wsgi(JournalStorage(Journals(journals))))
    try:
        return make_server("127.0.0.1", port, app, server_class=_Server, handler_class=_Quiet)
    except OSError as error:
        raise ConfigError(f"--port {port}: cannot be had ({error.strerror}). Choose another, or 0 for any.") from None


def only_looking(app: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a WSGI app to refuse requests that would change a study, or that ask for another host name.

    A page of another site sends the latter under its own name.
    """

    def guarded(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        host = environ.get("HTTP_HOST", "").rpartition(":")[0] or environ.get("HTTP_HOST", "")
        if host not in LOOPBACK:
            return _refuse(start_response, "403 Forbidden", "this address is not for others")
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            return _refuse(start_response, "405 Method Not Allowed", "this dashboard only looks")
        return app(environ, start_response)

    return guarded


def _refuse(start_response: Callable[..., Any], status: str, reason: str) -> list[bytes]:
    start_response(status, [("Content-Type", "application/json")])
    return [json.dumps({"reason": reason}).encode()]


def serve(run_dirs: list[Path], host: str, port: int, console: Console) -> None:
    """Serve the dashboard until Ctrl-C."""
    with server(run_dirs, host, port) as listening:
        console.print(f"http://127.0.0.1:{listening.server_port}  (Ctrl-C ends it)", style="bold green")
        for line in beside(run_dirs):
            console.print(line, style="dim", soft_wrap=True)
        try:
            listening.serve_forever()
        except KeyboardInterrupt:
            console.print("Stopped.")


def beside(run_dirs: list[Path]) -> list[str]:
    """Return how to look at what `run --log` wrote in these runs."""
    lines = []
    for run_dir in run_dirs:
        if (run_dir / "tb").is_dir():
            lines.append(f"TensorBoard's files: tensorboard --logdir {run_dir / 'tb'}")
        if (run_dir / "mlruns").is_dir():
            lines.append(
                f"MLflow's: mlflow ui --backend-store-uri sqlite:///{(run_dir / 'mlruns/mlflow.db').resolve()}"
            )
        if (run_dir / "wandb").is_dir():
            lines.append(f"Weights & Biases': wandb sync {run_dir / 'wandb'}/offline-run-*")
    return lines or ["TensorBoard: none of these runs was started with --log tensorboard."]
