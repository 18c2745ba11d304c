"""The one door for names from outside."""

from __future__ import annotations

from pathlib import Path

import pytest

from visionsweep.core.errors import RunError, StorageError
from visionsweep.core.safe_path import safe_path
from visionsweep.run_dir.files import trial_folder

OUTSIDE = [
    "", "/", "/etc/passwd", "//etc/passwd", "..", "../x", "a/../../x", "a/..", "a//b", "a/", "./a", "a/./b", ".",
    "a\0b", "a\ud800b", "..\\x", "C:\\x", "a\\b", f"a/{'x' * 256}", f"{'é' * 128}.png", "x/" * 600 + "x",
]  # fmt: skip


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_name_that_is_not_of_a_file_below_the_folder_is_one_sentence(name: str, tmp_path: Path) -> None:
    with pytest.raises(StorageError) as raised:
        safe_path(tmp_path, name, "s3://bucket/runs/a", kind=StorageError)
    said = str(raised.value)
    assert said.startswith("s3://bucket/runs/a: something there is called '")
    assert said.endswith(" Rename or remove it.")
    assert len(said) < 300
    assert all(sign.isprintable() for sign in said)


@pytest.mark.parametrize("name", ["a", "a/b.png", "..a", "a..", "...", "a b/ü.png", "-rf", "~", "$HOME", "x" * 255])
def test_a_name_of_a_file_below_the_folder_is_its_path(name: str, tmp_path: Path) -> None:
    path = safe_path(tmp_path, name, "here")
    assert path == tmp_path / name
    assert path.resolve().is_relative_to(tmp_path.resolve())


@pytest.mark.parametrize("trial_id", ["../../etc", "/etc", "..", ""])
def test_a_trial_in_records_names_a_folder_of_its_run(trial_id: str, tmp_path: Path) -> None:
    assert trial_folder(tmp_path, "checkpoints", "0007") == tmp_path / "checkpoints" / "0007"
    with pytest.raises(RunError, match=r"Restore the run from a copy\.$"):
        trial_folder(tmp_path, "checkpoints", trial_id)
