"""What commands make of damaged files: a sentence, or what can still be read; never a traceback, never a hang.

    python -m benchmarks.fuzz [--cases 5000] [--seed 0]

A run and two exports are made once, with real weights. Then one file at a time is damaged, and the commands that read
it work on it. Damage flips, cuts out, cuts off or zeroes bytes. Or it removes a value, nests it deeply, or replaces it
by one of another type.

Prints how often each command refused and how often it succeeded. Then come all other exceptions, with the seed that
repeats each.
"""

from __future__ import annotations

import argparse
import io
import json
import logging
import random
import shutil
import signal
import sys
import tempfile
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from rich.console import Console

from analysis.models.export import MEMBERS, export_trial
from analysis.models.export_folder import ENSEMBLE_FILE
from analysis.models.manifest import MANIFEST, write_manifest
from analysis.models.predictor import load_export
from analysis.report import write_report
from launch.cli.printing import print_json, print_ranking
from launch.jobs.status import run_view
from launch.pruners.pruning import build_scheduler
from launch.search.budget import resume_options
from launch.search.prepare import RunOptions, options_of
from launch.search.records import Records
from launch.search.searcher import StudySearcher
from launch.tracking.dashboard import Journals, watched
from launch.tracking.journal import Journal
from search_spaces import Branch, Float, Pick, Search
from search_spaces.serial import search_from_json, search_to_json
from trainables.checkpoint import TrialFiles
from trainables.config.io import parse_config
from trainables.data.formats import load_dataset
from trainables.data.loader import TrialData
from trainables.loop import fit
from visionsweep.core.errors import InputError
from visionsweep.run_dir.load import load_run
from visionsweep.run_dir.rank import ranking
from visionsweep.run_dir.sessions import spent_s, times_written, versions_before
from visionsweep.run_dir.shapes import value_at
from visionsweep.run_dir.trials import read_search

LONGEST_S = 30  # what a command may take with a damaged file
EPOCHS = 3
SEARCH = Search(
    task="multiclass",
    space={
        "model": {"backbone": "test_resnet", "weights": "none"},
        "optimizer": Branch({"sgd": {"lr": Float(1e-3, 0.3, log=True)}, "adam": {"lr": Float(1e-4, 1e-2, log=True)}}),
        "batch_size": Pick(16, 32),
    },
    fixed={"image_size": 32, "fit_image": "squash"},
    metric="val/accuracy",
    mode="max",
    epochs=EPOCHS,
    grace_epochs=1,
)


@dataclass(frozen=True)
class Made:
    """The folders that are copied and damaged: a run, an export of one trial, an export of two."""

    run: Path
    export: Path
    ensemble: Path


@dataclass
class Found:
    """The number of commands that refused and succeeded, by command.

    broken: forbidden outcomes, as sentences with a seed.
    """

    refused: Counter[str] = field(default_factory=Counter)
    went_on: Counter[str] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="visionsweep-fuzz-") as folder:
        made = make(Path(folder))
        found = fuzz(made, Path(folder) / "case", range(arguments.seed, arguments.seed + arguments.cases))
    for command in COMMANDS:
        print(f"{command:10} refused {found.refused[command]:6}   went on {found.went_on[command]:6}")
    for sentence in found.broken:
        print(sentence)
    print(f"{arguments.cases} damaged files, {len(found.broken)} of them broke a command")
    sys.exit(bool(found.broken))


def fuzz(made: Made, case: Path, seeds: range, *, one_command: bool = False) -> Found:
    """Damage one file for each seed, and run every command that reads it, or one of them."""
    found = Found()
    for seed in seeds:
        rng = random.Random(seed)
        origin, name = rng.choice(files(made))
        damaged = damage(name, (origin / name).read_bytes(), rng)
        commands = COMMANDS_OF[name if name in COMMANDS_OF else Path(name).suffix]
        for command in [rng.choice(commands)] if one_command else commands:
            shutil.rmtree(case, ignore_errors=True)
            shutil.copytree(origin, case)
            # Its digests would refuse every damage before a file is parsed.
            (case / MANIFEST).unlink(missing_ok=True)
            (case / name).write_bytes(damaged)
            try:
                with at_most(LONGEST_S), redirect_stdout(io.StringIO()):
                    COMMANDS[command](case)
                found.went_on[command] += 1
            except InputError:
                found.refused[command] += 1
            except Exception as error:
                where = traceback.extract_tb(error.__traceback__)[-1]
                place = f"{Path(where.filename).name}:{where.lineno}"
                said = f"seed {seed}, {name}, {command}: {type(error).__name__}: {str(error)[:150]} ({place})"
                found.broken.append(said)
    return found


