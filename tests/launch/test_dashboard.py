"""`visionsweep dashboard`: a real optuna-dashboard server, queried over HTTP during the runs."""

from __future__ import annotations

import json
import logging
import threading
import urllib.error
import urllib.request
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support import Outcome

from launch.search.records import Records
from launch.tracking.dashboard import beside, server
from launch.tracking.journal import Journal
from search_spaces.grammar import Branch, Float
from search_spaces.search import Search
from visionsweep.core.errors import ConfigError, RunError

CLI = Callable[..., Outcome]
SEARCH = Search(
    task="multiclass",
    space={"optimizer": Branch({"sgd": {"lr": Float(1e-3, 0.3)}, "adam": {"lr": Float(1e-3, 0.3)}})},
    epochs=4,
).for_task("multiclass")
PARAMS = {"optimizer": "sgd", "optimizer/sgd/lr": 0.1}


def opened(run_dir: Path) -> Records:
    """Open a new or resumed run with its journal."""
    records = Records.open(run_dir)[0] if run_dir.exists() else Records.create(run_dir, {"search": {}})
    records.listen(Journal(run_dir / "study.journal", run_dir.name, SEARCH, list(records.trials.values())))
    return records


def trained(records: Records, trial_id: str, values: list[float], end: bool = True) -> None:
    if trial_id not in records.trials:
        records.proposed(trial_id, PARAMS, {"optimizer": {"name": "sgd", "lr": 0.1}}, "drawn")
        records.started(trial_id)
    for epoch, value in enumerate(values, start=1):
        records.epoch({"trial_id": trial_id, "epoch": epoch, "metrics": {"val/accuracy": value}, "seconds": 1.0})
    if end:
        records.ended(trial_id, "complete", "")


def closed(records: Records) -> None:
    records.close_listeners()


@contextmanager
def serving(*run_dirs: Path) -> Iterator[Callable[..., Any]]:
    """Serve the runs, and yield a function that queries the API: get(path) -> JSON."""
    with server(list(run_dirs), "127.0.0.1", 0) as listening:
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()

        def get(path: str, method: str = "GET", host: str | None = None) -> Any:
            request = urllib.request.Request(f"http://127.0.0.1:{listening.server_port}{path}", method=method)
            if host is not None:
                request.add_header("Host", host)
            with urllib.request.urlopen(request, timeout=20) as answer:
                text = answer.read()
                return json.loads(text) if path.startswith("/api") else text

        try:
            yield get
        finally:
            listening.shutdown()
            thread.join()


def studies(get: Callable[..., Any]) -> dict[str, dict[str, Any]]:
    """Return the studies by name, with their trials."""
    found = {}
    for summary in get("/api/studies")["study_summaries"]:
        detail = get(f"/api/studies/{summary['study_id']}")
        found[summary["study_name"]] = {"values": {}, "id": summary["study_id"]}
        for trial in detail["trials"]:
            values = [point["value"] for point in trial["intermediate_values"]]
            found[summary["study_name"]]["values"][trial["number"]] = (trial["state"], values)
    return found


def test_several_runs_stand_in_one_dashboard_and_grow_while_it_is_open(tmp_path: Path) -> None:
    first = opened(tmp_path / "first")
    second = opened(tmp_path / "second")
    trained(first, "0000", [0.5, 0.6])
    trained(second, "0000", [0.1])
    trained(first, "0001", [0.7], end=False)
    closed(second)
    closed(first)
    with serving(tmp_path / "first", tmp_path / "second") as get:
        assert b"<html" in get("/dashboard")
        found = studies(get)
        assert found["first"]["values"] == {0: ("Complete", [0.5, 0.6]), 1: ("Running", [0.7])}
        assert found["second"]["values"] == {0: ("Complete", [0.1])}

        # Resumed: its journal is written anew, with another trial. The other run's stays.
        again = opened(tmp_path / "first")
        again.ended("0001", "complete", "")
        trained(again, "0002", [0.9])
        closed(again)
        found = studies(get)
        assert sorted(found) == ["first", "second"]
        assert found["first"]["values"] == {
            0: ("Complete", [0.5, 0.6]), 1: ("Complete", [0.7]), 2: ("Complete", [0.9]),
        }  # fmt: skip
        assert found["second"]["values"] == {0: ("Complete", [0.1])}


