"""The main job through the command line: search, rank, export, predict, train again, with real Ray."""

from __future__ import annotations

import json
import math
import re
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import optuna
import pytest
import yaml
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from sklearn.metrics import average_precision_score, f1_score
from support import TINY_SPACE, Outcome, command_in, lines, make_photos, tiny_search

from analysis import load_run
from analysis.figures.best_trial import judged
from search_spaces import Branch, Float, Pick

pytestmark = [pytest.mark.with_ray(turn=5), pytest.mark.usefixtures("ray_session")]

CLI = Callable[..., Outcome]

# A user's own search, as small as a search can be.
SPACE = {
    **TINY_SPACE,
    "model": {"backbone": Pick("test_resnet", "test_efficientnet")},
    "optimizer": Branch({"sgd": {"lr": Float(1e-2, 0.1, log=True)}, "adam": {"lr": Float(1e-3, 1e-2, log=True)}}),
}
TINY = tiny_search(space=SPACE, epochs=3, grace_epochs=1, reduction_factor=2)


# Of the fixture `photos`, before any other output of a command.
FOUND = "photos: 48 images, 2 classes (blue 24, red 24); 38 to train on, 10 to judge by (split drawn: stratified, "


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.py"
    path.write_text(TINY)
    return path


@dataclass(frozen=True)
class Searched:
    """A finished search of five trials, one at a time.

    folder     holds photos/, tiny.py and runs/a
    out        its output
    startup_s  seconds until its first epoch
    """

    folder: Path
    out: str
    startup_s: float

    @property
    def run_dir(self) -> Path:
        return self.folder / "runs" / "a"

    @property
    def photos(self) -> Path:
        return self.folder / "photos"


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory, ray_session: None) -> Searched:
    """A finished search for tests that only read it."""
    folder = tmp_path_factory.mktemp("searched")
    make_photos(folder / "photos", {"red": 24, "blue": 24})
    (folder / "tiny.py").write_text(TINY)
    began = time.time()
    options = ("--trials", 5, "--max-concurrent", 1, "--name", "a")
    ran = command_in(folder, "run", "tiny.py", "--data", folder / "photos", *options)
    assert ran.code == 0, ran.err
    first = lines(folder / "runs" / "a" / "epochs.jsonl")[0]
    assert ran.err.startswith(f"tiny.py on {folder / 'photos'}: looking at both.\nStarting Ray")
    return Searched(folder, ran.out, first["time"] - began)


