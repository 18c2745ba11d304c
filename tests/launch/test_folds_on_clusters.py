"""Folds in a search over two Ray nodes, one of which is lost while a trial is between two folds."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
from cluster_searches import SPACE, cluster_of_its_own
from support import lines, tiny_search, wait_until

from benchmarks.local_cluster import BIN, kill
from visionsweep.run_dir.load import load_run

pytestmark = pytest.mark.with_ray(turn=3)

EPOCHS = 3
NUM_FOLDS = 4


def test_trials_that_lose_their_machine_go_on_with_the_fold_that_they_were_in(work: Path) -> None:
    (work / "tiny.py").write_text(tiny_search(space=SPACE, epochs=EPOCHS, pruner="none"))
    with cluster_of_its_own("folds") as cluster:
        cluster.head()
        cluster.join()
        command = [
            str(BIN / "visionsweep"), "run", "tiny.py", "--data", "photos", "--folds", str(NUM_FOLDS), "--trials", "4",
            "--name", "f", "--address", cluster.address,
        ]  # fmt: skip
        environment = {**cluster.environment(), "VISIONSWEEP_CACHE_DIR": str(work / "cache")}
        running = subprocess.Popen(command, cwd=work, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        epochs = work / "runs" / "f" / "epochs.jsonl"
        wait_until(lambda: len({row["trial_id"] for row in lines(epochs) if row.get("fold") == 2}) == 2)
        kill(cluster.nodes[1])
        out, _ = running.communicate(timeout=240)
        assert running.returncode == 0, out.decode()[-3000:]
        said = cluster.visionsweep(work, "rank", "runs/f")
        assert said.code == 0, said.err
    run = load_run(work / "runs" / "f")
    assert [trial.status for trial in run.trials] == ["complete"] * 4
    steps = list(range(1, EPOCHS + NUM_FOLDS))
    for trial in run.trials:
        assert [row["epoch"] for row in trial.epochs] == steps
        assert [row.get("fold") for row in trial.epochs] == [*[None] * (EPOCHS - 1), *range(1, NUM_FOLDS + 1)]
        assert len(trial.epochs[-1]["fold_values"]) == NUM_FOLDS
    numbers = [(row["trial_id"], row["epoch"]) for row in lines(epochs)]
    assert len(numbers) - len(set(numbers)) <= 1, "at most one epoch or fold of the trial that lost its machine"
    for path in (work / "runs" / "f" / "predictions").glob("*/out-of-fold.npz"):
        stored = np.load(path)
        assert len(set(stored["names"].tolist())) == len(stored["names"]) == 48
