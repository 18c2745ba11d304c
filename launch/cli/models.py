"""Commands for one model: train, export, predict. Heavy libraries are imported inside them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from launch.cli.option_groups import with_groups
from launch.cli.options import RunArgument, RunData, SetOption, new_console
from launch.cli.search_options import ReadingOptions
from visionsweep.core.errors import ConfigError


@with_groups()
def train(
    data: Annotated[
        str,
        typer.Option(
            "--data",
            help="Folder of classes, masks or a tool's annotations, CSV, s3://..., torchvision:NAME or digits.",
        ),
    ],
    config: Annotated[Path | None, typer.Argument(help="YAML, such as an export's config.yaml.")] = None,
    recipe: Annotated[str | None, typer.Option(help="Instead: a recipe (`visionsweep recipes`).")] = None,
    assignments: SetOption = None,
    out: Annotated[Path | None, typer.Option(help="Where to export the trained model.")] = None,
    metric: Annotated[str | None, typer.Option(help="Which epoch is the best.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Of the split and the training.")] = None,
    gpus: Annotated[int, typer.Option(min=1, help="Train each batch on so many GPUs of this machine.")] = 1,
    *,
    reading: ReadingOptions,
) -> None:
    """Train one configuration, of a file or a recipe, in this process, with a progress bar."""
    from launch.cli.recipes import configuration

    parsed = configuration(config, recipe, assignments or [])
    from launch.models.train import train_one  # imports torch, after the names are checked

    train_one(parsed, data, out, metric, seed, reading.folder(), reading.read_as(data), new_console(), gpus)


def export(
    run_dir: RunArgument,
    out: Annotated[Path | None, typer.Option(help="The folder to write; default: exports/NAME-OF-RUN.")] = None,
    trial: Annotated[str | None, typer.Option(help="Which trial; default: what the run recommends.")] = None,
    single: Annotated[bool, typer.Option("--single", help="The best trial alone, whatever is recommended.")] = False,
    onnx: Annotated[bool, typer.Option("--onnx", help="Also as model.onnx, checked against torch.")] = False,
    pt2: Annotated[bool, typer.Option("--pt2", help="Also as model.pt2 (torch.export), checked likewise.")] = False,
    ensemble: Annotated[bool, typer.Option("--ensemble", help="Several models: see `ensemble`.")] = False,
    data: RunData = None,
) -> None:
    """Export what a run recommends, or a trial: configuration, weights, classes, metrics, a model card; and graphs."""
    if single and trial is not None:
        raise ConfigError(f"export takes --single or --trial, got --trial {trial} too. Leave one away.")
    from launch.cli.first_look import default_export, look_at_run
    from launch.cli.stages import stages_shown

    look_at_run(run_dir, trial)
    out = out or default_export(run_dir)
    if ensemble:
        given = [f"--trial {trial}"] * (trial is not None)
        given += [name for name, is_given in (("--single", single), ("--onnx", onnx), ("--pt2", pt2)) if is_given]
        if given:
            raise ConfigError(f"export takes --ensemble alone, got {given[0]} too. Leave one away.")
        with stages_shown("importing libraries"):
            from launch.models.ensembles import export_chosen
            from launch.remote.location import local_run

            export_chosen(local_run(run_dir), out, new_console(), data)
        return
    with stages_shown("importing libraries"):
        from launch.models.exporting import export_run

        console = new_console()
        whole = export_run(run_dir, out, console, trial=trial, single=single, onnx=onnx, pt2=pt2, named=data)
    raise typer.Exit(int(not whole))


def predict(
    export_dir: Annotated[Path, typer.Argument(metavar="EXPORT", help="A folder that `export` wrote.")],
    images: Annotated[
        list[str],
        typer.Argument(help="Image files, folders or quoted patterns ('a/**/*.jpg'), here or at s3://BUCKET/..."),
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="FILE.csv or FILE.json for the table; a folder for masks and annotations (predictions)."),
    ] = None,
    tta: Annotated[bool, typer.Option("--tta", help="Average with the mirror image: slower by half.")] = False,
    form: Annotated[
        str, typer.Option("--format", help="Print text, csv or json, or write coco, labelme or cvat for labelling.")
    ] = "text",
    json: Annotated[bool, typer.Option("--json", help="As --format json.")] = False,
) -> None:
    """Predict the classes of images, or their masks, with an exported model."""
    from launch.cli.first_look import look_at_export

    look_at_export(export_dir, images)
    from launch.models.predictions import predict_and_tell

    failed = predict_and_tell(export_dir, images, out, "json" if json else form, new_console(), flips=tta)
    raise typer.Exit(int(failed))
