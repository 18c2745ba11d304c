"""`run --log`: what TensorBoard, MLflow and Weights & Biases read of a search, each with its own library."""

from __future__ import annotations

import json
import logging
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import Outcome

from launch.search.records import Records
from launch.tracking import loggers
from launch.tracking.loggers import Loggers, check_loggers
from visionsweep.core.errors import ConfigError

pytestmark = pytest.mark.with_ray

CLI = Callable[..., Outcome]
SEARCH = {"search": {"metric": "val/accuracy", "mode": "max"}}
PARAMS = {"optimizer": "sgd", "optimizer/sgd/lr": 0.1, "batch_size": 16, "merge": None}


def logged(run_dir: Path, *names: str) -> Records:
    """Open a run, new or resumed, that writes to these loggers."""
    records = Records.open(run_dir)[0] if run_dir.exists() else Records.create(run_dir, SEARCH)
    records.listen(Loggers(names, run_dir))
    return records


def closed(records: Records) -> None:
    (listener,) = records.listeners
    assert isinstance(listener, Loggers)
    records.close_listeners()
    assert not any(thread.failed or thread.is_alive() for thread in listener.threads)


def trained(records: Records, trial_id: str, epochs: range, status: str = "complete") -> None:
    if trial_id not in records.trials:
        records.proposed(trial_id, PARAMS, {"optimizer": {"name": "sgd", "lr": 0.1}}, "drawn")
    records.started(trial_id)
    for epoch in epochs:
        metrics = {"val/accuracy": epoch / 10, "val/iou/left & right": 0.5}
        row: dict[str, Any] = {"trial_id": trial_id, "epoch": epoch, "metrics": metrics, "seconds": 1.5, "lr": 0.01}
        records.epoch(row)
    records.ended(trial_id, status, "because" if status != "complete" else "")


def two_sessions(run_dir: Path, name: str) -> None:
    """Log two trials, of which one is interrupted after two epochs and resumed for a third."""
    records = logged(run_dir, name)
    trained(records, "0000", range(1, 4))
    trained(records, "0001", range(1, 3), "interrupted")
    closed(records)
    records = logged(run_dir, name)
    trained(records, "0001", range(3, 4))
    closed(records)


