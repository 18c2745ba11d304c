"""The stages of a long command: what stands on standard error, and when nothing does."""

from __future__ import annotations

import os
import pty
import re
import select
import time

import pytest

from launch.cli import stages
from launch.cli.stages import stages_shown
from visionsweep.core.stages import stage

Capture = pytest.CaptureFixture[str]


def test_a_quick_command_says_nothing_and_work_without_a_listener_neither(capsys: Capture) -> None:
    with stages_shown("reading the run"):
        stage("drawing the page")
    stage("drawing the page")
    assert capsys.readouterr().err == ""


def test_a_log_gets_a_line_a_stage_and_another_where_one_takes_long(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setattr(stages, "QUIET_S", 0.1)
    monkeypatch.setattr(stages, "SAY_AFTER_S", 0.4)
    with stages_shown("importing libraries"):
        stage("reading the run")  # within the quiet time, and over before its end
        stage("drawing \x1b[31mthe page")
        time.sleep(0.7)
        stage("writing it")
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "drawing ␛[31mthe page ..."
    assert re.fullmatch(r"Still drawing ␛\[31mthe page \(\d s since the start\)\.", lines[1])
    assert lines[-1] == "writing it ..."


def test_a_terminal_has_one_line_that_is_gone_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages, "QUIET_S", 0.0)
    monkeypatch.setattr(stages, "REDRAW_S", 0.02)
    master, slave = pty.openpty()
    with os.fdopen(slave, "w") as terminal:
        monkeypatch.setattr("sys.stderr", terminal)
        with stages_shown("reading the run"):
            time.sleep(0.1)
            stage("drawing the page")
            time.sleep(0.1)
        written = ""
        while select.select([master], [], [], 0.2)[0]:
            written += os.read(master, 100_000).decode()
    os.close(master)
    assert "\n" not in written
    assert "reading the run ... 0 s" in written
    assert written.index("reading the run") < written.index("drawing the page")
    assert written.endswith("\r\x1b[K"), "the line is wiped"
