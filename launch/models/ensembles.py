"""`visionsweep ensemble` and `export --ensemble`: choose an ensemble, export it, and say whether it is worth it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from analysis.models.ensemble import choose_ensemble, stored_ensemble
from analysis.models.ensemble_export import export_ensemble
from analysis.models.export_folder import ENSEMBLE_FILE
from analysis.models.manifest import check_out
from launch.models.run_data import data_of_run
from visionsweep.core.stages import stage
from visionsweep.run_dir.load import load_run
from visionsweep.run_dir.run import Run

SIZE = 10


def ensemble_of(
    run_dir: Path, size: int, num_trials: int | None, out: Path | None, console: Console, data: str | None = None
) -> None:
    """Choose an ensemble anew, print it, and export it to `out` if given. data: see `data_of_run`."""
    run = load_run(run_dir)
    if out is not None:
        check_out(out)
    ensemble = choose_ensemble(run, data_of_run(run, data), size, num_trials)
    print_ensemble(ensemble, console)
    if out is None:
        console.print(
            f"Written to {run_dir / ENSEMBLE_FILE}. Export it: visionsweep export {run_dir} --ensemble --out DIR",
            soft_wrap=True,
        )
    else:
        _export(run, ensemble, out, console)


def export_chosen(run_dir: Path, out: Path, console: Console, data: str | None = None) -> None:
    """Export the ensemble that `ensemble` chose last, else the one that it chooses by its defaults."""
    run = load_run(run_dir)
    check_out(out)
    ensemble = stored_ensemble(run_dir)
    if ensemble is None:
        stage("choosing the ensemble")
        ensemble = choose_ensemble(run, data_of_run(run, data), SIZE)
        stage("")
        print_ensemble(ensemble, console)
    _export(run, ensemble, out, console)


def _export(run: Run, ensemble: dict[str, Any], out: Path, console: Console) -> None:
    stage("writing the weights")
    export_ensemble(run, ensemble, out)
    stage("")
    num = len(ensemble["members"])
    console.print(f"Exported {num} model{'s' if num > 1 else ''} to {out}.", soft_wrap=True)
    console.print(f"Next: visionsweep predict {out} IMAGES...", soft_wrap=True)


def print_ensemble(ensemble: dict[str, Any], console: Console) -> None:
    """Print the members, and in plain words what they gain."""
    metric = ensemble["metric"]
    members = ensemble["members"]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("trial", "epoch", "weight", f"{metric} alone"):
        table.add_column(column, justify="left" if column == "trial" else "right")
    for one in members:
        table.add_row(one["trial_id"], str(one["epoch"]), str(one["weight"]), f"{one['value']:.4f}")
    console.print(table)
    for note in ensemble["notes"]:
        console.print(note, style="yellow", soft_wrap=True)
    how = {"vote": "Their vote", "mean probability": "Their mean probability"}[ensemble["combine"]]
    console.print(
        f"{how}, of {ensemble['candidates']} kept models, on all validation images, which chose it: {metric} "
        f"{ensemble['metrics'].get(metric, float('nan')):.4f}; the best alone {ensemble['single']['value']:.4f}.",
        soft_wrap=True,
    )
    console.print(verdict(ensemble), style="bold green" if ensemble["better"] else "bold yellow", soft_wrap=True)


def verdict(ensemble: dict[str, Any]) -> str:
    """Return whether the ensemble is better on images that did not choose it, in a sentence or two."""
    metric = ensemble["metric"]
    held_out = ensemble["held_out"]
    single = ensemble["single"]
    alone = f"Export the best alone: --trial {single['trial_id']}."
    if held_out is None:
        return f"No half of the validation split has a value of {metric}: whether it is better cannot be told. {alone}"
    facts = (
        f"On halves that did not choose: {metric} {held_out['ensemble']:.4f}, the best alone {held_out['single']:.4f}; "
        f"gain {held_out['gain']:+.4f} ± {held_out['deviation']:.4f} over {held_out['estimates']} halves."
    )
    num = len(ensemble["members"])
    if not ensemble["better"]:
        how = "not better" if held_out["gain"] <= 0 else "not better by more than chance gives"
        return f"{facts} The ensemble is {how} than one model. {alone}"
    if num == 1:  # the halves chose several members, all images together one
        return f"{facts} But of all images together, one model is the best choice. {alone}"
    return f"{facts} The ensemble is better; it takes {num} times the time to predict."
