"""Recorded learning curves of our own search, from a run directory into a file and into the simulator."""

from __future__ import annotations

import argparse
import gzip
import json
import platform
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.blackboxes import OWN, OwnCurves, measured
from benchmarks.curves import command, linked, main, read_curves, write_curves
from benchmarks.ours import method_ours
from benchmarks.peers import PEERS
from benchmarks.simulate import Clock, simulate
from launch.search.records import Records
from search_spaces.grammar import Branch, Float, Pick
from search_spaces.search import Search
from search_spaces.serial import search_to_json
from visionsweep.core.errors import RunError

EPOCHS = 6
SEARCH = Search(
    task="multiclass",
    space={
        "model": {"backbone": Pick("small", "large"), "weights": "none"},
        "optimizer": Branch({"sgd": {"lr": Float(1e-3, 1.0, log=True)}, "adam": {"lr": Float(1e-5, 1e-2, log=True)}}),
    },
    epochs=EPOCHS,
    sampler="random",
    pruner="none",
).for_task("multiclass")

Recorded = tuple[str, str, float, list[float]]  # backbone, optimizer, lr, values
RECORDED: list[Recorded] = [
    ("small", "sgd", 0.01, [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]),
    ("small", "sgd", 0.9, [0.1, 0.15]),  # diverged in the third epoch
    ("small", "adam", 1e-3, [0.3, 0.4, 0.5, 0.6, 0.7, 0.75]),
    ("large", "adam", 1e-5, [0.2, 0.3, 0.3, 0.3, 0.3, 0.3]),
    ("large", "sgd", 0.05, [0.5, 0.6, 0.7, 0.8, 0.85, 0.9]),
    ("large", "sgd", 0.99, []),  # diverged at once
]
SECONDS = {"small": 2.0, "large": 8.0}


def params(backbone: str, optimizer: str, lr: float) -> dict[str, Any]:
    return {"model/backbone": backbone, "optimizer": optimizer, f"optimizer/{optimizer}/lr": lr}


def config(backbone: str, optimizer: str, lr: float) -> dict[str, Any]:
    return {"model": {"backbone": backbone, "weights": "none"}, "optimizer": {"name": optimizer, "lr": lr}}


def table() -> dict[str, Any]:
    trials = [
        {
            "params": params(backbone, optimizer, lr),
            "status": "complete" if len(values) == EPOCHS else "diverged",
            "values": values,
            "seconds": [100.0, *[SECONDS[backbone]] * (len(values) - 1)] if len(values) > 2 else values and [1.0, 3.0],
        }
        for backbone, optimizer, lr, values in RECORDED
    ]
    return {"made": {}, "search": search_to_json(SEARCH), "trials": trials}


@pytest.fixture
def black_box(tmp_path: Path) -> OwnCurves:
    write_curves(tmp_path / "tiny.json.gz", table())
    return OwnCurves(tmp_path / "tiny.json.gz")


def test_a_recorded_configuration_gets_its_own_curve_and_nothing_after_it_diverged(black_box: OwnCurves) -> None:
    for backbone, optimizer, lr, values in RECORDED:
        curve = black_box.curve(config(backbone, optimizer, lr))
        assert curve[: len(values)].tolist() == values
        assert np.isnan(curve[len(values) :]).all()
        assert len(curve) == EPOCHS


def test_an_epoch_takes_the_median_time_of_the_training_it_is_answered_by(black_box: OwnCurves) -> None:
    assert black_box.seconds_per_epoch(config("small", "sgd", 0.01)) == 2.0  # the first epoch's 100 s count for little
    assert black_box.seconds_per_epoch(config("large", "sgd", 0.05)) == 8.0
    # What diverged before its first epoch ended takes the time of what is most like it.
    assert black_box.seconds_per_epoch(config("large", "sgd", 0.99)) == 8.0


def test_a_proposal_is_answered_by_the_nearest_training_of_its_own_backbone(black_box: OwnCurves) -> None:
    # Were backbones a choice like others, small's adam of that very rate would be nearer.
    assert black_box.curve(config("large", "adam", 1e-3)).tolist() == RECORDED[4][3]
    assert black_box.curve(config("large", "adam", 1e-4)).tolist() == RECORDED[3][3]
    assert black_box.curve(config("small", "sgd", 0.02)).tolist() == RECORDED[0][3]
    assert black_box.curve(config("small", "adam", 1e-5)).tolist() == RECORDED[2][3]


