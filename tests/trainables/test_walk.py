"""Folders with links, loops, missing rights, pipes and what systems leave behind."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from made_folders import load, photo, photos, refusal
from PIL import Image

from trainables.data.plain_files import check_plain
from trainables.data.walk import NOT_DATA, images_below

ROOT = Path(__file__).parents[2]
BACK = "1 link left out, leading back to folders that are walked anyway: 'cat/self'."


# --- links --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", [".", "..", "../..", "../dog", "/", "../cat/deep"])
def test_a_link_that_leads_back_adds_nothing(tmp_path: Path, target: str) -> None:
    data = photos(tmp_path / "data", "cat dog cat/deep")
    (data / "cat" / "self").symlink_to(target)
    dataset = load(data)
    assert len(dataset.names) == 12
    assert dataset.notes == (BACK,)


def test_two_links_that_lead_back_do_not_multiply(tmp_path: Path) -> None:
    photos(tmp_path, "cat dog")
    for name in ("a", "b"):
        (tmp_path / "cat" / name).symlink_to(".")
    assert len(load(tmp_path).names) == 8


def test_a_loop_outside_is_walked_once(tmp_path: Path) -> None:
    data = photos(tmp_path / "data", "cat dog")
    photos(tmp_path / "outside", "a b")
    (tmp_path / "outside" / "a" / "up").symlink_to("..")
    (data / "cat" / "more").symlink_to("../../outside/a")
    dataset = load(data)
    assert sorted(name for name in dataset.names if "more" in name) == [
        *(f"cat/more/{number}.png" for number in range(4)),
        *(f"cat/more/up/b/{number}.png" for number in range(4)),
    ]


def test_a_link_to_another_disk_is_followed_and_said(tmp_path: Path) -> None:
    data = photos(tmp_path / "data", "cat dog")
    photos(tmp_path / "disk", "cats birds")
    (data / "cat" / "more").symlink_to(tmp_path / "disk" / "cats")
    (data / "bird").symlink_to(tmp_path / "disk" / "birds")
    dataset = load(data)
    assert (dataset.classes, len(dataset.names)) == (("bird", "cat", "dog"), 16)
    assert dataset.notes == ("2 links to folders followed: 'bird', 'cat/more'.",)


def test_one_folder_that_links_give_to_one_class_twice_is_walked_once(tmp_path: Path) -> None:
    data = photos(tmp_path / "data", "cat dog")
    photos(tmp_path, "pics")
    for name in ("again", "more"):
        (data / "cat" / name).symlink_to("../../pics")
    dataset = load(data)
    assert len(dataset.names) == 12
    assert len(dataset.notes) == 2


@pytest.mark.parametrize("other", ["dog", "bird"])
def test_one_folder_that_links_give_to_two_classes_is_refused(tmp_path: Path, other: str) -> None:
    data = photos(tmp_path / "data", "bird cat dog")
    photos(tmp_path, "pics pics/deep")
    (data / "cat" / "more").symlink_to("../../pics")
    (data / other / "more").symlink_to("../../pics/deep")
    message = refusal(data)
    assert f"'{other}/more'" in message
    assert "'cat/more'" in message
    assert f"lead to the same folder '{tmp_path.resolve()}/pics" in message
    assert "Remove one of the links." in message


def test_one_folder_that_links_give_to_train_and_val_is_refused(tmp_path: Path) -> None:
    data = photos(tmp_path / "data", "train/cat train/dog val/cat val/dog")
    photos(tmp_path, "pics")
    for split in ("train", "val"):
        (data / split / "cat" / "x").symlink_to(tmp_path / "pics")
    assert "lead to the same folder" in refusal(data)


@pytest.mark.parametrize("target", ["cat", ".", "cat/deep"])
def test_a_class_that_is_a_link_to_another_one_is_refused(tmp_path: Path, target: str) -> None:
    photos(tmp_path, "cat cat/deep dog")
    (tmp_path / "bird").symlink_to(target)
    message = refusal(tmp_path)
    assert "'bird'" in message
    assert "by a link. Remove one of them." in message


def test_a_link_that_leads_nowhere_stops_where_it_may_be_a_folder(tmp_path: Path) -> None:
    photos(tmp_path, "cat dog")
    (tmp_path / "bird").symlink_to("/mnt/not/there")
    assert f"'{tmp_path}/bird' is a link to '/mnt/not/there', which does not exist." in refusal(tmp_path)
    (tmp_path / "bird").rename(tmp_path / "cat" / "x.jpg")
    assert "image 'cat/x.jpg' cannot be read: No such file or directory" in refusal(tmp_path)


def test_masks_behind_links_are_read_and_said(tmp_path: Path) -> None:
    photos(tmp_path / "disk", "photos")
    for number in range(4):
        (tmp_path / "disk" / "drawn").mkdir(exist_ok=True)
        drawn = np.arange(72, dtype=np.uint8).reshape(8, 9) % 2
        Image.fromarray(drawn).save(tmp_path / "disk" / "drawn" / f"{number}.png")
    data = tmp_path / "data"
    data.mkdir()
    (data / "images").symlink_to(tmp_path / "disk" / "photos")
    (data / "masks").symlink_to(tmp_path / "disk" / "drawn")
    (tmp_path / "disk" / "photos" / "self").symlink_to(".")
    dataset = load(data)
    assert len(dataset.names) == 4
    assert "2 links to folders followed: 'images', 'masks'." in dataset.notes
    assert "1 link left out, leading back to folders that are walked anyway: 'images/self'." in dataset.notes


# --- rights -------------------------------------------------------------------------------------------------------


def without_root(code: str, path: Path) -> str:
    """Return the output of Python code that has only the owner's rights, also if root runs the tests."""
    command = [sys.executable, "-c", code, str(path)]
    if os.geteuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("root may read everything, and there is no setpriv to take that right away")
        rights = "-dac_override,-dac_read_search"
        command = ["setpriv", f"--bounding-set={rights}", f"--inh-caps={rights}", *command]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if "setpriv" in done.stderr:
        pytest.skip("setpriv cannot take rights away here")
    return (done.stdout or done.stderr).strip()


