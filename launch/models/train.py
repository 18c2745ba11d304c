"""One configuration, trained in this process: no Ray, no search."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from analysis.models.export import write_export
from analysis.models.manifest import check_out, written_whole
from analysis.models.package import package_export
from launch.cli.printing import print_class_iou, print_found
from launch.models.bar import bar_on
from trainables.checkpoint import TrialFiles, load_state
from trainables.class_metrics import check_class_metrics
from trainables.config.io import dump_config, parse_config
from trainables.config.trial import TrialConfig
from trainables.data.augment import cached_short_side
from trainables.data.band_statistics import band_statistics, check_bands
from trainables.data.formats import load_dataset
from trainables.data.loader import TrialData
from trainables.data.on_device.where import fallback as augmented_elsewhere
from trainables.data.read_as import ReadAs
from trainables.data.same_data import split_digest
from trainables.device import device_here, less_fragmented, unused_gpu
from trainables.ensemble import evaluate_files
from trainables.loop import EpochResult, fit
from trainables.models.weights import require_weights
from trainables.parallel.processes import num_ranks
from trainables.precision import fallback, precision_in_force
from trainables.targets import output_classes
from trainables.worker.failures import without_lost_loaders
from trainables.worker.threads import limit_threads, own_threads
from visionsweep.core.cores import MAX_LOADERS, num_cores
from visionsweep.core.errors import ConfigError, RunError
from visionsweep.core.names import check_metric, mode_of
from visionsweep.core.objectives import DEFAULT_OBJECTIVE
from visionsweep.core.text import duration

LAST_EPOCH = "epoch"  # as a metric: a later epoch is better


def train_one(
    config: TrialConfig,
    data_spec: str,
    out: Path | None,
    metric: str | None,
    seed: int | None,
    cache_dir: str | None,
    read_as: ReadAs,
    console: Console,
    gpus: int = 1,
) -> None:
    """Train, print every epoch, and write the best epoch to `out` as an export.

    With `out`, a training that was stopped is resumed from its last epoch when the command is given again.
    """
    # Check what needs no data.
    device = device_here()
    if gpus > 1 and device.type != "cuda":
        raise ConfigError(f"--gpus {gpus} asks for GPUs, and this training is on {device.type}. Leave it out.")
    if gpus > 1 and torch.cuda.device_count() < gpus:
        seen = torch.cuda.device_count()
        raise ConfigError(f"--gpus {gpus} asks for more GPUs than the {seen} that torch sees. Give --gpus {seen}.")
    if seed is not None:
        config = config.model_copy(update={"seed": seed})
    if out is not None:
        out = out.resolve()
        check_out(out)
    metric = metric or DEFAULT_OBJECTIVE[config.task][0]
    check_metric(metric, config.task)
    if config.model.weights == "imagenet" and config.model.backbone_name is not None:
        require_weights([config.model.backbone_name])
    # Read the data, and check the configuration against it.
    dataset, images = load_dataset(
        data_spec,
        task=config.task,
        seed=config.seed,  # the split that a search with this seed drew
        **read_as.options(),
        short_side_px=cached_short_side(config),
        cache_dir=None if cache_dir is None else Path(cache_dir),
    )
    if (bands := band_statistics(dataset, images)) is not None:
        config = parse_config({**config.model_dump(), "model": {**config.model.model_dump(), "bands": bands}})
    check_bands(config, dataset, "the configuration")
    check_class_metrics(
        dataset,
        config.merge,
        metric=[metric],
        early_stopping_metric=[config.early_stopping_metric],
        ensemble_metric=[config.ensemble_metric],
    )
    print_found(dataset, console)
    train_on(config, TrialData(dataset, images), out, metric, console, gpus=gpus)
    if out is None:
        console.print("Add --out DIR to keep the model.", style="dim")


def train_on(
    config: TrialConfig,
    data: TrialData,
    out: Path | None,
    metric: str,
    console: Console,
    *,
    predictions: Path | None = None,
    gpus: int = 1,
) -> dict[str, Any]:
    """Train on data that is open. Returns what `metrics.json` of an export says.

    The best epoch by `metric` is kept. Without a validation split it is the last one. That is judged on the test split
    (`test/...`), if there is one, as nothing was chosen by it. One that the user had kept back stays unseen.

    predictions: where those of the best epoch on the validation split are kept, None: nowhere beside the export.
    gpus: that train each batch together.
    """
    # Settle device, threads and precision.
    dataset = data.dataset
    judged = len(data.dataset.indices("val")) > 0
    limit_threads(own_threads())
    less_fragmented()
    device = device_here()
    num_workers = min(MAX_LOADERS, num_cores() // 2) if device.type != "cpu" else 0
    if note := unused_gpu(device):
        console.print(note, style="yellow", soft_wrap=True)
    for note in (fallback(config, device), augmented_elsewhere(config, device)):
        if note:
            console.print(note, style="yellow", soft_wrap=True)
    # Train, or resume an earlier training. One of another configuration or of other data is dropped.
    of = f"{dataset.fingerprint}, split {split_digest(dataset.split)}, {dataset.split_origin}"
    asked = f"# data {of}, best by {metric}\n{dump_config(config)}"
    with _work_folder(out, asked, console) as work:
        by, mode = (metric, mode_of(metric)) if judged else (LAST_EPOCH, "max")
        files = TrialFiles(work, work, by, mode, config.keep_best, config.ensemble, config.ensemble_metric)
        if files.last.exists():
            console.print(f"Resuming from {files.last}.", soft_wrap=True)

        def begin(loaders: int) -> Iterator[EpochResult]:
            resume = load_state(files.last) if files.last.exists() else None
            return fit(config, data, device, resume=resume, num_workers=loaders, ranks=num_ranks(gpus))

        with bar_on(console) as bar:
            task = bar.add_task("training", total=config.epochs)
            for result in without_lost_loaders(begin, num_workers, lambda note: console.print(f"The training: {note}")):
                if not judged:
                    result = replace(result, metrics={**result.metrics, LAST_EPOCH: float(result.epoch)})
                files.save(result, resumable=out is not None)
                bar.update(task, completed=result.epoch)
                if result.note:
                    console.print(result.note, style="yellow", soft_wrap=True, markup=False)
                console.print(_line(result, metric))
                if result.reason:
                    console.print(result.reason, soft_wrap=True)
        files.settle()
        # Choose the best epoch, or the mean of the best ones, and judge it.
        best = files.best()
        if best is None:
            raise ConfigError(f"no epoch has a value of {metric} on this data. Choose another --metric.")
        epoch, metrics = best
        if judged:
            console.print(f"Best: {metric} {metrics[metric]:.4f} at epoch {epoch}", style="bold green")
        epochs = files.averaged()
        weights = [files.files_of(kept)[0] for kept in epochs]
        about: dict[str, Any] = {"epoch": epoch}
        if len(epochs) > 1 and judged:
            metrics = evaluate_files(config, weights, data, device)
            about = {"epochs": epochs}
            console.print(f"Mean of epochs {epochs}: {metric} {metrics[metric]:.4f}", style="bold green")
        if (used := precision_in_force(config, device)) != config.precision:
            about["precision"] = used
        if not judged and dataset.kept_back:
            metrics = {}  # nothing looks at that test split before `evaluate --split test`
        elif not judged:
            on_test = evaluate_files(config, weights, data, device, split="test")
            metrics = {name.replace("val/", "test/"): value for name, value in on_test.items()}
        if predictions is not None:
            shutil.copyfile(files.files_of(epoch)[1], predictions)
        # Print, and export.
        print_class_iou(metrics, console)
        if out is None:
            return {**about, **metrics}
        classes = output_classes(config, dataset.classes)
        with written_whole(out) as folder:
            write_export(folder, config, classes, weights, {**about, **metrics}, dataset.describe())
            package_export(folder, data, [files.files_of(kept)[1] for kept in epochs], name=out.name)
    console.print(f"Exported to {out}. Next: visionsweep predict {out} IMAGES...", soft_wrap=True)
    return {**about, **metrics}


@contextlib.contextmanager
def _work_folder(out: Path | None, asked: str, console: Console) -> Iterator[Path]:
    """Yield the folder of the training's checkpoints: beside the export until it is written, or a temporary one.

    A training that is there already is resumed only if the same was asked of it. Raises RunError if a folder of that
    name is none of ours: it is not deleted.
    """
    if out is None:
        with tempfile.TemporaryDirectory(prefix="visionsweep-") as folder:
            yield Path(folder)
        return
    work = out.with_name(f"{out.name}.training")
    marker = work / "asked.yaml"
    if work.exists() and not marker.is_file() and not (work.is_dir() and not any(work.iterdir())):
        raise RunError(
            f"{work}: is not a training of ours (it has no {marker.name}), and --out {out.name} would keep its "
            "checkpoints there. Choose another --out."
        )
    try:
        if marker.is_file() and marker.read_text(encoding="utf-8", errors="replace") != asked:
            shutil.rmtree(work)
            console.print(f"Dropped {work}: an earlier training of something else.", style="yellow", soft_wrap=True)
        work.mkdir(parents=True, exist_ok=True)
        marker.write_text(asked, encoding="utf-8")
    except OSError as error:
        raise RunError(f"{work}: cannot be written ({error.strerror}). Choose another --out.") from None
    yield work
    shutil.rmtree(work)


def _line(result: EpochResult, metric: str) -> str:
    shown = ["train/loss", "val/loss", *([metric] if metric != "val/loss" else [])]
    values = "  ".join(f"{name} {result.metrics[name]:.4f}" for name in shown if name in result.metrics)
    speed = f"{duration(result.seconds)}  {result.images_per_s:.0f} images/s"
    return f"epoch {result.epoch}  {values}  lr {result.lr:.2g}  {speed}"
