"""Fixtures of every test: one Ray for all that need it, the command line in this process, small folders of images."""

from __future__ import annotations

import gc
import math
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

# A script in the background ignores Ctrl-C, and under nohup SIGHUP. So would the commands that tests start and end with
# these signals.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

# Before any import of theirs: no questions to the network, no statistics.
os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ["VISIONSWEEP_NO_REPORT"] = "1"  # a page takes seconds, and few tests look at one
os.environ.setdefault("OMP_NUM_THREADS", "1")  # two processes share two cores

import pytest
from s3_server import S3Server, point_to_port
from support import MANY_LINES, Outcome, long_files, make_photos

# Before any Ray starts, whose workers inherit it: S3 is a server of the tests' own, and Amazon's is never asked.
point_to_port()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files that take over a minute first: two halves then end at about the same time.

    `make test` runs two files with the mark `with_ray` at a time, with one Ray for most of each half, and the others on
    all cores. A file that takes over a minute gives its turn, 1 for the longest: `pytest.mark.with_ray(turn=1)`.

    Raises pytest.UsageError for a test that uses `ray_session` without the mark.
    """
    for item in items:
        if "ray_session" in getattr(item, "fixturenames", ()) and item.get_closest_marker("with_ray") is None:
            raise pytest.UsageError(
                f"{item.nodeid} uses ray_session without the mark with_ray. "
                f"Add `pytestmark = pytest.mark.with_ray` to its file."
            )
    items.sort(key=turn)


def turn(item: pytest.Item) -> float:
    """The turn of the item's file, infinity where it gives none."""
    mark = item.get_closest_marker("with_ray")
    return math.inf if mark is None else mark.kwargs.get("turn", math.inf)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name the files that have grown long. `test_boundaries.py` fails only where one is far too long."""
    long = long_files(Path(__file__).parents[1])
    if long:
        terminalreporter.section(f"files of more than {MANY_LINES} lines")
        for name, num_lines in long.items():
            terminalreporter.line(f"{num_lines:4} {name}")


def pytest_collection_finish() -> None:
    """Exclude what was imported and collected, 800,000 lasting objects, from garbage collection.

    Otherwise a collection takes half a second, and every ending trial asks for one.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def own_state(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The folder of state that the tests, and every process that they start, take for their user's."""
    os.environ["XDG_STATE_HOME"] = str(tmp_path_factory.mktemp("state"))


@pytest.fixture(autouse=True)
def one_thread_of_torch() -> None:
    """Begin every test with one thread, whatever the one before has set.

    Two threads of each of two processes wait for each other on two cores: sixty steps of a tiny network then took two
    minutes and not a second.
    """
    torch = sys.modules.get("torch")
    if torch is not None and torch.get_num_threads() != 1:
        torch.set_num_threads(1)


@pytest.fixture
def visionsweep(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Outcome]:
    """Run the command line in this process, in an empty folder, with a cache of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VISIONSWEEP_CACHE_DIR", str(tmp_path / "cache"))

    def call(*arguments: object) -> Outcome:
        from launch.cli import main

        monkeypatch.setattr(sys, "argv", ["visionsweep", *map(str, arguments)])
        try:
            main()
            code = 0
        except SystemExit as ended:
            code = int(ended.code or 0)
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return call


@pytest.fixture(scope="session")
def ray_session() -> Iterator[None]:
    """A local Ray for all searches of the session, as starting one costs more than most of them."""
    import ray

    from launch.machines.cluster import local_ray, ready

    with local_ray(num_cpus=2):
        ready()
        yield
    assert not ray.is_initialized()


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A real S3 server on this machine, for all tests that need one."""
    with S3Server(tmp_path_factory.mktemp("s3") / "requests.log") as server:
        yield server


@pytest.fixture
def bucket(s3_server: S3Server) -> str:
    """A new bucket's name."""
    return s3_server.new_bucket()


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of two classes that a tiny network can separate: 24 reddish and 24 bluish noise images."""
    return make_photos(tmp_path / "photos", {"red": 24, "blue": 24})


@pytest.fixture
def work(photos: Path) -> Path:
    """A folder with these photos in photos/."""
    return photos.parent