def test_the_metric_has_its_name_and_arms_with_few_trials_are_no_flood_of_warnings(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    records = opened(tmp_path / "run")
    for number in range(6):
        name, lr = ("sgd", 0.01 * (number + 1)) if number else ("adam", 0.1)
        params = {"optimizer": name, f"optimizer/{name}/lr": lr}
        records.proposed(f"{number:04d}", params, {"optimizer": {"name": name, "lr": lr}}, "drawn")
        records.started(f"{number:04d}")
        trained(records, f"{number:04d}", [0.1 * number])
    closed(records)
    journal = tmp_path / "run" / "study.journal"
    lines = journal.read_text().splitlines(keepends=True)
    journal.write_text("".join(line for line in lines if "metric_names" not in line))  # as one of before 0.5
    optunas = logging.getLogger("optuna")  # which hands nothing on to pytest's
    optunas.addHandler(caplog.handler)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        with serving(tmp_path / "run") as get:
            (study,) = get("/api/studies")["study_summaries"]
            assert get(f"/api/studies/{study['study_id']}")["objective_names"] == ["val/accuracy"]
            (importances,) = get(f"/api/studies/{study['study_id']}/param_importances")["param_importances"]
            get(f"/api/studies/{study['study_id']}/plot/contour")
    optunas.removeHandler(caplog.handler)
    assert {one["name"] for one in importances} >= {"optimizer", "optimizer/sgd/lr"}
    noise = [message for message in caplog.messages if "unique value" in message]
    assert ([str(one.message) for one in warned], noise) == ([], [])


def test_it_only_looks_and_answers_this_machine_alone(tmp_path: Path) -> None:
    records = opened(tmp_path / "run")
    trained(records, "0000", [0.5])
    closed(records)
    journal = (tmp_path / "run" / "study.journal").read_bytes()
    with serving(tmp_path / "run") as get:
        with pytest.raises(urllib.error.HTTPError) as refused:
            get("/api/studies/0", method="DELETE")
        assert refused.value.code == 405
        refused.value.close()
        with pytest.raises(urllib.error.HTTPError) as refused:  # a page whose name was made to mean this machine
            get("/api/studies", host="evil.example:8080")
        assert refused.value.code == 403
        refused.value.close()
        assert get("/api/studies", host="localhost:8080")["study_summaries"]
        with pytest.raises(ConfigError, match=r"--port \d+: cannot be had .*Choose another, or 0 for any"):
            server([tmp_path / "run"], "localhost", port_of(get))
    assert (tmp_path / "run" / "study.journal").read_bytes() == journal


def port_of(get: Callable[..., Any]) -> int:
    """The port that a server of this test listens on."""
    closure = dict(zip(get.__code__.co_freevars, (cell.cell_contents for cell in get.__closure__ or ()), strict=True))
    return int(closure["listening"].server_port)


def test_runs_that_are_called_alike_keep_their_paths(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        records = opened(tmp_path / folder / "run")
        trained(records, "0000", [0.5])
        closed(records)
    with serving(tmp_path / "a" / "run", tmp_path / "b" / "run") as get:
        assert sorted(studies(get)) == [str(tmp_path / "a" / "run"), str(tmp_path / "b" / "run")]


def test_another_address_is_refused_with_the_way_to_reach_it(visionsweep: CLI, tmp_path: Path) -> None:
    refused = visionsweep("dashboard", tmp_path, "--host", "0.0.0.0")
    assert refused.code == 2
    assert "--host 0.0.0.0: optuna-dashboard asks nobody for a token" in refused.err
    assert "`ssh -L 8080:127.0.0.1:8080 THIS_MACHINE`" in refused.err
    with pytest.raises(RunError, match="is not a run directory"):
        server([tmp_path], "127.0.0.1", 0)
    Records.create(tmp_path / "old", {"search": {}})
    with pytest.raises(RunError, match=r"has no study\.journal\. `visionsweep resume .*old` writes it"):
        server([tmp_path / "old"], "127.0.0.1", 0)


def test_it_says_where_the_loggers_files_are(tmp_path: Path) -> None:
    assert "none of these runs was started with --log tensorboard" in beside([tmp_path])[0]
    (tmp_path / "tb").mkdir()
    assert beside([tmp_path]) == [f"TensorBoard's files: tensorboard --logdir {tmp_path / 'tb'}"]
