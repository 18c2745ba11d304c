"""A trial's imports, for Ray's first processes to import while the command still reads the data.

Ray sets a process's number of threads when it gets a trial. This is too late for libraries that are imported here.
Therefore only processes of trials of one core import this module (`launch/machines/ray_settings.py`).
"""

from __future__ import annotations

import os

_given = os.environ.get("OMP_NUM_THREADS")
os.environ.setdefault("OMP_NUM_THREADS", "1")
import trainables.worker.door  # noqa: E402
import trainables.worker.trainable  # noqa: E402, F401

if _given is None:
    del os.environ["OMP_NUM_THREADS"]  # Ray sets it for the trial
