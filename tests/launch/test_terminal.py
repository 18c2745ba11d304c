"""What names and messages can do to the terminal: nothing."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.live import Live
from rich.text import Text
from support import Outcome

from launch.cli.options import new_console
from launch.cli.printing import print_predictions
from launch.cli.terminal import Terminal
from launch.search.progress import Progress
from launch.search.records import Records
from search_spaces import Float, Search
from search_spaces.serial import search_to_json
from visionsweep.core.printable import printable

EVIL = "\x1b]0;owned\x07\x1b[2J[bold red]dog[/]\x9b31m\x7f\u202e"  # title, clear, markup, C1, delete, right to left
SEARCH = Search(task="multiclass", space={"lr": Float(0.1, 1)}).for_task("multiclass")


def harmless(said: str) -> bool:
    return not [char for char in said if char in "\x1b\x07\x9b\x7f\u202e\r\b"] and "[bold red]dog[/]" in said


def test_control_characters_are_shown_as_signs_and_lines_stay() -> None:
    assert printable("a\x1b[31mb\nc\td\x00") == "a␛[31mb\nc\td␀"
    assert printable("Straße, 犬, ✓") == "Straße, 犬, ✓"
    assert printable(os.fsdecode(b"caf\xe9.png")) == "caf\ufffd.png", "a name that is no text can be printed"


def test_class_and_file_names_are_shown_and_not_obeyed(capsys: pytest.CaptureFixture[str]) -> None:
    print_predictions(
        [
            {"path": EVIL, "label": EVIL, "probabilities": {EVIL: 0.9}},
            {"path": "x", "error": f"{EVIL}: cannot be read"},
        ],
        new_console(),
    )
    said = capsys.readouterr().out
    assert harmless(said)
    assert said.count("[bold red]dog[/]") == 3


def test_the_reasons_of_trials_are_shown_and_not_obeyed(
    visionsweep: Callable[..., Outcome], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    records = Records.create(tmp_path / "runs" / "r", {"search": search_to_json(SEARCH)})
    records.proposed("0000", {"lr": 0.5}, {"lr": 0.5}, "sampler")
    progress = Progress(records, SEARCH, new_console(), 1, None)
    records.ended("0000", "failed", f"ValueError: {EVIL}")
    progress.ended("0000")
    assert harmless(capsys.readouterr().out)
    assert harmless(visionsweep("rank", "runs/r").out)


def test_an_error_about_a_name_is_shown_and_not_obeyed(visionsweep: Callable[..., Outcome]) -> None:
    said = visionsweep("run", EVIL, "--data", "digits")
    assert said.code == 2
    assert harmless(said.err)


def test_the_live_table_still_moves_the_cursor(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # for rich a terminal
    with Live(Text(f"name {EVIL}\nanother"), console=Terminal(width=80), auto_refresh=False) as live:
        live.refresh()
        live.refresh()
    said = capsys.readouterr().out
    assert "\x1b[1A" in said, "rich's own movements"
    assert "␛]0;owned" in said
    assert "\x1b]0;owned" not in said
    assert "\x1b[2J" not in said
