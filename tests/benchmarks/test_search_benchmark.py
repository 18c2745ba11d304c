"""The benchmark of the search in its shortest form: the real command on one real task."""

from __future__ import annotations

import importlib
import importlib.util
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from running import main_of, needs_curves
from support import Outcome

TASK = "taskset-patch32_LSTM128_bs128"
Bench = Callable[..., Outcome]

needs_onnx = pytest.mark.skipif(importlib.util.find_spec("onnxruntime") is None, reason="onnxruntime is not installed")


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Bench:
    """Return a function that runs the benchmark with further arguments, writing to tmp_path."""

    def call(*more: str, tasks: str = TASK) -> Outcome:
        short = ("--methods", "random", "random-asha-4", "--workers", 8, "--budgets", 2, 4, "--seeds", 1)
        code = 0
        try:
            main_of("search", monkeypatch)("--tasks", tasks, "--out", tmp_path, "--jobs", 1, *short, *more)
        except SystemExit as ended:
            code = int(ended.code or 0)
        said = capsys.readouterr()
        return Outcome(code, said.out, said.err)

    return call


@needs_curves
def test_the_benchmark_prints_its_table_and_goes_on_where_it_was_cut_off(bench: Bench, tmp_path: Path) -> None:
    done = bench()
    assert done.code == 0, done.err
    assert "taskset, 1 tasks, 8 workers" in done.out
    assert "regret at 2" in done.out
    lines = (tmp_path / "results.jsonl").read_text().splitlines()
    results = {result["method"]: result for result in map(json.loads, lines)}
    assert set(results) == {"random", "random-asha-4"}
    for result in results.values():
        assert result["regret"] == sorted(result["regret"], reverse=True)
        assert 0 <= result["regret"][-1] < result["regret"][0] == 1
        assert 0 < result["spent"][-1] <= 4
    assert results["random-asha-4"]["trials"]["pruned"] > 0
    assert (tmp_path / "regret.html").stat().st_size > 10_000

    (tmp_path / "results.jsonl").write_text(lines[0] + "\n" + lines[1][:40])  # as if cut off while it wrote
    again = bench()
    assert again.code == 0, again.err
    assert "[1/1]" in again.out
    rows = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    steps = {row["method"]: (row["spent"], row["regret"]) for row in rows}  # the same seed finds the same
    assert steps == {name: (result["spent"], result["regret"]) for name, result in results.items()}


@needs_curves
def test_a_kept_run_of_a_larger_budget_is_read_and_not_run_again(bench: Bench, tmp_path: Path) -> None:
    kept = bench("--methods", "random-asha-4", tasks="taskset-patch32_GRU64_avg_bs128")
    assert kept.code == 0, kept.err
    assert "[1/" not in kept.out
    assert (tmp_path / "results.jsonl").read_text() == ""
    row = next(line for line in kept.out.splitlines() if line.startswith("random-asha-4"))
    assert 0 < float(row.split()[1]) <= 1  # regret at 2


@needs_curves
def test_nothing_is_better_than_what_a_clairvoyant_shows_of_a_table(bench: Bench, tmp_path: Path) -> None:
    methods = ("ours", "random-asha-4", "clairvoyant")
    done = bench("--methods", *methods, "--seeds", "2")
    assert done.code == 0, done.err
    results = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    last = {method: [r["regret"][-1] for r in results if r["method"] == method] for method in methods}
    floor = last["clairvoyant"]
    assert (
        0 < floor[0] == floor[1] < min(*last["ours"], *last["random-asha-4"])
    )  # 4 of 8 workers' trainings: half of one
    row = next(line for line in done.out.splitlines() if line.startswith("clairvoyant"))
    assert row.split()[-2] == "–"  # it ranks nowhere


@needs_curves
@needs_onnx
def test_the_surrogate_gives_curves_of_accuracies_and_times() -> None:
    blackboxes = importlib.import_module("benchmarks.blackboxes")
    task = blackboxes.TASKS["lcbench-167149"]()
    config = blackboxes.random_config(task.space, np.random.default_rng(0))
    curve = task.curve(config)
    assert curve.shape == (52,)
    assert 0 < curve.min() < curve.max() <= 1
    assert 0 < task.seconds_per_epoch(config) < 60


@needs_curves
def test_a_task_that_nobody_knows_is_refused_with_the_nearest_one(bench: Bench) -> None:
    done = bench(tasks="taskset-patch32_LSTM128_bs12")
    assert done.code == 2
    assert f"Did you mean '{TASK}'?" in done.err
