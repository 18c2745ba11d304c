"""`run --log NAME`: every trial and epoch also for TensorBoard, MLflow or Weights & Biases, inside the run directory.

    tensorboard   RUN/tb/TRIAL/events...
    mlflow        RUN/mlruns/mlflow.db, or the server of $MLFLOW_TRACKING_URI
    wandb         RUN/wandb/offline-run-..., or live where $WANDB_MODE says so

These are copies for viewing, like the study's journal. Each has a thread of its own, so the search never waits for it.
One that fails is a line in the log.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import queue
import re
import threading
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from launch.tracking.listener import snapshot
from visionsweep.core.errors import ConfigError
from visionsweep.core.masked import masked_line
from visionsweep.core.names import COSTS, pick
from visionsweep.run_dir.trials import Trial, read_search

_log = logging.getLogger(__name__)

CLOSE_S = 10.0  # how long the end of a search waits for pending writes


class TensorBoard:
    """An event file per trial and session, in Google's format as tensorboardX writes it.

    The best score so far is a scalar of its own, whose name stands before the others in TensorBoard's alphabet.
    """

    def __init__(self, run_dir: Path) -> None:
        from tensorboardX import SummaryWriter
        from tensorboardX.summary import hparams

        self.folder = run_dir / "tb"
        self.new_writer = SummaryWriter
        self.hparams = hparams
        self.writers: dict[str, Any] = {}
        search = read_search(run_dir).get("search", {})
        self.metric = str(search.get("metric", ""))
        self.mode = str(search.get("mode", "max"))

    def epoch(self, trial: Trial, row: Mapping[str, Any]) -> None:
        if trial.trial_id not in self.writers:
            # A name of its own: two sessions within a second would otherwise overwrite each other.
            own = f".{os.getpid()}.{time.monotonic_ns()}"
            folder = str(self.folder / trial.trial_id)
            self.writers[trial.trial_id] = self.new_writer(folder, flush_secs=5, filename_suffix=own)
        best = trial.best(self.metric, self.mode)
        score = {} if best is None else {f"best/{self.metric}": best[0]}
        for name, value in {**score, **scalars(row)}.items():
            self.writers[trial.trial_id].add_scalar(name, value, row["epoch"], walltime=row.get("time"))

    def ended(self, trial: Trial) -> None:
        writer = self.writers.pop(trial.trial_id, None)
        if writer is not None:
            # TensorBoard's table of trials. Its first part would name one trial's parameters as those of all: without
            # it TensorBoard collects them.
            _, began, done = self.hparams(plain(trial.params), {})
            writer.file_writer.add_summary(began)
            writer.file_writer.add_summary(done)
            writer.close()

    def close(self) -> None:
        for writer in self.writers.values():
            writer.close()


class Mlflow:
    """An MLflow run per trial. A resumed trial continues its run."""

    def __init__(self, run_dir: Path) -> None:
        # MLflow 3.17's own models use a loader that SQLAlchemy 2.1 calls deprecated.
        warnings.filterwarnings("ignore", message="The ``noload`` loader strategy is deprecated")
        from mlflow import MlflowClient
        from mlflow.entities import Metric, Param, RunTag

        self.metric = Metric
        self.param = Param
        self.tag = RunTag
        for name in ("mlflow", "alembic"):  # they log every table that they create
            logging.getLogger(name).setLevel(logging.WARNING)
        folder = run_dir / "mlruns"
        name = run_dir.name
        uri = os.environ.get("MLFLOW_TRACKING_URI")
        if uri is None:
            folder.mkdir(exist_ok=True)
            uri = f"sqlite:///{folder / 'mlflow.db'}"
        self.client = MlflowClient(tracking_uri=uri)
        known = self.client.get_experiment_by_name(name)
        self.experiment = known.experiment_id if known is not None else self.client.create_experiment(name)
        self.runs: dict[str, str] = {}

    def epoch(self, trial: Trial, row: Mapping[str, Any]) -> None:
        now = int(1000 * row.get("time", time.time()))
        # Names of classes may hold characters that MLflow refuses.
        named = {re.sub(r"[^\w\-. /:]", "_", name): value for name, value in scalars(row).items()}
        metrics = [self.metric(name, value, now, row["epoch"]) for name, value in named.items()]
        self.client.log_batch(self._run(trial), metrics)

    def ended(self, trial: Trial) -> None:
        run = self._run(trial)
        self.client.log_batch(run, tags=[self.tag("status", trial.status), self.tag("reason", trial.reason)])
        status = {"complete": "FINISHED", "pruned": "FINISHED", "interrupted": "KILLED"}.get(trial.status, "FAILED")
        self.client.set_terminated(run, status)

    def close(self) -> None: ...

    def _run(self, trial: Trial) -> str:
        if trial.trial_id not in self.runs:
            asked = f"tags.trial_id = '{trial.trial_id}'"
            found = self.client.search_runs([self.experiment], asked, max_results=1)
            if found:
                self.runs[trial.trial_id] = found[0].info.run_id
            else:
                run = self.client.create_run(
                    self.experiment, run_name=trial.trial_id, tags={"trial_id": trial.trial_id}
                )
                self.runs[trial.trial_id] = run.info.run_id
                params = [self.param(name, str(value)) for name, value in trial.params.items()]
                self.client.log_batch(run.info.run_id, params=params)
        return self.runs[trial.trial_id]


class Wandb:
    """A W&B run per trial and session, all of a search in one group. `wandb sync RUN/wandb/offline-*` sends them."""

    def __init__(self, run_dir: Path) -> None:
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # no reports of its own errors either
        import wandb

        self.wandb = wandb
        self.run_dir = run_dir
        self.runs: dict[str, Any] = {}

    def epoch(self, trial: Trial, row: Mapping[str, Any]) -> None:
        if trial.trial_id not in self.runs:
            mode: Any = os.environ.get("WANDB_MODE", "offline")  # nothing is sent unasked
            self.runs[trial.trial_id] = self.wandb.init(
                project=os.environ.get("WANDB_PROJECT", "visionsweep"),
                group=self.run_dir.name,
                name=f"{self.run_dir.name}-{trial.trial_id}",
                dir=str(self.run_dir),
                config=dict(trial.config),
                mode=mode,
                reinit="create_new",  # trials run side by side
                settings=self.wandb.Settings(
                    silent=True, console="off", disable_git=True, disable_code=True, x_disable_stats=True
                ),
            )
        self.runs[trial.trial_id].log(scalars(row), step=row["epoch"])

    def ended(self, trial: Trial) -> None:
        run = self.runs.pop(trial.trial_id, None)
        if run is not None:
            run.summary.update({"status": trial.status, "reason": trial.reason})
            run.finish(exit_code=int(trial.status not in ("complete", "pruned")))

    def close(self) -> None:
        for run in self.runs.values():
            run.finish(exit_code=1)
        self.wandb.teardown()


LOGGERS: dict[str, Any] = {"tensorboard": TensorBoard, "mlflow": Mlflow, "wandb": Wandb}
MODULES = {"tensorboard": "tensorboardX", "mlflow": "mlflow", "wandb": "wandb"}


def scalars(row: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers of an epoch's line."""
    others = {name: row[name] for name in ("lr", "seconds", "images_per_s", *COSTS) if row.get(name) is not None}
    return {**row["metrics"], **others}


