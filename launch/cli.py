"""visionsweep's one door: the commands. Heavy libraries are imported inside them, so that --help answers at once."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Annotated, Optional

import typer

from launch.options import (
    CacheDir,
    DataOption,
    Json,
    NoCache,
    OnBadImage,
    Pruner,
    RunsDir,
    Sampler,
    TaskOption,
    WarmStart,
    absolute,
    cache_folder,
    new_console,
)
from search_spaces.errors import InputError, VisionsweepError

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Find the best way to train a classifier or a segmenter on your photos, within a budget.",
)


@app.command()
def run(
    search: Annotated[str, typer.Argument(help="A shipped search (`visionsweep spaces`) or a Python file.")],
    data: DataOption = None,
    name: Annotated[Optional[str], typer.Option(help="Name of the run; default: search and time.")] = None,  # noqa: UP045
    trials: Annotated[Optional[int], typer.Option(min=1, help="How many configurations to try.")] = None,  # noqa: UP045
    budget: Annotated[Optional[str], typer.Option(help="Wall-clock for everything, such as 30m or 2h.")] = None,  # noqa: UP045
    assignments: Annotated[Optional[list[str]], typer.Option("--set", help="key=value: fix a part.")] = None,  # noqa: UP045
    max_concurrent: Annotated[Optional[int], typer.Option(min=1, help="Trials at once.")] = None,  # noqa: UP045
    cpus_per_trial: Annotated[Optional[float], typer.Option(min=0.01, help="Default 1, or a GPU's share.")] = None,  # noqa: UP045
    gpus_per_trial: Annotated[Optional[float], typer.Option(min=0, help="Fractions share a GPU.")] = None,  # noqa: UP045
    task: TaskOption = None,
    sampler: Sampler = None,
    pruner: Pruner = None,
    warm_start: WarmStart = None,
    keep_trials: Annotated[int, typer.Option(min=1, help="Best trials that keep weights and predictions.")] = 5,
    seed: Annotated[int, typer.Option(min=0, help="Of the split, the proposals and the trainings.")] = 0,
    runs_dir: RunsDir = Path("runs"),
    cache_dir: CacheDir = None,
    no_cache: NoCache = False,
    on_bad_image: OnBadImage = "error",
) -> None:
    """Search: try configurations on your data, end the bad ones early, rank the rest."""
    started = time.time()
    from launch.loading import load_search, parse_assignments, parse_duration
    from launch.show import print_outcome
    from launch.warm import warm_started
    from search_spaces.errors import ConfigError

    named = {"task": task, "sampler": sampler, "pruner": pruner}
    chosen = {key: value for key, value in named.items() if value is not None}
    found = load_search(search).with_set({**chosen, "seed": seed, **parse_assignments(assignments or [])})
    found = warm_started(found, warm_start or [])
    budget_s = None if budget is None else parse_duration(budget)
    data = data or found.data
    if not data:
        raise ConfigError(f"the search '{search}' names no data. Add --data DIR.")
    from launch.cluster import local_ray

    with local_ray():
        from launch.run import RunOptions, check_name, default_name, start  # imports torch, while Ray starts

        options = RunOptions(
            data=absolute(data),
            num_trials=trials,
            budget_s=budget_s,
            max_concurrent=max_concurrent,
            cpus_per_trial=cpus_per_trial,
            gpus_per_trial=gpus_per_trial,
            seed=seed,
            cache_dir=cache_folder(cache_dir, no_cache),
            on_bad_image=on_bad_image,
            keep_trials=keep_trials,
        )
        console = new_console()
        records = start(found, check_name(name or default_name(search)), runs_dir, options, console, started)
        print_outcome(records.run_dir, console)


@app.command()
def resume(
    run_dir: Annotated[Path, typer.Argument(metavar="RUN", help="A run directory.")],
    trials: Annotated[str, typer.Option(help="+N: so many configurations more.")] = "+0",
    budget: Annotated[Optional[str], typer.Option(help="Wall-clock for this sitting, such as 30m.")] = None,  # noqa: UP045
) -> None:
    """Go on with a run that was stopped: interrupted trials continue from their last epoch."""
    started = time.time()
    from analysis.load import read_search
    from launch.cluster import local_ray
    from launch.loading import parse_duration
    from launch.show import print_outcome
    from search_spaces.errors import ConfigError

    if not trials.lstrip("+").isdigit():
        raise ConfigError(f"--trials takes a number of further trials, got '{trials}'. For example --trials +50.")
    budget_s = None if budget is None else parse_duration(budget)
    read_search(run_dir)  # refuses what is no run, before Ray starts
    with local_ray():
        from launch.run import resume as resume_run

        console = new_console()
        records = resume_run(run_dir, int(trials.lstrip("+")), budget_s, console, started)
        print_outcome(records.run_dir, console)


@app.command()
def rank(
    run_dir: Annotated[Path, typer.Argument(metavar="RUN", help="A run directory.")],
    top: Annotated[Optional[int], typer.Option(min=1, help="Only the best N.")] = None,  # noqa: UP045
    json: Json = False,
) -> None:
    """Rank a run's trials: complete ones first, best first. Works while the search runs."""
    from analysis.load import load_run
    from analysis.rank import ranking
    from launch.show import print_json, print_ranking

    loaded = load_run(run_dir)
    rows = ranking(loaded)[:top]
    print_json(rows) if json else print_ranking(loaded, rows, new_console())


