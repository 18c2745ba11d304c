"""An export is the old one or the new one, whatever happens while it is written. A mixture is refused."""

from __future__ import annotations

import errno
import os
import random
import shutil
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import save_file

from analysis.models.ensemble_export import export_ensemble
from analysis.models.export import export_trial, write_export
from analysis.models.manifest import MANIFEST, check_files, written_whole
from analysis.models.predictor import load_export
from trainables.config.io import parse_config
from trainables.config.trial import TrialConfig
from trainables.models.classifiers import build_classifier
from visionsweep.core.errors import RunError
from visionsweep.core.whole_folder import mend
from visionsweep.run_dir.run import Run
from visionsweep.run_dir.trials import Trial

CONFIG = {
    "task": "multiclass", "model": {"backbone": "test_resnet", "weights": "none"},
    "optimizer": {"name": "sgd", "lr": 0.1}, "epochs": 1, "batch_size": 4, "image_size": 32,
}  # fmt: skip


def made_run(folder: Path, name: str, ensemble: int = 1) -> Run:
    """Make a run of one trial with weights, whose classes are named after the run."""
    config = parse_config(CONFIG, "test")
    files = folder / name / "checkpoints" / "0000"
    files.mkdir(parents=True)
    torch.manual_seed(len(name))
    model = build_classifier(config.model, 3, 32)
    save_file(
        {key: tensor.contiguous() for key, tensor in model.state_dict().items()}, files / "epoch-0001.safetensors"
    )
    epochs = [{"epoch": 1, "metrics": {"val/accuracy": 0.5}, "seconds": 1.0}]
    data = {"classes": [f"{name}-{number}" for number in range(3)], "fingerprint": name}
    search = {"search": {"metric": "val/accuracy", "mode": "max"}, "data": data}
    return Run(folder / name, search, [Trial("0000", {}, CONFIG, epochs, "complete")])


TOLD = {
    "members": [{"trial_id": "0000", "epoch": 1, "weight": 1, "value": 0.5}],
    "held_out": None, "metrics": {}, "combine": "mean probability", "threshold": 0.5, "metric": "val/accuracy",
}  # fmt: skip


class Faults:
    """Writing system calls, counted by an audit hook, and a fault at one of them."""

    EVENTS = ("os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.chmod")

    def __init__(self) -> None:
        self.left = -1
        self.seen = 0
        self.act = Faults.full
        self.active = False
        sys.addaudithook(self.hook)

    @staticmethod
    def full() -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    def hook(self, event: str, arguments: tuple[object, ...]) -> None:
        if not self.active:
            return
        writes = event in self.EVENTS
        if event == "open":
            flags = arguments[2] if isinstance(arguments[2], int) else 0
            writes = bool(flags & (os.O_WRONLY | os.O_RDWR))
        if writes:
            self.seen += 1
            if self.seen == self.left:
                self.act()


FAULTS = Faults()


def with_fault(at: int, act: Callable[[], None], work: Callable[[], object]) -> int:
    """Do the work, with a fault at the call of this number. Returns how many there were."""
    FAULTS.left = at
    FAULTS.seen = 0
    FAULTS.act = act
    FAULTS.active = True
    try:
        work()
    finally:
        FAULTS.active = False
    return FAULTS.seen


def classes_of(out: Path) -> str:
    return load_export(out, torch.device("cpu")).classes[0].partition("-")[0]


@pytest.mark.parametrize("kind", ["trial", "ensemble"])
def test_a_disk_that_is_full_at_any_file_leaves_the_old_export(tmp_path: Path, kind: str) -> None:
    old = made_run(tmp_path, "old")
    new = made_run(tmp_path, "new")
    out = tmp_path / "e"
    export_trial(old, out)

    def again() -> None:
        export_trial(new, out) if kind == "trial" else export_ensemble(new, TOLD, out)

    at = 0
    refusals = []
    while True:
        at += 1
        try:
            if with_fault(at, Faults.full, again) < at:
                break  # past the last of them
        except RunError as error:
            refusals.append(str(error))
        # What is deleted after the swap may fail without harm.
        assert classes_of(out) in ("old", "new")
        if classes_of(out) == "new":
            export_trial(old, out)
    assert len(refusals) >= 7
    assert set(refusals) == {f"{out}: cannot be written (No space left on device). Choose another --out."}
    assert classes_of(out) == "new"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["e", "new", "old"], "nothing is left beside it"


def test_a_kill_at_any_call_leaves_the_old_export_or_the_new_one(tmp_path: Path) -> None:
    old = made_run(tmp_path, "old")
    new = made_run(tmp_path, "new")
    out = tmp_path / "e"
    at = 0
    found = []
    export_trial(old, out)
    while True:
        at += 1
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # newer Pythons warn of threads beside a fork
            child = os.fork()
        if child == 0:
            with_fault(at, lambda: os._exit(9), lambda: export_trial(new, out))
            os._exit(0)
        was_killed = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
        found.append(classes_of(out))
        export_trial(old, out)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["e", "new", "old"], f"after a kill at call {at}"
        if not was_killed:
            break
    assert set(found) == {"old", "new"}
    assert len(found) > 10


LOOP = """
import sys
from pathlib import Path
from analysis.models.manifest import written_whole
out, turn = Path(sys.argv[1]), 0
while True:
    turn += 1
    with written_whole(out) as folder:
        for name in ("config.yaml", "classes.txt", "model.safetensors", "metrics.json"):
            (folder / name).write_text(f"{turn} " * 50_000)
    print(turn, flush=True)
"""


