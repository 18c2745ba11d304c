"""An exported model for Python: it predicts images and judges itself on labelled data, as tables.

model = load_model("exports/mine")
model.predict("new/*.jpg")      # a row per image
model.evaluate("test/")         # a row per metric, with its 95% interval
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from analysis.models.evaluate import Judged, evaluate_export
from analysis.models.export_folder import data_of_export
from analysis.models.given import given_images
from analysis.models.masks import MaskWriter
from analysis.models.predict import KeepMask, rows_of
from analysis.models.predictor import Predictor, load_export, with_flips
from trainables.config.trial import TrialConfig
from trainables.data.cache import default_cache_dir
from trainables.data.read_as import ReadAs
from trainables.data.there import require_there
from trainables.data.view import Pixels
from visionsweep.core.errors import RunError
from visionsweep.core.tasks import task_kind
from visionsweep.core.whole_folder import mend

ONE_PER_CLASS = {"probabilities": "probability", "shares": "share"}


class LoadedModel:
    """What `visionsweep export` wrote, or `run.export` returned, ready to predict.

    folder   the export
    classes  the names of its classes, in the order of their numbers
    task     binary, multiclass, multilabel or segmentation
    config   the configuration; of an ensemble, its first member's
    """

    def __init__(self, folder: Path, exported: Predictor) -> None:
        self.folder = folder
        self._exported = exported

    @property
    def classes(self) -> tuple[str, ...]:
        return self._exported.classes

    @property
    def config(self) -> TrialConfig:
        return self._exported.config

    @property
    def task(self) -> str:
        return self.config.task

    def __repr__(self) -> str:
        shown = ", ".join(self.classes[:5]) + (", ..." if len(self.classes) > 5 else "")
        return f"<Model {self.folder}: {self.task}, {len(self.classes)} classes: {shown}>"

    def predict(
        self, images: Any, *, tta: bool = False, batch_size: int = 32, out: Path | str | None = None
    ) -> pd.DataFrame:
        """Return a row for each image, in their order.

            images      files, folders, quoted patterns, s3:// addresses, arrays (H, W, 3) or (N, H, W, 3) of uint8,
                        PIL images, or a list of these; of a model with --channels, arrays of its channels and dtype
            tta         average with the mirror image
            batch_size  images at a time
            out         for segmentation, a folder for the masks' files too

        Columns are `path` (missing for what is no file), `label` or `labels`, and `probability/CLASS`. For segmentation
        they are `path`, `mask`, an array (H, W) of class numbers at the image's own size, and `share/CLASS`. A file
        that cannot be read has `error`. What folders and patterns leave out is in `frame.attrs["notes"]`.

        Raises DataError if there is no image. Raises RunError for an `out` that cannot be used.
        """
        notes: list[str] = []
        given, paths = given_images(images, notes.append, self.config.model.bands)
        exported = with_flips(self._exported, tta)
        batches = rows_of(exported, given, self._keep_mask(out), batch_size)
        rows = [row for batch in batches for row in batch]
        frame = pd.DataFrame([_flat(row, path) for row, path in zip(rows, paths, strict=True)])
        if frame.empty:
            frame = pd.DataFrame(columns=["path"])
        columns = [name for name in frame.columns if name != "error"]
        frame = frame[[*columns, *(["error"] if "error" in frame.columns else [])]]
        shares = [name for name in frame.columns if name.startswith("share/")]
        if shares:  # a class that a mask does not show
            read = frame["mask"].notna()
            frame.loc[read, shares] = frame.loc[read, shares].fillna(0.0)
        frame.attrs["notes"] = notes
        return frame

    def evaluate(
        self,
        data: Path | str | None = None,
        split: str | None = None,
        *,
        cache_dir: Path | str | None = None,
        no_cache: bool = False,
        on_bad_image: str = "error",
        layout: str | None = None,
        mask_values: str | None = None,
        label_separator: str | None = None,
    ) -> pd.DataFrame:
        """Return a row for each metric, and for each metric of a class as `recall/CLASS`, on labelled data.

            data   None means what the model was trained on
            split  test, val, train or all. None takes test, or val of the model's own data, or all of other data

        The other arguments are the options of `visionsweep evaluate`. Columns are `value`, and `low` and `high` of its
        95% interval where there is one. `frame.attrs` has `split`, `num_images`, `note`, which says what the split was
        to the model, and `notes` on the data.

        Raises DataError if the classes are not the model's, or the split has no image.
        """
        spec = data_of_export(self.folder) if data is None else os.fspath(data)
        require_there(spec)
        folder = None if no_cache else Path(cache_dir or default_cache_dir()).resolve()
        read_as = ReadAs(on_bad_image, layout, mask_values, label_separator)
        return _as_frame(evaluate_export(self.folder, spec, split, cache_dir=folder, read_as=read_as))

    def _keep_mask(self, out: Path | str | None) -> KeepMask | None:
        if not task_kind(self.task).pixels:
            if out is not None:
                raise RunError(
                    f"out is a folder for masks, and this model is for {self.task}, got {out}. "
                    "Leave it out, and write the table with frame.to_csv."
                )
            return None
        writer = None if out is None else MaskWriter(Path(out), self.classes)

        def keep(path: Path, image: Pixels, mask: Pixels) -> dict[str, Any]:
            files = {} if writer is None else writer.write(path, image, mask)
            named = {"mask_file" if kind == "mask" else kind: file for kind, file in files.items()}
            return {"mask": mask, **named}

        return keep


def load_model(folder: Path | str, device: str | torch.device | None = None) -> LoadedModel:
    """Load what `visionsweep export` wrote.

    device: such as "cpu", None means CUDA where there is one.

    Raises RunError if the folder is no export, or is damaged.
    """
    path = Path(folder)
    mend(path)
    return LoadedModel(path, load_export(path, None if device is None else torch.device(device)))


def _flat(row: dict[str, Any], path: str | None) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in {**row, "path": path}.items():
        if key in ONE_PER_CLASS:
            flat |= {f"{ONE_PER_CLASS[key]}/{name}": number for name, number in value.items()}
        else:
            flat[key] = value
    return flat


def _as_frame(judged: Judged) -> pd.DataFrame:
    rows = dict[str, dict[str, float]](judged.metrics)
    for name, values in judged.classes.items():
        for metric, value in values.items():
            rows[f"{metric}/{name}"] = value if isinstance(value, dict) else {"value": value}
    frame = pd.DataFrame.from_dict(rows, orient="index", columns=["value", "low", "high"])
    frame.index.name = "metric"
    frame.attrs |= {
        "split": judged.split,
        "num_images": judged.num_images,
        "note": judged.note,
        "notes": list(judged.notes),
    }
    return frame
