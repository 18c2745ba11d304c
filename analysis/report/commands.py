"""Commands that a page hands over: of this run, or of a search like it with other settings."""

from __future__ import annotations

import shlex

from visionsweep.run_dir.run import Run

NAMED = "--name"  # a new search has a name of its own
SET = "--set"


def of_run(run: Run, command: str, *more: str) -> str:
    """Return `visionsweep COMMAND RUN ...`."""
    return shlex.join(["visionsweep", command, str(run.run_dir), *more])


def export_folder(run: Run) -> str:
    """Return where `export` puts the model if nobody says where."""
    return f"exports/{run.run_dir.resolve().name}"


def again(run: Run, **settings: object) -> str:
    """Return the command of the run with other settings, '' if the run was not started by a command.

    settings: keys of `--set`, with `__` for a dot.
    """
    parts = [str(part) for part in run.search.get("command") or []]
    if not parts or parts[0] != "run":
        return ""
    changed = {key.replace("__", "."): value for key, value in settings.items()}
    kept: list[str] = []
    waiting = iter(parts)
    for part in waiting:
        option, has_value, value = part.partition("=")
        if option == NAMED:
            if not has_value:
                next(waiting, None)
        elif option == SET:
            setting = value if has_value else next(waiting, "")
            if setting.partition("=")[0] not in changed:
                kept += [SET, setting]
        else:
            kept.append(part)
    for key, setting_value in changed.items():
        kept += [SET, f"{key}={setting_value}"]
    return shlex.join(["visionsweep", *kept])
