"""Section on the best trial: its confusions, its worst mistakes, a map of its features."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from analysis.figures.best_trial import Judged, class_iou, class_scores, confusion, judged, kept_predictions, most_wrong
from analysis.figures.class_figures import class_bars, confusion_figure
from analysis.report.plots import Plot, Plots
from visionsweep.core.errors import InputError
from visionsweep.core.stages import stage
from visionsweep.core.tasks import task_kind
from visionsweep.run_dir.run import Run
from visionsweep.run_dir.trials import Trial

MOST_DOUBTS = 24


@dataclass
class Picture:
    """An image as a data: address, and the words under it."""

    src: str
    name: str
    truth: str
    said: str


@dataclass
class BestSection:
    """Contents of the section. missing: sentences on what could not be shown, and why."""

    trial_id: str
    epoch: int
    plots: list[Plot] = field(default_factory=list)
    table: list[dict[str, Any]] = field(default_factory=list)
    mistakes: list[Picture] = field(default_factory=list)
    doubts: list[Picture] = field(default_factory=list)  # labels that may be wrong
    scenes: list[Any] = field(default_factory=list)
    colours: list[tuple[str, str]] = field(default_factory=list)  # code, class
    seen: list[Any] = field(default_factory=list)  # training photos as it saw them
    embedding: Plot | None = None
    missing: list[str] = field(default_factory=list)


def best_section(run: Run, trial: Trial, plots: Plots, *, with_model: bool) -> BestSection:
    """Build the section. with_model: also the parts that need torch, the weights and the images."""
    epoch = (trial.best(run.metric, run.mode) or (0.0, 0))[1]
    section = BestSection(trial.trial_id, epoch)
    data = _attempt(section, "The images are not shown", lambda: _open_data(run)) if with_model else None
    if task_kind(run.task).pixels:
        _segmentation(section, run, trial, plots, data)
        one = None
    else:
        targets = data.targets() if data is not None and run.search["data"].get("val_targets") is None else None
        what = "What the trial confuses is not shown"
        one = _attempt(section, what, lambda: judged(run, trial, targets))
        if one is not None:
            _classes(section, run, one, plots)
            _mistakes(section, one, data)
            _doubts(section, run, one, data)
    if data is not None:
        what = "The photos as it saw them are not shown"
        section.seen = _attempt(section, what, lambda: _seen_photos(run, trial, data)) or []
        stage("computing the map of the photos")
        what = "The map of the images is not shown"
        section.embedding = _attempt(section, what, lambda: _embedding(run, trial, one, data, plots))
    return section


def _attempt(section: BestSection, what: str, make: Callable[[], Any]) -> Any:
    """Return what `make` returns, or None with a sentence that says why it failed.

    Anything may be missing in a damaged run, or one of another version. The rest of the page is still worth having.
    """
    try:
        return make()
    except InputError as error:
        section.missing.append(f"{what}: {error}")
    except Exception as error:
        section.missing.append(f"{what}: {type(error).__name__}: {error}")
    return None


def _open_data(run: Run) -> Any:
    from analysis.figures.overlays import open_data  # imports torch, which a report without a model does not wait for

    return open_data(run)


def _classes(section: BestSection, run: Run, one: Judged, plots: Plots) -> None:
    table = class_scores(one)
    section.table = table.to_dict("records")  # type: ignore[assignment]
    if task_kind(run.task).tags:
        figure = class_bars(table, "f1", "F1")
        section.plots.append(plots.add("class-f1", figure, "F1 of each class"))
        return
    matrix = confusion(one)
    caption = (
        f"{int(matrix.diagonal().sum())} of {int(matrix.sum())} validation images are right. Colours are shares of a "
        "row: of the images of that class."
    )
    figure = confusion_figure(matrix, one.classes)
    section.plots.append(plots.add("confusion", figure, "Confusion matrix", caption))


def _mistakes(section: BestSection, one: Judged, data: Any) -> None:
    if data is None:
        return
    from analysis.figures.overlays import IMAGE_ERRORS, thumbnail

    for mistake in most_wrong(one):
        try:
            src = thumbnail(data.image(mistake.position))
        except IMAGE_ERRORS:
            continue
        section.mistakes.append(Picture(src, mistake.name, mistake.truth, mistake.said))


def _doubts(section: BestSection, run: Run, one: Judged, data: Any) -> None:
    """Show the labels that confident learning doubts most."""
    if data is None:
        return
    from analysis.expect.suspects import suspects
    from analysis.figures.overlays import IMAGE_ERRORS, thumbnail

    position = {name: row for row, name in enumerate(one.names)}
    table = suspects(run.task, one.classes, one.names, one.probabilities, one.truth)
    for row in table.head(MOST_DOUBTS).to_dict("records"):
        try:
            src = thumbnail(data.image(position[row["image"]]))
        except IMAGE_ERRORS:
            continue
        said = f"{row['suggested']} {row['probability']:.2f}"
        section.doubts.append(Picture(src, str(row["image"]), str(row["given"]), said))


def _segmentation(section: BestSection, run: Run, trial: Trial, plots: Plots, data: Any) -> None:
    table = class_iou(run, trial)
    if len(table):
        section.plots.append(plots.add("class-iou", class_bars(table, "iou", "IoU"), "IoU of each class"))
    else:
        section.missing.append("The IoU of each class is not in the records.")
    if data is None:
        _attempt(section, "Its masks are not there", lambda: kept_predictions(run, trial))
        return
    from analysis.figures.overlays import segmented

    found = _attempt(section, "Masks are not shown", lambda: segmented(run, trial, data))
    if found is None:
        return
    shares = confusion_figure(found.matrix, found.classes, "pixels")
    caption = f"Shares of the pixels of each true class, in {found.num_images} validation images."
    section.plots.append(plots.add("confusion", shares, "Confusion matrix", caption))
    section.scenes = found.scenes
    section.colours = list(zip(found.colours, found.classes, strict=True))


def _seen_photos(run: Run, trial: Trial, data: Any) -> list[Any]:
    from analysis.figures.batches import seen_photos

    return seen_photos(run, trial, data)


def _embedding(run: Run, trial: Trial, one: Judged | None, data: Any, plots: Plots) -> Plot:
    from analysis.figures.embeddings import embedding_figure, features, plane

    rows, found = features(run, trial, data)
    names = [str(run.search["data"]["val"][row]) for row in rows]
    labels, order, how = _labels(run, trial, one, rows, data)
    figure = embedding_figure(plane(found), labels, names, order)
    caption = f"t-SNE of the features of {len(rows)} validation images, coloured by {how}."
    return plots.add("embedding", figure, "Map of the images", caption)


def _labels(run: Run, trial: Trial, one: Judged | None, rows: Any, data: Any) -> tuple[list[str], list[str], str]:
    """Return a class for each image, the classes in the order of the legend, and how they were chosen."""
    if one is not None:
        common = np.argsort(-one.truth.sum(axis=0), kind="stable")
        order = [one.classes[i] for i in (common if task_kind(run.task).tags else range(len(one.classes)))]
        truth = one.truth[rows]
        rarest = np.where(truth, one.truth.sum(axis=0)[None], np.iinfo(np.int64).max).argmin(axis=1)
        labels = [one.classes[i] if row.any() else "none" for i, row in zip(rarest, truth, strict=True)]
        return labels, order, "class" if not task_kind(run.task).tags else "the rarest of its labels"
    from analysis.figures.overlays import commonest_class

    labels = [commonest_class(run, trial, data, int(row)) for row in rows]
    order = sorted(set(labels), key=lambda name: -labels.count(name))
    return labels, order, "the class with the most pixels, background apart"
