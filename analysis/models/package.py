"""Files that complete an export for use elsewhere: a model card, library versions, and graphs on demand.

README.md            the card: what the model is for, how good, how found, how to run it, its limits
requirements.txt     the versions of the libraries that matter
model.onnx           with `onnx`: runs in any ONNX runtime
model.pt2            with `pt2`: torch.export's, runs in torch alone
"""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from analysis.expect.expected import expected_score
from analysis.models.card import Facts, card
from analysis.models.evaluate import Judged, judge
from analysis.models.export import Exported
from analysis.models.graphs import Written, write_graphs
from analysis.models.open_run_data import open_run_data
from analysis.models.predictor import ExportedModel, load_export
from analysis.models.preprocessing import preprocessing
from analysis.models.resizing import compare
from trainables.config.io import load_config
from trainables.config.trial import TrialConfig
from trainables.data.augment import cached_short_side
from trainables.data.loader import TrialData
from trainables.data.view import Pixels, View
from trainables.tasks import mean_logits
from visionsweep.core.errors import InputError
from visionsweep.core.files import read_object
from visionsweep.core.stages import stage
from visionsweep.core.tasks import task_kind
from visionsweep.run_dir.files import predictions_file, read_predictions
from visionsweep.run_dir.recommended import PREDICTIONS_FILE
from visionsweep.run_dir.run import Run

NUM_CHECKED = 100  # images that a graph is compared with torch on
LIBRARIES = (
    "torch", "torchvision", "timm", "segmentation_models_pytorch", "albumentations", "opencv-python-headless", "numpy",
    "pillow", "safetensors", "torchmetrics", "pydantic", "PyYAML",
)  # fmt: skip
EXPORT_ANEW = "Export the trial anew."
ONNX_LIBRARIES = ("onnx", "onnxscript", "onnxruntime")


def package_trial(
    run: Run, exported: Exported, out: Path, *, onnx: bool = False, pt2: bool = False, named: str | None = None
) -> list[Written]:
    """Complete what `write_trial` wrote to `out`, and return the graphs that were asked for, or why there are none.

    `named` is the user's path of the run's data, None means the path in the run.
    """
    files = [predictions_file(run.run_dir, exported.trial_id, epoch) for epoch in exported.epochs]
    return package_export(out, _data_or_why(run, out, named), files, run, onnx=onnx, pt2=pt2)


def package_soup(
    run: Run, out: Path, *, onnx: bool = False, pt2: bool = False, named: str | None = None
) -> list[Written]:
    """Complete what `write_soup` wrote to `out`, as `package_trial` does for a trial."""
    files = [run.run_dir / PREDICTIONS_FILE]
    return package_export(out, _data_or_why(run, out, named), files, run, onnx=onnx, pt2=pt2)


def _data_or_why(run: Run, out: Path, named: str | None) -> TrialData | str:
    """Return the data that a run's export was judged on, or the reason why it cannot be read."""
    stage("reading the validation photos")
    config = load_config(out / "config.yaml")
    try:
        return open_run_data(run, cached_short_side(config), named, only_judged=True)
    except InputError as error:
        return str(error).rstrip(".")


def package_export(
    out: Path,
    data: TrialData | str,
    files: Sequence[Path],
    run: Run | None = None,
    *,
    name: str | None = None,
    onnx: bool = False,
    pt2: bool = False,
) -> list[Written]:
    """Complete any export, in a new folder of `written_whole`, and return its graphs.

    data   with the validation split, or the reason why it cannot be read
    files  of the stored validation predictions, one for each of the model's epochs
    run    where it was found, None where nothing was searched
    name   for the card, None takes the run's or the folder's
    """
    exported = load_export(out, torch.device("cpu"))
    assert isinstance(exported, ExportedModel)  # that is what was just written
    metrics, described = (read_object(out / name, EXPORT_ANEW) for name in ("metrics.json", "data.json"))
    first: Any = exported.models[0]
    before = preprocessing(exported.config, first.mean, first.std)
    # Graphs are checked on validation images, or on noise where the data cannot be read.
    graphs = list[Written]()
    checked_on = "images of the validation split"
    elsewhere = None
    if onnx or pt2:
        if isinstance(data, str):
            images = _noise(exported.config)
            checked_on = "images of noise (the data could not be read)"
        else:
            if exported.config.model.bands is None:
                images, elsewhere = compare(exported, _some(data))
            else:  # Pillow, with which they would be compared, resizes RGB alone
                images = [View.of(exported.config).apply(image) for image in _some(data)]
        stage("writing the graph and comparing it with torch")
        graphs = write_graphs(exported, out, images, _about(exported, before, checked_on), onnx=onnx, pt2=pt2)
    stage("computing the intervals of the model card")
    # The card gives intervals where the stored predictions can be judged again.
    judged, why_not = _judged(exported, metrics, data, files)
    facts = Facts(
        name=name or (run.run_dir.name if run else out.name),
        classes=exported.classes,
        config=exported.config.model_dump(mode="json"),
        metrics=metrics,
        data=described,
        preprocessing=before,
        graphs=graphs,
        checked_on=checked_on,
        elsewhere=elsewhere,
        python=platform.python_version(),
        version=own_version(),
        run=run,
        judged=judged,
        why_not=why_not,
        expected=None if run is None else expected_score(run),
    )
    (out / "README.md").write_text(card(facts), encoding="utf-8")
    (out / "requirements.txt").write_text(requirements(with_onnx=onnx), encoding="utf-8")
    return graphs