def plain(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return parameters as TensorBoard's table takes them."""
    return {name: value if isinstance(value, (bool, int, float, str)) else str(value) for name, value in params.items()}


def check_loggers(names: Sequence[str]) -> None:
    """Raise ConfigError for an unknown logger, or one whose package is not installed."""
    for name in names:
        module = pick(MODULES, name, "logger")
        if importlib.util.find_spec(module) is None:
            raise ConfigError(
                f"--log {name} needs the package {module}, which is not installed. Leave it out, or install it: "
                f"pip install -e '.[{name}]' --constraint constraints.txt."
            )


class Loggers:
    """Receiver of everything that is recorded, with a thread per logger.

    Every method returns at once, but for `close`.
    """

    def __init__(self, names: Sequence[str], run_dir: Path) -> None:
        self.threads = [_LoggerThread(name, run_dir.resolve()) for name in dict.fromkeys(names)]

    def proposed(self, trial: Trial) -> None:
        """Do nothing: a logger begins with a trial's first epoch."""

    def epoch(self, trial: Trial, row: Mapping[str, Any]) -> None:
        for thread in self.threads:
            thread.tell("epoch", snapshot(trial), dict(row))

    def ended(self, trial: Trial) -> None:
        for thread in self.threads:
            thread.tell("ended", snapshot(trial))

    def close(self) -> None:
        """Wait for pending writes. Raises nothing, and leaves behind a logger that is not done after CLOSE_S."""
        deadline = time.monotonic() + CLOSE_S
        for thread in self.threads:
            thread.queue.put(None)
        for thread in self.threads:
            thread.join(max(0.0, deadline - time.monotonic()))
            if thread.is_alive():
                _log.warning("--log %s: is still writing after %.0f s and is left behind", thread.kind, CLOSE_S)


class _LoggerThread(threading.Thread):
    def __init__(self, kind: str, run_dir: Path) -> None:
        super().__init__(name=f"log-{kind}", daemon=True)
        self.kind = kind
        self.run_dir = run_dir
        self.failed = False
        self.queue: queue.SimpleQueue[tuple[Any, ...] | None] = queue.SimpleQueue()
        self.start()

    def tell(self, *message: Any) -> None:
        if not self.failed:
            self.queue.put(message)

    def run(self) -> None:
        logger = None
        try:
            logger = LOGGERS[self.kind](self.run_dir)
            while (message := self.queue.get()) is not None:
                getattr(logger, message[0])(*message[1:])
        except Exception as error:
            self.failed = True
            why = masked_line(error, 300)
            _log.warning("--log %s: cannot be written any more (%s); the search continues without it", self.kind, why)
        finally:
            with contextlib.suppress(Exception):
                if logger is not None:
                    logger.close()
