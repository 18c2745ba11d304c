"""What a search shows, for the pages: the terminal at three widths, and the report's first screen at two.

    visionsweep run quickstart --name quickstart
    python -m benchmarks.captures runs/quickstart [--docs docs] [--no-browser]

It replaces the text between two marks in docs/running.md, and writes report-390.png and report-1280.png into
docs/images. The live table is the one of a moment of the run: trials and epochs are those whose lines are older. The
pictures need playwright and a Chromium.
"""

from __future__ import annotations

import argparse
import io
import json
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from analysis.report import write_report
from launch.cli.outcome import print_outcome
from launch.cli.terminal import Terminal
from launch.search.progress import Progress
from search_spaces.finite import limited
from search_spaces.serial import search_from_json
from visionsweep.core.errors import ConfigError
from visionsweep.run_dir.trials import Trials, read_search, read_trials

WIDTHS = (50, 80, 120)  # columns
SCREENS = ((390, 844), (1280, 800))  # pixels, of a telephone and of a laptop
MOMENT = 0.6  # of the run's wall-clock
BEGINS = "<!-- made by benchmarks/captures.py -->"
ENDS = "<!-- end of what was made -->"
COLOURS = 64  # of a picture's palette: a third of the bytes


@dataclass
class Recorded:
    """A run's trials as they were at a moment. elapsed_s: since the first one."""

    trials: Trials
    elapsed_s: float


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--docs", type=Path, default=Path("docs"))
    parser.add_argument("--no-browser", action="store_true", help="the terminal alone")
    asked = parser.parse_args()
    replace_between(asked.docs / "running.md", blocks(asked.run))
    if not asked.no_browser:
        for path in screenshots(asked.run, asked.docs / "images"):
            print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


def blocks(run_dir: Path) -> str:
    """Return the live table and the end of a run at each width, as Markdown."""
    parts = []
    for width in WIDTHS:
        parts.append(f"{width} columns, while it runs and at its end:\n")
        parts += [f"```\n{shown}\n```\n" for shown in (live_table(run_dir, width), outcome(run_dir, width))]
    return "\n".join(parts)


def live_table(run_dir: Path, width: int) -> str:
    """Return what the terminal shows at MOMENT, with the estimates of that time."""
    about = read_search(run_dir)
    search = search_from_json(about["search"])
    num_trials = limited(search, about["options"].get("num_trials"))
    then = at_moment(run_dir)
    terminal = Terminal(width, record=True)
    progress = Progress(then, search, terminal, num_trials, None)
    progress.started = time.monotonic() - then.elapsed_s
    progress.epochs_before = 0  # they are all of this session
    progress.done_before = 0
    terminal.print(progress.live.get_renderable())
    return _lines(terminal)


def outcome(run_dir: Path, width: int) -> str:
    """Return what `run` prints when it has ended."""
    terminal = Terminal(width, record=True)
    print_outcome(run_dir, terminal, report=lambda verdict, chances: run_dir / "report.html")
    return _lines(terminal)


def at_moment(run_dir: Path) -> Recorded:
    """Return the trials as they were at MOMENT of the run."""
    lines = {name: (run_dir / name).read_text().splitlines() for name in ("trials.jsonl", "epochs.jsonl")}
    times = [float(json.loads(line)["time"]) for line in lines["trials.jsonl"]]
    moment = min(times) + MOMENT * (max(times) - min(times))
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(run_dir / "search.json", folder)
        for name, all_lines in lines.items():
            known = [line for line in all_lines if json.loads(line)["time"] <= moment]
            Path(folder, name).write_text("".join(f"{line}\n" for line in known))
        trials = read_trials(Path(folder))
    for trial in trials.values():
        trial.status = "running" if trial.ended_s is None else trial.status
    return Recorded(trials, moment - min(times))


def replace_between(page: Path, text: str) -> None:
    """Replace what stands between the two marks of a page. Raises ConfigError where they are missing."""
    whole = page.read_text(encoding="utf-8")
    before, begins, rest = whole.partition(f"{BEGINS}\n")
    _, ends, after = rest.partition(ENDS)
    if not begins or not ends:
        raise ConfigError(f"{page}: has no line '{BEGINS}' before a line '{ENDS}'. Put both where the text belongs.")
    page.write_text(f"{before}{begins}\n{text}\n{ends}{after}", encoding="utf-8")


def screenshots(run_dir: Path, folder: Path) -> list[Path]:
    """Write the report's first screen at each size of SCREENS, and return the paths."""
    from playwright.sync_api import sync_playwright

    browser_path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser_path is None:
        raise ConfigError("the pictures need a browser: apt-get install chromium, or pass --no-browser.")
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    page_path = write_report([run_dir])
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=browser_path, args=["--no-sandbox", "--disable-gpu"])
        for width, height in SCREENS:
            page = browser.new_page(viewport={"width": width, "height": height})
            page.goto(page_path.resolve().as_uri())
            page.wait_for_timeout(1000)
            picture = Image.open(io.BytesIO(page.screenshot()))
            path = folder / f"report-{width}.png"
            picture.convert("RGB").quantize(COLOURS).save(path, optimize=True)
            paths.append(path)
        browser.close()
    return paths


def _lines(terminal: Terminal) -> str:
    """Return what was printed, wrapped where a terminal of this width wraps it."""
    width = terminal.width
    found: list[str] = []
    for line in terminal.export_text().rstrip("\n").split("\n"):
        found += [line[at : at + width].rstrip() for at in range(0, max(1, len(line)), width)]
    return "\n".join(found)


if __name__ == "__main__":
    main()
