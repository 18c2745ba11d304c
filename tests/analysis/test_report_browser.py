"""The page in a real browser: Debian's chromium without a window. Skipped where there is none."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_runs import write_run
from PIL import Image
from support import Outcome

from analysis import load_run
from analysis.report import write_report
from visionsweep.run_dir.rank import ranking_frame

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no browser here: apt-get install chromium")

HOSTILE = "</script><img src=x onerror=alert(1)>"
QUIET = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync")  # fmt: skip
# What plotly draws for points, lines, bars, heat maps and contours.
MARKS = "g.points path, path.js-line, g.bars path, .heatmaplayer image, .contourlayer path"
MAX_SCRIPT_S = 2.0


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=list(QUIET))
        yield browser
        browser.close()


class Visit:
    """A page of the browser that remembers what went wrong in it."""

    def __init__(self, browser: Any, path: Path, **options: Any) -> None:
        self.context = browser.new_context(**options)
        self.page = self.context.new_page()
        self.problems: list[str] = []
        self.page.on("console", lambda said: self.problems.append(said.text) if said.type == "error" else None)
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("dialog", lambda dialog: self.problems.append("a dialog opened"))
        self.page.on("request", lambda request: self._requested(request.url))
        self.costs = self.context.new_cdp_session(self.page)
        self.costs.send(
            "Performance.enable", {"timeDomain": "threadTicks"}
        )  # what others on this machine do is no cost
        self.page.goto(path.as_uri())

    def _requested(self, url: str) -> None:
        if not url.startswith(("file:", "data:", "blob:")):
            self.problems.append(f"fetched {url}")

    def script_s(self) -> float:
        metrics = self.costs.send("Performance.getMetrics")["metrics"]
        return float(next(one["value"] for one in metrics if one["name"] == "ScriptDuration"))

    def head(self, column: str) -> Any:
        """The button over a column, by its own text. The style draws the arrow of the sorted one."""
        return self.page.locator(".ranking th button").filter(has_text=re.compile(f"^{column}$"))

    def texts(self, selector: str) -> list[str]:
        return [str(text) for text in self.page.locator(selector).all_text_contents()]


@pytest.fixture(scope="module")
def visit(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Visit]:
    folder = write_run(
        tmp_path_factory.mktemp("runs") / "seen", 36, classes=(HOSTILE, "rose", "tulip"), reasons=[HOSTILE]
    )
    there = Visit(browser, write_report([folder], with_model=False), viewport={"width": 1200, "height": 800})
    yield there
    there.context.close()


def test_every_plot_has_drawn_marks_and_nothing_was_said_on_the_console(visit: Visit) -> None:
    drawings = visit.page.locator("[data-figure]")
    assert drawings.count() > 12
    for number in range(drawings.count()):
        drawing = drawings.nth(number)
        drawing.scroll_into_view_if_needed()
        drawing.locator(MARKS).first.wait_for(state="attached", timeout=20_000)
        assert drawing.locator("svg.main-svg").first.bounding_box()["width"] > 200
    assert visit.problems == []


def test_a_class_that_is_called_like_an_attack_is_text(visit: Visit) -> None:
    assert visit.page.locator("img").count() == 0
    assert HOSTILE in "".join(visit.texts("section table.plain th"))
    visit.page.locator("[data-figure$=confusion]").scroll_into_view_if_needed()
    visit.page.locator("[data-figure$=confusion] .ytick text").first.wait_for(state="attached")
    ticks = visit.texts("[data-figure$=confusion] .ytick text")
    assert ticks[0].startswith("</script><img")
    assert visit.problems == []


def test_the_table_sorts_by_every_column(visit: Visit) -> None:
    assert visit.page.locator("tr.trial").count() == 36
    first_ids = visit.texts("tr.trial td:nth-child(2)")
    visit.head("trial").click()
    assert visit.texts("tr.trial td:nth-child(2)") == sorted(first_ids)
    visit.head("trial").click()
    assert visit.texts("tr.trial td:nth-child(2)") == sorted(first_ids, reverse=True)
    visit.head("val/accuracy").click()
    scores = [float(text) for text in visit.texts("tr.trial td:nth-child(3)")]
    assert scores == sorted(scores, reverse=True)
    assert visit.page.locator("th[aria-sort=descending]").count() == 1
    visit.head("rank").click()
    assert visit.texts("tr.trial td:nth-child(2)") == first_ids


def test_the_table_filters_by_words_and_by_values(visit: Visit) -> None:
    filtered = visit.page.get_by_label("Filter the trials")
    for text, status in (
        ("status=pruned", "pruned"),
        ("DIVERGED", "diverged"),
        ("val/accuracy>0.65 complete", "complete"),
    ):
        filtered.fill(text)
        assert set(visit.texts("tr.trial .status")) == {status}, text
    filtered.fill("sgd lr<0.01 momentum>=0.8")
    words = visit.texts("tr.trial td.words")
    assert words
    assert all("sgd 0.00" in one for one in words)
    assert visit.texts(".count") == [f"{len(words)} of 36 trials"]
    filtered.fill("nothing is called so")
    assert visit.page.locator("tr.trial").count() == 0
    filtered.fill("")
    assert visit.page.locator("tr.trial").count() == 36


def test_a_row_opens_its_curves_and_its_configuration(visit: Visit) -> None:
    row = visit.page.locator("tr.trial").first
    row.click()
    detail = visit.page.locator("tr.detail")
    detail.locator(MARKS).first.wait_for(state="attached")
    assert "optimizer:\n  name: adam\n  lr: " in detail.locator("pre").text_content()
    visit.page.locator("tr.trial").first.press("Enter")
    assert visit.page.locator("tr.detail").count() == 0
    diverged = visit.page.locator("tr.trial", has_text="diverged").first
    diverged.click()
    assert HOSTILE in str(visit.page.locator("tr.detail .reason").text_content())
    diverged.press("Enter")
    visit.page.get_by_label("Add a column").select_option("train/loss")
    assert "train/loss" in visit.texts(".ranking th button")
    assert visit.problems == []


def test_the_switch_turns_page_and_figures_dark_and_light(visit: Visit) -> None:
    def colours() -> tuple[str, str]:
        return visit.page.evaluate(
            """() => [getComputedStyle(document.body).backgroundColor,
                      getComputedStyle(document.querySelector("[data-figure$=progress] .xtick text")).fill]"""
        )

    visit.page.locator("[data-figure$=progress]").scroll_into_view_if_needed()
    visit.page.locator("[data-figure$=progress] .xtick text").first.wait_for(state="attached")
    light = colours()
    visit.page.locator("#mode").click()
    dark = colours()
    assert light[0] == "rgb(255, 255, 255)"
    assert dark[0] != light[0]
    assert dark[1] != light[1]
    visit.page.locator("#mode").click()
    assert colours() == light


def test_what_is_folded_away_is_drawn_when_it_is_opened(browser: Any, tmp_path: Path) -> None:
    there = Visit(browser, write_report([write_run(tmp_path / "few", 12)], with_model=False))
    folded = there.page.locator("#r0-importance details")
    assert "Nothing stands above chance" in "".join(there.texts("#r0-importance p"))
    drawing = folded.locator("[data-figure$=importance]")
    assert not drawing.is_visible()
    assert drawing.locator(MARKS).count() == 0
    folded.locator("summary").click()
    drawing.scroll_into_view_if_needed()
    drawing.locator(MARKS).first.wait_for(state="attached")
    assert drawing.locator("svg.main-svg").first.bounding_box()["width"] > 200
    assert there.problems == []
    there.context.close()


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_first_screen_fits_and_its_commands_can_be_copied(
    browser: Any, tmp_path: Path, width: int, scheme: str
) -> None:
    path = write_report([write_run(tmp_path / "run", 24)], with_model=False)
    there = Visit(
        browser, path, viewport={"width": width, "height": 844}, color_scheme=scheme,
        permissions=["clipboard-read", "clipboard-write"],
    )  # fmt: skip
    assert there.page.evaluate("document.documentElement.scrollWidth") <= width
    assert there.texts(".answer h2") == ["Which model", "How far to trust it", "What next"]
    first = there.page.locator(".command").first
    assert there.page.locator(".score").bounding_box()["y"] < 300
    command = str(first.locator("code").text_content())
    assert command.startswith("visionsweep export ")
    first.locator(".copy").click()
    there.page.get_by_text("copied", exact=True).wait_for()
    assert there.page.evaluate("navigator.clipboard.readText()") == command
    for box in there.page.locator(".answer").all():
        assert box.bounding_box()["x"] + box.bounding_box()["width"] <= width
    assert contrast(there, ".answer li") >= 4.5
    assert contrast(there, ".dim") >= 4.5
    assert there.problems == []
    there.context.close()


def contrast(there: Visit, selector: str) -> float:
    """Contrast of a text to the page (WCAG 2.2)."""
    colours = there.page.evaluate(
        """selector => [getComputedStyle(document.querySelector(selector)).color,
                        getComputedStyle(document.body).backgroundColor]""",
        selector,
    )
    levels = []
    for colour in colours:
        channels = [int(one) / 255 for one in re.findall(r"\d+", colour)[:3]]
        linear = [one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in channels]
        levels.append(float(np.dot([0.2126, 0.7152, 0.0722], linear)))
    return (max(levels) + 0.05) / (min(levels) + 0.05)


def test_a_filter_that_matches_nothing_says_so(browser: Any, tmp_path: Path) -> None:
    there = Visit(browser, write_report([write_run(tmp_path / "one", 1)], with_model=False))
    assert there.texts(".count") == ["1 trial"]
    there.page.get_by_label("Filter the trials").fill("adma")
    assert there.texts(".count") == ['0 of 1 trial: nothing matches "adma"']
    there.context.close()


def test_tied_trials_share_a_mark(browser: Any, tmp_path: Path) -> None:
    run_dir = write_run(tmp_path / "run", 24)
    (kept,) = run_dir.glob("predictions/*/*.npz")
    ranking = ranking_frame(load_run(run_dir))
    other = run_dir / "predictions" / ranking["trial_id"].iloc[2]
    shutil.copytree(kept.parent, other)
    there = Visit(browser, write_report([run_dir], with_model=False))
    ranks = [text.strip() for text in there.texts("tr.trial td:first-child")]
    assert [rank for rank in ranks if "≈" in rank] == ["1 ≈", "3 ≈"]
    assert "Trials with ≈ are tied" in "".join(there.texts("#r0-ranking p"))
    there.context.close()


def test_on_a_phone_nothing_is_wider_than_the_screen_and_runs_are_tabs(browser: Any, tmp_path: Path) -> None:
    runs = [write_run(tmp_path / name, 12, seed=seed) for name, seed in (("first", 1), ("second", 2))]
    path = write_report(runs, tmp_path / "both.html", with_model=False)
    there = Visit(browser, path, viewport={"width": 390, "height": 844}, color_scheme="dark", has_touch=True)
    assert there.page.evaluate("document.documentElement.dataset.mode") == "dark"
    assert there.page.evaluate("document.documentElement.scrollWidth") <= 390
    assert there.page.locator("#r1").is_hidden()
    there.page.get_by_role("tab", name="second").click()
    assert there.page.locator("#r0").is_hidden()
    expected = ranking_frame(load_run(runs[1]))["trial_id"].tolist()
    assert there.texts("#r1 tr.trial td:nth-child(2)") == expected
    assert there.problems == []
    there.context.close()


def test_five_thousand_trials_open_in_two_seconds_of_scripting(browser: Any, tmp_path: Path) -> None:
    path = write_report([write_run(tmp_path / "many", 5000)], with_model=False)
    there = Visit(browser, path)
    there.page.locator("tr.trial").first.wait_for()
    assert there.texts(".count") == ["5000 trials"]
    there.page.wait_for_timeout(500)  # what is near the window is drawn
    assert there.script_s() < MAX_SCRIPT_S
    assert there.problems == []
    there.context.close()


def test_the_figures_become_pictures(visionsweep: Callable[..., Outcome], tmp_path: Path) -> None:
    said = visionsweep("report", write_run(tmp_path / "runs" / "a", 30), "--png", tmp_path / "png", "--no-model")
    assert said.code == 0, said.err
    paths = sorted((tmp_path / "png").iterdir())
    assert sorted(said.out.split()) == list(map(str, paths))
    assert {"curves", "progress", "importance", "parallel", "timeline", "compare-optimizers"} <= {
        path.stem for path in paths
    }
    for path in paths:
        picture = np.asarray(Image.open(path).convert("RGB"))
        assert picture.shape[1] == 1800
        assert (picture == 255).all(axis=2).mean() > 0.2, "on white"
        assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 20, "and something is drawn"