LOAD = """
import sys
from trainables.data.formats import load_dataset
try:
    print(load_dataset(sys.argv[1], short_side_px=8, cache_dir=None)[0].notes)
except Exception as error:
    print(f"{type(error).__name__}: {error}")
"""


@pytest.mark.parametrize("locked", ["cat/outdoor", "dog", "train/cat/a/b"])
def test_a_folder_that_may_not_be_read_stops_with_its_rights(tmp_path: Path, locked: str) -> None:
    photos(tmp_path, f"cat/indoor cat dog {locked}")
    (tmp_path / locked).chmod(0)
    try:
        said = without_root(LOAD, tmp_path)
    finally:
        (tmp_path / locked).chmod(0o755)
    assert said == f"DataError: '{tmp_path}/{locked}' cannot be read: Permission denied. Check its rights."


def test_a_folder_of_masks_that_may_not_be_read_stops(tmp_path: Path) -> None:
    photos(tmp_path, "images/a masks/a")
    (tmp_path / "masks" / "a").chmod(0)
    try:
        said = without_root(LOAD, tmp_path)
    finally:
        (tmp_path / "masks" / "a").chmod(0o755)
    assert said == f"DataError: '{tmp_path}/masks/a' cannot be read: Permission denied. Check its rights."


@pytest.mark.parametrize("mode", [0o000, 0o400, 0o100])
def test_a_root_that_may_not_be_read_stops(tmp_path: Path, mode: int) -> None:
    photos(tmp_path / "data", "cat dog")
    (tmp_path / "data").chmod(mode)
    try:
        said = without_root(LOAD, tmp_path / "data")
    finally:
        (tmp_path / "data").chmod(0o755)
    assert said.startswith(f"DataError: '{tmp_path}/data")
    assert "cannot be read: Permission denied. Check its" in said


# --- what is no plain file ----------------------------------------------------------------------------------------


