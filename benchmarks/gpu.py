"""Whether training on this machine's GPU is right and fast: nine sections, one table, in about ten minutes.

    python -m benchmarks.gpu [--data DIR] [--out FILE.json] [--sections A B ...] [--minutes 10]
    python -m benchmarks.gpu --prepare DIR [--photos FOLDER] [--masks FOLDER]
    python -m benchmarks.gpu --fake

A section passes, or its row has the first line of what went wrong. It needs no network and no Ray. `--prepare` writes
weights, photos and masks into a folder that may travel, and `--data` uses it. Without it images are drawn, and
networks begin from scratch. `--fake` runs all of it in small on a CPU: it shows that everything runs, and no number.
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch

from benchmarks.gpu_ground import Ground, prepare
from benchmarks.gpu_memory import out_of_memory, packing, poisoned
from benchmarks.gpu_process import Apart, first_line
from benchmarks.gpu_right import correctness, every_network
from benchmarks.gpu_searches import forty_trials, to_their_best
from benchmarks.gpu_several import several_gpus
from benchmarks.gpu_speed import throughput
from trainables.device import CPU, GPU
from trainables.worker.threads import limit_threads

FAKE_S = 600.0  # for a section with --fake, whose work is small whatever the machine does beside it
Check = Callable[[Ground, float], dict[str, object]]


@dataclass(frozen=True)
class Section:
    """One row of the table. part is its part of the time; the last section gets what the others leave."""

    title: str
    check: Check
    part: float


SECTIONS = {
    "A": Section("fp32, fp16 and bf16 agree with the CPU", correctness, 0.08),
    "B": Section("shares of a GPU are kept", packing, 0.12),
    "C": Section("a batch that does not fit is halved", out_of_memory, 0.08),
    "D": Section("a broken process is replaced", poisoned, 0.05),
    "E": Section("every backbone and segmenter trains in bf16", every_network, 0.17),
    "F": Section("images/s against timm and memory", throughput, 0.18),
    "G": Section("40 trials packed against one by one", forty_trials, 0.13),
    "H": Section("photos and masks to their best", to_their_best, 0.14),
    "I": Section("all GPUs train as one does", several_gpus, 0.05),
}


@dataclass(frozen=True)
class Row:
    """A section's outcome. wrong is the first line of what went wrong, '' if it passed."""

    letter: str
    title: str
    wrong: str
    seconds: float
    found: dict[str, object] = field(default_factory=dict)

    def line(self) -> str:
        verdict = f"WRONG  {self.wrong}" if self.wrong else f"pass   {self.found.get('said', '')}"
        return f"{self.letter}  {self.title:44} {self.seconds:6.1f} s  {verdict}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, help="the folder of --prepare; without it images are drawn")
    parser.add_argument("--out", type=Path, help="write the table and all numbers as JSON")
    parser.add_argument("--sections", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--fake", action="store_true", help="in small, on a CPU")
    parser.add_argument("--prepare", type=Path, metavar="DIR", help="write weights, photos and masks there, and end")
    parser.add_argument("--photos", type=Path, help="for --prepare: a folder of photos by class")
    parser.add_argument("--masks", type=Path, help="for --prepare: a folder of images with masks")
    arguments = parser.parse_args()
    if arguments.prepare is not None:
        print("\n".join(prepare(arguments.prepare, arguments.photos, arguments.masks)))
        return
    if not arguments.fake and not torch.cuda.is_available():
        parser.error("torch sees no GPU here. Run it where one is, or try the command itself with --fake.")
    if arguments.data is not None and not arguments.data.is_dir():
        parser.error(f"--data {arguments.data} is no folder. Write it with --prepare {arguments.data}.")
    if arguments.fake:
        limit_threads(1)  # of networks so small more threads only wait for each other
    with tempfile.TemporaryDirectory() as scratch:
        ground = Ground(CPU if arguments.fake else GPU, Path(scratch), arguments.data)
        rows = table(ground, sorted(arguments.sections), 60 * arguments.minutes)
    if arguments.out is not None:
        written = {**about(ground), "sections": [asdict(row) for row in rows]}
        arguments.out.write_text(json.dumps(written, indent=2, default=str) + "\n")
    wrong = sum(bool(row.wrong) for row in rows)
    print(f"{len(rows) - wrong} of {len(rows)} sections passed{', on a CPU, in small' if ground.fake else ''}")
    if wrong:
        raise SystemExit(1)


def about(ground: Ground) -> dict[str, object]:
    """Return what the numbers were measured on."""
    name = platform.processor() or platform.machine() if ground.fake else torch.cuda.get_device_name(ground.device)
    return {"device": name, "fake": ground.fake, "torch": torch.__version__, "python": platform.python_version()}


def table(ground: Ground, letters: list[str], total_s: float) -> list[Row]:
    """Run sections one after the other, print each one's row, and return the rows."""
    ends = time.monotonic() + total_s
    print(*(f"{key} {value}" for key, value in about(ground).items()), sep=", ", flush=True)
    rows = []
    for letter in letters:
        left_s = FAKE_S if ground.fake else max(10.0, ends - time.monotonic())
        planned_s = left_s if ground.fake or letter == letters[-1] else min(left_s, SECTIONS[letter].part * total_s)
        rows.append(run(letter, ground, planned_s, left_s))
        print(rows[-1].line(), flush=True)
    return rows


def run(letter: str, ground: Ground, planned_s: float, most_s: float) -> Row:
    """Run a section, on a GPU in a process of its own: one that breaks its CUDA context breaks no other.

    planned_s  the time that it plans with
    most_s     after which it is ended
    """
    section = SECTIONS[letter]
    began = time.monotonic()
    wrong = ""
    found: dict[str, object] = {}
    try:
        if ground.fake:
            found = section.check(ground, planned_s)
        else:
            found = Apart(section.check, ground, planned_s).result(most_s + 30)
    except Exception as error:
        wrong = first_line(error)
        found = getattr(error, "found", {})
    return Row(letter, section.title, wrong, time.monotonic() - began, found)


if __name__ == "__main__":
    main()