def test_regret_is_nothing_at_the_best_known_and_one_at_the_median_training(black_box: OwnCurves) -> None:
    scale = measured(black_box)
    assert scale.median == pytest.approx(0.45)  # of two that diverged, 0.3, 0.6, 0.75 and 0.9
    assert [scale.regret(value) for value in (0.9, 0.675, 0.45, 0.1)] == pytest.approx([0.0, 0.5, 1.0, 1.0])
    assert scale.mean_full_s == EPOCHS * np.mean([2.0, 2.0, 2.0, 8.0, 8.0, 8.0])


@pytest.mark.parametrize("method", ["ours", "random", "random-asha-4", "tpe-asha-1", "optuna-hyperband"])
def test_a_search_of_the_conditional_space_sees_recorded_curves_only(black_box: OwnCurves, method: str) -> None:
    clock = Clock()
    ours = method_ours(black_box, 0, 2, 400.0, clock) if method == "ours" else None
    simulation = simulate(ours or PEERS[method](black_box, 0), black_box, workers=2, num_trials=12, clock=clock)
    if ours is not None:
        ours.callback.folder.cleanup()
    assert len(simulation.trials) == 12
    for trial_id, trial in simulation.trials.items():
        assert set(trial.config["optimizer"]) == {"name", "lr"}
        values = [value for _, row_id, _, value in simulation.rows if row_id == trial_id]
        assert values == pytest.approx(black_box.curve(trial.config)[: trial.epochs].tolist(), nan_ok=True)
    statuses = {trial.status for trial in simulation.trials.values()}
    assert "complete" in statuses
    assert ("pruned" in statuses) == (method != "random")


def damage(what: str) -> bytes:
    found = json.loads(json.dumps(table()))  # a copy to the bottom
    match what:
        case "no search":
            del found["search"]
        case "short":
            found["trials"][2]["values"].pop()
        case "text":
            found["trials"][4]["values"][0] = "high"
        case "nothing complete":
            found["trials"] = found["trials"][1:2]
    whole = gzip.compress(json.dumps(found).encode())
    return {"cut off": whole[:200], "no gzip": b"{}"}.get(what, whole)


@pytest.mark.parametrize(
    ("what", "says"),
    [
        ("cut off", "is no file of learning curves (EOFError"),
        ("no gzip", "is no file of learning curves (BadGzipFile"),
        ("no search", "is no file of learning curves (KeyError: 'search')"),
        ("short", "trial 2 is complete with 5 of 6 epochs"),
        ("text", "is no file of learning curves (TypeError"),
        ("nothing complete", "holds no training that came to its end"),
    ],
)
def test_a_damaged_file_is_refused_in_one_sentence(tmp_path: Path, what: str, says: str) -> None:
    path = tmp_path / "bad.json.gz"
    path.write_bytes(damage(what))
    with pytest.raises(RunError) as refused:
        OwnCurves(path)
    assert str(refused.value).startswith(f"{path}: ")
    assert says in str(refused.value)
    assert str(refused.value).endswith("Write it again with benchmarks/curves.py.")


def make_run(run_dir: Path) -> None:
    """Write a run directory like `visionsweep run`: one trial complete, one diverged, one interrupted."""
    data = {"spec": "/home/me/photos", "task": "multiclass", "classes": ["a", "b", "c"], "fingerprint": "0" * 16}
    search_json = {
        "search": {**search_to_json(SEARCH), "data": "/home/me/photos"},
        "data": {**data, "counts": {"train": 8, "val": 4}, "split_origin": "stratified"},
        "options": {"num_trials": 3},
        "versions": {"python": "3.11"},
        "machine": {"node": platform.node(), "cpus": 2, "system": "Linux-6"},
        "command": command(asked(), "/home/me/photos", run_dir)[1:],
        "started": 1.0e9,
    }
    records = Records.create(run_dir, search_json)
    statuses = {"0000": "complete", "0001": "diverged", "0002": "interrupted"}
    for (trial_id, status), (backbone, optimizer, lr, values) in zip(statuses.items(), RECORDED[:3], strict=True):
        records.proposed(trial_id, params(backbone, optimizer, lr), config(backbone, optimizer, lr), "sampler")
        for epoch, value in enumerate(values, start=1):
            row = {"metrics": {"val/accuracy": value + 1e-9}, "seconds": 2.00004, "node": platform.node()}
            records.epoch({"trial_id": trial_id, "epoch": epoch, **row})
        records.ended(trial_id, status, "")


