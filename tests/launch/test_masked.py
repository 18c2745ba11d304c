"""Passwords in addresses are not shown, whatever message they are in."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support import Outcome

from launch.jobs import jobs
from visionsweep.core.errors import RunError
from visionsweep.core.masked import masked
from visionsweep.core.printable import printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://user:SECRET@host:5000/x", "http://***@host:5000/x"),
        ("http://user:SEC@RET@host/x", "http://***@host/x"),
        ("http://user:SEC/RET@host/x", "http://***@host/x"),
        ("(https://SECRET@host)", "(https://***@host)"),
        ("postgresql+psycopg2://me:SECRET@[::1]:5/db", "postgresql+psycopg2://***@[::1]:5/db"),
        ("https://host/path?token=SECRET&x=1", "https://host/path?token=***&x=1"),
        ("s3://b/k?X-Amz-Signature=SECRET&X-Amz-Date=1", "s3://b/k?X-Amz-Signature=***&X-Amz-Date=1"),
        ("one http://a:SECRET@b and http://c:SECRET@d", "one http://***@b and http://***@d"),
    ],
)
def test_names_and_passwords_in_addresses_are_masked(text: str, shown: str) -> None:
    assert masked(text) == shown
    assert printable(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "http://head:8265",
        "http://head:8265/a@b",
        "s3://bucket/photos/a@b.png",
        "mail me@home.net",
        "lr=0.1",
        "a://b c@d",
    ],
)
def test_what_holds_no_password_stays(text: str) -> None:
    assert masked(text) == text


def test_whatever_a_command_prints_goes_through_the_mask(tmp_path: Path) -> None:
    code = (
        "import logging, sys\n"
        "from launch.cli.door import open_doors\n"
        "open_doors()\n"
        "print('out http://u:SECRET@h')\n"
        "logging.getLogger('theirs').warning('log http://u:SECRET@h')\n"
        "raise ValueError('raised http' + '://u:SECRET@h')\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "out http://***@h" in ended.stdout
    assert "log http://***@h" in ended.stderr
    assert "ValueError: raised http://***@h" in ended.stderr
    assert "SECRET" not in ended.stdout + ended.stderr


def test_the_address_of_a_cluster_is_repeated_without_its_password(visionsweep: Callable[..., Outcome]) -> None:
    refused = visionsweep("logs", "j", "--cluster", "http://me:SECRET@127.0.0.1:1")
    assert refused.code == 2
    assert "no Ray dashboard answers at http://***@127.0.0.1:1" in refused.err
    assert "SECRET" not in refused.err + refused.out


def test_the_words_of_a_library_are_repeated_without_its_password() -> None:
    with pytest.raises(RunError) as raised, jobs.asking("http://me:SECRET@head:8265"):
        raise OSError("HTTPConnectionPool(http://me:SECRET@head:8265): refused")
    assert "SECRET" not in str(raised.value)


@pytest.mark.parametrize("piece", ["a-", "x", "http://a:b", "http://a", "a@", "token-", "token", "a:"])
def test_long_lines_are_looked_through_in_linear_time(piece: str) -> None:
    began = time.monotonic()
    masked("http://" + piece * 20_000 + " =")
    assert time.monotonic() - began < 5