def test_kills_at_random_moments_leave_one_whole_export(tmp_path: Path) -> None:
    out = tmp_path / "e"
    chance = random.Random(0)
    for _ in range(12):
        writer = subprocess.Popen([sys.executable, "-c", LOOP, str(out)], stdout=subprocess.PIPE, text=True)
        assert writer.stdout is not None
        writer.stdout.readline()
        time.sleep(chance.random() * 0.1)
        writer.kill()
        writer.wait()
        writer.stdout.close()
        mend(out)
        check_files(out, [out / "config.yaml"])
        assert len({(out / name).read_text()[:9] for name in ("config.yaml", "model.safetensors")}) == 1
    subprocess.run([sys.executable, "-c", LOOP.replace("while True", "while turn < 1"), str(out)], check=True)
    assert [path.name for path in tmp_path.iterdir()] == ["e"], "what killed ones left is deleted by the next"


@pytest.mark.parametrize("name", ["config.yaml", "classes.txt", "model.safetensors", "metrics.json", "data.json"])
def test_a_file_of_another_export_is_refused(tmp_path: Path, name: str) -> None:
    for run in ("old", "newer"):
        with written_whole(tmp_path / f"e-{run}") as folder:
            epochs = parse_config({**CONFIG, "epochs": len(run)}, "test")
            data = {"classes": [], "run": run}
            write_export(folder, epochs, [f"{run}-{i}" for i in range(3)], weights(tmp_path, run), data, data)
    load_export(tmp_path / "e-old", torch.device("cpu"))
    shutil.copyfile(tmp_path / "e-newer" / name, tmp_path / "e-old" / name)
    with pytest.raises(RunError, match=rf"{name}: is not the file that was exported"):
        load_export(tmp_path / "e-old", torch.device("cpu"))
    (tmp_path / "e-old" / MANIFEST).unlink()
    load_export(tmp_path / "e-old", torch.device("cpu"))  # of an older version, or changed on purpose


def weights(folder: Path, name: str) -> list[Path]:
    made_run(folder, name)
    return [folder / name / "checkpoints" / "0000" / "epoch-0001.safetensors"]


def test_weights_that_no_manifest_names_are_refused(tmp_path: Path) -> None:
    out = tmp_path / "e"
    export_trial(made_run(tmp_path, "old"), out)
    (out / "model.safetensors").rename(out / "model-1.safetensors")
    with pytest.raises(RunError, match=r"model-1\.safetensors: does not belong to this export"):
        load_export(out, torch.device("cpu"))


def test_the_card_may_be_changed_and_graphs_may_be_deleted(tmp_path: Path) -> None:
    out = tmp_path / "e"
    with written_whole(out) as folder:
        write_export(folder, config(), list("abc"), weights(tmp_path, "old"), {}, {})
        for name in ("README.md", "model.onnx"):
            (folder / name).write_text("made")
    (out / "README.md").write_text("my own words")
    (out / "model.onnx").unlink()
    load_export(out, torch.device("cpu"))


def config() -> TrialConfig:
    return parse_config(yaml.safe_load(yaml.safe_dump(CONFIG)), "test")


@pytest.mark.parametrize(
    "manifest",
    ["", "null", "[]", "{}", '{"files": 5}', '{"files": {"classes.txt": 5}}', '{"files": {"../x": {"sha256": "a"}}}'],
)
def test_a_manifest_that_is_damaged_is_one_sentence(tmp_path: Path, manifest: str) -> None:
    out = tmp_path / "e"
    export_trial(made_run(tmp_path, "old"), out)
    (out / MANIFEST).write_text(manifest)
    with pytest.raises(RunError, match=r"e/.*Export the trial anew"):
        load_export(out, torch.device("cpu"))


@pytest.mark.parametrize("name", ["notes.txt", ".git/config", "members/notes.txt", "sub/model.safetensors", "empty/"])
def test_what_a_person_put_into_an_export_is_not_deleted(tmp_path: Path, name: str) -> None:
    out = tmp_path / "e"
    run = made_run(tmp_path, "old")
    export_trial(run, out)
    (out / name).parent.mkdir(parents=True, exist_ok=True)
    (out / name).mkdir() if name.endswith("/") else (out / name).write_text("mine")
    with pytest.raises(RunError, match=r"which no export wrote, and an export is replaced as a whole\. Move it away"):
        export_trial(run, out)
    assert (out / name).exists()
    load_export(out, torch.device("cpu"))


def test_a_link_to_a_folder_stays_a_link_and_an_empty_folder_is_filled(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir(mode=0o750)
    (tmp_path / "e").symlink_to(tmp_path / "disk")
    for _ in range(2):
        export_trial(made_run(tmp_path / f"r{_}", "old"), tmp_path / "e")
    assert (tmp_path / "e").is_symlink()
    assert classes_of(tmp_path / "disk") == "old"
    assert (tmp_path / "disk").stat().st_mode & 0o777 == 0o750


def test_the_folder_that_one_is_in_is_not_replaced_below_ones_feet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "e").mkdir()
    monkeypatch.chdir(tmp_path / "e")
    with pytest.raises(RunError, match="is the folder that you are in"):
        export_trial(made_run(tmp_path, "old"), Path("."))
