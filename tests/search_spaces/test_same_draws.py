"""A seed draws the same configurations in every process.

Python hashes strings differently in every process, so a set of strings has another order there. A draw in the order of
a set would make one seed another search tomorrow.
"""

from __future__ import annotations

import os
import subprocess
import sys

DRAW_ALL = """
import json

import optuna

from visionsweep.core.tasks import tasks_of
from search_spaces.shipped import SEARCHES

optuna.logging.set_verbosity(optuna.logging.ERROR)
for name, search in SEARCHES.items():
    for task in tasks_of(search.task):
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
        for _ in range(10):
            print(name, task, json.dumps(search.for_task(task).draw(study.ask())))
"""


def drawn(hash_seed: str) -> list[str]:
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    command = [sys.executable, "-c", DRAW_ALL]
    return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout.splitlines()


def test_the_order_of_python_s_hashes_changes_no_draw_of_any_shipped_search() -> None:
    first, *others = [drawn(hash_seed) for hash_seed in ("1", "2", "3")]
    assert len(first) > 100
    assert all(other == first for other in others)
