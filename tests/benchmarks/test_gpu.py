"""The command that proves a GPU runs all of its sections in small on a CPU, and says what went wrong in one."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from running import main_of
from safetensors.torch import load_file

from benchmarks.gpu import SECTIONS
from benchmarks.gpu_ground import MASKS, PHOTOS, WEIGHTS, Wrong, draw_masks, draw_photos
from benchmarks.gpu_process import Apart
from trainables.models.known import LITE_PACKAGES, has_package

Capture = pytest.CaptureFixture[str]
Patch = pytest.MonkeyPatch


@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # timm's own reader leaves its files to Python
def test_all_sections_pass_in_small_on_a_cpu(tmp_path: Path, monkeypatch: Patch, capsys: Capture) -> None:
    out = tmp_path / "gpu.json"
    main_of("gpu", monkeypatch)("--fake", "--out", out)
    said = capsys.readouterr().out
    written = json.loads(out.read_text())
    assert [row["letter"] for row in written["sections"]] == list(SECTIONS)
    assert [row["wrong"] for row in written["sections"]] == [""] * 9
    assert "\n9 of 9 sections passed, on a CPU, in small\n" in said
    assert "2 trainings on 2 equal those on one" in said
    found = {row["letter"]: row["found"] for row in written["sections"]}
    assert found["B"]["share 0.25"] == {"limit MB": 64.0, "reserved MB": 64.0}
    assert found["C"]["batch_size"] == 8
    assert "device-side assert" in found["D"]["words"]
    assert {"images/s", "from memory", "timm"} < found["F"]["test_resnet"].keys()
    assert found["H"]["val/miou"]["epochs"] == 3


def test_what_is_prepared_travels_and_what_is_wrong_with_it_stands_in_the_table(
    tmp_path: Path, monkeypatch: Patch, capsys: Capture
) -> None:
    draw_photos(tmp_path / "mine" / "train", 3)
    draw_photos(tmp_path / "mine" / "test", 1)
    draw_masks(tmp_path / "scenes", 4)
    folder = tmp_path / "prepared"
    gpu = main_of("gpu", monkeypatch)
    gpu("--prepare", folder, "--photos", tmp_path / "mine", "--masks", tmp_path / "scenes")
    capsys.readouterr()
    assert sorted(path.name for path in (folder / PHOTOS).iterdir()) == ["train"]  # no test images
    assert len(list((folder / MASKS / "images").iterdir())) == 4
    for backbone in filter(has_package, LITE_PACKAGES):
        assert "conv_stem.weight" in load_file(folder / WEIGHTS / f"{backbone}.safetensors")
    broken = next((folder / PHOTOS).rglob("*.jpg"))
    broken.write_text("no photo")
    with pytest.raises(SystemExit) as ended:
        gpu("--fake", "--data", folder, "--sections", "F")
    said = capsys.readouterr().out
    assert ended.value.code == 1
    assert "WRONG  DataError:" in said
    assert broken.name in said
    assert "0 of 1 sections passed" in said


def test_a_process_that_dies_hangs_or_raises_is_said_in_one_line() -> None:
    dies = Apart(os._exit, 3)
    hangs = Apart(time.sleep, 600)
    raises = Apart(int, "seven\nlines")
    with pytest.raises(Wrong, match=r"^its process ended without an answer \(exit code 3\)$"):
        dies.result(60)
    with pytest.raises(Wrong, match=r"^ValueError: invalid literal for int\(\) with base 10: 'seven\\nlines'"):
        raises.result(60)
    with pytest.raises(Wrong, match=r"^no answer within 0 s$"):
        hangs.result(0.1)
    assert not hangs.process.is_alive()


def test_without_a_gpu_the_command_names_fake(monkeypatch: Patch, capsys: Capture) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(SystemExit):
        main_of("gpu", monkeypatch)()
    assert (
        "torch sees no GPU here. Run it where one is, or try the command itself with --fake." in capsys.readouterr().err
    )