def make_special(path: Path, kind: str) -> str:
    """Make something at `path` that is no plain file. Return what messages call it."""
    if kind == "pipe":
        os.mkfifo(path)
        return "it is a named pipe, not a file"
    if kind == "device":
        path.symlink_to("/dev/zero")
        return "it is a device, not a file"
    if kind == "huge":
        with open(path, "wb") as file:
            file.truncate(2**40)
        return "it has 1,024 GiB, and no image is larger than 8 GiB"
    path.symlink_to("/proc/kmsg")
    return "the file is empty"


@pytest.mark.timeout(60)
@pytest.mark.parametrize("kind", ["pipe", "device", "system", "huge"])
def test_what_may_never_end_is_refused_by_name_or_skipped(tmp_path: Path, kind: str) -> None:
    photos(tmp_path, "cat dog")
    what = make_special(tmp_path / "cat" / "x.jpg", kind)
    assert f"image 'cat/x.jpg' cannot be read: {what}. " in refusal(tmp_path)
    dataset = load(tmp_path, on_bad_image="skip")
    assert dataset.notes == ("1 image skipped as unreadable: 'cat/x.jpg'.",)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_a_mask_that_may_never_end_is_refused(tmp_path: Path, kind: str) -> None:
    photos(tmp_path, "images")
    (tmp_path / "masks").mkdir()
    (tmp_path / "classes.txt").write_text("a\nb\nc\n")
    for number in range(3):
        Image.fromarray(np.arange(72, dtype=np.uint8).reshape(8, 9) % 2).save(tmp_path / "masks" / f"{number}.png")
    assert make_special(tmp_path / "masks" / "3.png", kind) in refusal(tmp_path)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_a_table_that_may_never_end_is_refused(tmp_path: Path, kind: str) -> None:
    photos(tmp_path, "cat dog")
    what = make_special(tmp_path / "labels.csv", kind)
    for spec in (tmp_path, tmp_path / "labels.csv"):
        assert refusal(spec) == (f"'{tmp_path}/labels.csv' cannot be read: {what}. Replace it, or check its rights.")


def test_a_table_that_is_a_link_to_nowhere_is_not_passed_over(tmp_path: Path) -> None:
    photos(tmp_path, "cat dog")
    (tmp_path / "labels.csv").symlink_to("/mnt/not/there.csv")
    assert f"'{tmp_path}/labels.csv' cannot be read: No such file or directory." in refusal(tmp_path)


def test_a_socket_is_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    monkeypatch.chdir(tmp_path)  # the path of a socket must be short
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("x.jpg")
        with pytest.raises(OSError, match="it is a socket, not a file"):
            check_plain(Path("x.jpg"))


# --- what systems leave behind ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["@eaDir", "$RECYCLE.BIN", "lost+found", "System Volume Information", "__MACOSX", "#recycle", ".Trash-1000"],
)
def test_folders_that_systems_leave_behind_are_no_classes(tmp_path: Path, name: str) -> None:
    photos(tmp_path, "cat dog")
    for where in (tmp_path, tmp_path / "cat"):
        for spelled in {name, name.lower(), name.upper()}:
            photo(where / spelled / "deep" / "0.png")
    dataset = load(tmp_path)
    assert (dataset.classes, len(dataset.names), dataset.notes) == (("cat", "dog"), 8, ())


def test_files_that_systems_leave_behind_are_no_images(tmp_path: Path) -> None:
    photos(tmp_path, "cat dog")
    for name in (".DS_Store", "Thumbs.db", "THUMBS.DB", "desktop.ini", "Desktop.ini", "._0.png", "._0.CR2", "Icon\r"):
        (tmp_path / "cat" / name).write_bytes(b"\xff\xd8\xff\xe0")
    assert load(tmp_path).notes == ()
    assert all(name == name.lower() for name in NOT_DATA)


def test_a_folder_of_very_many_files_is_listed_fast(tmp_path: Path) -> None:
    (tmp_path / "many").mkdir()
    for number in range(20_000):
        os.close(os.open(tmp_path / "many" / f"{number:06d}.jpg", os.O_CREAT | os.O_WRONLY))
    start = time.perf_counter()
    assert len(images_below(tmp_path, tmp_path)) == 20_000
    assert time.perf_counter() - start < 5  # 0.1 s on an idle machine, which opening every file would exceed
