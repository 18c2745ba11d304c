"""Names and messages of others are text: on the terminal, and in tables that a spreadsheet opens."""

from __future__ import annotations

import ast
import contextlib
import csv
import io
from pathlib import Path

import pandas as pd
import pytest
import typer

from analysis.report.tables import _plain
from launch.cli import jobs as cli_jobs
from launch.jobs.submission import Submitted
from launch.models.tables import as_csv
from visionsweep.core.csv_cells import no_formula

ROOT = Path(__file__).parents[2]
EVIL = "run\x1b]0;owned\x07\x9b31m"


class Job:
    submission_id, status, metadata = EVIL, "SUCCEEDED", {"run_dir": EVIL}


class Client:
    def get_job_logs(self, job_id: str) -> str:
        return f"{EVIL}\n"

    def get_job_info(self, job_id: str) -> Job:
        return Job()


def no_controls(text: str) -> bool:
    return text != "" and all(sign.isprintable() or sign == "\n" for sign in text)


def test_what_a_job_prints_and_is_called_moves_no_cursor(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("launch.jobs.jobs.cluster_url", lambda _: "http://head:8265")
    monkeypatch.setattr("launch.jobs.jobs.connect", lambda _: Client())
    monkeypatch.setattr("launch.jobs.jobs.find", lambda *_: Job())
    monkeypatch.setattr("launch.jobs.jobs.follow", lambda *_: iter([EVIL, "\n"]))
    monkeypatch.setattr("launch.jobs.fetch.fetch_run", lambda *_: Path(EVIL))
    submitted = Submitted(EVIL, EVIL, Client(), "http://head:8265")
    for command in (
        lambda: cli_jobs.logs(EVIL, None, False),
        lambda: cli_jobs.logs(EVIL, None, True),
        lambda: cli_jobs.stop(EVIL, None),
        lambda: cli_jobs.fetch(EVIL, None, Path("runs")),
        lambda: cli_jobs.tell(submitted, None),
        lambda: cli_jobs.follow(submitted),
    ):
        with contextlib.suppress(typer.Exit):
            command()
        said = capsys.readouterr().out
        assert "owned" in said
        assert no_controls(said), said


def raw_prints(source: str) -> list[str]:
    """Calls that print anything but a constant, JSON, or text through `printable`."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("print", "sys.stdout.write", "sys.stderr.write"):
            safe = all(isinstance(one, ast.Constant) or "printable(" in ast.unparse(one) for one in node.args)
            if not safe and not ast.unparse(node).startswith("print(json.dumps("):
                found.append(f"line {node.lineno}: {ast.unparse(node)}")
    return found


# Words of our own: a path that was just checked, a recipe of ours, what goes through `receive` first, and stages, which
# are made printable before the line's own control characters are added.
OWN_WORDS = {
    "launch/cli/app.py": 1,
    "launch/cli/recipes.py": 1,
    "launch/jobs/transfer.py": 1,
    "launch/cli/stages.py": 1,
}


def test_nothing_of_launch_prints_past_the_terminal() -> None:
    found = {
        path.relative_to(ROOT).as_posix(): raw_prints(path.read_text())
        for room in ("launch", "visionsweep")
        for path in (ROOT / room).rglob("*.py")
    }
    raw = {name: calls for name, calls in found.items() if len(calls) > OWN_WORDS.get(name, 0)}
    assert raw == {}


@pytest.mark.parametrize(
    ("source", "num"),
    [
        ("print(name)", 1), ("print(f'{name}')", 1), ("print('a', name)", 1), ("sys.stdout.write(text)", 1),
        ("print('said')", 0), ("print(printable(name))", 0), ("say(name)", 0), ("console.print(name)", 0),
        ("print(json.dumps(rows))", 0),
    ],
)  # fmt: skip
def test_a_raw_print_is_found(source: str, num: int) -> None:
    assert len(raw_prints(source)) == num


@pytest.mark.parametrize("text", ["=HYPERLINK(1)", "+1+1", "-cmd", "@SUM(1)", "\tx", "\r=1", "-"])
def test_text_that_a_spreadsheet_would_compute_begins_with_an_apostrophe(text: str) -> None:
    assert no_formula(text) == f"'{text}"


@pytest.mark.parametrize(
    "cell", ["cat", "", "a=b", "-1", "+1.5", "-1e-9", -1, -0.5, None, float("nan"), "probability/=x"]
)
def test_numbers_and_other_text_stay_as_they_are(cell: object) -> None:
    assert no_formula(cell) is cell


def test_the_tables_of_predictions_and_of_a_report_hold_no_formula() -> None:
    rows = [{"path": "=1+1.png", "labels": ["@SUM(1)", "cat"], "probabilities": {"=x": -0.0, "cat": 0.5}}]
    (row,) = csv.DictReader(io.StringIO(as_csv(rows)))
    assert row == {"path": "'=1+1.png", "labels": "'@SUM(1)|cat", "probability/=x": "-0.0", "probability/cat": "0.5"}
    plain = _plain(pd.DataFrame({"=class": ["=1", "cat"], "value": [-1.0, 2.0]}))
    assert plain.to_csv(index=False) == "'=class,value\n'=1,-1.0\ncat,2.0\n"
    assert _plain(pd.DataFrame()).empty
