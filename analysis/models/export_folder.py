"""What an export's folder holds, by its files' names; see `export.py`."""

from __future__ import annotations

from pathlib import Path

from trainables.data.there import FETCHED
from visionsweep.core.errors import RunError
from visionsweep.core.files import read_object
from visionsweep.run_dir.files import SEARCH_FILE

ENSEMBLE_FILE = "ensemble.json"


def data_of_export(export_dir: Path) -> str:
    """Where the data is that an export was trained on. Raises RunError where it does not say, or where that would be
    fetched: an export may be somebody else's."""
    described = read_object(export_dir / "data.json") if (export_dir / "data.json").is_file() else {}
    spec = described.get("spec")
    if not isinstance(spec, str) or not spec:
        raise RunError(f"{export_dir}: does not say which data it was trained on. Name it with --data.")
    if spec.lower().startswith(FETCHED):
        raise RunError(f"{export_dir}: was trained on {spec}. If you trust that, add --data {spec}.")
    return spec


def weight_files(export_dir: Path) -> list[Path]:
    """The files of weights of an export, the best epoch's first."""
    alone = export_dir / "model.safetensors"
    numbers = {path.stem.removeprefix("model-"): path for path in export_dir.glob("model-*.safetensors")}
    several = [numbers[number] for number in sorted(filter(str.isdecimal, numbers), key=int)]
    return [alone] if alone.is_file() else several


def require_export(export_dir: Path) -> None:
    """Raise RunError where a folder is no export."""
    missing = [name for name in ("config.yaml", "classes.txt") if not (export_dir / name).is_file()]
    if not weight_files(export_dir) and not (export_dir / ENSEMBLE_FILE).is_file():
        missing.append("model.safetensors")
    if not missing:
        return
    if (export_dir / SEARCH_FILE).is_file():
        raise RunError(f"{export_dir}: is a run, not an export. `visionsweep export {export_dir}` writes one.")
    raise RunError(f"{export_dir}: is not an export (it has no {missing[0]}). `visionsweep export RUN` writes one.")
