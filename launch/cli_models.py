"""The commands for one model: train, export, predict. Heavy libraries are imported inside them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from launch.options import CacheDir, Json, NoCache, OnBadImage, SetOption, cache_folder, new_console
from search_spaces.errors import ConfigError


def train(
    data: Annotated[
        str, typer.Option("--data", help="Folder of classes or of masks, CSV, torchvision:NAME or digits.")
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
    run_dir: Annotated[Path, typer.Argument(metavar="RUN", help="A run directory.")],
    out: Annotated[Path, typer.Option(help="The folder to write.")],
    trial: Annotated[Optional[str], typer.Option(help="Which trial; default: the best.")] = None,  # noqa: UP045
    ensemble: Annotated[bool, typer.Option("--ensemble", help="Several models: see `ensemble`.")] = False,
) -> None:
    """Export a trial: configuration, weights, classes, metrics, data fingerprint."""
    if ensemble:
        if trial is not None:
            raise ConfigError(f"export takes --ensemble or --trial, got both (trial {trial}). Leave one away.")
        from launch.ensembles import export_chosen

        export_chosen(run_dir, out, new_console())
        return
    from analysis.export import export_trial
    from analysis.load import load_run
    from launch.show import print_export

    print_export(export_trial(load_run(run_dir), out, trial), out, new_console())


def predict(
    export_dir: Annotated[Path, typer.Argument(metavar="EXPORT", help="A folder that `export` wrote.")],
    images: Annotated[list[Path], typer.Argument(help="Image files or folders.")],
    out: Annotated[Optional[Path], typer.Option(help="Where masks are written (predictions).")] = None,  # noqa: UP045
    json: Json = False,
) -> None:
    """Predict the classes of images, or their masks, with an exported model."""
    from analysis.predict import predict_images
    from launch.show import print_json, print_predictions

    rows = predict_images(export_dir, images, out)
    print_json(rows) if json else print_predictions(rows, new_console())
    raise typer.Exit(int(any("error" in row for row in rows)))
