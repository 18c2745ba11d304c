"""How many threads a command takes that trains alone."""

from __future__ import annotations

import os

import pytest

from trainables.worker.threads import own_threads


@pytest.mark.parametrize(
    ("said", "threads"),
    [("1", 1), ("3", 3), (None, os.cpu_count()), ("", os.cpu_count()), ("0", os.cpu_count()), ("2,1", os.cpu_count())],
)
def test_a_command_takes_all_cores_unless_the_user_says_how_many(
    said: str | None, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS")
    if said is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", said)
    assert own_threads() == threads