def asked(**other: Any) -> argparse.Namespace:
    options = {"search": "mine.py", "epochs": EPOCHS, "assignments": ["model.weights=/home/me/w.pt"], "trials": 3}
    return argparse.Namespace(**{**options, "budget": None, **other})


def test_a_run_directory_becomes_a_file_without_any_path_or_host_and_always_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_run(tmp_path / "runs" / "mine")
    call = ["curves.py", "/home/me/photos", "--read-only", "--runs-dir", f"{tmp_path}/runs", "--name", "mine"]
    call += ["--set", "model.weights=/home/me/w.pt", "--out", f"{tmp_path}/mine.json.gz"]
    monkeypatch.setattr(sys, "argv", call)
    written = []
    for _ in range(2):
        main()
        said = capsys.readouterr().out
        assert "2 curves of 6 epochs, 1 complete, 1 diverged, 1 interrupted; best val/accuracy 0.6000" in said
        written.append((tmp_path / "mine.json.gz").read_bytes())
    assert written[0] == written[1]
    text = gzip.decompress(written[0]).decode()
    assert [secret for secret in (platform.node(), "/home", str(tmp_path)) if secret in text] == []
    kept = json.loads(text)
    assert [trial["values"] for trial in kept["trials"]] == [RECORDED[0][3], RECORDED[1][3]]
    assert kept["trials"][0]["seconds"] == [2.0] * EPOCHS
    assert kept["made"]["date"] == "2001-09-09"
    assert "--set model.weights=w.pt" in kept["made"]["command"]
    assert OwnCurves(tmp_path / "mine.json.gz").curve(config(*RECORDED[0][:3])).tolist() == RECORDED[0][3]


def test_a_run_that_is_there_is_gone_on_with_and_another_one_is_refused(tmp_path: Path) -> None:
    make_run(tmp_path / "mine")
    more = command(asked(trials=10, budget="5m"), "/home/me/photos", tmp_path / "mine")
    assert more[1:] == ["resume", str(tmp_path / "mine"), "--trials", "+7", "--budget", "5m"]
    with pytest.raises(RunError, match=r"was made by `visionsweep run mine\.py .* or another --name"):
        command(asked(epochs=7), "/home/me/photos", tmp_path / "mine")


def test_so_many_images_are_taken_of_every_class_by_its_share_and_none_twice(tmp_path: Path) -> None:
    for name, num in (("few", 20), ("many", 60)):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(num):
            (tmp_path / "photos" / name / f"{number:02d}.jpg").touch()
        (tmp_path / "photos" / name / "Thumbs.db").touch()
    for images in (20, 16, 16):  # what an earlier command has linked does not stay
        folder = linked(tmp_path / "photos", images, tmp_path / "runs" / "mine-data")
        found = {split: sorted(p.name for p in (folder / split / "many").iterdir()) for split in ("train", "val")}
        assert [len(found["train"]), len(found["val"])] == [images * 3 / 4] * 2
        assert len(list((folder / "train" / "few").iterdir())) == images / 4
        assert not set(found["train"]) & set(found["val"])
    with pytest.raises(RunError, match="has 80 photos"):
        linked(tmp_path / "photos", 41, tmp_path / "runs" / "mine-data")


@pytest.mark.parametrize("path", sorted(OWN.glob("*.json.gz")), ids=lambda path: path.name)
def test_every_file_that_is_shipped_gives_back_its_own_trials(path: Path) -> None:
    assert path.stat().st_size < 200_000
    found = read_curves(path)
    black_box = OwnCurves(path)
    assert len({trial["params"]["model/backbone"] for trial in found["trials"]}) > 1
    for number, trial in enumerate(found["trials"]):
        point = black_box.points[number]
        assert np.flatnonzero((black_box.points == point).all(axis=1))[0] == number, "two trials of one configuration"
        assert len(trial["values"]) == np.isfinite(black_box.curves[number]).sum()
