"""The captures for the pages, made of a run that was not trained."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from running import main_of

from benchmarks.captures import BEGINS, ENDS, WIDTHS, at_moment, blocks, live_table, outcome, replace_between
from visionsweep.core.errors import ConfigError
from visionsweep.run_dir.trials import read_trials

ROOT = Path(__file__).parents[2]


@pytest.fixture
def run_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(ROOT / "tests" / "analysis"))
    from made_runs import write_run

    return write_run(tmp_path / "run")


def test_the_live_table_is_that_of_a_moment_of_the_run(run_dir: Path) -> None:
    then = at_moment(run_dir)
    whole = read_trials(run_dir)
    assert 5 < len(then.trials) < len(whole)
    (running,) = [trial for trial in then.trials.values() if trial.status == "running"]
    shown = live_table(run_dir, 80)
    ended = len(then.trials) - 1
    assert shown.startswith(f"{ended} trials have ended: ")
    assert len(running.epochs) < len(whole[running.trial_id].epochs)
    assert re.search(rf"^{running.trial_id} +{len(running.epochs)}/\d", shown, re.M)


@pytest.mark.parametrize("width", WIDTHS)
def test_what_is_captured_fits_its_width_and_breaks_no_word_of_a_sentence(run_dir: Path, width: int) -> None:
    end = outcome(run_dir, width)
    for text in (live_table(run_dir, width), end):
        assert max(map(len, text.splitlines())) <= width
    joined = " ".join(end.split())
    assert "validation images are right: " in joined
    assert "Next: visionsweep export " in joined


def test_a_page_gets_the_captures_between_its_marks_and_nothing_else_changes(
    run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "running.md"
    page.write_text(f"before\n{BEGINS}\nold\n{ENDS}\nafter\n")
    made = blocks(run_dir)
    replace_between(page, made)
    main_of("captures", monkeypatch)(run_dir, "--docs", tmp_path, "--no-browser")  # a second time over the first
    text = page.read_text()
    assert text == f"before\n{BEGINS}\n\n{made}\n{ENDS}\nafter\n"
    assert text.count("```") == 4 * len(WIDTHS)
    page.write_text("no marks")
    with pytest.raises(ConfigError, match="has no line"):
        replace_between(page, made)
