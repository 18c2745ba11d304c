"""The kept rows of `minutes.py` across time and commits: small lines in records/minutes.jsonl, and tables for docs.

    python -m benchmarks.minutes_records --budget 5m [--sets NAME ...] [--commits COMMIT ...] [--records FILE]

prints the table of a budget from the rows of several runs. Of the same set, method and seed the latest row counts, or
the latest of the commits that are named.
"""

from __future__ import annotations

import argparse
import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.minutes_scores import METHODS, Cell, Record, cells_of, means

RECORDS = Path(__file__).parent / "records" / "minutes.jsonl"
RECORDS_IN_CLONE = "benchmarks/records"
# What a row keeps of a result. Rounded: four digits of an error, tenths of a second.
KEPT = ("set", "task", "method", "seed", "budget_s", "num_train", "num_test", "version", "commit", "time")
ROUNDED = {"error": 4, "standard_error": 4, "first_model_s": 1, "wall_s": 1}
NAMES = {"ours": "`visionsweep run`"}


def commit() -> str | None:
    """Return the commit that is measured, with `-dirty` where files differ from it, None outside of a clone.

    The kept rows themselves do not count: every measurement writes one.
    """
    name = _git("rev-parse", "--short", "HEAD")
    changed = _git("status", "--porcelain", "--untracked-files=no", "--", ":/", f":(exclude,top){RECORDS_IN_CLONE}")
    return f"{name}-dirty" if name and changed else name or None


def _git(*arguments: str) -> str:
    command = ["git", *arguments]
    return subprocess.run(
        command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False
    ).stdout.strip()


def row_of(result: Record, commit: str | None) -> Record:
    """Return the row that is kept of a result of `minutes.py`."""
    whole = {**result, "commit": commit}
    rounded = {name: None if whole.get(name) is None else round(whole[name], to) for name, to in ROUNDED.items()}
    return {**{name: whole.get(name) for name in KEPT}, **rounded}


def read_rows(path: Path) -> list[Record]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def latest(rows: Sequence[Record], commits: Sequence[str] = ()) -> list[Record]:
    """Return the last row of each set, method, budget and seed, of some commits alone where any are named."""
    found: dict[tuple[Any, ...], Record] = {}
    for row in rows:
        if not commits or row["commit"] in commits:
            found[tuple(row[name] for name in ("set", "method", "budget_s", "seed"))] = row
    return list(found.values())


def page_table(rows: Sequence[Record], budget_s: float) -> str:
    """Return the table of a budget in Markdown, and the geometric means of the ratios to the best reference."""
    mine = [row for row in rows if row["budget_s"] in (budget_s, None)]
    names = list(dict.fromkeys(row["set"] for row in mine if row["budget_s"] is not None))
    methods = [method for method in METHODS if any(row["method"] == method for row in mine)]
    of_set = {name: [row for row in mine if row["set"] == name] for name in names}
    lines = [f"| error at {budget_s:g} s | {' | '.join(NAMES.get(one, one) for one in methods)} | first model after |"]
    lines.append("|---" * (len(methods) + 2) + "|")
    for name, own in of_set.items():
        cells = cells_of(own)
        errors = " | ".join(_error(cells.get(method)) for method in methods)
        ours = cells.get("ours")
        first = "" if ours is None or ours.first_model_s is None else f"{ours.first_model_s:.0f} s"
        lines.append(f"| {name}, {own[0]['num_train']} + {own[0]['num_test']} | {errors} | {first} |")
    return "\n".join([*lines, "", *means("all", [cells_of(own) for own in of_set.values()])])


def _error(cell: Cell | None) -> str:
    if cell is None:
        return ""
    return f"{cell.error:.3f} ± {cell.standard_error:.3f}" if cell.error else f"{cell.error:.3f}"


def main(arguments: Sequence[str] | None = None) -> None:
    from launch.cli.loading import parse_duration

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--budget", default="60s", help="such as 60s, 5m or 15m")
    parser.add_argument("--sets", nargs="+", default=[])
    parser.add_argument("--commits", nargs="+", default=[])
    parser.add_argument("--records", type=Path, default=RECORDS)
    options = parser.parse_args(arguments)
    rows = latest(read_rows(options.records), options.commits)
    print(
        page_table(
            [row for row in rows if not options.sets or row["set"] in options.sets], parse_duration(options.budget)
        )
    )


if __name__ == "__main__":
    main()
