"""Every command refuses seeded damage in a sentence, or works on. benchmarks/fuzz.py draws thousands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from running import main_of

CASES = 300


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Any:
    from benchmarks.fuzz import make

    return make(tmp_path_factory.mktemp("fuzz"))


@pytest.mark.filterwarnings("ignore")  # of numpy and pandas about the nonsense that they were given
@pytest.mark.timeout(300)
def test_hundreds_of_damaged_files_break_no_command(made: Any, tmp_path: Path) -> None:
    from benchmarks.fuzz import COMMANDS, fuzz

    found = fuzz(made, tmp_path / "case", range(CASES), one_command=True)
    assert found.broken == []
    assert sum(found.refused.values()) + sum(found.went_on.values()) == CASES
    assert (found.refused + found.went_on).keys() == COMMANDS.keys(), "every command had some"


def test_a_whole_run_is_read_by_every_command(made: Any, tmp_path: Path) -> None:
    """Else refusing everything would pass."""
    import shutil

    from benchmarks.fuzz import COMMANDS

    for name, command in COMMANDS.items():
        case = tmp_path / name
        shutil.copytree(made.export if name == "predict" else made.run, case)
        command(case)
    shutil.copytree(made.ensemble, tmp_path / "two")
    COMMANDS["predict"](tmp_path / "two")


def test_the_benchmark_counts_what_was_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main_of("fuzz", monkeypatch)("--cases", 2)
    assert not ended.value.code
    assert "2 damaged files, 0 of them broke a command" in capsys.readouterr().out


def test_what_syncing_costs_is_printed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    main_of("syncing", monkeypatch)("--lines", 20)
    assert "overhead of syncing: " in capsys.readouterr().out
