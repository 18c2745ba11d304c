"""Every path of a run, spelled once.

    RUN/search.json                              what was asked, resolved
    RUN/trials.jsonl, epochs.jsonl               a line per event, and per trial and epoch
    RUN/best.yaml, study.journal, report.html    made of them
    RUN/stop                                     while it exists, trials end after their current batch
    RUN/checkpoints/TRIAL/last.pt                what a running trial needs to be resumed
    RUN/checkpoints/TRIAL/process.json           where a running trial runs
    RUN/checkpoints/TRIAL/epoch-0007.safetensors the weights of a kept epoch
    RUN/predictions/TRIAL/epoch-0007.npz         its predictions of the validation images, and its metrics
    RUN/judged/TRIAL/best.npz                    of every complete trial: its best epoch's predictions, compact

A run on S3 has the same names below its address. `recommended.py` names the files of a recommendation.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

import numpy as np

from visionsweep.core.errors import RunError
from visionsweep.core.files import one_line, parse_json, read_npz
from visionsweep.core.safe_path import safe_path

SEARCH_FILE = "search.json"
TRIALS_FILE = "trials.jsonl"
EPOCHS_FILE = "epochs.jsonl"
BEST_FILE = "best.yaml"
STUDY_FILE = "study.journal"
REPORT_FILE = "report.html"
STOP_FILE = "stop"

CHECKPOINTS = "checkpoints"
PREDICTIONS = "predictions"
JUDGED = "judged"
TRIAL_ROOMS = (CHECKPOINTS, PREDICTIONS)  # emptied where a trial is not among the best
ROOMS = (*TRIAL_ROOMS, JUDGED)
LAST_FILE = "last.pt"
PROCESS_FILE = "process.json"
OUT_OF_FOLD_FILE = "out-of-fold.npz"  # see `trainables/out_of_fold.py`


def trial_folder(run_dir: Path, room: str, trial_id: str) -> Path:
    """Return the folder of a trial in a run's folder `room`, one of ROOMS.

    The trial's name comes from records, so it is untrusted.
    """
    return safe_path(run_dir / room, trial_id, run_dir, "Restore the run from a copy.")


def last_file(run_dir: Path, trial_id: str) -> Path:
    """Return the path of a trial's state, whether it exists or not."""
    return trial_folder(run_dir, CHECKPOINTS, trial_id) / LAST_FILE


def process_file(run_dir: Path, trial_id: str) -> Path:
    """Return the path of the note that says where a trial runs, whether it exists or not."""
    return trial_folder(run_dir, CHECKPOINTS, trial_id) / PROCESS_FILE


def weights_file(run_dir: Path, trial_id: str, epoch: int) -> Path:
    """Return the path of an epoch's weights, whether it exists or not."""
    return trial_folder(run_dir, CHECKPOINTS, trial_id) / f"{epoch_name(epoch)}.safetensors"


def predictions_file(run_dir: Path, trial_id: str, epoch: int) -> Path:
    """Return the path of an epoch's predictions, whether it exists or not."""
    return trial_folder(run_dir, PREDICTIONS, trial_id) / f"{epoch_name(epoch)}.npz"


def out_of_fold_file(run_dir: Path, trial_id: str) -> Path:
    """Return the path of a trial's predictions of all images by models that have not seen them, if it keeps them."""
    return trial_folder(run_dir, PREDICTIONS, trial_id) / OUT_OF_FOLD_FILE


def judged_file(run_dir: Path, trial_id: str) -> Path:
    """Return the path of a trial's compact predictions, whether it exists or not."""
    return trial_folder(run_dir, JUDGED, trial_id) / "best.npz"


def state_name(trial_id: str, file: str = LAST_FILE) -> str:
    """Return the name of a file among a trial's checkpoints, relative to the run."""
    return f"{CHECKPOINTS}/{trial_id}/{file}"


def epoch_name(epoch: int) -> str:
    """Return the name that the files of an epoch begin with."""
    return f"epoch-{epoch:04d}"


def epoch_of(path: Path) -> int:
    """Return the epoch in a file's name. Raises RunError for a name that is not of an epoch."""
    match = re.fullmatch(r"epoch-(\d+)\.\w+", path.name)
    if match is None:
        raise RunError(f"{path}: is not named epoch-NNNN. Move it out of the run directory.")
    return int(match.group(1))


def kept_files(folder: Path) -> list[Path]:
    """Return the predictions in a trial's folder of them. An epoch that has some counts as kept."""
    return sorted(folder.glob("epoch-*.npz"))


def trials_with_weights(run_dir: Path) -> list[str]:
    """Return the names of the trials that keep weights."""
    return sorted({path.parent.name for path in run_dir.glob(f"{CHECKPOINTS}/*/*.safetensors")})


def read_predictions(
    path: Path, next_move: str = "Delete it.", only: Collection[str] | None = None
) -> dict[str, np.ndarray]:
    """Return an epoch's predictions by name: logits, or masks with their shapes. Raises RunError.

    only: names of arrays, None means all. The file must have them.
    """
    return {name: array for name, array in read_npz(path, next_move, only=only).items() if name != "metrics"}


def read_metrics(path: Path) -> dict[str, float]:
    """Return the metrics that an epoch's predictions are stored with. Raises RunError."""
    text = str(read_npz(path, only=("metrics",))["metrics"])
    try:
        metrics = parse_json(text)
        if not isinstance(metrics, dict) or not all(isinstance(value, (int, float)) for value in metrics.values()):
            raise ValueError("its metrics are no numbers")
    except ValueError as error:
        raise RunError(f"{path}: cannot be read ({one_line(error)}). Delete it.") from None
    return metrics