def test_tensorboard_shows_every_epoch_of_every_trial(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    two_sessions(tmp_path / "run", "tensorboard")
    for trial_id in ("0000", "0001"):
        events = EventAccumulator(str(tmp_path / "run" / "tb" / trial_id))
        events.Reload()
        shown = [(event.step, round(event.value, 3)) for event in events.Scalars("val/accuracy")]
        assert shown == [(1, 0.1), (2, 0.2), (3, 0.3)]
        assert [event.value for event in events.Scalars("seconds")] == [1.5] * 3
        assert [round(event.value, 3) for event in events.Scalars("best/val/accuracy")] == [0.1, 0.2, 0.3]
        wall = events.Scalars("val/accuracy")[0].wall_time
        assert abs(wall - time.time()) < 600


def test_tensorboards_table_of_trials_has_the_score_first_and_the_parameters_of_all(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
    from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
    from tensorboard.context import RequestContext
    from tensorboard.plugins.base_plugin import TBContext
    from tensorboard.plugins.hparams.backend_context import Context

    records = logged(tmp_path / "run", "tensorboard")
    records.proposed("0001", {"optimizer": "adam", "optimizer/adam/beta": 0.9}, {}, "drawn")
    trained(records, "0000", range(1, 3))
    trained(records, "0001", range(1, 3))
    closed(records)
    folder = str(tmp_path / "run" / "tb")
    multiplexer = EventMultiplexer().AddRunsFromDirectory(folder)
    multiplexer.Reload()
    asked = RequestContext()
    table = Context(TBContext(logdir=folder, data_provider=MultiplexerDataProvider(multiplexer, folder)))
    found = table.experiment_from_metadata(asked, "", True, table.hparams_metadata(asked, ""), None)
    assert found.metric_infos[0].name.tag == "best/val/accuracy"
    assert {info.name for info in found.hparam_infos} == {*PARAMS, "optimizer/adam/beta"}


def test_mlflow_keeps_a_run_per_trial_in_a_database_of_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(loggers, "CLOSE_S", 120.0)  # making the database takes a busy machine a while
    two_sessions(tmp_path / "run", "mlflow")
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'run' / 'mlruns' / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("run")
    assert experiment is not None
    runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    assert sorted(runs) == ["0000", "0001"]
    for run in runs.values():
        history = client.get_metric_history(run.info.run_id, "val/accuracy")
        assert [(one.step, one.value) for one in history] == [(1, 0.1), (2, 0.2), (3, 0.3)]
        assert run.data.params["optimizer/sgd/lr"] == "0.1"
        assert run.data.metrics["val/iou/left _ right"] == 0.5
        assert (run.info.status, run.data.tags["status"]) == ("FINISHED", "complete")
    assert not (tmp_path / "mlruns").exists(), "nothing beside the run"


def test_weights_and_biases_is_written_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setattr(loggers, "CLOSE_S", 120.0)
    two_sessions(tmp_path / "run", "wandb")
    folders = sorted((tmp_path / "run" / "wandb").glob("offline-run-*"))
    assert len(folders) == 3, "one per trial and session"
    rows = [row for folder in folders for row in history_of(next(folder.glob("*.wandb")))]
    assert sorted((row["_step"], row["val/accuracy"]) for row in rows) == [
        (1, 0.1), (1, 0.1), (2, 0.2), (2, 0.2), (3, 0.3), (3, 0.3),
    ]  # fmt: skip
    assert all(row["lr"] == 0.01 for row in rows)


def history_of(path: Path) -> list[dict[str, Any]]:
    """Return the rows of an offline file.

    It has a head of 7 bytes, then LevelDB's records (crc, length, kind) of W&B's messages.
    """
    from wandb.proto.wandb_internal_pb2 import Record

    raw = path.read_bytes()
    rows = []
    at = 7
    assert raw[:4] == b":W&B"
    assert len(raw) < 32768, "one block, in which every record is whole"
    while at < len(raw):
        length, kind = struct.unpack_from("<4xHB", raw, at)
        assert kind == 1
        record = Record()
        record.ParseFromString(raw[at + 7 : at + 7 + length])
        at += 7 + length
        if record.HasField("history"):
            named = {item.key or "/".join(item.nested_key): item.value_json for item in record.history.item}
            rows.append({name: json.loads(value) for name, value in named.items()})
    return rows


def test_a_logger_that_fails_is_a_line_in_the_log_and_the_records_go_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    records = Records.create(tmp_path / "run", SEARCH)
    (tmp_path / "run" / "tb").write_text("a file where the folder should be")
    records.listen(Loggers(["tensorboard"], tmp_path / "run"))
    with caplog.at_level(logging.WARNING):
        trained(records, "0000", range(1, 4))
        records.close_listeners()
    assert len(records.trials["0000"].epochs) == 3
    (line,) = [record.getMessage() for record in caplog.records if record.name == "launch.tracking.loggers"]
    assert line.startswith("--log tensorboard: cannot be written any more (")
    assert line.endswith("; the search continues without it")


class Slow:
    """A logger whose disk has stopped answering."""

    def __init__(self, run_dir: Path) -> None: ...
    def epoch(self, trial: object, row: object) -> None:
        time.sleep(20)

    def close(self) -> None: ...


def test_a_search_waits_for_no_logger(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(loggers.LOGGERS, "slow", Slow)
    monkeypatch.setattr(loggers, "CLOSE_S", 0.3)
    records = Records.create(tmp_path / "run", {"search": {}})
    records.listen(Loggers(["slow"], tmp_path / "run"))
    started = time.monotonic()
    trained(records, "0000", range(1, 20))
    with caplog.at_level(logging.WARNING):
        records.close_listeners()
    assert time.monotonic() - started < 5
    assert "--log slow: is still writing after 0 s and is left behind" in caplog.text


def test_a_logger_that_is_not_there_is_refused_before_anything_starts(
    visionsweep: CLI, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = visionsweep("run", "quickstart", "--log", "tensorbord", "--name", "x")
    assert wrong.code == 2
    assert "unknown logger 'tensorbord'. Did you mean 'tensorboard'?" in wrong.err
    assert not (tmp_path / "runs").exists()
    monkeypatch.setitem(loggers.MODULES, "wandb", "wandb_is_not_installed_here")
    with pytest.raises(
        ConfigError, match=r"--log wandb needs the package .* pip install -e '\.\[wandb\]' --constraint"
    ):
        check_loggers(["wandb"])


@pytest.mark.usefixtures("ray_session")
def test_a_real_search_tells_its_loggers(visionsweep: CLI, photos: Path, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (tmp_path / "tiny.py").write_text(
        "from search_spaces import Float, Search\n"
        "SEARCH = Search(task='classification', epochs=2, grace_epochs=2, fixed={'image_size': 32}, space={\n"
        "    'model': {'backbone': 'test_resnet', 'weights': 'none'}, 'batch_size': 8,\n"
        "    'optimizer': {'name': 'adam', 'lr': Float(1e-3, 1e-2)}})\n"
    )
    asked = ("--trials", 2, "--max-concurrent", 1, "--name", "t", "--log", "tensorboard")
    ran = visionsweep("run", "tiny.py", "--data", photos, *asked)
    assert ran.code == 0, ran.err
    rows = json.loads(visionsweep("rank", "runs/t", "--json").out)
    for row in rows:
        events = EventAccumulator(str(tmp_path / "runs" / "t" / "tb" / row["trial_id"]))
        events.Reload()
        assert [event.step for event in events.Scalars("val/loss")] == [1, 2]
    assert json.loads((tmp_path / "runs" / "t" / "search.json").read_text())["options"]["log"] == ["tensorboard"]
