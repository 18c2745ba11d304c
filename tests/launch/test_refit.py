"""A trial trained again with other seeds, in this process and through the command line."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from support import Outcome, make_photos, tiny_config
from trained_run import trained_run

from launch.models.cross_validation import interval_of
from launch.models.refit import in_words, summary
from search_spaces.search import Search
from trainables.config.io import load_config
from visionsweep import refit
from visionsweep.run_dir.run import Run
from visionsweep.run_dir.trials import Trial

CLI = Callable[..., Outcome]

CONFIG = tiny_config()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one trial on photos with a train, val and test split."""
    folder = tmp_path_factory.mktemp("trained")
    for split, count in (("train", 12), ("val", 8), ("test", 6)):
        make_photos(folder / "photos" / split, {"red": count, "blue": count})
    space = {key: value for key, value in CONFIG.items() if key not in ("task", "epochs")}
    trained_run(folder / "run", Search(task="classification", space=space, epochs=2), str(folder / "photos"), [CONFIG])
    return folder


@pytest.fixture
def run_dir(trained: Path, tmp_path: Path) -> Path:
    """A copy of it with its data."""
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    search = tmp_path / "run" / "search.json"
    search.write_text(search.read_text().replace(str(trained), str(tmp_path)))
    return search.parent


def test_the_best_trial_is_trained_again_with_other_seeds_and_nothing_twice(visionsweep: CLI, run_dir: Path) -> None:
    done = visionsweep("refit", run_dir, "--seeds", 2)
    assert done.code == 0, done.err
    told = json.loads((run_dir / "refits" / "0000" / "refits.json").read_text())
    assert told["metric"] == "val/accuracy"
    assert set(told["values"]) == {"1", "2"}, "the run's own seed was 0"
    given = list(told["values"].values())
    assert told["mean"] == pytest.approx(statistics.mean(given))
    assert told["deviation"] == pytest.approx(statistics.stdev(given))
    assert f"Trial 0000, 2 seeds: val/accuracy {told['mean']:.4f} ± {told['deviation']:.4f}; in the search" in done.out
    for seed in (1, 2):
        export = run_dir / "refits" / "0000" / f"seed-{seed}"
        assert load_config(export / "config.yaml").seed == seed
        assert json.loads((export / "metrics.json").read_text())["val/accuracy"] == told["values"][str(seed)]
    assert visionsweep("predict", export, run_dir.parent / "photos" / "test" / "red").code == 0

    weights = (export / "model.safetensors").stat().st_mtime_ns
    third = visionsweep("refit", run_dir, "--seeds", 3)
    assert third.out.count("Trained before: ") == 2
    assert (export / "model.safetensors").stat().st_mtime_ns == weights
    assert len(json.loads((run_dir / "refits" / "0000" / "refits.json").read_text())["values"]) == 3


def test_folds_judge_every_image_of_train_and_val_once(visionsweep: CLI, run_dir: Path) -> None:
    done = visionsweep("refit", run_dir, "--folds", 2)
    assert done.code == 0, done.err
    folder = run_dir / "refits" / "0000-folds-2"
    told = json.loads((folder / "refits.json").read_text())
    assert told["folds"] == 2
    given = list(told["values"].values())
    assert told["mean"] == pytest.approx(statistics.mean(given))
    assert told["deviation"] == pytest.approx(statistics.stdev(given))
    assert told["interval"][0] <= told["mean"] <= told["interval"][1]
    assert "2 folds over the 40 images of train and val." in done.out
    assert f"Trial 0000, 2 folds: val/accuracy {told['mean']:.4f} ± {told['deviation']:.4f}, 95% interval" in done.out

    stored = np.load(folder / "out-of-fold.npz")
    named = {
        f"{path.parent.parent.name}/{path.parent.name}/{path.name}" for path in run_dir.parent.glob("photos/*/*/*")
    }
    assert {*stored["names"].tolist()} == {name for name in named if not name.startswith("test/")}
    right = (stored["logits"].ravel() > 0) == stored["targets"]
    for fold in (1, 2):
        assert right[stored["fold"] == fold].mean() == pytest.approx(told["values"][str(fold)])
        assert json.loads((folder / f"fold-{fold}" / "data.json").read_text())["counts"]["val"] == 20

    again = refit(run_dir, folds=2)
    assert again == told, "from Python nothing is trained twice"
    refused = visionsweep("refit", run_dir, "--folds", 2, "--seeds", 2)
    assert "refit takes --folds or --seeds, got --folds 2 and --seeds 2. Leave one." in refused.err
    few = visionsweep("refit", run_dir, "--folds", 21)
    assert "class 'blue' has 20 images. Pass --folds 20, or add images." in few.err


