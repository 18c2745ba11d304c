"""Options that several commands share, and how their values are read."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from visionsweep.core.errors import ConfigError

if TYPE_CHECKING:
    from rich.console import Console

DataOption = Annotated[
    str | None,
    typer.Option(
        "--data", help="Folder of classes, masks or a tool's annotations, CSV, s3://..., torchvision:NAME or digits."
    ),
]
RunsDir = Annotated[str, typer.Option("--runs-dir", help="Where runs are kept: a folder, or s3://BUCKET/FOLDER.")]
RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="A run directory, or s3://BUCKET/FOLDER/NAME.")]
CacheDir = Annotated[Path | None, typer.Option("--cache-dir", help="For decoded images, and what S3 has.")]
NoReport = Annotated[
    bool,
    typer.Option("--no-report", envvar="VISIONSWEEP_NO_REPORT", help="Write no report.html when the search ends."),
]
NoCache = Annotated[bool, typer.Option("--no-cache", help="Decode every image every time.")]
Layout = Annotated[
    str | None,
    typer.Option(help="classes, splits or groups: what the folders are, where their names leave it open."),
]
MaskValues = Annotated[
    str | None,
    typer.Option(help="classes: every value in the masks is a class of its own, whatever it is."),
]
Channels = Annotated[
    str | None,
    typer.Option(help="Train on images as they are: how many channels each has, 1 to 13, or auto."),
]
LabelSeparator = Annotated[
    str | None,
    typer.Option(help="What stands between the tags in a table's column `labels`; default: |."),
]
Group = Annotated[
    str | None,
    typer.Option(help=r"What stays on one side of every split: a column, a file groups.csv, or a pattern '(.*)_\d+'."),
]
Test = Annotated[
    str | None,
    typer.Option(metavar="SHARE", help="Such as 15%: kept back as a test split that only `evaluate` looks at."),
]
Folds = Annotated[
    int | None,
    typer.Option(metavar="K", help="Judge each trial on K folds of train and val: its score is their mean."),
]
OnBadImage = Annotated[str, typer.Option("--on-bad-image", help="error, or skip: leave it out and list it.")]
RunData = Annotated[
    str | None,
    typer.Option("--data", help="Where the run's data is; needed where it is fetched and the run is not yours."),
]
TaskOption = Annotated[str | None, typer.Option("--task", help="Where the data leaves it open.")]
SetOption = Annotated[list[str] | None, typer.Option("--set", help="key=value: fix or change a part.")]
Address = Annotated[
    str | None,
    typer.Option(help="auto, HOST:PORT or ray://HOST:PORT: a Ray cluster that runs; default: this machine alone."),
]
Cluster = Annotated[
    str | None,
    typer.Option(help="http://HEAD:8265, or ray://HEAD:10001; default: $RAY_API_SERVER_ADDRESS."),
]
MaxConcurrent = Annotated[int | None, typer.Option(min=1, help="Trials at once.")]


def _amount(least: float) -> Callable[[str], str]:
    """Return a parser for a number or auto, for which typer has no type (see `amount`)."""

    def parse(text: str) -> str:
        try:
            good = text == "auto" or least <= float(text) < float("inf")
        except ValueError:
            good = False
        if not good:
            raise typer.BadParameter(f"takes auto, or a number of {least:g} or more, got '{text}'")
        return text

    return parse


def check_gpus_per_trial(gpus: object) -> None:
    """Raise ConfigError for GPUs that a trial cannot use: above one they are whole, with a process for each."""
    if gpus is None or gpus == "auto":
        return
    is_number = isinstance(gpus, (int, float)) and not isinstance(gpus, bool)
    if not is_number or not (0 <= float(gpus) <= 1 or (float(gpus).is_integer() and float(gpus) > 1)):  # type: ignore[arg-type]
        got = f"{gpus:g}" if isinstance(gpus, float) else repr(gpus)
        raise ConfigError(
            "a trial trains on a share of one GPU, or on several whole ones, so --gpus-per-trial takes auto, a number "
            f"from 0 to 1, or a whole number, got {got}. Give 1: further GPUs train further trials at the same time."
        )


def _gpus(text: str) -> str:
    check_gpus_per_trial(amount(_amount(0.0)(text)))
    return text


CpusPerTrial = Annotated[
    str | None,
    typer.Option(
        parser=_amount(0.01), metavar="N|auto", help="Default 1, or a GPU's share; auto: 1, packed by memory."
    ),
]
GpusPerTrial = Annotated[
    str | None,
    typer.Option(
        parser=_gpus,
        metavar="N|auto",
        help="2, 3, ...: one trial on several; fractions share a GPU, auto: by the memory that each needs.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Sampler = Annotated[str | None, typer.Option("--sampler", help="Who proposes; default: the search's (fidelity).")]
Pruner = Annotated[str | None, typer.Option("--pruner", help="Who ends trials early; default: the search's (asha).")]
WarmStart = Annotated[
    list[str] | None,
    typer.Option("--warm-start", help="A run or a recipe whose best is tried first (repeatable)."),
]
LearnFrom = Annotated[
    list[str] | None,
    typer.Option("--learn-from", help="An earlier run, whose trials the sampler's model learns from (repeatable)."),
]
Target = Annotated[
    str | None,
    typer.Option(metavar="METRIC=VALUE", help="Ends the search once it is reached, such as val/accuracy=0.95."),
]
Stop = Annotated[
    str | None,
    typer.Option(metavar="auto", help="Ends the search where less than the noise of validation is left to gain."),
]

Log = Annotated[
    list[str] | None,
    typer.Option("--log", help="tensorboard, mlflow or wandb: every epoch for it too (repeatable)."),
]


def amount(text: str | None) -> float | Literal["auto"] | None:
    """Return the value of --cpus-per-trial or --gpus-per-trial."""
    return "auto" if text == "auto" else None if text is None else float(text)


def cache_folder(cache_dir: Path | None, no_cache: bool) -> str | None:
    from trainables.data.cache import default_cache_dir

    return None if no_cache else str((cache_dir or default_cache_dir()).resolve())


def absolute(data: str) -> str:
    """Return the full path of a folder or file, so that the run can be resumed from anywhere.

    A name stays as it is.
    """
    return str(Path(data).resolve()) if Path(data).exists() and data.partition(":")[0] != "digits" else data


def group_of(group: str | None, data: str) -> str | None:
    """Return --group with the full path of a file that is not beside the data, so that the run can be resumed."""
    if group is None or not group.lower().endswith(".csv"):
        return group
    root = Path(data) if Path(data).is_dir() else Path(data).parent
    return group if (root / group).is_file() or not Path(group).is_file() else str(Path(group).resolve())


def given(ctx: typer.Context) -> dict[str, object]:
    """Return a command's options by their names on the command line, given or default, without arguments."""
    options = [one for one in ctx.command.params if one.opts[0].startswith("--") and one.name in ctx.params]
    values = {one.opts[0]: ctx.params[str(one.name)] for one in options}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def new_console() -> Console:
    from launch.cli.terminal import Terminal

    # A pipe has no width, and the default of 80 columns would cut the table in a log.
    return Terminal(width=None if sys.stdout.isatty() else 160)
