"""The attacks that SECURITY.md describes: files from others are data, and nothing in them is run."""

from __future__ import annotations

import ast
import os
import stat
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import save_file
from support import Outcome, make_photos

from launch.machines.auth_token import close_token_file
from trainables.checkpoint import TrialFiles, load_state
from trainables.config.io import parse_config
from trainables.data.cache_stack import Stack
from trainables.data.formats import load_dataset, read_image
from trainables.models.classifiers import build_classifier
from trainables.state import TrainState
from trainables.stored_rows import stored_row
from visionsweep.core.errors import DataError, RunError

CLI = Callable[..., Outcome]
ROOT = Path(__file__).parents[1]
ROOMS = ("visionsweep", "search_spaces", "trainables", "launch", "analysis")
SOURCES = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))

CONFIG = """
task: binary
model: {backbone: test_resnet, weights: none}
optimizer: {name: sgd, lr: 0.01}
epochs: 1
batch_size: 8
image_size: 32
"""


class Crafted:
    """An object that writes a file when it is unpickled, like an attacker's checkpoint."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.trace),)


@pytest.fixture
def trace(tmp_path: Path) -> Iterator[Path]:
    """The file that crafted files leave behind if they are run. After the test it must not exist."""
    path = tmp_path / "something was run"
    yield path
    assert not path.exists()


@pytest.fixture
def crafted(tmp_path: Path, trace: Path) -> Path:
    path = tmp_path / "last.pt"
    torch.save({"row": Crafted(trace), "model": {}, "epoch": 1}, path)
    return path


@pytest.fixture
def export(tmp_path: Path) -> Path:
    """A whole export, that of a network nobody trained."""
    folder = tmp_path / "export"
    folder.mkdir()
    (folder / "config.yaml").write_text(CONFIG)
    (folder / "classes.txt").write_text("blue\nred\n")
    model = build_classifier(parse_config(yaml.safe_load(CONFIG)).model, 1, 32)
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, folder / "model.safetensors")
    return folder


def refused(said: Outcome, *words: str) -> None:
    assert said.code == 2, said.out + said.err
    assert "Traceback" not in said.err
    for word in words:
        assert word in said.err, said.err


def test_the_crafted_file_would_run_where_pickles_are_loaded(tmp_path: Path, crafted: Path) -> None:
    """Otherwise the tests below would show nothing."""
    torch.load(crafted, weights_only=False)
    (tmp_path / "something was run").rmdir()


def test_a_crafted_checkpoint_is_refused_and_runs_nothing(crafted: Path, trace: Path) -> None:
    state = cast(TrainState, SimpleNamespace(model=torch.nn.Linear(1, 1)))
    with pytest.raises(RunError, match=r"last\.pt: cannot be read as a checkpoint"):
        load_state(crafted)(state)
    assert stored_row(crafted) is None


@pytest.mark.parametrize("name", ["theirs.pt", "theirs.pth", "theirs.bin", "theirs.safetensors"])
def test_crafted_weights_in_a_configuration_are_refused(
    visionsweep: CLI, photos: Path, crafted: Path, trace: Path, name: str
) -> None:
    weights = crafted.rename(crafted.with_name(name))
    (photos.parent / "one.yaml").write_text(CONFIG.replace("weights: none", f"weights: {weights}"))
    refused(visionsweep("train", "one.yaml", "--data", photos), name, "is no file of weights")


def test_an_export_with_a_crafted_model_is_refused(visionsweep: CLI, export: Path, crafted: Path, trace: Path) -> None:
    photo = make_photos(export.parent / "new", {"red": 1}) / "red" / "00.png"
    assert visionsweep("predict", export, photo).code == 0, "whole, it predicts"
    crafted.rename(export / "model.safetensors")
    refused(visionsweep("predict", export, photo), "model.safetensors", "does not fit its configuration")


def test_crafted_predictions_and_caches_are_refused(tmp_path: Path, trace: Path) -> None:
    objects = np.array([Crafted(trace)], dtype=object)
    folder = tmp_path / "predictions"
    folder.mkdir()
    np.savez(folder / "epoch-0001.npz", metrics=objects)
    with pytest.raises((ValueError, RunError)):
        TrialFiles(tmp_path / "checkpoints", folder, "val/accuracy", "max", 1).best()
    (tmp_path / "meta.json").write_text('{"version": 1, "count": 1, "bad": {}}')
    np.save(tmp_path / "index.npy", objects)
    with pytest.raises(ValueError, match="allow_pickle"):
        Stack(tmp_path, channels=3)


def test_yaml_that_names_python_is_refused(visionsweep: CLI, export: Path, trace: Path) -> None:
    evil = f'model: !!python/object/apply:os.mkdir ["{trace}"]\n'
    for place in (Path("one.yaml"), export / "config.yaml"):
        place.write_text(CONFIG + evil)
    refused(visionsweep("train", "one.yaml", "--data", "digits:binary"), "one.yaml: is not valid YAML")
    refused(visionsweep("train", "one.yaml", "--data", "digits:binary", "--set", "epochs=1"), "one.yaml", "valid YAML")
    Image.new("RGB", (8, 8)).save("x.png")
    refused(visionsweep("predict", export, "x.png"), "config.yaml: is not valid YAML")
    Path("fine.yaml").write_text(CONFIG)
    refused(visionsweep("train", "fine.yaml", "--data", "digits:binary", "--set", f"model={evil[7:]}"), "model")


@pytest.mark.parametrize("cell", ["../outside.png", "inside/../../outside.png", "{absolute}"])
def test_a_table_reads_no_image_outside_of_its_folder(visionsweep: CLI, photos: Path, cell: str) -> None:
    outside = photos.parent / "outside.png"
    (photos / "red" / "00.png").rename(outside)
    rows = f"image,label\n{cell.format(absolute=outside)},red\nred/01.png,red\nblue/00.png,blue\n"
    (photos / "labels.csv").write_text(rows)
    Path("one.yaml").write_text(CONFIG)
    refused(visionsweep("train", "one.yaml", "--data", photos), "line 2", "leads out of the data folder")


def test_a_list_of_masks_reads_no_image_outside_of_its_folder(tmp_path: Path) -> None:
    for folder in ("scenes/images", "scenes/masks", "others"):
        (tmp_path / folder).mkdir(parents=True)
        Image.new("L", (8, 8)).save(tmp_path / folder / "a.png")
    (tmp_path / "scenes" / "train.txt").write_text("a\n../../others/a\n")
    with pytest.raises(DataError, match=r"train\.txt, line 2.*there is no image"):
        load_dataset(str(tmp_path / "scenes"), task="segmentation", short_side_px=8, cache_dir=None)


def test_a_link_in_a_data_folder_is_followed_by_decision(photos: Path) -> None:
    """A folder of images is often a link to a bigger disk. What it leads to is decoded as an image, or refused."""
    (photos / "red").rename(photos.parent / "elsewhere")
    (photos / "red").symlink_to(photos.parent / "elsewhere")
    dataset, images = load_dataset(str(photos), short_side_px=32, cache_dir=None)
    assert len(images) == len(dataset.names) == 48
    (photos / "red" / "secret.png").symlink_to("/etc/hostname")
    with pytest.raises(DataError, match=r"red/secret\.png' cannot be read: not an image"):
        load_dataset(str(photos), short_side_px=32, cache_dir=None)


def test_an_image_that_would_fill_the_memory_is_refused_by_its_head(tmp_path: Path) -> None:
    """A few bytes that say that they are 40,000 by 40,000 pixels."""
    head = struct.pack(">IIBBBBB", 40_000, 40_000, 8, 2, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n"
    for name, data in ((b"IHDR", head), (b"IDAT", zlib.compress(bytes(99))), (b"IEND", b"")):
        png += struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
    (tmp_path / "bomb.png").write_bytes(png)
    with pytest.raises(DataError, match=r"bomb\.png' cannot be read: Image size"):
        read_image(tmp_path / "bomb.png")


@pytest.mark.parametrize("named", [True, False])
def test_the_token_file_is_closed_to_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: bool) -> None:
    token = tmp_path / (".ray/auth_token" if not named else "elsewhere")
    token.parent.mkdir(exist_ok=True)
    token.write_text("abc")
    token.chmod(0o644)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("RAY_AUTH_TOKEN_PATH", raising=False)
    if named:
        monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(token))
    close_token_file()
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    assert token.read_text() == "abc"


# Calls that run code from a file (but for torch.load with weights_only), or unpack it to a place that it names.
UNSAFE = ("pickle.load", "pickle.loads", "cloudpickle.load", "cloudpickle.loads", "joblib.load",
          "yaml.load", "yaml.unsafe_load", "yaml.full_load", "os.system", "eval", "exec",
          "torch.load", "tarfile.open", "zipfile.ZipFile")  # fmt: skip


def unsafe_calls(source: str) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            name = ast.unparse(node.func)
            only_writes = name == "zipfile.ZipFile" and [ast.unparse(one) for one in node.args[1:2]] == ["'w'"]
            is_safe = only_writes or (name == "torch.load" and keywords.get("weights_only") == "True")
            if name.endswith((".extractall", ".extract", ".unpack_archive")):
                found.append(f"line {node.lineno}: {name}")
            if (name in UNSAFE and not is_safe) or {"allow_pickle": "True", "shell": "True"}.items() & keywords.items():
                found.append(f"line {node.lineno}: {name}")
    return found


# What `fetch` brings is packed there. It is unpacked by `plain_tar`, which takes plain files alone.
PACKING = {"launch/jobs/transfer.py": "tarfile.open"}


def test_no_file_of_ours_loads_what_could_run() -> None:
    found = {path.relative_to(ROOT).as_posix(): unsafe_calls(path.read_text()) for path in SOURCES}
    assert len(found) > 50
    for path, allowed in PACKING.items():
        found[path] = [call for call in found[path] if not call.endswith(f": {allowed}")]
    assert {path: calls for path, calls in found.items() if calls} == {}


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("torch.load(f)", ["line 1: torch.load"]),
        ("tar.extractall(folder)", ["line 1: tar.extractall"]),
        ("tar.extractall(folder, filter='fully_trusted')", ["line 1: tar.extractall"]),
        ("tar.extractall(folder, filter='data')", ["line 1: tar.extractall"]),
        ("shutil.unpack_archive(file, folder)", ["line 1: shutil.unpack_archive"]),
        ("torch.load(f, weights_only=False)", ["line 1: torch.load"]),
        ("torch.load(f, weights_only=True)", []),
        ("x = 1\nnp.load(f, allow_pickle=True)", ["line 2: np.load"]),
        ("np.load(f)\nyaml.safe_load(f)\njson.load(f)\nmodel.eval()", []),
        ("pickle.loads(b)\nyaml.load(f, Loader=yaml.SafeLoader)", ["line 1: pickle.loads", "line 2: yaml.load"]),
        ("subprocess.run(line, shell=True)", ["line 1: subprocess.run"]),
        ("zipfile.ZipFile(f)\nzipfile.ZipFile(f, 'a')", ["line 1: zipfile.ZipFile", "line 2: zipfile.ZipFile"]),
        ("zipfile.ZipFile(f, 'w')", []),
    ],
)
def test_a_call_that_could_run_something_is_found(source: str, found: list[str]) -> None:
    assert unsafe_calls(source) == found
