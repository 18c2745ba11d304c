"""The pages hold: their commands and flags exist, their links lead somewhere, their Python runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from launch.cli.commands import app

ROOT = Path(__file__).parents[1]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
NAMES = [str(path.relative_to(ROOT)) for path in PAGES]
README_LINES = 150
HISTORY = "CHANGELOG.md"  # may name what is no more

FENCED = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
INDENTED = re.compile(r"(?:^ {4}.*\n)+", re.MULTILINE)
SPAN = re.compile(r"`([^`]+)`")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
LINK = re.compile(r"\]\(([^)\s]+)\)")
FLAG = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]*")
# A command goes on in the next line where that begins with an option, as after a backslash or in folded YAML.
COMMAND = re.compile(r"\bvisionsweep ([a-z]\w*)((?:[^\n]|\n\s+--)*)")
COMMENT = re.compile(r" # .*")


def options() -> dict[str, set[str]]:
    """The flags of every command, by its name, as typer reads them."""
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    found = {}
    for name, command in commands.items():
        flags = {flag for param in command.params for flag in (*param.opts, *param.secondary_opts)}
        found[name] = {"--help", *(flag for flag in flags if flag.startswith("--"))}  # the others are arguments
    return found


OPTIONS = options()
# Flags that a page names alone may also be those of a benchmark, of pip, of pytest or of Ray.
BENCHMARKS = "\n".join(path.read_text() for path in (ROOT / "benchmarks").glob("*.py"))
OTHERS = {"--constraint", "--editable", "--memory", *FLAG.findall(BENCHMARKS)}


def blocks(text: str) -> list[str]:
    return [code for language, code in FENCED.findall(text) if language != "python"] + INDENTED.findall(
        FENCED.sub("", text)
    )


def spans(text: str) -> list[str]:
    """Inline code, each on one line."""
    prose = INDENTED.sub("", FENCED.sub("", text))
    return [" ".join(span.split()) for span in SPAN.findall(prose)]


def calls(text: str) -> Iterator[tuple[str, list[str]]]:
    """(command, flags) of all that a page tells to type, whether with `visionsweep` before it or without."""
    for block in blocks(text):
        for name, rest in COMMAND.findall(COMMENT.sub("", block)):
            yield name, FLAG.findall(rest)
    for span in spans(text):
        name, _, rest = span.removeprefix("visionsweep ").partition(" ")
        if re.match("visionsweep [a-z]", span) or (name in OPTIONS and "--" in rest):
            yield name, FLAG.findall(rest)


def problems_of(text: str) -> list[str]:
    found = []
    for name, flags in calls(text):
        if name not in OPTIONS:
            found.append(f"no command {name}")
        else:
            found += [f"{name} has no {flag}" for flag in flags if flag not in OPTIONS[name]]
    known = OTHERS.union(*OPTIONS.values())
    alone = [flag for span in spans(text) if span.startswith("--") for flag in FLAG.findall(span)]
    return found + [f"nothing has {flag}" for flag in alone if flag not in known]


def slugs(text: str) -> set[str]:
    """The anchors that a page's headings give, as GitHub makes them."""
    found: set[str] = set()
    for heading in HEADING.findall(FENCED.sub("", text)):
        slug = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        number = 0
        name = slug
        while name in found:
            number += 1
            name = f"{slug}-{number}"
        found.add(name)
    return found


def broken_links(page: Path, text: str) -> list[str]:
    found = []
    for target in LINK.findall(INDENTED.sub("", FENCED.sub("", text))):
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        name, _, anchor = target.partition("#")
        path = page if not name else page.parent / name
        if not path.exists() or (anchor and anchor not in slugs(path.read_text())):
            found.append(target)
    return found


@pytest.mark.parametrize("name", [name for name in NAMES if name != HISTORY])
def test_every_command_and_flag_of_a_page_exists(name: str) -> None:
    assert problems_of((ROOT / name).read_text()) == []


def test_the_pages_name_every_command() -> None:
    called = {name for page in PAGES for name, _ in calls(page.read_text())}
    assert set(OPTIONS) - called == set()


def test_a_flag_that_is_none_is_found_wherever_it_stands() -> None:
    block = "    visionsweep run a --data b \\\n      --budjet 8h   # --not this\n"
    folded = "```yaml\nentrypoint: >-\n  visionsweep run a\n  --budjet 8h\n```\n"
    for text in (
        block,
        folded,
        "`visionsweep run a --budjet 8h`",
        "`run a --budjet 8h`",
        "`visionsweep\nrun --budjet`",
    ):
        assert problems_of(text) == ["run has no --budjet"]
    assert problems_of("`--budjet 8h`") == ["nothing has --budjet"]
    assert problems_of("`visionsweep runn`") == ["no command runn"]
    assert problems_of(block.replace("budjet", "budget")) == []


@pytest.mark.parametrize("name", NAMES)
def test_the_links_of_a_page_lead_somewhere(name: str) -> None:
    assert broken_links(ROOT / name, (ROOT / name).read_text()) == []


def test_a_link_to_nowhere_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# A `page`, twice\n\n[a](#a-page-twice) [b](page.md#a-page-twice) [c](https://a.b/c)\n")
    assert broken_links(page, page.read_text()) == []
    assert broken_links(page, "[a](none.md) [b](page.md#none)") == ["none.md", "page.md#none"]


SNIPPETS = [
    pytest.param(code, id=f"{name}:{number}")
    for name in NAMES
    for number, (language, code) in enumerate(FENCED.findall((ROOT / name).read_text()), 1)
    if language == "python"
]


@pytest.mark.parametrize("code", SNIPPETS)
def test_the_python_of_a_page_runs(code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a folder with a finished run, runs/mine, whose trials were not trained."""
    monkeypatch.syspath_prepend(str(ROOT / "tests" / "analysis"))
    from made_runs import write_run

    write_run(tmp_path / "runs" / "mine")
    (tmp_path / "my_search.py").write_text(code)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "my_search.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("code", [one for one in SNIPPETS if "SEARCH = " in str(one.values[0])])
def test_a_search_file_of_a_page_would_be_searched(code: str, tmp_path: Path) -> None:
    from launch.cli.loading import load_search
    from launch.search.preflight import check_names

    (tmp_path / "my_search.py").write_text(code)
    search = load_search(str(tmp_path / "my_search.py"))
    check_names(search.for_task("multiclass" if search.task == "classification" else search.task))


def test_the_pages_have_python() -> None:
    assert len(SNIPPETS) >= 5


def test_the_readme_is_short_and_names_every_page() -> None:
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= README_LINES
    linked = {target.partition("#")[0] for target in LINK.findall(text)}
    assert {name for name in NAMES if name.startswith("docs/")} - linked == set()


@pytest.mark.parametrize("flag", sorted(flag for flag in OPTIONS["run"] if flag != "--help"))
def test_the_page_of_options_has_every_option_of_run(flag: str) -> None:
    assert flag in FLAG.findall((ROOT / "docs" / "running.md").read_text())
