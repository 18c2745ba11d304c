"""The analysis of a run whose trials probed or fine-tuned, and trained for different lengths."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import optuna
import pytest

from analysis.figures.compare import compare
from analysis.figures.fixed_epoch import scores_at_epoch
from analysis.figures.importance import importance_figure, importance_of
from analysis.report.page import render
from search_spaces.grammar import Branch, Float, Pick
from search_spaces.search import Search
from search_spaces.serial import search_to_json
from visionsweep.core.errors import ConfigError
from visionsweep.run_dir.load import load_run
from visionsweep.run_dir.run import Run
from visionsweep.run_dir.trials import VERSION

BACKBONE = {"backbone": Pick("resnet18", "resnet34")}
SEARCH = Search(
    task="multiclass",
    space=Branch(
        {
            "probe": {"model": BACKBONE, "epochs": 1},
            "finetune": {"model": BACKBONE, "optimizer": {"name": "sgd", "lr": Float(0, 1)}, "epochs": Pick(4, 8)},
        }
    ),
    epochs=8,
    grace_epochs=2,
).for_task("multiclass")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of 40 trials: probes of 0.6, and fine-tunings that rise to 0.8.

    Each fourth fine-tuning was pruned after half its length.
    """
    folder = tmp_path_factory.mktemp("regimes") / "run"
    rng = np.random.default_rng(0)
    folder.mkdir()
    data = {"task": "multiclass", "classes": ["a", "b"], "val": [], "val_targets": [], "counts": {}, "fingerprint": "0"}
    about = {
        "version": VERSION,
        "name": "run",
        "search": search_to_json(SEARCH),
        "data": data,
        "options": {"data": "."},
    }
    (folder / "search.json").write_text(json.dumps({**about, "started": 1.0}))
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    events: list[dict[str, Any]] = []
    epochs: list[dict[str, Any]] = []
    for number in range(40):
        trial = study.ask()
        name = {"trial_id": f"{number:04d}", "time": 2.0 + number}
        config = SEARCH.draw(trial)
        length = config["epochs"]
        goal = 0.6 if config["regime"] == "probe" else 0.8
        told = length // 2 if number % 4 == 3 and length > 1 else length
        for epoch in range(1, told + 1):
            metrics = {"val/accuracy": goal * epoch / length + rng.normal(0, 0.01)}
            epochs.append({**name, "epoch": epoch, "metrics": metrics, "seconds": 1.0})
        status = "complete" if told == length else "pruned"
        proposed = {"event": "proposed", "params": trial.params, "config": config, "origin": "sampler"}
        events += [{**name, **proposed}, {**name, "event": "started"}]
        events.append({**name, "event": "ended", "status": status, "reason": "", "epochs": told})
    for file, lines in (("trials.jsonl", events), ("epochs.jsonl", epochs)):
        (folder / file).write_text("".join(json.dumps(line) + "\n" for line in lines))
    return load_run(folder)


def test_short_trials_that_are_complete_are_compared_at_their_end(run: Run) -> None:
    for at_epoch in (scores_at_epoch(run), scores_at_epoch(run, epoch=6)):
        probes = at_epoch.table[at_epoch.table["regime"] == "probe"]
        assert len(probes) == sum(trial.config["regime"] == "probe" for trial in run.trials)
        assert probes["best"].astype(float).mean() == pytest.approx(0.6, abs=0.02)
    assert compare(run, "regime")["value"].iloc[0] == "finetune"


def test_a_choice_of_two_regimes_is_named_in_full(run: Run) -> None:
    with pytest.raises(ConfigError, match="'backbone' is the end of regime/probe/model/backbone, regime/finetune"):
        compare(run, "backbone")
    assert set(compare(run, "regime/probe/model/backbone")["value"]) == {"resnet18", "resnet34"}


def test_parameters_of_a_regime_read_as_words(run: Run) -> None:
    labels = importance_figure(importance_of(scores_at_epoch(run))).data[0].y
    assert {"regime", "probe: model/backbone", "finetune: epochs"} <= set(labels)
    page = render([run], with_model=False)
    for title in ("Backbones (probe)", "Backbones (finetune)", "epochs (finetune)"):
        assert title in page
