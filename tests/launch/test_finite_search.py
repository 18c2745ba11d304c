"""A search of a finite space through the command line, with real Ray, ends when all was tried, with a message."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from support import Outcome, lines, tiny_search

from search_spaces import Pick

pytestmark = [pytest.mark.with_ray, pytest.mark.usefixtures("ray_session")]

CLI = Callable[..., Outcome]
SPACE = {
    "model": {"backbone": Pick("test_resnet", "test_efficientnet")},
    "optimizer": {"name": "sgd", "lr": 0.05},
    "batch_size": Pick(8, 16),
}


def test_a_search_of_four_configurations_trains_four_times_and_says_why_it_ended(
    visionsweep: CLI, photos: Path, tmp_path: Path
) -> None:
    own = tmp_path / "four.py"
    own.write_text(tiny_search(space=SPACE))
    ran = visionsweep("run", own, "--data", photos, "--trials", 9, "--name", "a", "--max-concurrent", 1)
    assert ran.code == 0, ran.err
    assert "The space has 4 configurations, and each is tried once: the search ends after them." in ran.out
    assert "[4/4] trial " in ran.out
    assert "The search has ended: all 4 configurations were tried. Widen the space in a new run to try more." in ran.out
    run_dir = tmp_path / "runs" / "a"
    proposed = [row for row in lines(run_dir / "trials.jsonl") if row["event"] == "proposed"]
    assert len({json.dumps(row["config"], sort_keys=True) for row in proposed}) == len(proposed) == 4

    said = visionsweep("status", run_dir).out
    assert "4 of 4 trials have ended: 4 complete." in said
    assert f"has ended: all 4 configurations were tried. `visionsweep rank {run_dir}` ranks its trials." in said

    resumed = visionsweep("resume", run_dir, "--trials", "+3")
    assert resumed.code == 0, resumed.err
    assert "The search has ended: all 4 configurations were tried." in resumed.out
    assert len([row for row in lines(run_dir / "trials.jsonl") if row["event"] == "proposed"]) == 4

    one = visionsweep(
        "run", own, "--data", photos, "--name", "b", "--set", "batch_size=8", "--set", "model.backbone=test_resnet"
    )
    assert one.code == 0, one.err
    assert "The search has ended: the only configuration was tried." in one.out
    assert "[1/1] trial 0000 complete" in one.out
