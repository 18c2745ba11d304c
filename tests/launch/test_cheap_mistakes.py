"""Mistakes that need neither torch nor Ray to be found are answered before either is imported, with the next move."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from analysis.models.export import export_trial
from launch.cli.loading import parse_duration
from tests.kept_run import kept_run, opened, truths
from tests.support import command_in, make_photos
from visionsweep.core.errors import ConfigError
from visionsweep.run_dir.load import load_run

HEAVY = re.compile(r"\| +(torch|timm|ray|albumentations|torchvision)$", re.MULTILINE)

# What was typed, in a folder with photos/, photos.zip, runs/first and exports/first -> a part of the answer.
RUN = ["run", "classification-cpu", "--data"]
MISTAKES = {
    "optimizer by itself": ([*RUN, "photos", "--set", "optimizer=adam"], "by its name: optimizer.name=adam"),
    "key without its part": ([*RUN, "photos", "--set", "lr=0.001"], "stands in optimizer: write optimizer.lr"),
    "key that nobody knows": ([*RUN, "photos", "--set", "imagesize=64"], "Did you mean 'image_size'?"),
    "option of another tool": ([*RUN, "photos", "--epochs", "5"], "Write --set epochs=12"),
    "another word for budget": ([*RUN, "photos", "--time", "5m"], "Write --budget 5m"),
    "value of --set apart": ([*RUN, "photos", "--set", "image_size", "64"], "Write --set image_size=64"),
    "archive": ([*RUN, "photos.zip"], "is an archive"),
    "data that is not there": ([*RUN, "foto"], "Did you mean 'photos'?"),
    "no data": ([*RUN, ""], "--data is empty"),
    "data in the place of the search": (["run", "photos"], "run classification-cpu --data photos"),
    "search": (["run", "clasification-cpu", "--data", "photos"], "Did you mean 'classification-cpu'?"),
    "beginning of a metric": ([*RUN, "photos", "--set", "metric=val/acc"], "Did you mean 'val/accuracy'?"),
    "budget without a unit": ([*RUN, "photos", "--budget", "5"], "Did you mean 5m (minutes)"),
    "name of a run": ([*RUN, "photos", "--name", "a/b"], "one folder name without slashes"),
    "sampler": ([*RUN, "photos", "--sampler", "tpi"], "Did you mean 'tpe'?"),
    "run to resume": (["resume", "runs/frist"], "Did you mean 'runs/first'?"),
    "trial": (["export", "runs/first", "--trial", "9"], "It has 0000 to 0001; with weights: 000"),
    "run to export": (["export", "runs/none"], "is not a run directory"),
    "run in the place of an export": (["predict", "runs/first", "photos"], "is a run, not an export"),
    "photo to predict": (["predict", "exports/first", "nope.jpg"], "nope.jpg: no such image"),
    "data to judge by": (["evaluate", "exports/first", "--data", "nope"], "no data in 'nope'"),
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mistakes")
    photos = make_photos(folder / "photos", {"ants": 12, "bees": 12})
    (folder / "photos.zip").write_bytes(b"PK\x03\x04")
    logits = np.linspace(-1, 1, len(truths(opened(photos))), dtype=np.float32)[:, None]  # (N, 1)
    kept_run(folder / "runs" / "first", photos, [logits, -logits])
    export_trial(load_run(folder / "runs" / "first"), folder / "exports" / "first")
    return folder


def answer(place: Path, arguments: list[str]) -> tuple[str, str]:
    """What a command that refuses says, and what it imports."""
    command = [sys.executable, "-X", "importtime", str(Path(sys.executable).with_name("visionsweep")), *arguments]
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, env={**os.environ, "COLUMNS": "200"})
    imports = "".join(line for line in done.stderr.splitlines(keepends=True) if line.startswith("import time:"))
    said = "".join(line for line in done.stderr.splitlines(keepends=True) if not line.startswith("import time:"))
    assert done.returncode == 2, said
    return said, imports


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_answered_with_the_next_move_before_torch_and_ray_are_imported(place: Path, mistake: str) -> None:
    arguments, expected = MISTAKES[mistake]
    said, imports = answer(place, arguments)
    assert expected in said
    assert not HEAVY.findall(imports)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("5min", 300),
        ("5 minutes", 300),
        ("1h30m", 5400),
        ("2 hours", 7200),
        ("1 day", 86400),
        ("3H", 10800),
    ],
)
def test_a_budget_may_be_written_as_people_write_it(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["5", "5x", "m5", "5m3", "", "five minutes", "5 months"])
def test_other_budgets_are_refused_with_an_example(text: str) -> None:
    with pytest.raises(ConfigError, match="For example 30m or 1h30m"):
        parse_duration(text)


def test_what_is_left_out_is_taken_from_the_newest_run_and_the_model_s_own_data(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    older = place / "runs" / "first" / "search.json"
    os.utime(older)
    status = command_in(place, "status")
    assert "2 trials have ended: 2 complete." in status.out
    exported = command_in(place, "export", "runs/first")
    assert "to exports/first:" in exported.out
    judged = command_in(place, "evaluate", "exports/first")
    assert judged.err.startswith("Judged on the data that the model was trained on:")
    assert "accuracy" in judged.out


def test_without_a_run_status_says_how_to_start_one(tmp_path: Path) -> None:
    said = visionsweep(tmp_path, "status")
    assert (said.returncode, "there is no run in runs/" in said.stderr) == (2, True)


def visionsweep(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    program = str(Path(sys.executable).with_name("visionsweep"))
    environment = {**os.environ, "COLUMNS": "200"}
    return subprocess.run([program, *arguments], cwd=folder, capture_output=True, text=True, env=environment)
