"""`visionsweep export`: what a run recommends, or one of its trials."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from analysis.models.ensemble_export import export_ensemble
from analysis.models.export import write_trial
from analysis.models.graphs import Written, require_onnx
from analysis.models.manifest import written_whole
from analysis.models.package import package_soup, package_trial
from analysis.models.solved_again import Heads, heads_of
from analysis.models.soup_export import write_soup
from launch.cli.printing import print_export
from launch.remote.open_run import open_run
from visionsweep.core.stages import stage
from visionsweep.run_dir.recommended import one_network, stored
from visionsweep.run_dir.run import Run


def export_run(
    run_dir: str,
    out: Path,
    console: Console,
    *,
    trial: str | None = None,
    single: bool = False,
    onnx: bool = False,
    pt2: bool = False,
    named: str | None = None,
) -> bool:
    """Export what the run recommends, or the best trial if it recommends nothing.

        trial      export this one
        single     export the best trial alone
        onnx, pt2  also as graphs; an ensemble has none, so the next best is exported
        named      where the user says that the data is, None: where the run says

    Returns whether every graph that was asked for was written. Raises InputError.
    """
    stage("reading the run")
    with open_run(run_dir, weights_of=trial) as run:
        if onnx:
            require_onnx()
        recommended = None if single or trial is not None else stored(run.run_dir)
        kind = "single" if recommended is None else recommended["kind"]
        heads = heads_of(run.run_dir, recommended)
        # A graph holds one network: of an ensemble's run, take the next best that is one.
        if recommended is not None and kind == "ensemble" and (onnx or pt2):
            kind = one_network(recommended)
            which = "the soup" if kind == "soup" else "the best trial alone"
            stage("")
            console.print(
                f"The run recommends an ensemble, of which there is no one graph. Exported is {which}; without --onnx "
                "and --pt2 it is the ensemble.",
                style="yellow",
                soft_wrap=True,
            )
        # Write the ensemble, or one network with its graphs.
        if recommended is not None and kind == "ensemble":
            return _ensemble(run, recommended["ensemble"], out, console, heads)
        with written_whole(out) as folder:  # all or nothing, the graphs included
            note = ""
            stage("writing the weights")
            if recommended is not None and kind == "soup":
                write_soup(run, recommended["soup"], folder)
                graphs = package_soup(run, folder, onnx=onnx, pt2=pt2, named=named)
                what = f"the soup of {len(recommended['soup']['members'])} models"
            else:
                again = (
                    heads is not None and trial is None and recommended is not None and recommended["kind"] == "single"
                )
                alone = trial if recommended is None else recommended["single"]["trial_id"]
                written = write_trial(run, folder, alone, named, heads if again else None)
                graphs = package_trial(run, written, folder, onnx=onnx, pt2=pt2, named=named)
                epochs = written.epochs
                note = written.note
                which_epochs = f"epoch {epochs[0]}" if len(epochs) == 1 else f"mean of epochs {epochs}"
                what = f"trial {written.trial_id} ({which_epochs})"
        stage("")
        print_export(what, out, console, graphs, note)
        return _all_written(graphs)


def _ensemble(run: Run, ensemble: Mapping[str, Any], out: Path, console: Console, heads: Heads | None) -> bool:
    stage("writing the weights")
    export_ensemble(run, ensemble, out, heads)
    stage("")
    print_export(f"the ensemble of {len(ensemble['members'])} models", out, console)
    return True


def _all_written(graphs: list[Written]) -> bool:
    return not any(graph.problem for graph in graphs)