@app.command()
def train(
    data: Annotated[
        str, typer.Option("--data", help="Folder of classes or of masks, CSV, torchvision:NAME or digits.")
    ],
    config: Annotated[Optional[Path], typer.Argument(help="YAML, such as an export's config.yaml.")] = None,  # noqa: UP045
    recipe: Annotated[Optional[str], typer.Option(help="Instead: a recipe (`visionsweep recipes`).")] = None,  # noqa: UP045
    assignments: Annotated[Optional[list[str]], typer.Option("--set", help="key=value: change a part.")] = None,  # noqa: UP045
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


@app.command()
def export(
    run_dir: Annotated[Path, typer.Argument(metavar="RUN", help="A run directory.")],
    out: Annotated[Path, typer.Option(help="The folder to write.")],
    trial: Annotated[Optional[str], typer.Option(help="Which trial; default: the best.")] = None,  # noqa: UP045
) -> None:
    """Export a trial: configuration, weights, classes, metrics, data fingerprint."""
    from analysis.export import export_trial
    from analysis.load import load_run
    from launch.show import print_export

    print_export(export_trial(load_run(run_dir), out, trial), out, new_console())


@app.command()
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


@app.command()
def spaces(
    name: Annotated[Optional[str], typer.Argument(help="A shipped search or a Python file.")] = None,  # noqa: UP045
) -> None:
    """List the shipped searches, or describe one."""
    from launch.loading import load_search
    from launch.show import print_search, print_searches

    if name is None:
        print_searches(new_console())
    else:
        print_search(name, load_search(name), new_console())


@app.command()
def recipes(
    name: Annotated[Optional[str], typer.Argument(help="A recipe.")] = None,  # noqa: UP045
    as_yaml: Annotated[bool, typer.Option("--yaml", help="Print the YAML alone, for a file.")] = False,
) -> None:
    """List the reports' pipelines as recipes, or tell where one comes from and print it."""
    from launch.recipes import show

    show(name, as_yaml, new_console())


def main() -> None:
    """Entry point. An InputError is one clear message and exit code 2; anything else is ours to mend."""
    # Nothing calls out unasked: albumentations asks for a newer version, Ray sends usage statistics.
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        app()
    except InputError as error:
        print(f"visionsweep: {error}", file=sys.stderr)
        sys.exit(2)
    except VisionsweepError as error:  # a single training that ended (`train`): diverged, interrupted
        print(f"visionsweep: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        again = "`visionsweep resume RUN`, or `train` with the same --out"
        print(f"visionsweep: stopped. What had begun goes on from its last epoch: {again}.", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
