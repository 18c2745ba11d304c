"""The commands that `kills.py --inside` kills, the small run that they work on, and checks of their results."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import yaml

from analysis.models.predictor import load_export
from benchmarks.kills_inside import HALF, Case, ended, in_a_fork
from launch.search.prepare import RunOptions
from launch.search.records import Records
from search_spaces import Branch, Float, Search
from search_spaces.serial import search_to_json
from trainables.checkpoint import TrialFiles
from trainables.config.io import load_config, parse_config
from trainables.data.augment import cached_short_side
from trainables.data.formats import load_dataset
from trainables.data.loader import TrialData
from trainables.loop import fit

FIXED = {"batch_size": 16, "image_size": 32, "fit_image": "squash"}
MODEL = {"backbone": "test_resnet", "weights": "none"}
SEARCH = Search(
    task="multiclass",
    space={"model": MODEL, "optimizer": Branch({"sgd": {"lr": Float(1e-3, 0.3, log=True)}})},
    fixed=FIXED,
    metric="val/accuracy",
    mode="max",
    epochs=2,
    grace_epochs=1,
)
LEARNING_RATES = (0.1, 0.03, 0.01)


def make(folder: Path) -> None:
    """Make `run` in `folder`, complete trials on photos of three classes, and larger photos without a cache."""
    _photos(folder / "photos", 24, (40, 32))
    _photos(folder / "large", 40, (320, 240))
    in_a_fork(lambda: _train(folder), folder)


def _photos(folder: Path, count: int, size: tuple[int, int]) -> None:
    rng = np.random.default_rng(len(folder.name))
    for channel, name in enumerate(("blue", "green", "red")):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            pixels = rng.integers(0, 120, (size[1], size[0], 3), dtype=np.uint8)
            pixels[..., channel] += 3  # hard enough for several models to be better together
            cv2.imwrite(str(folder / name / f"{number:03d}.png"), pixels)


def _train(folder: Path) -> str:
    torch.set_num_threads(1)
    dataset, images = load_dataset("photos", short_side_px=32, cache_dir=folder / "cache")
    options = RunOptions(data="photos", cache_dir=str(folder / "cache"))
    about = {"search": search_to_json(SEARCH), "data": dataset.describe(), "options": asdict(options)}
    records = Records.create(folder / "run", about)
    values: dict[str, Any] = {}
    for number, rate in enumerate(LEARNING_RATES):
        trial_id = f"{number:04d}"
        values = {"task": "multiclass", "model": MODEL, **FIXED, "epochs": 2, "optimizer": {"name": "sgd", "lr": rate}}
        records.proposed(trial_id, {}, values, "drawn")
        records.started(trial_id)
        config = parse_config(values)
        files = TrialFiles.below(folder / "run", trial_id, "val/accuracy", "max", config)
        for result in fit(config, TrialData(dataset, images), torch.device("cpu")):
            files.save(result, resumable=False)
            records.epoch({"trial_id": trial_id, **result.row()})
        records.ended(trial_id, "complete", "")
    frozen = {**values, "model": {**MODEL, "freeze": "all"}, "epochs": 1}
    (folder / "frozen.yaml").write_text(yaml.safe_dump(frozen))
    return "made"


def exports(folder: Path) -> list[Case]:
    """The export of one trial over that of another."""
    run = folder / "run"
    out = folder / "exports" / "e"
    ids = [f"{number:04d}" for number in range(len(LEARNING_RATES))]
    trials = {one: _kept(folder, ["export", "run", "--trial", one], folder / "whole" / one) for one in ids}

    def case(old: str, new: str) -> Case:
        command = ["export", str(run), "--trial", new, "--out", str(out)]
        return Case(
            command,
            lambda: _put(folder / "whole" / old, out),
            lambda: _which(_predicts(out, folder), {"old": trials[old], "new": trials[new]}),
            out.parent,
            command,
        )

    return [case(ids[number - 1], ids[number]) for number in range(len(ids))]


def ensembles(folder: Path) -> list[Case]:
    """The choice of several models over that of one, in the run and exported."""
    run = folder / "run"
    out = folder / "ensembles" / "e"
    sizes = {"old": "1", "new": "9"}
    told = {}
    whole = {}
    for which, size in sizes.items():
        kept = folder / "whole" / f"ensemble-{which}"
        whole[which] = _kept(folder, ["ensemble", "run", "--size", size], kept)
        told[which] = _digest(run / "ensemble.json")
        shutil.copy(run / "ensemble.json", kept.with_suffix(".json"))

    assert whole["old"] != whole["new"], "one model is the best choice: nothing would be told apart"

    def before() -> None:
        _put(folder / "whole" / "ensemble-old", out)
        shutil.copy(folder / "whole" / "ensemble-old.json", run / "ensemble.json")

    def state() -> str:
        # The choice is written before the export: between the two, the export is the old one.
        chosen = _which(_digest(run / "ensemble.json"), told)
        exported = _which(_predicts(out, folder), whole)
        if {chosen, exported} <= {"old", "new"} and (chosen, exported) != ("old", "new"):
            return exported
        return f"ensemble.json: {chosen}; the export: {exported}"

    command = ["ensemble", str(run), "--size", sizes["new"], "--out", str(out)]
    return [Case(command, before, state, folder, command)]


def refits(folder: Path) -> list[Case]:
    """A second seed after a first one."""
    run = folder / "run"
    kept = folder / "whole" / "refits"
    command = ["refit", str(run), "--trial", "0000", "--seeds"]
    place = run / "refits" / "0000"
    told = {}
    for seeds, which in (("1", "old"), ("2", "new")):
        _must([*command, seeds], folder)
        told[which] = (place / "refits.json").read_text()
        if which == "old":
            _put(place, kept)
    models = {one.name: _predicts(one, folder) for one in sorted(place.glob("seed-?"))}

    def state() -> str:
        found = _which((place / "refits.json").read_text(), told)
        wrong = [
            one for one, model in models.items() if (place / one).exists() and _predicts(place / one, folder) != model
        ]
        if wrong or not (place / "seed-1").exists() or (found == "new" and not (place / "seed-2").exists()):
            return f"refits.json: {found}; other models or none: {wrong}"
        return found

    return [Case([*command, "2"], lambda: _put(kept, place), state, place, [*command, "2"])]


def caches(folder: Path) -> list[Case]:
    """The first training of a frozen network on photos without a cache. Its features are kept too."""
    cache = folder / "large-cache"
    command = ["train", "frozen.yaml", "--data", "large", "--cache-dir", str(cache)]
    side = cached_short_side(load_config(folder / "frozen.yaml"))

    def before() -> None:
        shutil.rmtree(cache, ignore_errors=True)

    def right() -> str:
        """Return whether the cache of that name equals the decoded photos."""
        whole = [path for path in cache.glob("*") if path.is_dir() and not HALF.search(path.name)]
        if not whole:
            return "none"
        if not any((path / "index.npy").is_file() for path in whole):
            return f"a cache without images: {whole}"
        stamps = {path: path.stat().st_mtime_ns for path in cache.glob("*/pixels.u8")}
        (_, cached), (_, decoded) = (load_dataset("large", short_side_px=side, cache_dir=one) for one in (cache, None))
        if stamps != {path: path.stat().st_mtime_ns for path in cache.glob("*/pixels.u8")}:
            return "a cache that was built again when it was opened"
        same = all(np.array_equal(cached[index], decoded[index]) for index in range(len(decoded)))
        return "new" if same else "a cache of other images"

    return [Case(command, before, lambda: in_a_fork(right, folder), cache, command)]


def reports(folder: Path) -> list[Case]:
    """Reports of a running search and of one that has ended, over an older page and without one."""
    run = folder / "run"
    page = folder / "run" / "report.html"
    _must(["report", str(run)], folder)
    old = page.read_text().replace("</html>", "<!-- old --></html>")
    records = _records(run)

    def case(*, had: bool, runs: bool) -> Case:
        def before() -> None:
            page.write_text(old) if had else page.unlink(missing_ok=True)

        def state() -> str:
            if (now := _records(run)) != records:
                return f"the run has changed: {sorted(set(now.items()) ^ set(records.items()))}"
            if not page.exists():
                return "an old page that is gone" if had else "none"
            text = page.read_text()
            if text == old and had:
                return "old"
            return "new" if text.rstrip().endswith("</html>") and "<!-- old" not in text else "half a page"

        watch = ["report", str(run), "--watch"]
        return Case(watch, before, state, run, ["report", str(run)], run if runs else None)

    return [case(had=had, runs=runs) for had in (True, False) for runs in (True, False)]


CASES: dict[str, Callable[[Path], list[Case]]] = {
    "export": exports, "ensemble": ensembles, "refit": refits, "cache": caches, "report": reports,
}  # fmt: skip


def _records(run: Path) -> dict[str, str]:
    """The digest of every file of a run, but of its page and of what is half-written."""
    files = (path for path in run.rglob("*") if path.is_file() and path.name != "report.html")
    return {str(path.relative_to(run)): _digest(path) for path in files if not HALF.search(path.name)}


def _must(command: list[str], folder: Path) -> None:
    if ended(command, folder):
        raise RuntimeError(f"{' '.join(command)}: {(folder / 'log.txt').read_text()[-2000:]}")


def _kept(folder: Path, command: list[str], out: Path) -> str:
    """Export to a folder that no kill touches. Return its prediction."""
    _must([*command, "--out", str(out)], folder)
    return _predicts(out, folder)


def _put(whole: Path, out: Path) -> None:
    shutil.rmtree(out, ignore_errors=True)
    out.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(whole, out)


def _predicts(out: Path, folder: Path) -> str:
    """Return an export's prediction for an image, with its metrics and file names.

    Raises if the export is not complete.
    """

    def work() -> str:
        image = np.random.default_rng(0).integers(0, 255, (40, 48, 3), dtype=np.uint8)
        predicted = np.asarray(load_export(out, torch.device("cpu")).probabilities([image])).tolist()
        return json.dumps([predicted, (out / "metrics.json").read_text(), sorted(os.listdir(out))])

    return in_a_fork(work, folder)


def _which(found: str, known: dict[str, str]) -> str:
    return next((state for state, one in known.items() if one == found), f"neither the old nor the new: {found[:300]}")


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
