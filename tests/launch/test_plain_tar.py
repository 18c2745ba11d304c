"""What arrives through a cluster: crafted tars and logs are one sentence each, and write nothing outside."""

from __future__ import annotations

import base64
import hashlib
import io
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from launch.jobs import plain_tar, transfer
from visionsweep.core.errors import RunError


def tar_of(*members: tarfile.TarInfo, form: int = tarfile.PAX_FORMAT, contents: bytes = b"{}") -> io.BytesIO:
    """Make a tar with search.json and these members, which have no bytes whatever their size says."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=form) as tar:
        first = tarfile.TarInfo("search.json")
        first.size = len(contents)
        tar.addfile(first, io.BytesIO(contents))
        for member in members:
            tar.addfile(member, io.BytesIO(bytes(member.size)) if member.isreg() else None)
    packed.seek(0)
    return packed


def made(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", size: int = 0) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type = kind
    member.linkname = link
    member.size = size
    return member


def chain_of_links() -> list[tarfile.TarInfo]:
    """Links whose resolved path outgrows PATH_MAX, after which `realpath` no longer follows them (CVE-2025-4517)."""
    component = "d" * 247
    links = []
    path = ""
    for letter in "abcdefghijklmnop":
        links.append(made(f"{path}{component}", tarfile.DIRTYPE))
        links.append(made(f"{path}{letter}", tarfile.SYMTYPE, component))
        path += f"{letter}/"
    long_link = f"{'/'.join('abcdefghijklmnop')}/{'l' * 254}"
    links.append(made(long_link, tarfile.SYMTYPE, "../" * 16))
    links.append(made("escape", tarfile.SYMTYPE, f"{long_link}/../victim"))
    links.append(made("escape/authorized_keys", size=3))
    return links


CRAFTED = {
    "a chain of links longer than a path may be": chain_of_links,
    "a hard link to a link (CVE-2025-4330)": lambda: [
        made("link", tarfile.SYMTYPE, "../victim"), made("hard", tarfile.LNKTYPE, "link")],
    "a link within the run": lambda: [made("epochs.jsonl", tarfile.SYMTYPE, "search.json")],
    "a folder that is made open (CVE-2024-12718)": lambda: [made("checkpoints", tarfile.DIRTYPE)],
    "a device": lambda: [made("dev", tarfile.CHRTYPE)],
    "a pipe": lambda: [made("epochs.jsonl", tarfile.FIFOTYPE)],
    "an old kind of file": lambda: [made("x", tarfile.CONTTYPE)],
    "a name that climbs": lambda: [made("checkpoints/../../../victim/x")],
    "an absolute name": lambda: [made("/tmp/visionsweep-out.txt")],
    "a name with a backslash": lambda: [made("..\\victim\\x")],
    "a name that is too long": lambda: [made("x" * 5000)],
    "one name twice": lambda: [made("epochs.jsonl"), made("epochs.jsonl")],
    "a file that is a folder": lambda: [made("a"), made("a/b")],
    "search.json again": lambda: [made("search.json")],
}  # fmt: skip


@pytest.fixture
def victim(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "victim"
    folder.mkdir()
    yield folder
    assert list(folder.iterdir()) == []
    assert not Path("/tmp/visionsweep-out.txt").exists()


def refused(packed: io.BytesIO, target: Path) -> str:
    with pytest.raises(RunError) as raised:
        transfer.unpack(packed, target)
    said = str(raised.value)
    assert said.startswith(f"{target}: ")
    assert "\n" not in said
    assert len(said) < 400
    assert not target.exists(), "whole or not at all"
    assert list(target.parent.iterdir()) == []
    return said


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
@pytest.mark.parametrize("crafted", CRAFTED.values(), ids=CRAFTED)
def test_an_archive_with_more_than_plain_files_below_its_folder_is_refused(
    crafted: Callable[[], list[tarfile.TarInfo]], form: int, tmp_path: Path, victim: Path
) -> None:
    refused(tar_of(*crafted(), form=form), tmp_path / "home" / "run")


def test_a_sparse_file_of_5_gb_in_a_few_bytes_is_refused(tmp_path: Path) -> None:
    header = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "x", "GNU.sparse.realsize": "5" * 10}
    sparse = made("x")
    sparse.pax_headers = header
    assert "sparse or huge" in refused(tar_of(sparse), tmp_path / "home" / "run")
    old = tar_of(made("x")).getvalue().replace(b"x" + bytes(99), b"x" + bytes(99), 1)
    block = bytearray(old[1024:1536])
    block[156:157] = b"S"
    block[148:156] = b"        "
    block[148:156] = f"{sum(block):06o}\0 ".encode()
    said = refused(io.BytesIO(old[:1024] + bytes(block) + bytes(1024)), tmp_path / "home" / "run")
    assert "a sparse file" in said


@pytest.mark.parametrize("size", [b"\x80" + b"\xff" * 11, b"\xff" * 12, b"-0000000001\0", b"77777777777\0", b"9" * 12])
def test_a_size_that_is_negative_or_larger_than_what_follows_is_refused(size: bytes, tmp_path: Path) -> None:
    block = bytearray(tar_of().getvalue()[:512])
    block[124:136] = size
    block[148:156] = b"        "
    block[148:156] = f"{sum(block):06o}\0 ".encode()
    refused(io.BytesIO(bytes(block) + bytes(1024)), tmp_path / "home" / "run")


def test_a_hundred_thousand_files_are_refused_in_a_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain_tar, "MAX_FILES", 2_000)
    packed = tar_of(*(made(f"f/{number}") for number in range(100_000)), form=tarfile.GNU_FORMAT)
    started = time.monotonic()
    assert "more than 2000 files arrived" in refused(packed, tmp_path / "home" / "run")
    assert time.monotonic() - started < 60


def test_headers_without_an_end_and_files_without_an_end_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = made("x")
    long.pax_headers = {"comment": "x" * 100_000}
    assert "a header of" in refused(tar_of(long), tmp_path / "home" / "run")
    monkeypatch.setattr(plain_tar, "MAX_BYTES", 1000)
    assert "most" in refused(tar_of(made("x", size=2000)), tmp_path / "home" / "run")


@pytest.mark.parametrize("cut", [0, 1, 511, 512, 513, 1023, 1024, 1500])
def test_an_archive_that_is_cut_or_is_none_is_refused(cut: int, tmp_path: Path) -> None:
    whole = tar_of(made("a", size=700)).getvalue()
    if cut != 1024:  # a whole file, and nothing after it: as good as the end
        refused(io.BytesIO(whole[:cut]), tmp_path / "home" / "run")
    refused(io.BytesIO(bytes(range(256)) * 8), tmp_path / "home" / "run")


def test_names_that_need_an_extended_header_arrive(tmp_path: Path) -> None:
    run = tmp_path / "run"
    names = ["search.json", f"mlruns/{'a' * 120}/{'b' * 120}/ü.txt", "x" * 255, "a b\nc"]
    for name in names:
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_text(name)
    transfer.copy(run, tmp_path / "home" / "run")
    assert {name: (tmp_path / "home" / "run" / name).read_text() for name in names} == {name: name for name in names}


def logged(*lines: str) -> str:
    return "\n".join([transfer.BEGIN, *lines, ""])


@pytest.mark.parametrize(
    ("log", "says"),
    [
        (logged("not base64 !"), "a line is not base64"),
        (logged("QUJ"), "a line is not base64"),
        (logged("é"), "a line is not base64"),
        (logged(transfer.END), "a line is not base64"),
        (logged(f"{transfer.END} "), "its checksum is another"),
        (logged("QUJD"), "its log ended too soon"),
        (logged("A" * 30_000), "a line of more than 24576 letters"),
        ("x" * 30_000, "a line of more than 24576 letters"),
        ("", "its log ended too soon"),
    ],
)
def test_a_log_that_is_no_parcel_is_one_sentence(log: str, says: str) -> None:
    for pieces in ([log], list(log), [log[start : start + 7] for start in range(0, len(log), 7)]):
        with pytest.raises(RunError, match=says) as raised:
            transfer.receive(pieces, io.BytesIO())
        assert "\n" not in str(raised.value)


def test_a_log_without_an_end_is_not_read_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    def forever(line: str) -> Iterator[str]:
        while True:
            yield line

    monkeypatch.setattr(transfer, "MAX_SAID", 10_000)
    with pytest.raises(RunError, match="prints without an end"):
        transfer.receive(forever("said\n"), io.BytesIO())
    monkeypatch.setattr(transfer, "MAX_ARRIVING", 10_000)
    with pytest.raises(RunError, match="is larger than"):
        transfer.receive(iter([f"{transfer.BEGIN}\n", *["QUJD\n"] * 10_000]), io.BytesIO())


def test_a_log_in_small_pieces_is_read_in_linear_time() -> None:
    """20 MB as one line took 8 s. Now a line has an end, and its pieces are joined once."""
    line = base64.b64encode(bytes(transfer.LINE)).decode()
    num = 400
    checksum = hashlib.sha256(bytes(transfer.LINE) * num).hexdigest()
    log = logged(*[line] * num, f"{transfer.END} {checksum}")
    out = io.BytesIO()
    started = time.monotonic()
    transfer.receive((log[start : start + 10] for start in range(0, len(log), 10)), out)
    assert time.monotonic() - started < 10
    assert out.getvalue() == bytes(transfer.LINE) * num