def files(made: Made) -> list[tuple[Path, str]]:
    """Each as often as it is to be drawn."""
    of_run = ["search.json"] * 4 + ["trials.jsonl"] * 4 + ["epochs.jsonl"] * 3 + ["study.journal"]
    found = [(made.run, name) for name in of_run]
    found += [(made.run, path.relative_to(made.run).as_posix()) for path in sorted(made.run.glob("predictions/*/*"))]
    found += [(made.export, "config.yaml")] * 2 + [(made.export, "classes.txt"), (made.export, "model.safetensors")]
    return found + [(made.ensemble, ENSEMBLE_FILE)] * 3


def damage(name: str, content: bytes, rng: random.Random) -> bytes:
    """Apply one kind of damage, to bytes or to a value."""
    if name.endswith((".npz", ".safetensors", ".txt")) or rng.random() < 0.4:
        return rng.choice(BYTES)(content, rng)
    if name.endswith(".yaml"):
        return confused(yaml.safe_load(content), rng)
    if name.endswith(".json"):
        return confused(json.loads(content), rng)
    lines = content.splitlines(keepends=True)
    place = rng.randrange(len(lines))
    lines[place] = confused(json.loads(lines[place]), rng) + b"\n"
    return b"".join(lines)


def _flipped(content: bytes, rng: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 4, 40))):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _cut_off(content: bytes, rng: random.Random) -> bytes:
    return content[: rng.randrange(len(content))]