def test_from_a_folder_of_photos_to_a_ranking_an_export_and_predictions(
    visionsweep: CLI, searched: Searched, tmp_path: Path
) -> None:
    # The search's output, files and study.
    run_dir = searched.run_dir
    photos = searched.photos
    assert searched.out.startswith(FOUND)
    assert re.search(r"^Trial 0000 has begun: ", searched.out, re.M)
    assert re.search(r"^First epoch after [\dms]+: trial 0000, val/accuracy 0\.\d+\.$", searched.out, re.M)
    assert "Best: trial" in searched.out
    assert re.search(
        r"^Best: trial .* \d+ of \d+ validation images are right: \d+% \(95% interval .*\. Always 'blue' ",
        searched.out,
        re.M,
    )
    assert f"Report:  visionsweep report {Path('runs/a')}   Configuration:  {Path('runs/a')}/best.yaml" in searched.out
    assert (run_dir / "best.yaml").read_text().startswith("# trial 00"), "and its score"
    assert ": val/accuracy " in (run_dir / "best.yaml").read_text().splitlines()[0]
    assert str(run_dir.name) in searched.out
    assert {path.name for path in run_dir.iterdir()} - {"recommended.npz"} == {
        "search.json", "trials.jsonl", "epochs.jsonl", "checkpoints", "predictions", "judged", "best.yaml", "study.journal",
        "recommended.json",
    }  # fmt: skip
    told = optuna.load_study(study_name="a", storage=JournalStorage(JournalFileBackend(str(run_dir / "study.journal"))))
    assert len(told.trials) == 5
    assert all(trial.state.is_finished() and trial.intermediate_values for trial in told.trials)

    # The ranking.
    ranked = visionsweep("rank", run_dir, "--json")
    rows = json.loads(ranked.out)
    assert len(rows) == 5
    assert set(rows[0]) >= {"rank", "trial_id", "status", "reason", "epochs", "metrics", "config", "seconds"}
    assert [row["rank"] for row in rows] == [1, 2, 3, 4, 5]
    assert rows[0]["status"] == "complete"
    assert rows[0]["metrics"]["val/accuracy"] >= 0.9
    complete = [row["status"] == "complete" for row in rows]
    assert complete == sorted(complete, reverse=True), "complete trials come first"
    assert len(json.loads(visionsweep("rank", run_dir, "--json", "--top", 2).out)) == 2

    # The recommendation.
    kind = json.loads((run_dir / "recommended.json").read_text())["kind"]
    named = {"single": "trial", "ensemble": "an ensemble", "soup": "a soup"}
    assert f"Recommended: {named[kind]} " in searched.out
    assert visionsweep("export", run_dir, "--out", "recommended").code == 0
    assert (tmp_path / "recommended" / "members").exists() == (kind == "ensemble")
    assert visionsweep("predict", "recommended", photos / "red" / "00.png").code == 0

    # An export of the best trial, and its predictions.
    exported = visionsweep("export", run_dir, "--single", "--out", "export")
    assert exported.code == 0, exported.err
    export = tmp_path / "export"
    assert {path.name for path in export.iterdir()} == {
        "config.yaml", "model.safetensors", "classes.txt", "metrics.json", "data.json", "README.md", "requirements.txt",
        "manifest.json",
    }  # fmt: skip
    assert (export / "classes.txt").read_text() == "blue\nred\n"
    fingerprint = json.loads((export / "data.json").read_text())["fingerprint"]
    assert fingerprint == json.loads((run_dir / "search.json").read_text())["data"]["fingerprint"]

    predicted = visionsweep("predict", export, photos, "--json")
    guesses = json.loads(predicted.out)
    assert len(guesses) == 48
    right = sum(Path(guess["path"]).parent.name == guess["label"] for guess in guesses)
    assert right / 48 >= 0.9
    assert sum(guesses[0]["probabilities"].values()) == pytest.approx(1, abs=1e-4)

    # The exported configuration trains again, to the very score that the search saw.
    again = visionsweep("train", export / "config.yaml", "--data", photos, "--out", "again")
    assert again.code == 0, again.err
    assert again.out.startswith(FOUND)
    metrics = json.loads((tmp_path / "again" / "metrics.json").read_text())
    assert metrics["val/accuracy"] == pytest.approx(rows[0]["metrics"]["val/accuracy"], abs=0.11)
    assert not (tmp_path / "again.training").exists()
    assert visionsweep("predict", "again", photos / "red" / "00.png").code == 0


def test_the_run_directory_tells_every_event_of_every_trial(searched: Searched) -> None:
    run_dir = searched.run_dir
    events = lines(run_dir / "trials.jsonl")
    for trial_id in ("0000", "0001", "0002", "0003", "0004"):
        mine = [event for event in events if event["trial_id"] == trial_id]
        assert [event["event"] for event in mine] == ["proposed", "started", "ended"]
        assert mine[-1]["status"] in ("complete", "pruned")
        epochs = [row for row in lines(run_dir / "epochs.jsonl") if row["trial_id"] == trial_id]
        assert [row["epoch"] for row in epochs] == list(range(1, mine[-1]["epochs"] + 1))
        assert (mine[-1]["epochs"] == 3) == (mine[-1]["status"] == "complete")
        assert all(row["seconds"] > 0 and "val/accuracy" in row["metrics"] for row in epochs)
        assert {row["device"] for row in epochs} <= {"cpu", "cuda"}
    search = json.loads((run_dir / "search.json").read_text())
    assert search["data"]["split_origin"].startswith("stratified")
    assert len(search["data"]["val"]) == search["data"]["counts"]["val"]
    classes = [search["data"]["classes"][target] for target in search["data"]["val_targets"]]
    assert [name.partition("/")[0] for name in search["data"]["val"]] == classes
    assert search["versions"]["torch"]
    assert not list(run_dir.glob("checkpoints/*/last.pt")), "ended trials have nothing to resume"


def test_trials_of_one_run_share_their_worker_processes(searched: Searched) -> None:
    assert len({row["pid"] for row in lines(searched.run_dir / "epochs.jsonl")}) == 1


