"""The benchmarks that start a Ray of their own run, on the smallest input that they take."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from running import ROOT

pytestmark = pytest.mark.with_ray(turn=1)

# A trial lasts some seconds: there is something to lose.
LONG = """
from search_spaces import Float, Search

SEARCH = Search(
    task="classification",
    space={"model": {"backbone": "test_resnet", "weights": "none"},
           "optimizer": {"name": "sgd", "lr": Float(0.01, 0.1)}, "batch_size": 8, "image_size": 32},
    epochs=60, pruner="none",
)
"""


def run(module: str, *arguments: object) -> str:
    command = [sys.executable, "-m", module, *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.timeout(400)
def test_packing_compares_packed_trials_with_room_for_the_largest_each() -> None:
    said = run("benchmarks.packing", "--small", "--trials", 2)
    assert re.search(r"packed +\d+\.\d s, 2 complete, .*\nworst case +\d+\.\d s, 2 complete, .*\nratio ", said), said


@pytest.mark.timeout(400)
def test_chaos_says_what_was_lost() -> None:
    said = run("benchmarks.chaos", "--trials", 2, "--nodes", 1, "--every", 600, "--calm-s", 10)
    assert "lost: nothing\n" in said
    assert re.search(r"\d+ s against 10 s in peace: \d+\.\d\d times as long", said), said


@pytest.mark.timeout(400)
def test_two_nodes_goes_on_without_the_second(photos: Path, tmp_path: Path) -> None:
    long = tmp_path / "long.py"
    long.write_text(LONG)
    said = run("benchmarks.two_nodes", photos, "--search", long, "--trials", 2, "--budget", "16s")
    assert "the search ended with 0 after" in said
    assert "lost: nothing; trials: {" in said
