"""The report as one HTML file."""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import plotly.offline
import yaml

from analysis.expect.chances import Chances, chances_of
from analysis.figures.cost import incumbent, progress_figure, run_cost
from analysis.figures.verdict import Verdict, verdict
from analysis.report.best import BestSection, best_section
from analysis.report.commands import of_run
from analysis.report.digits import digits_of, written
from analysis.report.headline import headline, last_sign
from analysis.report.payload import script_json, trial_curves, trial_rows, words_of
from analysis.report.plots import Plots
from analysis.report.sections import sections
from visionsweep.core.errors import RunError
from visionsweep.core.stages import stage
from visionsweep.core.text import duration
from visionsweep.core.writing import write_whole
from visionsweep.run_dir.files import REPORT_FILE
from visionsweep.run_dir.load import load_run
from visionsweep.run_dir.run import Run

TEMPLATES = Path(__file__).parent / "template"
SCRIPTS = ("format.js", "plots.js", "table.js", "page.js")
RELOAD_S = 15
Known = tuple[Verdict | None, Chances]
NOTHING: Mapping[Path, Known] = {}


@dataclass(frozen=True)
class RunPage:
    """One run, as the template takes it."""

    key: str
    run: Run
    headline: Any
    sections: list[Any]
    best: BestSection | None
    best_yaml: str
    figures: dict[str, str]
    rows: str
    tied: bool
    digits: int
    curves: str
    notes: list[str]
    about: list[tuple[str, str]]
    labels_command: str


def write_report(
    run_dirs: Sequence[Path | str],
    out: Path | None = None,
    *,
    with_model: bool = True,
    reloads: bool = False,
    known: Mapping[Path, Known] = NOTHING,
) -> Path:
    """Write one page about one or several runs, and return its path.

        run_dirs    folders of the runs
        out         the page, None means report.html in the first run's folder
        with_model  also the parts that need the best trial's weights, the data and torch
        reloads     the page reloads itself every RELOAD_S seconds, for as long as a search runs
        known       by folder, the verdict that was reached before, and how far the choice is luck

    What is missing in a run is named on the page. Raises RunError if a folder has none of a run's files, or if the page
    cannot be written.
    """
    stage("reading the run")
    runs = [load_run(run_dir, strict=False) for run_dir in run_dirs]
    out = out or runs[0].run_dir / REPORT_FILE
    text = render(runs, with_model=with_model, reloads=reloads, known=known)
    stage("writing the page")
    try:
        # File names may hold bytes that are no valid text.
        write_whole(out, lambda path: path.write_text(text, encoding="utf-8", errors="replace"))
    except OSError as error:
        raise RunError(f"{out}: cannot be written ({error.strerror or error}). Choose another --out.") from None
    return out


def render(
    runs: Sequence[Run],
    *,
    with_model: bool = True,
    reloads: bool = False,
    known: Mapping[Path, Known] = NOTHING,
) -> str:
    """Return the page as text."""
    pages = [_run_page(f"r{number}", run, known, with_model=with_model) for number, run in enumerate(runs)]
    names = [str(run.search.get("name") or run.run_dir.name) for run in runs]
    together = Plots("all")
    beside = [together.add("progress", progress_figure(runs, names), "Best score so far")] if _alike(runs) else []
    plotly_js = plotly.offline.get_plotlyjs()
    ours = "\n".join((TEMPLATES / name).read_text(encoding="utf-8") for name in SCRIPTS)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    return environment.get_template("report.html").render(
        title=", ".join(names),
        pages=list(zip(names, pages, strict=True)),
        comparison=_comparison(runs, names) if len(runs) > 1 else [],
        alike=len({run.metric for run in runs}) == 1,
        beside=beside,
        figures={
            key: text
            for plots in ([together.figures] + [page.figures for page in pages])
            for key, text in plots.items()
        },
        css=(TEMPLATES / "report.css").read_text(encoding="utf-8"),
        plotly_js=plotly_js,
        ours=ours,
        # Scripts are allowed by hash: even one that slipped through the escaping would not run.
        policy=" ".join(f"'{_hash(script)}'" for script in (plotly_js, ours)),
        reload_s=RELOAD_S if reloads else 0,
        made=time.strftime("%Y-%m-%d %H:%M:%S"),
    )


