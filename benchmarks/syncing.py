"""What it costs the search that its lines reach the disk: appends with and without the thread that syncs them.

    python -m benchmarks.syncing [--lines 3000]

A search of tiny trainings writes about a hundred lines a second on a large machine. Here so many are appended at that
rate. The time that the search spends in appending is measured, beside that of one append without a pause. Target: at
most 1% of the search's time.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path
from statistics import median

from launch.search.records import Records

LINES_PER_S = 100
EPOCHS = 20
METRICS = {f"val/metric {number}": 0.123456789 * number for number in range(8)}
SEARCH = {"search": {"task": "binary", "metric": "val/f1", "mode": "max", "epochs": EPOCHS}, "data": {}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lines", type=int, default=3000)
    parser.add_argument("--folder", type=Path, help="On the disk that is asked about; default: the temporary folder.")
    arguments = parser.parse_args()
    shares: dict[bool, list[float]] = {}
    for synced in (False, True, False, True):
        with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
            seconds = appended(Path(folder) / "run", arguments.lines, synced=synced)
        share = sum(seconds) * LINES_PER_S / len(seconds)
        shares.setdefault(synced, []).append(share)
        told = f"median {1e6 * median(seconds):.0f} us a line, longest {1e3 * max(seconds):.1f} ms"
        rate = f"{share:.3%} of the search's time at {LINES_PER_S} lines a second"
        print(f"{'with' if synced else 'without'} syncs: {told}, {rate}")
    print(f"overhead of syncing: {median(shares[True]) - median(shares[False]):.3%} (target: at most 1%)")


def appended(run: Path, num_lines: int, *, synced: bool) -> list[float]:
    """Seconds that each line took."""
    records = Records.create(run, SEARCH)
    seconds = []
    with records.locked() if synced else nullcontext():
        for number in range(num_lines):
            trial_id = f"{number // EPOCHS:04d}"
            epoch = number % EPOCHS + 1
            if epoch == 1:
                records.proposed(trial_id, {}, {}, "sampler")
            begun = time.perf_counter()
            records.epoch({"trial_id": trial_id, "epoch": epoch, "metrics": METRICS, "seconds": 1.0})
            if epoch == EPOCHS:
                records.ended(trial_id, "complete", "")
            took = time.perf_counter() - begun
            seconds.append(took)
            time.sleep(max(0.0, 1 / LINES_PER_S - took))
    return seconds


if __name__ == "__main__":
    main()
