"""A step that takes long says what it is doing; one that does not says nothing."""

from __future__ import annotations

import time

import pytest

from launch import prepare, slow
from launch.slow import said_if_slow
from search_spaces import Search
from search_spaces.errors import DataError

Capture = pytest.CaptureFixture[str]


def test_a_slow_step_says_again_and_again_what_it_does(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.setattr(slow, "SAY_AFTER_S", 0.05)
    with said_if_slow("importing libraries"):
        time.sleep(0.5)
    said = capsys.readouterr().err.splitlines()
    assert len(said) > 1
    assert set(said) <= {"Still importing libraries (0 s so far).", "Still importing libraries (1 s so far)."}
    time.sleep(0.2)
    assert capsys.readouterr().err == "", "it is over"


def test_a_fast_step_says_nothing(capsys: Capture) -> None:
    with said_if_slow("importing libraries"):
        pass
    assert capsys.readouterr().err == ""


def test_a_search_whose_data_takes_long_to_read_says_so(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    def load_dataset(*_: object, **options: object) -> None:
        time.sleep(0.3)
        raise DataError("unreadable")

    monkeypatch.setattr(slow, "SAY_AFTER_S", 0.1)
    monkeypatch.setattr(prepare, "load_dataset", load_dataset)
    search = Search(task="multiclass", space={}, epochs=1)
    with pytest.raises(DataError, match="unreadable"):
        prepare.load_data(search, prepare.RunOptions(data="digits"))
    assert "Still reading the data (0 s so far).\n" in capsys.readouterr().err
