"""A tiny search for tests with clusters of their own, and the way to those clusters."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support import TINY_SPACE, tiny_search

from benchmarks.local_cluster import Cluster
from search_spaces import Float, Pick

SPACE = {
    **TINY_SPACE,
    "model": {"backbone": Pick("test_resnet", "test_efficientnet")},
    "optimizer": {"name": "sgd", "lr": Float(1e-3, 0.1, log=True)},
}


def tiny(folder: Path, epochs: int) -> Path:
    path = folder / "tiny.py"
    path.write_text(tiny_search(space=SPACE, epochs=epochs))
    return path


@contextmanager
def cluster_of_its_own(name: str, *, with_jobs: bool = False) -> Iterator[Cluster]:
    """Start a cluster without a node as yet. name: one that no other test has."""
    started = Cluster(Path("/tmp") / f"vs-{os.getpid()}-{name}", with_jobs=with_jobs)  # short: Ray's sockets lie in it
    started.folder.mkdir()
    try:
        yield started
    finally:
        started.stop()
        shutil.rmtree(started.folder, ignore_errors=True)
