"""The page as a file: its contents for whole and damaged runs, and what cannot break out of it."""

from __future__ import annotations

import fcntl
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
from made_runs import write_run
from support import Outcome, lines

from analysis import load_run
from analysis.report import write_report
from analysis.report.watch import watch
from launch.cli import stages
from launch.cli.report import report as report_command
from visionsweep.core.errors import RunError
from visionsweep.run_dir.rank import ranking_frame

HOSTILE = "</script><img src=x onerror=alert(1)>"


class Page(HTMLParser):
    """Text, scripts and elements of a page, as a browser parses them."""

    def __init__(self, path: Path) -> None:
        super().__init__(convert_charrefs=True)
        self.inside: list[str] = []
        self.scripts: dict[str, str] = {}
        self.words: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.feed(path.read_text(encoding="utf-8"))
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self.inside = ["script" if tag == "script" else "style" if tag == "style" else tag]
        self.script = dict(attrs).get("id") or "" if tag == "script" else ""

    def handle_endtag(self, tag: str) -> None:
        self.inside = []

    def handle_data(self, data: str) -> None:
        if self.inside == ["script"]:
            self.scripts[self.script] = self.scripts.get(self.script, "") + data
        elif self.inside != ["style"]:
            self.words.append(data)


def page_of(run_dir: Path) -> Page:
    return Page(write_report([run_dir], with_model=False))


def test_the_page_says_what_was_found_and_what_it_took(tmp_path: Path) -> None:
    run_dir = write_run(tmp_path / "flowers")
    page = page_of(run_dir)
    assert "Above what chance alone would give: optimizer" in page.text
    ranking = ranking_frame(load_run(run_dir))
    best = ranking.iloc[0]
    assert "120 photos, 3 classes (daisy, rose, tulip): 90 to train on, 30 to judge by." in page.text
    assert f"best val/accuracy {best['val/accuracy']:.0%}" in page.text
    assert (
        "29 of 30 validation images are right: 97% (95% interval 83% to 99%). Always 'daisy' would be 33%" in page.text
    )
    assert f"Trial {best['trial_id']}, complete" in page.text
    assert "better than the first guesses" in page.text
    assert "saved by pruning" in page.text
    assert "CPU-hours" in page.text
    assert "Confusion matrix" in page.text
    assert "29 of 30 validation images are right." in page.text
    assert "the loss became nan at epoch 2, step 3." in page.text
    rows = json.loads(page.scripts["r0-rows"])
    assert rows["id"] == ranking["trial_id"].tolist()
    assert rows["constant"]["epochs"] == 9
    assert set(rows["config"]["optimizer.name"]) == {"adam", "sgd"}
    drawings = [about["data-figure"] for _, about in page.elements if "data-figure" in about]
    assert len(drawings) > 12
    assert all(json.loads(page.scripts[str(name)])["data"] for name in drawings)


def test_the_page_fetches_nothing_and_is_small_enough(tmp_path: Path) -> None:
    path = write_report([write_run(tmp_path / "large", 1000)], with_model=False)
    assert path.stat().st_size < 8_000_000
    page = Page(path)
    for tag, about in page.elements:
        assert tag not in ("link", "iframe", "object", "embed", "base"), tag
        assert not [name for name in about if name.startswith("on")]
        assert str(about.get("src", "data:")).startswith("data:")
    policy = next(about["content"] for tag, about in page.elements if about.get("http-equiv"))
    assert str(policy).startswith("default-src 'none'; script-src 'sha256-")


def test_no_name_breaks_out_of_the_page(tmp_path: Path) -> None:
    plain = page_of(write_run(tmp_path / "plain", 9))
    folder = tmp_path / "run <b>&amp; {{ 7 * 7 }}"
    hostile = page_of(
        write_run(folder, 9, classes=(HOSTILE, "<!-- <script>", "rose"), reasons=[f"{HOSTILE} ]]> \u2028"])
    )
    count = [[tag for tag, _ in page.elements].count("script") for page in (plain, hostile)]
    assert count[0] == count[1]
    assert "img" not in {tag for tag, _ in hostile.elements}
    assert "b" not in {tag for tag, _ in hostile.elements}
    assert HOSTILE in hostile.text  # there it is, as text
    assert "{{ 7 * 7 }}" in hostile.text
    assert hostile.scripts.keys() == plain.scripts.keys()
    assert HOSTILE in json.loads(hostile.scripts["r0-rows"])["reason"][-1]
    labels = json.loads(hostile.scripts["figure-r0-confusion"])["layout"]["yaxis"]["ticktext"]
    assert labels[0] == "&lt;/script&gt;&lt;img src=x…"  # plotly shows it as text