def requirements(*, with_onnx: bool) -> str:
    """Return the installed versions of the libraries that load and run a model, as pip reads them."""
    found = {name: _version(name) for name in (*LIBRARIES, *(ONNX_LIBRARIES if with_onnx else ()))}
    lines = [f"{name}=={number}" for name, number in found.items() if number]
    own = _version("visionsweep")
    return "\n".join([f"# Python {platform.python_version()}, visionsweep {own or 'from a checkout'}", *lines, ""])


def own_version() -> str:
    """Return visionsweep's version, as cards print it."""
    return _version("visionsweep") or "from a checkout"


def _version(name: str) -> str:
    try:
        return version(name).partition("+")[0]  # a local build (+cpu) is in no registry
    except PackageNotFoundError:
        return ""


def _about(exported: ExportedModel, before: Mapping[str, Any], checked_on: str) -> dict[str, Any]:
    """Return the metadata of the ONNX file."""
    return {
        "task": exported.config.task,
        "classes": list(exported.classes),
        "threshold": str(exported.config.threshold) if task_kind(exported.config.task).thresholded else "",
        "preprocessing": {**before, "normalisation": "inside the graph"},
        "checked_on": checked_on,
        "made_with": f"visionsweep {_version('visionsweep')}, torch {_version('torch')}",
    }


def _judged(
    exported: ExportedModel, metrics: Mapping[str, Any], data: TrialData | str, files: Sequence[Path]
) -> tuple[Judged | None, str]:
    """Judge the stored predictions again, for their intervals, or return why that is not possible."""
    if isinstance(data, str):
        return None, data
    if not len(data.dataset.indices("val")):
        return None, "it was trained on the validation images, too"
    values = {name.removeprefix("val/"): value for name, value in metrics.items() if name.startswith("val/")}
    predictions = _stored(exported.config, files)
    if predictions is None:
        return None, "the validation predictions of this model were not stored"
    num_judged = len(predictions["logits" if "logits" in predictions else "shapes"])
    if num_judged != len(data.dataset.indices("val")):
        return None, "the stored predictions are of another validation split"
    return judge(exported.config, values, predictions, data, "val"), ""


def _stored(config: TrialConfig, files: Sequence[Path]) -> dict[str, np.ndarray] | None:
    """Return stored predictions as in `evaluate.Evaluation`.

    Several epochs give the logits of their mean probability.
    """
    if not files or not all(file.is_file() for file in files):
        return None
    stored = []
    for file in files:
        arrays = read_predictions(file)
        stored.append({name: array for name, array in arrays.items() if name != "metrics"})
    if len(stored) == 1:
        return stored[0]
    if task_kind(config.task).pixels:
        return None  # decisions of each epoch, which cannot be averaged
    return {"logits": mean_logits(config.task, [torch.from_numpy(one["logits"]) for one in stored]).numpy()}


def _some(data: TrialData) -> Iterator[Pixels]:
    """Yield up to NUM_CHECKED validation images (H, W, 3) as decoded, spread over the split."""
    positions = data.dataset.indices("val")
    chosen = np.unique(np.linspace(0, len(positions) - 1, NUM_CHECKED).astype(int))
    return (np.array(data.dataset.reader(int(position))) for position in positions[chosen])


def _noise(config: TrialConfig) -> list[np.ndarray]:
    side = cached_short_side(config)
    shape = (4, side, side + side // 3)
    random = np.random.default_rng(0)
    bands = config.model.bands
    if bands is None:
        return list(random.integers(0, 256, (*shape, 3), dtype=np.uint8))
    drawn = random.normal(bands.mean, bands.std, (*shape, bands.channels))
    if bands.dtype != "float32":
        drawn = drawn.clip(0, np.iinfo(bands.dtype).max)
    return list(drawn.astype(bands.dtype))
