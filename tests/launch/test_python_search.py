"""Searches from Python that train: in a script, in a thread, beside other work, and stopped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import TINY_SPACE, lines, make_photos, wait_until

import visionsweep as vs
from launch.python.handle import RunningSearch

pytestmark = pytest.mark.with_ray

ROOT = Path(__file__).parents[2]
FIXED = {"model": {"weights": "none"}, "image_size": 32}


def tiny(epochs: int) -> vs.Search:
    return vs.Search(task="classification", space=TINY_SPACE, fixed=FIXED, epochs=epochs, grace_epochs=epochs)


def environment(folder: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "VISIONSWEEP_CACHE_DIR": str(folder / "cache")}


SCRIPT = """
import json, threading
from pathlib import Path
import numpy as np
import visionsweep as vs

space = {"model": {"backbone": "test_resnet"}, "optimizer": {"name": "sgd", "lr": vs.Float(0.01, 0.1)}, "batch_size": 8}
fixed = {"model": {"weights": "none"}, "image_size": 32}
mine = vs.Search(task="classification", space=space, fixed=fixed, epochs=9, grace_epochs=2)
rows, threads, found = [], set(), []

def work():
    run = vs.search(
        "photos", mine, trials=2, set={"epochs": 2, "batch_size": vs.Pick(4, 8)}, name="mine", max_concurrent=2,
        on_epoch=lambda row: (rows.append((row["trial_id"], row["epoch"])), threads.add(threading.current_thread().name)),
    )
    found.append(run)

thread = threading.Thread(target=work, name="work")
thread.start()
thread.join()
run = found[0]
state, html = run.status().state, run._repr_html_()
more = []

def enough(row):
    more.append(row["trial_id"])
    raise LookupError("enough")

try:
    vs.resume(run, trials=1, on_epoch=enough, quiet=True)
except LookupError as error:
    more.append(str(error))
counts = run.status().counts
model = run.export("exports/mine")
frame = model.predict(["new/*/*.png", np.zeros((20, 20, 3), np.uint8)])
print(json.dumps({
    "state": state, "counts": counts, "more": more, "rows": sorted(rows), "threads": sorted(threads),
    "ranked": vs.ranking(run)["trial_id"].tolist(), "sizes": sorted(run.ranking()["batch_size"].tolist()),
    "recommended": "Recommended: " in html, "page": Path(run.report(with_model=False)).name,
    "labels": frame["label"].tolist(), "num_scores": len(model.evaluate("photos")), "classes": model.classes,
    "loaded": vs.load_model("exports/mine").classes,
}))
"""


def test_a_script_without_a_guard_searches_in_a_thread_and_hands_the_model_over(photos: Path, tmp_path: Path) -> None:
    make_photos(tmp_path / "new", {"red": 1, "blue": 1})
    (tmp_path / "script.py").write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, "script.py"],
        cwd=tmp_path,
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    *said, told = done.stdout.splitlines()
    found: dict[str, Any] = json.loads(told)
    assert sum(line.startswith("[2/2] trial") for line in said) == 1, (
        "what the search says stands in the script's output"
    )
    assert found["state"] == "ended"
    assert found["more"] == ["0002", "enough"], "epochs of this session, to the one that raised"
    assert found["counts"]["complete"] >= 2
    assert sum(found["counts"].values()) == 3, "the run went on"
    assert "running" not in found["counts"], "what on_epoch raised has ended the search cleanly"
    assert found["rows"] == [[trial, epoch] for trial in ("0000", "0001") for epoch in (1, 2)]
    assert found["threads"] == ["on-epoch"]
    assert sorted(found["ranked"]) == ["0000", "0001", "0002"]
    assert set(found["sizes"]) <= {4, 8}, "a range of `set` is searched"
    assert found["recommended"]
    assert found["page"] == "report.html"
    assert len(found["labels"]) == 3
    assert set(found["labels"]) <= {"red", "blue"}
    assert found["num_scores"] > 5
    assert found["classes"] == found["loaded"] == ["blue", "red"]
    assert (tmp_path / "runs" / "mine" / "search.json").is_file()


@pytest.fixture
def running(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunningSearch]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VISIONSWEEP_CACHE_DIR", str(tmp_path / "cache"))
    handle = vs.search(photos, tiny(200), trials=4, max_concurrent=2, wait=False)
    yield handle
    handle._process.kill()
    handle._process.process.wait()


def test_a_search_beside_other_work_is_looked_at_stopped_and_ranked(
    running: RunningSearch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    first = running.status()
    assert first.state in ("starting", "running")
    wait_until(lambda: running.status().num_epochs >= 2, running._process.process)
    assert capfd.readouterr().out == "", "nothing is printed before somebody waits"
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)  # the handle knows where its run is
    status = running.status()
    assert status.state == "running"
    assert status.counts["running"] >= 1
    assert status.metric == "val/accuracy"
    assert status.best is not None
    assert "running after" in repr(running)
    assert "<table>" in running._repr_html_()
    assert len(vs.ranking(running)) >= 1
    assert running.stop() is running
    assert "Stopping: running trials end after their current batch." in capfd.readouterr().out
    ended = running.status()
    assert ended.state == "stopped"
    assert ended.counts["interrupted"] >= 1
    assert "running" not in ended.counts
    assert ended.seconds == running.status().seconds, "its clock stands still"
    assert running.wait() is running
    assert running.output.count("visionsweep resume") >= 1


INTERRUPTED = """
import visionsweep as vs

space = {"model": {"backbone": "test_resnet"}, "optimizer": {"name": "sgd", "lr": vs.Float(0.01, 0.1)}, "batch_size": 8}
mine = vs.Search(
    task="classification", space=space, fixed={"model": {"weights": "none"}, "image_size": 32}, epochs=200, grace_epochs=200
)
try:
    vs.search("photos", mine, trials=2, max_concurrent=1, name="mine")
except KeyboardInterrupt:
    print("interrupted", *(trial.status for trial in vs.load_run("runs/mine").trials))
"""


def test_ctrl_c_on_a_script_ends_its_search_cleanly_before_the_script_goes_on(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(INTERRUPTED)
    process = subprocess.Popen(
        [sys.executable, "script.py"], cwd=tmp_path, env=environment(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, process_group=0,
    )  # fmt: skip
    try:
        epochs = tmp_path / "runs" / "mine" / "epochs.jsonl"
        wait_until(lambda: len(lines(epochs)) >= 2, process)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does, to all that is in the script's group
        out, err = process.communicate(timeout=90)
    finally:
        process.kill()
    assert process.returncode == 0, err
    assert "Traceback" not in out + err
    assert out.count("Stopping: running trials end after their current batch.") == 1, "one signal reached the search"
    assert "vs.load_run(" in out
    assert out.splitlines()[-1] == "interrupted interrupted"
