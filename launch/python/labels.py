"""Labels that may be wrong, for Python."""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd

from launch.models.labels import labels_of_run
from launch.remote.location import local_run
from visionsweep.run_dir.load import Readable, load_run
from visionsweep.run_dir.run import Run


def labels(run: Path | str | Run | Readable, data: Path | str | None = None) -> pd.DataFrame:
    """Return the labels of a run's data that may be wrong, the most doubtful first.

        run   a path, a Run, or the handle of a search
        data  where the run's data is, None means where the run says

    The columns are rank, image, given, suggested, probability and confident; of masks rank, image, class and iou (see
    `analysis.expect.suspects`). `attrs["note"]` says how they were judged. Raises RunError if nothing can judge them.
    """
    local_run(os.fspath(getattr(run, "run_dir", run)))  # type: ignore[arg-type]
    return labels_of_run(load_run(run), None if data is None else os.fspath(data))
