"""Beside `train --out X` the checkpoints are in X.training. Only what is ours is ever deleted there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from support import Outcome

CLI = Callable[..., Outcome]
SMALL = ("model.backbone=test_resnet", "image_size=32", "epochs=1", "batch_size=8")


@pytest.fixture
def train(visionsweep: CLI, photos: Path) -> Callable[[], Outcome]:
    options = [part for one in SMALL for part in ("--set", one)]
    return lambda: visionsweep(
        "train", "--recipe", "report-cv4/alexnet-scratch", "--data", photos, "--out", "kept", *options
    )


def test_a_folder_that_is_no_training_of_ours_is_left_alone(train: Callable[[], Outcome], tmp_path: Path) -> None:
    (tmp_path / "kept.training").mkdir()
    (tmp_path / "kept.training" / "thesis.txt").write_text("years of work")
    refused = train()
    assert refused.code == 2
    assert "kept.training: is not a training of ours (it has no asked.yaml)" in refused.err
    assert "Choose another --out." in refused.err
    assert (tmp_path / "kept.training" / "thesis.txt").read_text() == "years of work"
    assert not (tmp_path / "kept").exists()


def test_a_file_in_the_folders_place_is_left_alone(train: Callable[[], Outcome], tmp_path: Path) -> None:
    (tmp_path / "kept.training").write_text("years of work")
    assert train().code == 2
    assert (tmp_path / "kept.training").read_text() == "years of work"


def test_an_earlier_training_of_something_else_is_dropped_and_told(
    train: Callable[[], Outcome], tmp_path: Path
) -> None:
    (tmp_path / "kept.training").mkdir()
    (tmp_path / "kept.training" / "asked.yaml").write_text("# other data")
    (tmp_path / "kept.training" / "last.pt").write_bytes(b"of another model")
    trained = train()
    assert trained.code == 0, trained.err
    assert [line for line in trained.out.splitlines() if "kept.training" in line] == [
        f"Dropped {tmp_path / 'kept.training'}: an earlier training of something else."
    ]
    assert (tmp_path / "kept" / "config.yaml").is_file()
    assert not (tmp_path / "kept.training").exists()


def test_an_empty_folder_is_taken(train: Callable[[], Outcome], tmp_path: Path) -> None:
    (tmp_path / "kept.training").mkdir()
    trained = train()
    assert trained.code == 0, trained.err
    assert "Dropped" not in trained.out
