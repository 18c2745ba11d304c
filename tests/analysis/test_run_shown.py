"""A run in a notebook: one line, a table, and the questions that are asked of a path, a Run or a handle alike."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from made_runs import write_run

import visionsweep as vs
from analysis.expect.ties import as_good
from analysis.figures.compare import compare
from analysis.figures.importance import importance
from visionsweep.core.errors import RunError
from visionsweep.run_dir.load import load_run
from visionsweep.run_dir.rank import ranking_frame
from visionsweep.run_dir.run import Run


@pytest.fixture
def run(tmp_path: Path) -> Run:
    write_run(tmp_path / "runs" / "mine")
    return load_run(tmp_path / "runs" / "mine")


class Handle:
    """As the handle of a search is: it reads its run anew each time."""

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir

    def load(self) -> Run:
        return load_run(self.run_dir)


def test_a_run_is_shown_in_one_line_with_its_best(run: Run) -> None:
    best = vs.ranking(run).iloc[0]
    shown = repr(run)
    assert "\n" not in shown
    assert shown.startswith(f"<Run {run.run_dir}: {len(run.trials)} trials: ")
    assert f"best {best['val/accuracy']:.4f} val/accuracy (trial {best['trial_id']})" in shown
    assert len(shown) < 400, "search.json is not in it"


def test_a_run_is_a_table_of_its_best_trials_in_a_notebook(run: Run) -> None:
    html = run._repr_html_()
    first = vs.ranking(run).iloc[0]["trial_id"]
    assert html.count("<tr>") == 11
    assert f"<td>1</td><td>{first}</td>" in html
    assert f"{len(run.trials) - 10} more: <code>vs.ranking(run)</code>" in html


def test_words_of_others_are_text_in_the_table(tmp_path: Path) -> None:
    folder = tmp_path / "<img src=x onerror=alert(1)>"
    write_run(folder)
    trials = folder / "trials.jsonl"
    trials.write_text(trials.read_text().replace("resnet18", "<script>alert(1)</script>"))
    html = load_run(folder)._repr_html_()
    assert "<script>" not in html
    assert "<img" not in html
    assert "&lt;script&gt;" in html


def test_a_run_without_trials_and_one_without_a_metric_are_shown(run: Run) -> None:
    empty = Run(run.run_dir, run.search, [])
    assert "0 trials; no score yet" in repr(empty)
    assert "<table>" in empty._repr_html_()
    damaged = Run(run.run_dir, {}, run.trials)
    assert "search.json" in repr(damaged)
    assert "search.json" in damaged._repr_html_()


def test_a_path_a_run_and_a_handle_are_asked_alike(run: Run) -> None:
    for named in (run, run.run_dir, str(run.run_dir), Handle(run.run_dir)):
        ranking = vs.ranking(named)
        assert ranking.pop("as_good").tolist() == [as_good(run).get(trial_id) for trial_id in ranking["trial_id"]]
        pd.testing.assert_frame_equal(ranking, ranking_frame(run))
        pd.testing.assert_frame_equal(vs.compare(named, "optimizer"), compare(run, "optimizer"))
        pd.testing.assert_frame_equal(vs.importance(named), importance(run))
        assert vs.load_run(named).run_dir == run.run_dir
    with pytest.raises(RunError, match="is not a run directory"):
        vs.ranking("nowhere")


def test_a_report_is_written_where_it_is_asked_for(run: Run, tmp_path: Path) -> None:
    assert vs.report(run, with_model=False) == run.run_dir / "report.html"
    assert vs.report(Handle(run.run_dir), tmp_path / "page.html", with_model=False) == tmp_path / "page.html"
    assert "<html" in (tmp_path / "page.html").read_text()
    with pytest.raises(RunError, match=r"is on S3.*visionsweep fetch s3://bucket/runs/mine"):
        vs.report("s3://bucket/runs/mine")


def test_what_is_recommended_stands_below_the_table(run: Run) -> None:
    told = {
        "metric": "val/accuracy", "mode": "max", "kind": "single", "ensemble": None, "soup": None, "notes": ["A <note>."],
        "single": {"trial_id": "0003", "epoch": 2, "value": 0.7, "latency_ms": 1.5},
    }  # fmt: skip
    (run.run_dir / "recommended.json").write_text(json.dumps(told))
    html = run._repr_html_()
    assert "Recommended: trial 0003 alone, 1.5 ms an image." in html
    assert "A &lt;note&gt;." in html


def test_what_was_assumed_of_the_data_stands_there_too(tmp_path: Path) -> None:
    write_run(tmp_path / "mine")
    path = tmp_path / "mine" / "search.json"
    told = json.loads(path.read_text())
    told["data"]["notes"] = ["2 images skipped as <unreadable>."]
    path.write_text(json.dumps(told))
    assert "<p>2 images skipped as &lt;unreadable&gt;.</p>" in load_run(tmp_path / "mine")._repr_html_()