def _cut_out(content: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(len(content))
    return content[:start] + content[start + rng.randrange(1, 200) :]


def _zeroed(content: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(len(content))
    size = rng.randrange(1, 600)
    return content[:start] + b"\0" * min(size, len(content) - start) + content[start + size :]


def _doubled(content: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(len(content))
    return content[:start] + content[max(0, start - rng.randrange(1, 400)) :]


BYTES: tuple[Callable[[bytes, random.Random], bytes], ...] = (_flipped, _cut_off, _cut_out, _zeroed, _doubled)

# What a value is replaced by, as JSON (and so as YAML).
VALUES = (
    *("null", "true", "0", "-1", "3", "0.5", "-0.0", "NaN", "Infinity", "1e308", "1e999", "9" * 30, "9" * 400),
    *("9" * 6000, '""', '"x"', '"0.5"', '"\\ud800"', '"\\u001b]0;x\\u0007"', '"../../x"', '"a\\nb"', "[]", "{}"),
    *("[[1]]", '{"a": 1}', '["val/accuracy", 3]', '"' + "y" * 5000 + '"', "[" * 200 + "]" * 200),
    *("[" * 40 + "]" * 40, "[" * 100_000 + "]" * 100_000, '{"a":' * 5000 + "1" + "}" * 5000, '{"$float": {"low": 1}}'),
    *('{"$branch": []}', '{"name": "adam"}', '{"name": {}}'),
)


def confused(value: Any, rng: random.Random) -> bytes:
    """A document with one of its values replaced, removed or under another key, or of its whole."""
    places = list(_places(value))
    marker = "@@here@@"
    raw = rng.choice(VALUES)
    if not places or rng.random() < 0.05:
        return raw.encode()
    holder, key = rng.choice(places)
    kind = rng.random()
    if kind < 0.15:
        del holder[key]
    elif kind < 0.25 and isinstance(holder, dict):
        holder[f"{key}x"] = holder.pop(key)
    else:
        holder[key] = marker
    return json.dumps(value).replace(f'"{marker}"', raw).encode()


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    keys: Any = value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield value, key
        yield from _places(value[key])


@contextmanager
def at_most(seconds: int) -> Iterator[None]:
    def late(*_: object) -> None:
        raise TimeoutError(f"took longer than {seconds} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _console() -> Console:
    return Console(file=io.StringIO(), width=160)


def rank(run: Path) -> None:
    loaded = load_run(run)
    rows = ranking(loaded)
    print_json(rows)
    print_ranking(loaded, rows, _console())


def status(run: Path) -> None:
    view, _ = run_view(str(run), _console())
    _console().print(view)


def report(run: Path) -> None:
    write_report([run], run / "report.html", with_model=False)


def resume(run: Path) -> None:
    """Its first steps, up to its first proposal."""
    read_search(run)
    records = Records(run)
    with records.locked():
        search_json = read_search(run)
        search = search_from_json(value_at(search_json, "search"))
        options = options_of(search_json)
        versions_before(search_json)
        spent = spent_s(search_json, times_written(run))
        resume_options(options, len(records.trials), spent, 1, None)
        build_scheduler(search, list(records.trials.values()))
        searcher = StudySearcher(search, records, options.seed, None, None)
        records.listen(Journal(run / "study.journal", "run", search, records.trials.values()))
        try:
            for number in range(2):
                searcher.suggest(f"ray-{number}")
        finally:
            records.close_listeners()


def dashboard(run: Path) -> None:
    from optuna.storages import JournalStorage

    JournalStorage(Journals(watched([run]))).get_all_studies()


def export(run: Path) -> None:
    export_trial(load_run(run), run / "export")


def predict(exported: Path) -> None:
    image = np.zeros((40, 48, 3), np.uint8)
    load_export(exported, torch.device("cpu")).probabilities([image])


COMMANDS: dict[str, Callable[[Path], None]] = {
    "rank": rank, "status": status, "report": report, "resume": resume, "dashboard": dashboard, "export": export,
    "predict": predict,
}  # fmt: skip
ON_RECORDS = ("rank", "status", "report", "resume", "dashboard", "export")
COMMANDS_OF = {
    **dict.fromkeys(("search.json", "trials.jsonl", "epochs.jsonl"), ON_RECORDS),
    "study.journal": ("dashboard",),
    ".npz": ("report", "export"),
    **dict.fromkeys(("config.yaml", "classes.txt", "model.safetensors", ENSEMBLE_FILE), ("predict",)),
}


def make(folder: Path) -> Made:
    """Make a run of three trials and its exports. One trial is trained, one pruned, one interrupted."""
    torch.set_num_threads(1)
    run = folder / "run"
    dataset, images = load_dataset("digits", short_side_px=32, cache_dir=None)
    few = np.full(len(dataset.split), "duplicate", dtype=dataset.split.dtype)  # what is not looked at
    for split, count in (("train", 96), ("val", 40)):
        few[dataset.indices(split)[:count]] = split
    data = TrialData(replace(dataset, split=few), images)
    about = {"search": search_to_json(SEARCH), "data": data.dataset.describe(),
             "options": asdict(RunOptions(data="digits")),
             "started": 1_700_000_000.0, "versions": {"torch": "2.0"}}  # fmt: skip
    records = Records.create(run, about)
    searcher = StudySearcher(SEARCH, records, 0, None, None)
    records.listen(Journal(run / "study.journal", "run", SEARCH))
    for number, status in enumerate(("complete", "pruned", "interrupted")):
        proposal = searcher.suggest(f"ray-{number}")
        assert isinstance(proposal, dict)
        trial_id = proposal["trial_id"]
        config = parse_config(proposal["config"])
        records.started(trial_id)
        trained = TrialFiles.below(run, trial_id, "val/accuracy", "max", config)
        for result in fit(config, data, torch.device("cpu")):
            trained.save(result, resumable=status == "interrupted")
            records.epoch({"trial_id": trial_id, **result.row()})
            if status != "complete":
                break
        records.ended(trial_id, status, "")
    records.close_listeners()
    export_trial(load_run(run), folder / "export")
    return Made(run, folder / "export", _two(folder / "export", folder / "two"))


def _two(one: Path, out: Path) -> Path:
    """An export of two members, which are the same."""
    shutil.copytree(one, out)
    members = [{"trial_id": f"000{number}", "epoch": 1, "weight": 1, "value": 0.5, "folder": f"000{number}-epoch-0001"}
               for number in range(2)]  # fmt: skip
    (out / ENSEMBLE_FILE).write_text(
        json.dumps({"combine": "mean probability", "threshold": 0.5, "metric": "val/accuracy", "members": members})
    )
    for member in members:
        shutil.copytree(one, out / MEMBERS / str(member["folder"]), ignore=shutil.ignore_patterns(MANIFEST))
    write_manifest(out)
    return out


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    logging.disable()
    main()
