"""The commands for one model: train, export, predict. Heavy libraries are imported inside them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from launch.options import CacheDir, Json, NoCache, OnBadImage, RunArgument, SetOption, cache_folder, new_console


def train(
    data: Annotated[
        str,
        typer.Option("--data", help="Folder of classes or of masks, CSV, s3://..., torchvision:NAME or digits."),
    ],
    config: Annotated[Optional[Path], typer.Argument(help="YAML, such as an export's config.yaml.")] = None,  # noqa: UP045
    recipe: Annotated[Optional[str], typer.Option(help="Instead: a recipe (`visionsweep recipes`).")] = None,  # noqa: UP045
    assignments: SetOption = None,
    out: Annotated[Optional[Path], typer.Option(help="Where to export the trained model.")] = None,  # noqa: UP045
    metric: Annotated[Optional[str], typer.Option(help="Which epoch is the best.")] = None,  # noqa: UP045
    seed: Annotated[Optional[int], typer.Option(min=0, help="Of the split and the training.")] = None,  # noqa: UP045
    cache_dir: CacheDir = None,
    no_cache: NoCache = False,
    on_bad_image: OnBadImage = "error",
) -> None:
    """Train one configuration, of a file or a recipe, in this process, with a progress bar."""
    from launch.recipes import configuration

    parsed = configuration(config, recipe, assignments or [])
    from launch.train import train_one  # imports torch: a wrong name is answered before

    train_one(parsed, data, out, metric, seed, cache_folder(cache_dir, no_cache), on_bad_image, new_console())


def export(
    run_dir: RunArgument,
    out: Annotated[Path, typer.Option(help="The folder to write.")],
    trial: Annotated[Optional[str], typer.Option(help="Which trial; default: the best.")] = None,  # noqa: UP045
) -> None:
    """Export a trial: configuration, weights, classes, metrics, data fingerprint."""
    from analysis.export import export_trial
    from launch.remote.views import run_at
    from launch.show import print_export

    with run_at(run_dir, weights_of=trial) as loaded:
        print_export(export_trial(loaded, out, trial), out, new_console())


def predict(
    export_dir: Annotated[Path, typer.Argument(metavar="EXPORT", help="A folder that `export` wrote.")],
    images: Annotated[list[str], typer.Argument(help="Image files or folders, here or at s3://BUCKET/...")],
    out: Annotated[Optional[Path], typer.Option(help="Where masks are written (predictions).")] = None,  # noqa: UP045
    json: Json = False,
) -> None:
    """Predict the classes of images, or their masks, with an exported model."""
    from launch.remote.images import predict_at
    from launch.show import print_json, print_predictions

    rows = predict_at(export_dir, images, out)
    print_json(rows) if json else print_predictions(rows, new_console())
    raise typer.Exit(int(any("error" in row for row in rows)))
