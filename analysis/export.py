"""Hand a trial over: a folder with everything that using or retraining its model takes.

config.yaml          the configuration, which `visionsweep train` accepts
model.safetensors    the weights of the trial's best epoch
classes.txt          one class a line, in the order of the outputs
metrics.json         of that epoch on the validation split
data.json            the fingerprint of data and split
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis.load import Run, Trial
from analysis.rank import ranked
from search_spaces.errors import RunError
from search_spaces.names import did_you_mean
from trainables.config import TrialConfig
from trainables.config_io import dump_config, parse_config


@dataclass(frozen=True)
class Exported:
    trial_id: str
    epoch: int


def export_trial(run: Run, out: Path, trial_id: str | None = None) -> Exported:
    """Write the best trial, or the named one, to the folder `out`. Raises RunError where that cannot be."""
    trial = _find(run, trial_id)
    best = trial.best(run.metric, run.mode)
    weights = run.run_dir / "checkpoints" / trial.trial_id / f"epoch-{best[1] if best else 0:04d}.safetensors"
    if best is None or not weights.is_file():
        having = sorted(
            path.name for path in (run.run_dir / "checkpoints").glob("*") if any(path.glob("*.safetensors"))
        )
        why = "has no finished epoch" if best is None else f"ended {trial.status}, and its weights were not kept"
        raise RunError(f"trial {trial.trial_id} {why}. Trials with weights: {', '.join(having) or 'none yet'}.")
    row = next(row for row in trial.epochs if row["epoch"] == best[1])
    write_export(
        out,
        parse_config(trial.config, f"trial {trial.trial_id}"),
        run.search["data"]["classes"],
        weights,
        {
            "run": run.run_dir.name,
            "trial_id": trial.trial_id,
            "status": trial.status,
            "epoch": best[1],
            **row["metrics"],
        },
        run.search["data"],
    )
    return Exported(trial.trial_id, best[1])


def write_export(
    out: Path,
    config: TrialConfig,
    classes: Sequence[str],
    weights: Path,
    metrics: Mapping[str, Any],
    data: Mapping[str, Any],
) -> None:
    """The folder itself; `train` writes the same. Raises RunError where it cannot be written or holds other things."""
    check_out(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / "config.yaml").write_text(dump_config(config))
        shutil.copyfile(weights, out / "model.safetensors")
        (out / "classes.txt").write_text(
            "".join(f"{name}\n" for name in classes), encoding="utf-8", errors="surrogateescape"
        )
        (out / "metrics.json").write_text(json.dumps(metrics, indent=1) + "\n")
        (out / "data.json").write_text(json.dumps(data, indent=1, default=str) + "\n")
    except OSError as error:
        raise RunError(f"{out}: cannot be written ({error.strerror}). Choose another --out.") from None


def check_out(out: Path) -> None:
    """Raises RunError where `out` holds something that is not an export."""
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not (out / "config.yaml").exists())):
        raise RunError(f"{out}: holds something that is not an export. Choose another --out.")


def _find(run: Run, trial_id: str | None) -> Trial:
    if not run.trials:
        raise RunError(f"{run.run_dir}: has no trials yet. Wait for the first one, or resume the run.")
    if trial_id is None:
        return ranked(run.trials, run.metric, run.mode)[0]
    wanted = trial_id.zfill(4)  # 7 is 0007
    for trial in run.trials:
        if trial.trial_id == wanted:
            return trial
    raise RunError(
        f"{run.run_dir}: has no trial '{trial_id}'. {did_you_mean(wanted, [t.trial_id for t in run.trials])}"
    )