def test_resume_extends_a_finished_search(visionsweep: CLI, searched: Searched, tmp_path: Path) -> None:
    shutil.copytree(searched.run_dir, tmp_path / "runs" / "i")
    resumed = visionsweep("resume", "runs/i", "--trials", "+2")
    assert resumed.code == 0, resumed.err
    assert resumed.out.startswith(FOUND)
    rows = json.loads(visionsweep("rank", "runs/i", "--json").out)
    assert sorted(row["trial_id"] for row in rows) == [f"{number:04d}" for number in range(7)]


def test_resume_refuses_other_data(visionsweep: CLI, searched: Searched, tmp_path: Path) -> None:
    missing = searched.photos / "red" / "00.png"
    missing.rename(tmp_path / "00.png")
    try:
        refused = visionsweep("resume", searched.run_dir, "--trials", "+1")
    finally:
        (tmp_path / "00.png").rename(missing)
    assert refused.code == 2
    assert "is not the run's data" in refused.err
    assert "Restore it, or start a new run." in refused.err


def test_trials_that_diverge_or_cannot_be_built_end_alone(visionsweep: CLI, photos: Path, tmp_path: Path) -> None:
    own = tmp_path / "mixed.py"
    # Every step of SGD multiplies the head's weights by -999: within a dozen they are not finite. AlexNet needs 63 px.
    space = {
        **SPACE,
        "model": {"backbone": Pick("test_resnet", "alexnet")},
        "optimizer": Branch({"sgd": {"lr": 100.0, "weight_decay": 10.0}, "adam": {"lr": Float(1e-3, 1e-2, log=True)}}),
    }
    first = [
        {"model": {"backbone": "alexnet"}, "optimizer": {"name": "adam"}},
        {"model": {"backbone": "test_resnet"}, "optimizer": {"name": "sgd"}},
        {"model": {"backbone": "test_resnet"}, "optimizer": {"name": "adam"}},
    ]
    own.write_text(tiny_search(space=space, warm_start=first, epochs=6, reduction_factor=2))
    ran = visionsweep("run", own, "--data", photos, "--trials", 3, "--name", "d", "--max-concurrent", 1)
    assert ran.code == 0, ran.err
    best, *others = json.loads(visionsweep("rank", "runs/d", "--json").out)
    assert (best["trial_id"], best["status"]) == ("0002", "complete")
    ended = {row["trial_id"]: row for row in others}
    assert (ended["0000"]["status"], ended["0001"]["status"]) == ("failed", "diverged")
    assert "63" in ended["0000"]["reason"]
    assert ended["0001"]["epochs"] < 6
    assert "the loss became" in ended["0001"]["reason"]
    assert "learning rate" in ended["0001"]["reason"]