def test_several_runs_stand_beside_each_other(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / name, 8, seed=seed) for name, seed in (("one", 1), ("two", 2))]
    page = Page(write_report(runs, tmp_path / "both.html", with_model=False))
    assert "2 runs" in page.text
    assert {"r0-rows", "r1-rows", "figure-all-progress"} <= page.scripts.keys()
    names = [trace["name"] for trace in json.loads(page.scripts["figure-all-progress"])["data"]]
    assert names == ["one", "two"]


def test_a_last_line_that_is_cut_off_and_a_damaged_one_are_told(tmp_path: Path) -> None:
    run_dir = write_run(tmp_path / "torn", 8)
    lines = (run_dir / "epochs.jsonl").read_bytes()
    first, second, rest = lines.split(b"\n", 2)
    (run_dir / "epochs.jsonl").write_bytes(first + b"\n" + second[:40] + b"\n" + rest[:-30])
    with pytest.raises(RunError, match="line 2: is damaged"):
        load_run(run_dir)
    text = page_of(run_dir).text
    assert "epochs.jsonl, line 2: cannot be read, and was passed over." in text
    assert "epochs.jsonl: its last line is cut off" in text
    assert "best val/accuracy" in text


def test_another_format_version_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    run_dir = write_run(tmp_path / "later", 8, changes={"version": 99})
    text = page_of(run_dir).text
    assert "search.json is in format 99, and this version of visionsweep reads 1" in text
    assert "best val/accuracy" in text


@pytest.mark.parametrize("content", ["{", '{"version": 1, "search": {"space": 3}}'])
def test_a_search_json_that_says_nothing_costs_only_what_it_said(tmp_path: Path, content: str) -> None:
    run_dir = write_run(tmp_path / "lost", 12)
    (run_dir / "search.json").write_text(content)
    page = page_of(run_dir)
    assert "best val/accuracy" in page.text
    assert "figure-r0-importance" in page.scripts


def test_a_missing_search_json_is_told(tmp_path: Path) -> None:
    run_dir = write_run(tmp_path / "lost", 8)
    (run_dir / "search.json").unlink()
    assert "search.json is missing or damaged" in page_of(run_dir).text