def _run_page(key: str, run: Run, known: Mapping[Path, Known], *, with_model: bool) -> RunPage:
    plots = Plots(key)
    at = incumbent(run)
    stage("drawing the figures")
    if run.run_dir in known:
        judged, chances = known[run.run_dir]
        problems = []
    else:
        chances, unsure = _chances(run)
        judged, problem = _verdict(run, chances)
        problems = [unsure or problem]
    found = sections(run, plots)
    if with_model:
        stage("looking at the best trial's photos")
    best = None if at is None else best_section(run, at.best, plots, with_model=with_model)
    return RunPage(
        key=key,
        run=run,
        headline=headline(run, judged, chances),
        sections=found,
        best=best,
        best_yaml="" if at is None else yaml.safe_dump(at.best.config, sort_keys=False, allow_unicode=True),
        figures=plots.figures,
        rows=script_json(trial_rows(run, chances.as_good)),
        tied=sum(chances.as_good.values()) > 1,
        digits=digits_of(run),
        curves=script_json(trial_curves(run)),
        notes=[note for note in (*run.notes, last_sign(run), *problems) if note],
        about=_about(run),
        labels_command=of_run(run, "labels", "--out", "suspects.csv"),
    )


def _chances(run: Run) -> tuple[Chances, str]:
    """Return how far the choice is luck, or a sentence on why that is unknown for a damaged run."""
    try:
        return chances_of(run), ""
    except Exception as error:
        return Chances(), f"What to expect on new photos cannot be told: {type(error).__name__}: {error}"


def _verdict(run: Run, chances: Chances) -> tuple[Verdict | None, str]:
    """Return what the validation images say, or a sentence on why that is unknown for a damaged run."""
    try:
        return verdict(run, chances.as_good), ""
    except Exception as error:
        return None, f"How sure the result is cannot be told: {type(error).__name__}: {error}"


def _about(run: Run) -> list[tuple[str, str]]:
    data = run.search["data"]
    options = run.search["options"]
    search = run.search["search"]
    counts = data.get("counts") or {}
    classes = [str(name) for name in data.get("classes", [])]
    listed = ", ".join(classes[:30]) + (", ..." if len(classes) > 30 else "")
    facts = [
        ("run directory", str(run.run_dir.resolve())),
        ("command", " ".join(["visionsweep", *map(str, run.search.get("command") or [])])),
        ("data", f"{options.get('data') or data.get('spec') or 'unknown'} ({run.task})"),
        ("images", ", ".join(f"{count} {split}" for split, count in counts.items() if count)),
        ("classes", f"{len(classes)}: {listed}" if classes else ""),
        ("split", str(data.get("split_origin", ""))),
        ("search", f"sampler {search.get('sampler', '?')}, pruner {search.get('pruner', '?')}, "
                   f"{run.full_epochs} epochs, seed {options.get('seed', '?')}"),
        ("objectives", ", ".join(f"{one.name} ({one.mode})" for one in run.objectives)),
        ("machine", ", ".join(_machine(run.search.get("machine") or {}))),
        ("versions", ", ".join(f"{name} {version}" for name, version in (run.search.get("versions") or {}).items())),
    ]  # fmt: skip
    return [(name, value) for name, value in facts if value]


def _machine(about: dict[str, Any]) -> list[str]:
    """Return a machine's name, CPUs and system, in words."""
    return [f"{value} CPUs" if name == "cpus" else str(value) for name, value in about.items()]


def _comparison(runs: Sequence[Run], names: Sequence[str]) -> list[dict[str, Any]]:
    rows = []
    for number, (run, name) in enumerate(zip(runs, names, strict=True)):
        at = incumbent(run)
        cost = run_cost(run)
        rows.append(
            {
                "key": f"r{number}",
                "name": name,
                "metric": run.metric,
                "score": "" if at is None else written(run, at.score),
                "words": "" if at is None else words_of(at.best.config),
                "median": "" if at is None or at.middle is None else written(run, at.middle[0]),
                "trials": len(run.trials),
                "complete": sum(trial.status == "complete" for trial in run.trials),
                "epochs": cost.epochs,
                "training": duration(cost.trial_s),
            }
        )
    return rows


def _alike(runs: Sequence[Run]) -> bool:
    """Return whether the best scores of the runs can share one plot."""
    return len(runs) > 1 and len({(run.metric, run.mode) for run in runs}) == 1


def _hash(script: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
