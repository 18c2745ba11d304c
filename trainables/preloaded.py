"""What Ray's first processes import while the command still reads the data: a trial's imports.

Ray tells a process how many threads libraries are to take when it gets a trial, which is too late for what is imported
here. Only processes of trials of one core import it (`launch/machines/ray_settings.py`).
"""

from __future__ import annotations

import os

_given = os.environ.get("OMP_NUM_THREADS")
os.environ.setdefault("OMP_NUM_THREADS", "1")
import trainables.trainable  # noqa: E402, F401

if _given is None:
    del os.environ["OMP_NUM_THREADS"]  # Ray sets it for the trial
