"""Damage to a run's files of every known kind gives one sentence with the file and the line."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from support import Outcome

from analysis.models.manifest import MANIFEST
from visionsweep.core.errors import InputError

CLI = Callable[..., Outcome]

DEEP = "[" * 20_000 + "]" * 20_000
WHOLE = [
    "5",
    "null",
    "[1]",
    '"text"',
    "true",
    "",
    "{",
    "[" * 200 + "]" * 200,
    DEEP,
    "\udcff\udcfe",
    "9" * 6000,
    "\0" * 100,
]


def changed(path: str, value: Any) -> dict[str, Any]:
    """A search.json or a line with another value at a dotted path."""
    return {"path": path, "value": value}


SEARCH = [
    changed("version", 99), changed("version", None), changed("search", 3), changed("search", []),
    changed("search.metric", 7), changed("search.mode", "up"), changed("search.epochs", "many"),
    changed("search.epochs", 10**30), changed("search.task", None), changed("search.objectives", "val/f1"),
    changed("data", []), changed("data.classes", "red"), changed("data.classes", [1]), changed("data.val", 5),
    changed("data.val_targets", [[["a"]]]), changed("data.fingerprint", {}), changed("data.counts", {"train": "x"}),
    changed("options", None), changed("options.data", 3), changed("options.budget_s", "soon"),
    changed("options.num_trials", -1), changed("options.seed", [1]), changed("options.cache_dir", 5),
    changed("started", "today"), changed("started", 10**400), changed("resumed", 5), changed("resumed", [None]),
    changed("resumed", [{"versions": {}}]), changed("versions", []), changed("name", 5),
]  # fmt: skip
EVENTS = [
    changed("event", 5), changed("trial_id", "../x"), changed("trial_id", 7), changed("trial_id", "٠٠٠١"),
    changed("trial_id", "0" * 300), changed("params", []), changed("params", {"a": [1]}), changed("params", {"a": "\ud800"}), changed("config", "x"),
    changed("time", "noon"), changed("time", -1), changed("origin", 5),
]  # fmt: skip
EPOCHS = [
    changed("trial_id", None), changed("epoch", "1"), changed("epoch", True), changed("epoch", 1.5), changed("epoch", 0),
    changed("epoch", 10**18), changed("metrics", []), changed("metrics", {"val/accuracy": "high"}),
    changed("metrics", {"val/accuracy": 10**400}), changed("seconds", None), changed("seconds", -1),
    changed("time", {}), changed("pid", "x"), changed("lr", []), changed("latency_ms", "fast"), changed("node", 5),
]  # fmt: skip


def put(row: dict[str, Any], path: str, value: Any) -> None:
    *parents, key = path.split(".")
    for parent in parents:
        row = row[parent]
    row[key] = value


def in_search(change: dict[str, Any]) -> Callable[[Path], str]:
    def apply(run: Path) -> str:
        search = json.loads((run / "search.json").read_text())
        put(search, **change)
        (run / "search.json").write_text(json.dumps(search))
        return "search.json"

    return apply


def in_line(name: str, change: dict[str, Any]) -> Callable[[Path], str]:
    def apply(run: Path) -> str:
        first, *others = (run / name).read_text().splitlines()
        row = json.loads(first)
        put(row, **change)
        (run / name).write_text("\n".join([json.dumps(row), *others, ""]))
        return f"{name}, line 1"

    return apply


def whole(name: str, content: str) -> Callable[[Path], str]:
    def apply(run: Path) -> str:
        is_lines = name.endswith("l")
        (run / name).write_bytes(
            f"{content}\n".encode("utf-8", "surrogateescape")
            if is_lines
            else content.encode("utf-8", "surrogateescape")
        )
        return f"{name}, line 1" if is_lines else name

    return apply


def a_folder(name: str) -> Callable[[Path], str]:
    def apply(run: Path) -> str:
        (run / name).unlink()
        (run / name).mkdir()
        return name

    return apply


def a_pipe(name: str) -> Callable[[Path], str]:
    def apply(run: Path) -> str:
        (run / name).unlink()
        os.mkfifo(run / name)
        return name

    return apply


RECORDS = ("search.json", "trials.jsonl", "epochs.jsonl")
DAMAGES = {
    **{f"search.json {one['path']}={str(one['value'])[:20]}": in_search(one) for one in SEARCH},
    **{f"trials.jsonl {one['path']}={ascii(one['value'])[:20]}": in_line("trials.jsonl", one) for one in EVENTS},
    **{f"epochs.jsonl {one['path']}={str(one['value'])[:20]}": in_line("epochs.jsonl", one) for one in EPOCHS},
    **{f"search.json is {content[:8]!a} of {len(content)}": whole("search.json", content) for content in WHOLE},
    # A line of zeros, or an empty file, is what a power cut leaves, and no damage.
    **{f"{name} is {content[:8]!a} of {len(content)}": whole(name, content) for name in RECORDS[1:] for content in WHOLE[:-1]},
    **{f"{name} is a folder": a_folder(name) for name in RECORDS},
    **{f"{name} is a pipe": a_pipe(name) for name in RECORDS},
}  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Any:
    from benchmarks.fuzz import make

    return make(tmp_path_factory.mktemp("made"))


@pytest.fixture
def run(made: Any, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made.run, tmp_path / "run"))


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_record_is_one_sentence_with_file_and_line_in_every_command(
    damage: Callable[[Path], str], run: Path
) -> None:
    from benchmarks.fuzz import COMMANDS

    place = damage(run)
    for name in ("rank", "status", "resume", "export"):
        with pytest.raises(InputError) as caught:
            COMMANDS[name](run)
        assert place in str(caught.value), name
        assert "\n" not in str(caught.value)
    if place == "search.json":
        with pytest.raises(InputError, match=r"search\.json"):
            COMMANDS["dashboard"](run)


@pytest.mark.parametrize("damage", list(DAMAGES.values())[::7], ids=list(DAMAGES)[::7])
def test_a_report_shows_what_can_still_be_read(damage: Callable[[Path], str], run: Path) -> None:
    from benchmarks.fuzz import COMMANDS

    damage(run)
    COMMANDS["report"](run)
    assert (run / "report.html").stat().st_size > 10_000


def test_the_command_line_exits_with_two_and_a_sentence(visionsweep: CLI, run: Path) -> None:
    (run / "epochs.jsonl").write_text("[1]\n")
    for arguments in (
        ["rank", run],
        ["rank", run, "--json"],
        ["status", run],
        ["resume", run],
        ["export", run, "--out", "x"],
    ):
        said = visionsweep(*arguments)
        assert said.code == 2, said
        assert "Traceback" not in said.err
        assert "epochs.jsonl, line 1: is damaged (it must be a JSON object, got a list)" in said.err


def test_a_run_that_may_not_be_entered_and_a_name_that_is_too_long_are_refused(visionsweep: CLI, run: Path) -> None:
    long = f"./{'x' * 300}"
    for command in ("rank", "status", "resume"):
        said = visionsweep(command, long)
        assert (said.code, "File name too long" in said.err) == (2, True), said
    if os.geteuid() == 0:
        return  # root may enter every folder
    run.chmod(0)
    try:
        for command in ("rank", "status", "resume"):
            said = visionsweep(command, run)
            assert (said.code, "Permission denied" in said.err) == (2, True), said
    finally:
        run.chmod(0o755)


EXPORTS: dict[str, tuple[str, bytes, str]] = {
    "nested brackets": ("config.yaml", b"a: " + b"[" * 20_000 + b"]" * 20_000, "config.yaml: is nested more than 64 deep"),
    "an alias of itself": ("config.yaml", b"a: &a [*a]\n", "config.yaml: is not valid YAML"),
    "aliases of aliases": (
        "config.yaml",
        b"a: &a [1,1,1,1,1,1,1,1,1]\n"
        + b"".join(b"%c: &%c [%s]\n" % (98 + i, 98 + i, b",".join([b"*%c" % (97 + i)] * 9)) for i in range(8)),
        "config.yaml: is not valid YAML (more than 20000 values)",
    ),
    "a number of 6,000 digits": ("config.yaml", b"epochs: " + b"9" * 6000, "config.yaml: is not valid YAML"),
    "a date that is none": ("config.yaml", b"epochs: 2020-99-99\n", "config.yaml: is not valid YAML"),
    "no mapping": ("config.yaml", b"null\n", "config.yaml: must hold a mapping"),
    "a key that is no word": ("config.yaml", b"1: 2\n", "config.yaml: a key is a word, got 1"),
    "a megabyte": ("config.yaml", b"# " + b"x" * 2**20, "config.yaml: is larger than 256 kB"),
    "weights of text": ("model.safetensors", b"no weights at all", "does not fit its configuration"),
    "a header that never ends": ("model.safetensors", b"\xff" * 64, "does not fit its configuration"),
    "ten classes of one name": ("classes.txt", b"red\n" * 10, "classes.txt: names the class 'red' twice"),
}  # fmt: skip


def unsealed(export: Path, copy: Path) -> Path:
    """Copy an export without its manifest, whose digests would find all damage before the file is parsed."""
    shutil.copytree(export, copy)
    (copy / MANIFEST).unlink()
    return copy


@pytest.mark.parametrize(("name", "content", "said"), EXPORTS.values(), ids=EXPORTS)
def test_a_damaged_export_is_one_sentence(
    made: Any, visionsweep: CLI, tmp_path: Path, name: str, content: bytes, said: str
) -> None:
    export = unsealed(made.export, tmp_path / "export")
    (export / name).write_bytes(content)
    Image.new("RGB", (8, 8)).save(tmp_path / "x.png")
    outcome = visionsweep("predict", export, tmp_path / "x.png")
    assert outcome.code == 2, outcome.err
    assert "Traceback" not in outcome.err
    assert said in " ".join(outcome.err.split())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (DEEP, "is damaged"),
        ("null", "must hold a JSON object, got None"),
        ('{"combine": "vote"}', "'threshold' is None"),
        ('{"combine": {}, "threshold": 0.5, "members": []}', "'combine' is a dict"),
        ('{"combine": "vote", "threshold": 0.5, "members": []}', "'members' is a list"),
        (
            '{"combine": "vote", "threshold": 0.5, "members": [{"trial_id": "0000", "epoch": 1, "weight": NaN, "value": 1}]}',
            "'weight' is nan",
        ),
        (
            '{"combine": "vote", "threshold": 0.5, "members": [{"trial_id": "0000", "epoch": 1, "weight": 1, "value": 1}]}',
            "a member has no 'folder'",
        ),
    ],
)
def test_a_damaged_ensemble_is_one_sentence(made: Any, visionsweep: CLI, tmp_path: Path, text: str, said: str) -> None:
    export = unsealed(made.ensemble, tmp_path / "two")
    (export / "ensemble.json").write_text(text)
    Image.new("RGB", (8, 8)).save(tmp_path / "x.png")
    outcome = visionsweep("predict", export, tmp_path / "x.png")
    assert outcome.code == 2, outcome.err
    assert "ensemble.json" in outcome.err
    assert said in " ".join(outcome.err.split())


@pytest.mark.parametrize("text", ["null", DEEP, '{"val": 5}', '{"test": [1]}', '{"fingerprint": {}}'])
def test_a_damaged_data_json_is_one_sentence(made: Any, visionsweep: CLI, tmp_path: Path, text: str) -> None:
    export = shutil.copytree(made.export, tmp_path / "export")
    (export / "data.json").write_text(text)
    outcome = visionsweep("evaluate", export, "--data", "digits")
    assert outcome.code == 2, outcome.err
    assert "data.json" in outcome.err


@pytest.mark.parametrize(
    "name",
    ["a\nb", "a\rb", "a\x1b]0;owned\x07", "a\x00b", "a\udcffb", "a\u2028b", "x" * 201, "é" * 125, "\u202eevil"],
)
def test_a_run_name_that_no_file_or_terminal_can_hold_is_refused_before_anything_runs(name: str) -> None:
    from launch.cli.loading import check_name

    with pytest.raises(InputError) as caught:
        check_name(name)
    assert str(caught.value).isprintable()
    assert "--name" in str(caught.value)


@pytest.mark.parametrize("name", ["plain", "with space", "名前", "é" * 100, "x" * 200, "-rf", "~", "a.b"])
def test_other_run_names_are_taken(name: str) -> None:
    from launch.cli.loading import check_name

    assert check_name(name) == name


# True and 1.0 are numbers of a trial to Optuna, and no place in a list.
FLOAT_TRIAL = '{"op_code": 8, "trial_id": 0.0, "worker_id": "x", "user_attr": {"a": 1}}'


def test_one_damaged_journal_does_not_end_the_dashboard_of_the_others(
    made: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from optuna.storages import JournalStorage

    from launch.tracking.dashboard import Journals, watched

    good = shutil.copytree(made.run, tmp_path / "good")
    bad = shutil.copytree(made.run, tmp_path / "bad")
    lines = (bad / "study.journal").read_text().splitlines()
    for damage in ("5", DEEP, '{"op_code": 99}', '{"op_code": 6, "trial_id": 77, "worker_id": "x"}', "{", FLOAT_TRIAL):
        at = 3 if damage != FLOAT_TRIAL else len(lines)  # where the trial is known
        (bad / "study.journal").write_text("\n".join([*lines[:at], damage, *lines[at:], ""]))
        studies = JournalStorage(Journals(watched([good, bad]))).get_all_studies()
        assert {study.study_name for study in studies} == {"good", "bad"}
    assert "line 4: is damaged" in caplog.text