def test_set_fixes_a_part_of_every_configuration_of_multilabel_scenes_and_no_cache_is_kept(
    visionsweep: CLI, tiny: Path, tmp_path: Path
) -> None:
    ran = visionsweep(
        "run", tiny, "--data", "digits:multilabel", "--trials", 2, "--name", "f", "--seed", 7, "--no-cache",
        "--max-concurrent", 1, "--set", "optimizer.name=adam", "--set", "epochs=1", "--set", "batch_size=64",
        "--set", "model.backbone=test_resnet",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    rows = json.loads(visionsweep("rank", "runs/f", "--json").out)
    assert len(rows) == 2
    for row in rows:
        assert row["config"]["optimizer"]["name"] == "adam"
        assert row["config"]["model"]["backbone"] == "test_resnet"
        assert row["config"]["batch_size"] == 64
        assert row["config"]["seed"] == 7
        assert row["epochs"] == 1
    assert yaml.safe_load((tmp_path / "runs/f/best.yaml").read_text())["optimizer"]["name"] == "adam"
    run = load_run(tmp_path / "runs" / "f")
    best = judged(run, next(trial for trial in run.trials if trial.trial_id == rows[0]["trial_id"]))
    per_image = f1_score(best.truth, best.decided, average="samples", zero_division=1)
    assert rows[0]["metrics"]["val/f1"] == pytest.approx(per_image, abs=1e-5)
    ranked = average_precision_score(best.truth, best.probabilities, average="macro")
    assert rows[0]["metrics"]["val/map"] == pytest.approx(ranked, abs=1e-5)
    assert not (tmp_path / "cache").exists()


def test_the_budget_is_kept_and_what_it_cuts_off_goes_on_later_with_an_epoch_that_was_not_recorded(
    visionsweep: CLI, searched: Searched, tmp_path: Path
) -> None:
    """The driver died between the worker's checkpoint and its own line, which is cut off and comes back."""
    own = tmp_path / "long.py"
    own.write_text(tiny_search(space=SPACE, epochs=100_000, reduction_factor=2))
    # Twice as long as the process of a trial takes to start on this machine, beside other tests, and then some.
    budget_s = min(120, math.ceil(10 + 2 * searched.startup_s))
    started = time.time()
    ran = visionsweep(
        "run", own, "--data", searched.photos, "--budget", f"{budget_s}s", "--name", "h", "--max-concurrent", 1
    )
    assert time.time() - started < 1.06 * budget_s + 2, "within a few percent and the time to print"
    assert ran.code == 0, ran.err
    (row,) = json.loads(visionsweep("rank", "runs/h", "--json").out)
    assert row["status"] == "interrupted"
    assert "the budget is spent" in row["reason"]

    epochs = tmp_path / "runs" / "h" / "epochs.jsonl"
    whole = epochs.read_text().splitlines(keepends=True)
    assert len(whole) == row["epochs"]
    assert len(whole) >= 2
    epochs.write_text("".join(whole[:-1]))
    assert visionsweep("resume", "runs/h", "--budget", f"{budget_s}s").code == 0
    repeated = lines(epochs)[len(whole) - 1]
    lost = json.loads(whole[-1])
    assert (repeated["epoch"], repeated["metrics"]) == (lost["epoch"], lost["metrics"])
    numbers = [row["epoch"] for row in lines(epochs)]
    assert len(numbers) > len(whole), "it was resumed"
    assert numbers == list(range(1, len(numbers) + 1)), "no epoch is trained twice"


def test_a_search_with_several_objectives_shows_its_pareto_front_and_any_trial_of_it_can_be_exported(
    visionsweep: CLI, photos: Path, tiny: Path, tmp_path: Path
) -> None:
    both = "objectives=[val/accuracy, -latency_ms, parameters]"
    ran = visionsweep("run", tiny, "--data", photos, "--trials", 4, "--name", "o", "--set", both)
    assert ran.code == 0, ran.err
    assert "Pareto front of val/accuracy, latency_ms, parameters: trials 00" in ran.out
    rows = json.loads(visionsweep("rank", "runs/o", "--json").out)
    assert all(set(row["objectives"]) == {"val/accuracy", "latency_ms", "parameters"} for row in rows)
    best = [row for row in rows if row["front"] == 1]
    assert best
    for row in best:
        assert row["objectives"]["latency_ms"] > 0
        assert not any(
            other["objectives"]["val/accuracy"] >= row["objectives"]["val/accuracy"]
            and other["objectives"]["latency_ms"] < row["objectives"]["latency_ms"]
            and other["objectives"]["parameters"] <= row["objectives"]["parameters"]
            for other in rows
            if other["front"] is not None
        )
    chosen = best[-1]["trial_id"]
    assert visionsweep("export", "runs/o", "--trial", chosen, "--out", "small").code == 0
    again = visionsweep("resume", "runs/o", "--trials", "+1")
    assert again.code == 0, again.err
    journal = JournalStorage(JournalFileBackend(str(tmp_path / "runs/o/study.journal")))
    study = optuna.load_study(study_name="o", storage=journal)
    complete = [trial for trial in study.trials if trial.state == optuna.trial.TrialState.COMPLETE]
    assert len(study.trials) == 5
    assert all(len(trial.values) == 3 for trial in complete)


def test_what_the_machine_does_not_have_is_refused_before_there_is_a_run(
    visionsweep: CLI, photos: Path, tiny: Path, tmp_path: Path
) -> None:
    refused = visionsweep("run", tiny, "--data", photos, "--name", "l", "--cpus-per-trial", 64)
    assert refused.code == 2
    assert "one trial asks for 64 CPUs" in refused.err
    assert "Lower --cpus-per-trial" in refused.err
    refused = visionsweep("run", tiny, "--data", photos, "--name", "l", "--gpus-per-trial", 1.5)
    assert "a share of one GPU, or on several whole ones" in refused.err
    assert not (tmp_path / "runs" / "l").exists()
