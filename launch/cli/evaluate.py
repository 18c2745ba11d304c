"""The command that judges an exported model. Heavy libraries are imported inside it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from launch.cli.options import (
    CacheDir,
    Json,
    LabelSeparator,
    Layout,
    MaskValues,
    NoCache,
    OnBadImage,
    cache_folder,
    new_console,
)
from launch.cli.slow import stage


def evaluate(
    export_dir: Annotated[Path, typer.Argument(metavar="EXPORT", help="A folder that `export` wrote.")],
    data: Annotated[
        str | None,
        typer.Option(
            "--data",
            help="Folder of classes, masks, annotations; CSV, torchvision:NAME, digits. Default: what it learned on.",
        ),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            help="test, val, train or all; default: test, or val of the model's own data, or all of other data."
        ),
    ] = None,
    json: Json = False,
    cache_dir: CacheDir = None,
    no_cache: NoCache = False,
    on_bad_image: OnBadImage = "error",
    layout: Layout = None,
    mask_values: MaskValues = None,
    label_separator: LabelSeparator = None,
    group: Annotated[
        str | None,
        typer.Option(help="A column of the table that is no class; default: the one of the model's own data."),
    ] = None,
) -> None:
    """Judge an exported model on labelled data, with 95% intervals."""
    from launch.cli.first_look import look_at_export

    look_at_export(export_dir)
    from analysis.models.export_folder import data_of_export
    from trainables.data.there import require_there

    console = new_console()
    if data is None:
        data = data_of_export(export_dir)
        stage(f"Judged on the data that the model was trained on: {data}")
    require_there(data)
    from dataclasses import asdict

    from analysis.models.evaluate import evaluate_export
    from launch.cli.printing_evaluation import print_evaluation
    from trainables.data.read_as import ReadAs

    folder = cache_folder(cache_dir, no_cache)
    found = evaluate_export(
        export_dir,
        data,
        split,
        cache_dir=None if folder is None else Path(folder),
        read_as=ReadAs(on_bad_image, layout, mask_values, label_separator, group=group),
    )
    if json:
        from launch.cli.printing import print_json

        print_json([asdict(found)])
    else:
        print_evaluation(found, console)
