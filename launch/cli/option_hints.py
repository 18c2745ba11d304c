"""What somebody meant who wrote an option that a command does not have, or its value apart."""

from __future__ import annotations

from typing import Any

from typer import BadParameter
from typer.core import TyperCommand

# As other tools call it -> how it is written here, with its option in front.
MEANT = {
    "--epochs": "--set epochs=12",
    "--lr": "--set optimizer.lr=0.001",
    "--learning-rate": "--set optimizer.lr=0.001",
    "--optimizer": "--set optimizer.name=adam",
    "--batch": "--set batch_size=32",
    "--batch-size": "--set batch_size=32",
    "--imgsz": "--set image_size=160",
    "--img-size": "--set image_size=160",
    "--image-size": "--set image_size=160",
    "--model": "--set model.backbone=resnet34",
    "--backbone": "--set model.backbone=resnet34",
    "--metric": "--set metric=val/f1",
    "--time": "--budget 5m",
    "--timeout": "--budget 5m",
    "--time-limit": "--budget 5m",
    "--n-trials": "--trials 50",
    "--num-trials": "--trials 50",
    "--num-samples": "--trials 50",
    "--cpus": "--cpus-per-trial 1",
    "--gpus": "--gpus-per-trial 1",
    "--jobs": "--max-concurrent 2",
    "--workers": "--max-concurrent 2",
    "--output": "--out FOLDER",
    "--output-dir": "--out FOLDER",
    "--dataset": "--data FOLDER",
    "--run-name": "--name NAME",
}
KEPT = ("--folds", "--group", "--test", "--seed")  # what a resumed run has from its beginning
_UsageError: Any = BadParameter.__base__  # of the parser that typer brings along


class Command(TyperCommand):
    """A command whose errors of usage say what was meant."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        typed = list(args)
        try:
            parsed: list[str] = super().parse_args(ctx, args)
        except _UsageError as error:
            meant = self._meant(error, typed)
            if meant is not None:
                error.message = meant
                if hasattr(error, "possibilities"):
                    error.possibilities = None
            raise
        return parsed

    def _meant(self, error: Any, typed: list[str]) -> str | None:
        own = {name for parameter in self.params for name in parameter.opts}
        unknown = getattr(error, "option_name", None)
        hint = MEANT.get(str(unknown))
        if hint is not None and hint.partition(" ")[0] in own:
            return f"No such option: {unknown}. Write {hint}, for example."
        if unknown in KEPT and self.name == "resume":
            return f"No such option: {unknown}. A resumed run keeps what it began with: `run` starts one with others."
        apart = _set_apart(typed)
        if "extra argument" in str(error.message) and apart is not None:
            key, value = apart
            return f"--set takes key=value in one word. Write --set {key}={value}."
        return None


def _set_apart(typed: list[str]) -> tuple[str, str] | None:
    """Of `--set image_size 64` the key and the value."""
    for option, key, value in zip(typed, typed[1:], typed[2:], strict=False):
        if option == "--set" and "=" not in key and not value.startswith("--"):
            return key, value
    return None
