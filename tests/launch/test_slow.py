"""A slow step prints what it is doing, and a fast one prints nothing."""

from __future__ import annotations

import re
import time

import pytest

from launch.cli import slow
from launch.cli.slow import said_if_slow
from launch.search import prepare
from launch.search.settled import SettledSearch
from search_spaces import Search
from visionsweep.core.errors import DataError

Capture = pytest.CaptureFixture[str]


def test_a_slow_step_says_again_and_again_what_it_does(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.setattr(slow, "SAY_AFTER_S", 0.05)
    monkeypatch.setattr(slow, "BEGAN", time.monotonic() - 31)
    for doing in ("importing libraries", "reading the data"):  # the second does not count from zero again
        with said_if_slow(doing):
            time.sleep(0.4)
        said = capsys.readouterr().err.splitlines()
        assert len(said) > 1
        assert set(said) <= {f"Still {doing} ({seconds} s since the start)." for seconds in (31, 32)}
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
        prepare.load_data(SettledSearch.of(search), prepare.RunOptions(data="digits"))
    assert re.search(r"^Still reading the data \(\d+ s since the start\)\.$", capsys.readouterr().err, re.M)