def test_the_interval_of_a_mean_over_folds_is_wider_than_of_independent_trainings() -> None:
    values = [0.80, 0.84, 0.82, 0.86, 0.78]
    low, high = interval_of(values, "val/accuracy") or (0.0, 0.0)
    # t(0.975, 4) = 2.776, and 1/5 + 1/4 instead of 1/5 of the variance
    assert high - low == pytest.approx(2 * 2.776 * statistics.stdev(values) * math.sqrt(0.45), rel=1e-3)
    assert interval_of([0.1, 0.9], "val/accuracy") == [0.0, 1.0]
    assert interval_of([0.9], "val/accuracy") is None


def test_on_train_and_val_the_test_split_judges_the_last_epoch(visionsweep: CLI, run_dir: Path) -> None:
    done = visionsweep("refit", run_dir, "--seeds", 1, "--on", "train+val", "--epochs", 3)
    assert done.code == 0, done.err
    folder = run_dir / "refits" / "0000-epochs-3-train+val"
    about = json.loads((folder / "seed-1" / "metrics.json").read_text())
    assert about["epoch"] == 3
    predicted = visionsweep("predict", folder / "seed-1", run_dir.parent / "photos" / "test", "--json")
    right = [Path(guess["path"]).parent.name == guess["label"] for guess in json.loads(predicted.out)]
    assert len(right) == 12
    assert about["test/accuracy"] == pytest.approx(sum(right) / 12)
    assert not any(name.startswith("val/") for name in about)
    told = json.loads((folder / "refits.json").read_text())
    assert told["metric"] == "test/accuracy"
    assert told["trial_value"] is None, "another split and another number of epochs"
    counts = json.loads((folder / "seed-1" / "data.json").read_text())["counts"]
    assert (counts["train"], counts["val"], counts["test"]) == (40, 0, 12)


def test_without_a_test_split_train_and_val_have_no_score_and_say_so(visionsweep: CLI, tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "photos", {"red": 12, "blue": 12})
    config = {**CONFIG, "epochs": 1, "early_stopping_patience": 1}
    space = {key: value for key, value in config.items() if key not in ("task", "epochs")}
    trained_run(tmp_path / "run", Search(task="classification", space=space, epochs=1), str(photos), [config])
    done = visionsweep("refit", "run", "--seeds", 1, "--on", "train+val")
    assert done.code == 0, done.err
    assert "Without a validation split there is no early_stopping_patience 1" in done.out
    assert "no image is left that could judge them, so there is no score" in done.out
    assert json.loads((tmp_path / "run/refits/0000-train+val/seed-1/metrics.json").read_text()) == {"epoch": 1}
    assert visionsweep("predict", "run/refits/0000-train+val/seed-1", photos / "red" / "00.png").code == 0


def test_a_refit_that_was_stopped_goes_on_from_its_last_epoch(visionsweep: CLI, run_dir: Path) -> None:
    arguments = ["refit", str(run_dir), "--seeds", "1", "--epochs", "20"]
    process = subprocess.Popen(
        [sys.executable, "-m", "launch.cli", *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        # A shell that runs the tests in the background has them ignore Ctrl-C, and this inherits it.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    training = run_dir / "refits" / "0000-epochs-20" / "seed-1.training" / "last.pt"
    deadline = time.time() + 120
    while not training.exists() and process.poll() is None and time.time() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=60)[0]
    assert process.returncode == 130, said
    assert "or the same `refit`" in said
    done = visionsweep(*arguments)
    assert done.code == 0, done.err
    assert "Resuming from" in done.out
    assert "epoch 1 " not in done.out
    assert not training.parent.exists()


def test_what_cannot_be_refitted_is_refused_in_a_sentence(visionsweep: CLI, run_dir: Path) -> None:
    wrong = visionsweep("refit", run_dir, "--on", "val")
    assert (wrong.code, "--on takes train or train+val, got 'val'" in wrong.err) == (2, True)
    wrong = visionsweep("refit", run_dir, "--trial", "9")
    assert (wrong.code, "has no trial '9'" in wrong.err) == (2, True)
    assert not (run_dir / "refits").exists()


@pytest.mark.parametrize(
    ("metric", "mode", "own", "words"),
    [
        ("val/f1", "max", 0.9, "8.0 deviations better: luck had a part in that."),
        ("val/f1", "max", 0.51, "within what another seed gives."),
        ("val/f1", "max", 0.3, "it was unlucky there."),
        ("val/loss", "min", 0.1, "8.0 deviations better: luck had a part in that."),
    ],
)
def test_a_lucky_trial_shows(metric: str, mode: str, own: float, words: str) -> None:
    trial = Trial("0007", {}, {}, [{"epoch": 1, "metrics": {metric: own}, "seconds": 1.0}], "complete")
    run = Run(Path("run"), {"search": {"metric": metric, "mode": mode}}, [trial])
    told = summary(trial, run, metric, {1: 0.45, 2: 0.5, 3: 0.55}, changed=False)
    assert (told["mean"], told["deviation"]) == (pytest.approx(0.5), pytest.approx(0.05))
    assert words in in_words(told)
