"""The benchmark of the search in its shortest form: the real command on one real task."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DATA = ROOT.parent / "shared" / "data" / "hpo"
TASK = "taskset-patch32_LSTM128_bs128"

needs_data = pytest.mark.skipif(not DATA.is_dir(), reason=f"the learning curves are not at {DATA}")
needs_onnx = pytest.mark.skipif(importlib.util.find_spec("onnxruntime") is None, reason="onnxruntime is not installed")


def bench(out: Path, *more: str, tasks: str = TASK) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "benchmarks/search.py", "--tasks", tasks, "--out", str(out), "--jobs", "1"]
    short = ["--methods", "random", "random-asha-4", "--workers", "8", "--budgets", "2", "4", "--seeds", "1"]
    return subprocess.run([*command, *short, *more], cwd=ROOT, capture_output=True, text=True)


@needs_data
def test_the_benchmark_prints_its_table_and_goes_on_where_it_was_cut_off(tmp_path: Path) -> None:
    done = bench(tmp_path)
    assert done.returncode == 0, done.stderr
    assert "taskset, 1 tasks, 8 workers" in done.stdout
    assert "regret at 2" in done.stdout
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
    again = bench(tmp_path)
    assert again.returncode == 0, again.stderr
    assert "[1/1]" in again.stdout
    rows = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    steps = {row["method"]: (row["spent"], row["regret"]) for row in rows}  # the same seed finds the same
    assert steps == {name: (result["spent"], result["regret"]) for name, result in results.items()}


@needs_data
def test_a_kept_run_of_a_larger_budget_is_read_and_not_run_again(tmp_path: Path) -> None:
    kept = bench(tmp_path, "--methods", "random-asha-4", tasks="taskset-patch32_GRU64_avg_bs128")
    assert kept.returncode == 0, kept.stderr
    assert "[1/" not in kept.stdout
    assert (tmp_path / "results.jsonl").read_text() == ""
    row = next(line for line in kept.stdout.splitlines() if line.startswith("random-asha-4"))
    assert 0 < float(row.split()[1]) <= 1  # regret at 2


@needs_data
def test_nothing_is_better_than_what_a_clairvoyant_shows_of_a_table(tmp_path: Path) -> None:
    methods = ("ours", "random-asha-4", "clairvoyant")
    done = bench(tmp_path, "--methods", *methods, "--seeds", "2")
    assert done.returncode == 0, done.stderr
    results = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    last = {method: [r["regret"][-1] for r in results if r["method"] == method] for method in methods}
    floor = last["clairvoyant"]
    assert (
        0 < floor[0] == floor[1] < min(*last["ours"], *last["random-asha-4"])
    )  # 4 of 8 workers' trainings: half of one
    row = next(line for line in done.stdout.splitlines() if line.startswith("clairvoyant"))
    assert row.split()[-2] == "–"  # it ranks nowhere


@needs_data
@needs_onnx
def test_the_surrogate_gives_curves_of_accuracies_and_times() -> None:
    code = (
        "import sys; sys.path.insert(0, 'benchmarks')\n"
        "import json, numpy as np, blackboxes\n"
        "task = blackboxes.TASKS['lcbench-167149']()\n"
        "config = blackboxes.random_config(task.space, np.random.default_rng(0))\n"
        "curve = task.curve(config)\n"
        "print(json.dumps([list(curve.shape), curve.min(), curve.max(), task.seconds_per_epoch(config)]))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    shape, low, high, seconds = json.loads(done.stdout)
    assert shape == [52]
    assert 0 < low < high <= 1
    assert 0 < seconds < 60


@needs_data
def test_a_task_that_nobody_knows_is_refused_with_the_nearest_one(tmp_path: Path) -> None:
    done = bench(tmp_path, tasks="taskset-patch32_LSTM128_bs12")
    assert done.returncode == 2
    assert f"Did you mean '{TASK}'?" in done.stderr
