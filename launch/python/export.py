"""A run's model for Python: exported, and loaded ready to predict."""

from __future__ import annotations

import os
from pathlib import Path

from analysis.models.loaded import LoadedModel, load_model
from launch.cli.first_look import default_export
from launch.cli.options import new_console
from launch.models.exporting import export_run
from visionsweep.run_dir.load import Readable
from visionsweep.run_dir.run import Run


def export(
    run: Path | str | Run | Readable,
    out: Path | str | None = None,
    *,
    trial: str | None = None,
    single: bool = False,
    onnx: bool = False,
    pt2: bool = False,
    data: Path | str | None = None,
) -> LoadedModel:
    """Export what a run recommends, or one of its trials, and return it ready to predict.

        run        a path or an address, a Run, or the handle of a search
        out        the folder to write, None means exports/NAME-OF-RUN
        trial      export this one
        single     export the best trial alone, whatever is recommended
        onnx, pt2  also as graphs, checked against torch
        data       where the run's data is, needed where it is fetched and the run is not the user's own

    Raises RunError if there is nothing to export, or `out` holds something else.
    """
    place = os.fspath(getattr(run, "run_dir", run))  # type: ignore[arg-type]
    named = None if data is None else os.fspath(data)
    folder = Path(out) if out is not None else default_export(place)
    export_run(place, folder, new_console(), trial=trial, single=single, onnx=onnx, pt2=pt2, named=named)
    return load_model(folder)