def test_missing_predictions_are_told_and_the_rest_is_shown(tmp_path: Path) -> None:
    run_dir = write_run(tmp_path / "run", 8)
    (stored,) = run_dir.glob("predictions/*/*.npz")
    whole = stored.read_bytes()
    stored.write_bytes(whole[: len(whole) // 2])
    assert re.search(r"What the trial confuses is not shown: .*epoch-0009\.npz: cannot be read", page_of(run_dir).text)
    stored.unlink()
    text = page_of(run_dir).text
    assert "What the trial confuses is not shown: the predictions of trial" in text
    assert "Score against cost" in text


def test_a_run_in_progress_and_one_without_a_result_have_a_page(tmp_path: Path) -> None:
    run_dir = write_run(tmp_path / "running", 4)
    lines = (run_dir / "trials.jsonl").read_text().splitlines(keepends=True)
    (run_dir / "trials.jsonl").write_text("".join(line for line in lines if '"ended"' not in line))
    text = page_of(run_dir).text
    assert "4 trials are running, or were when the search was cut off: the last epoch ended" in text
    assert "so far: running after 9 of 9 epochs" in text
    (run_dir / "epochs.jsonl").write_text("")
    text = page_of(run_dir).text
    assert "4 trials were proposed, and none has a score yet: 4 running." in text
    (run_dir / "trials.jsonl").write_text("")
    assert "No trial was proposed, and none has a score yet." in page_of(run_dir).text


def test_every_beginning_of_a_run_has_a_page(tmp_path: Path) -> None:
    """A running search has half a line here, and a trial without its proposal there."""
    whole = write_run(tmp_path / "whole", 8)
    files = {name: (whole / name).read_bytes() for name in ("trials.jsonl", "epochs.jsonl")}
    for share in (0.02, 0.1, 0.4, 0.75):
        for name, content in files.items():
            (whole / name).write_bytes(content[: int(len(content) * share)])
            text = page_of(whole).text
            num_trials = sum(row["event"] == "proposed" for row in lines(whole / "trials.jsonl"))
            assert f" trials {num_trials} " in text, (share, name)
            assert f"{name}: its last line is cut off" in text


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    with pytest.raises(RunError, match="is not a run directory"):
        write_report([tmp_path / "photos"])


def test_watch_writes_after_each_change_and_a_page_at_rest_at_the_end(tmp_path: Path) -> None:
    run_dir = write_run(tmp_path / "run", 6)
    written: list[bool] = []
    turns = iter([True, True, True, False])

    def is_running() -> bool:
        if len(written) == 1:
            with open(run_dir / "epochs.jsonl", "a") as lines:
                lines.write("\n")
        return next(turns)

    def told(path: Path) -> None:
        written.append("visionsweep-reload" in [about.get("name") for _, about in Page(path).elements])

    watch([run_dir], None, with_model=False, on_written=told, every_s=0.01, is_running=is_running)
    assert written == [True, True, False]  # the third turn found nothing new


def test_watch_ends_with_the_search(tmp_path: Path) -> None:
    run_dir = write_run(tmp_path / "run", 6)
    told: list[Path] = []
    watch([run_dir], None, with_model=False, on_written=told.append, every_s=0.01)
    assert len(told) == 1, "nobody works on it"
    with (run_dir / "trials.jsonl").open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)

        def until_told(path: Path) -> None:
            told.append(path)
            fcntl.flock(held, fcntl.LOCK_UN)

        watch([run_dir], None, with_model=False, on_written=until_told, every_s=0.01)
    assert len(told) == 3


def test_pictures_need_a_browser(
    visionsweep: Callable[..., Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BROWSER_PATH", str(tmp_path / "none"))
    refused = visionsweep("report", write_run(tmp_path / "runs" / "a", 6), "--png", tmp_path / "png", "--no-model")
    assert refused.code == 2
    assert "no browser draws the pictures" in refused.err
    assert "plotly_get_chrome" in refused.err


def test_the_command_writes_the_page_and_the_tables(visionsweep: Callable[..., Outcome], tmp_path: Path) -> None:
    run_dir = write_run(tmp_path / "runs" / "a", 12)
    said = visionsweep("report", run_dir, "--no-model")
    assert (said.code, said.out.strip()) == (0, f"Report: {run_dir / 'report.html'}")
    assert (run_dir / "report.html").stat().st_size > 4_000_000
    said = visionsweep("report", run_dir, "--csv", tmp_path / "tables")
    assert said.code == 0
    names = {path.stem for path in (tmp_path / "tables").iterdir()}
    assert names == {"ranking", "curves", "importance", "compare", "costs", "progress", "timeline", "failures"}
    ranking = pd.read_csv(tmp_path / "tables" / "ranking.csv", dtype={"trial_id": str})
    assert ranking["trial_id"].tolist() == ranking_frame(load_run(run_dir))["trial_id"].tolist()
    refused = visionsweep("report", tmp_path / "nowhere")
    assert refused.code == 2
    assert "is not a run directory" in refused.err


def test_a_search_by_several_objectives_says_what_the_best_gives_in_the_others(tmp_path: Path) -> None:
    about = json.loads((write_run(tmp_path / "one", 9) / "search.json").read_text())["search"]
    search = {**about, "objectives": ["val/accuracy", "-latency_ms"]}
    run_dir = write_run(tmp_path / "two", 9, changes={"search": search})
    page = page_of(run_dir)
    assert "on the Pareto front" in page.text
    rows = json.loads(page.scripts["r0-rows"])
    assert rows["front"][0] == 1
    assert rows["objectives"]["latency_ms"][0] is not None


def test_what_a_report_that_was_killed_left_is_deleted_by_the_next(tmp_path: Path) -> None:
    run_dir = write_run(tmp_path / "flowers")
    (run_dir / ".report.html.123.partial").write_text("<html>")
    write_report([run_dir], with_model=False)
    assert not list(run_dir.glob(".report.html*"))


def test_a_report_tells_its_stages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(tmp_path / "run", 4)
    monkeypatch.setattr(stages, "QUIET_S", 0.0)
    report_command([str(tmp_path / "run")])
    told = [line.removesuffix(" ...") for line in capsys.readouterr().err.splitlines()]
    assert told[-3:] == ["drawing the figures", "looking at the best trial's photos", "writing the page"]
    assert "reading the run" in told
