"""Which configurations a search of photos should try first: today's list, or one that records choose?

    python -m benchmarks.first_eight --sets wbc chess textures [--first 12] [--images 260] [--seed 0]
                                     [--minutes 3] [--out runs/first-eight.jsonl] [--data ../shared/data]
                                     [--read-only]

Measures a grid of configurations of `classification-cpu` on the training rows of each set, a fifth of which are held
out. Value and CPU seconds of each are a line of --out. The test rows are never read. The same command again resumes,
and --minutes ends it early.

From the records a list of eight is chosen greedily, by gain per second. The next one adds most to the best value so
far, summed over the sets, for its seconds. Features that are kept cost nothing the second time.

The list of a set is chosen on all others (leave one set out), and both lists are run on two virtual workers. The table
shows by how much their best value stays below the best of the grid, for budgets of 30, 60 and 300 seconds of each
worker.
"""

from __future__ import annotations

import argparse
import heapq
import json
import multiprocessing
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.minutes_sets import SHARED, Labelled, folds, lay_out, sets_below
from search_spaces.classification import CPU, LITE
from search_spaces.finite import drawn_as
from search_spaces.search import Search

BUDGETS_S = (30.0, 60.0, 300.0)
WORKERS = 2
LENGTH = 8  # of a list
# What a task adds to a fine-tuning, and today's list leaves to the sampler.
_BCE = {"name": "bce", "label_smoothing": 0.0, "pos_weight": "none"}
LOSSES: dict[str, dict[str, Any]] = {
    "binary": {"loss": _BCE},
    "multiclass": {"loss": {"name": "cross_entropy", "label_smoothing": 0.0, "class_weights": "none"}},
    "multilabel": {"loss": _BCE, "threshold": 0.3},
}
TRIAL_S = 0.5  # from one trial's end to the next one's first batch


@dataclass(frozen=True)
class Tried:
    """A configuration measured on a set.

    value     the search's metric
    seconds   of a CPU, without features
    features  name and seconds of each that it needs, which are computed once
    """

    name: str
    value: float
    seconds: float
    features: Mapping[str, float]


Records = Mapping[str, Mapping[str, Tried]]  # by set, by name


# --- the grid ---


def grid() -> list[dict[str, Any]]:
    """Configurations as `warm_start` has them: today's probes, what is near them, and fine-tunings at the end."""
    today = [dict(config) for config in CPU.warm_start]
    probe, finetune = (next(one for one in today if one["regime"] == regime) for regime in ("probe", "finetune"))

    def probing(backbone: str, size: int, fit: str, views: int = 1) -> dict[str, Any]:
        return {**probe, "model": {"backbone": backbone}, "image_size": size, "fit_image": fit, "views": views}

    def tuning(backbone: str, size: int, epochs: int, lr: float = 1e-4) -> dict[str, Any]:
        model = {**finetune["model"], "backbone": backbone}
        optimizer = {**finetune["optimizer"], "lr": lr}
        return {**finetune, "model": model, "optimizer": optimizer, "image_size": size, "epochs": epochs}

    together = ["+".join(names) for many in (3, 2) for names in combinations(LITE, many)]
    found = [*(one for one in today if one["regime"] == "probe"), probing(LITE[0], 128, "crop")]
    found += [probing(LITE[0], 160, "crop"), probing(LITE[0], 288, "crop"), probing(LITE[0], 224, "crop", views=2)]
    found += [probing(name, 224, "crop") for name in together[1:]]
    found += [probing(name, 160, fit) for name in (*LITE, *together) for fit in FITS]
    found += [probing(name, 224, "squash") for name in (*LITE, *together)]
    found += [probing(name, 288, fit) for name in (*LITE[:2], "+".join(LITE[:2])) for fit in FITS]
    found += [probing(together[0], 224, "crop", views=2)]
    found += [tuning(LITE[0], 128, 4), tuning(LITE[0], 128, 8), tuning(LITE[0], 160, 4, lr=3e-4)]
    found += [tuning(LITE[0], 224, 4), tuning(LITE[0], 160, 8)]
    new = {name_of(config): config for config in [*found, *today]}
    return list(new.values())


FITS = ("crop", "squash")


def name_of(config: Mapping[str, Any]) -> str:
    """Such as `probe lite0+lite1 224 crop` or `finetune lite0 160 crop 4 epochs lr 0.0001`."""
    backbone = "+".join(part.rpartition("_")[2] for part in config["model"]["backbone"].split("+"))
    name = f"{config['regime']} {backbone} {config['image_size']} {config['fit_image']}"
    if config["regime"] == "probe":
        return name + (" mirrored" if config["views"] > 1 else "")
    return f"{name} {config['epochs']} epochs lr {config['optimizer']['lr']:g}"


def features_of(config: Mapping[str, Any]) -> list[str]:
    """Return the features of frozen backbones that a configuration needs, each computed once.

    A fine-tuning needs them for its first head.
    """
    views = "mirrored" if config.get("views", 1) > 1 else ""
    parts = config["model"]["backbone"].split("+")
    return [f"{part} {config['image_size']} {config['fit_image']} {views}".strip() for part in parts]


# --- measuring ---


def measure(
    data: Labelled, grid: Sequence[Mapping[str, Any]], known: Mapping[str, Tried], seed: int, ends_s: float, work: Path
) -> Iterator[dict[str, Any]]:
    """Yield a line for each configuration that is not known.

    ends_s  seconds of time.time(), no configuration begins after it
    work    folder for the set's caches, where the next call finds them
    """
    import torch

    from launch.search import preflight
    from trainables.data.formats import load_dataset
    from trainables.data.loader import TrialData

    # Prepare the data once, as a search would.
    torch.set_num_threads(1)
    folder = work / "data"
    if not folder.exists():
        lay_out(data, folder, seed)
    px = preflight.short_side_px(CPU.for_task("multiclass"))
    dataset, images = load_dataset(str(folder), seed=seed, short_side_px=px, cache_dir=work / "cache")
    search = CPU.for_task(dataset.task)
    trial_data = TrialData(dataset, images)
    # Time the features apart from the training: they are computed once for several configurations.
    paid = {feature for tried in known.values() for feature in tried.features}
    for config in grid:
        if name_of(config) in known or time.time() > ends_s:
            continue
        features_s = dict.fromkeys(features_of(config), 0.0)
        missing = [one for one in features_s if one not in paid]
        if missing:  # the same twice: the first time computes and keeps them
            probe = config if config["regime"] == "probe" else _probe_of(config)
            seconds = [_trained(search, probe, trial_data)[1] for _ in range(2)]
            features_s |= {one: max(seconds[0] - seconds[1], 0.0) / len(missing) for one in missing}
            paid |= set(missing)
        value, seconds_s = _trained(search, config, trial_data)
        yield {
            "set": data.name,
            "seed": seed,
            "name": name_of(config),
            "value": value,
            "seconds": seconds_s,
            "features": features_s,
        }


def _probe_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """The probe that keeps the features which a fine-tuning's first head is solved on."""
    seen = {key: config[key] for key in ("image_size", "fit_image")}
    return {"regime": "probe", "model": {"backbone": config["model"]["backbone"]}, "views": 1, **seen}


def _trained(search: Search, config: Mapping[str, Any], data: Any) -> tuple[float, float]:
    """The best value of an epoch, and CPU seconds."""
    import torch

    from trainables.config.io import parse_config
    from trainables.loop import fit

    of_task = LOSSES[search.task] if config["regime"] == "finetune" else {}
    params = search.encode({**of_task, **config})
    parsed = parse_config(drawn_as(search.full_space, params), "a configuration of the grid")
    before = time.process_time()
    values = [float(result.metrics[search.metric or ""]) for result in fit(parsed, data, torch.device("cpu"))]
    return (max if search.mode == "max" else min)(values), time.process_time() - before


def some_rows(data: Labelled, num: int, seed: int) -> Labelled:
    """Return about `num` training rows at most, in whole groups and without test rows.

    Each class gives its share.
    """
    pieces = max(1, round(len(data.train) / num))
    kept = np.arange(len(data.train))
    if pieces > 1:
        kept = np.sort(folds(data.targets(data.train), data.groups(), pieces, seed)[0][1])
    return replace(data, train=tuple(data.train[row] for row in kept), test=())


def _measure_set(
    job: tuple[str, Mapping[str, Tried]],
    root: Path,
    out: Path,
    num: int,
    seed: int,
    first: int | None,
    ends_s: float,
) -> None:
    name, known = job
    data = some_rows(sets_below(root)[name](), num, seed)
    work = out.with_suffix(".cache") / f"{name}-{seed}"
    work.mkdir(parents=True, exist_ok=True)
    for line in measure(data, grid()[:first], known, seed, ends_s, work):
        with out.open("a") as file:
            file.write(json.dumps(line) + "\n")


# --- choosing ---


def gains(tried: Tried, best: float, paid: set[str]) -> tuple[float, float]:
    """Return the gain of a configuration over the best value so far, and its seconds."""
    return max(tried.value - best, 0.0), cost_s(tried, paid)


def cost_s(tried: Tried, paid: set[str]) -> float:
    return TRIAL_S + tried.seconds + sum(s for name, s in tried.features.items() if name not in paid)


def chosen(records: Records, length: int = LENGTH) -> list[str]:
    """Names of a list, greedily by gain per second summed over the sets."""
    best = {name: min(one.value for one in of.values()) for name, of in records.items()}
    paid: dict[str, set[str]] = {name: set() for name in records}
    names = sorted(set.intersection(*(set(of) for of in records.values())))
    found: list[str] = []
    while len(found) < min(length, len(names)):

        def worth(name: str) -> tuple[float, float]:
            pairs = [gains(of[name], best[of_set], paid[of_set]) for of_set, of in records.items()]
            gain = sum(gain for gain, _ in pairs)
            seconds = sum(seconds for _, seconds in pairs)
            mean = sum(of[name].value for of in records.values())
            return gain / seconds, mean  # once nothing adds: what is good by itself

        found.append(max((name for name in names if name not in found), key=worth))
        for of_set, of in records.items():
            best[of_set] = max(best[of_set], of[found[-1]].value)
            paid[of_set] |= set(of[found[-1]].features)
    return found


def regret(names: Sequence[str], of: Mapping[str, Tried], budget_s: float, workers: int = WORKERS) -> float:
    """Return how far the best value of a list stays below the best of the grid, within `budget_s` of each worker."""
    free = [0.0] * workers
    paid = set[str]()
    best = min(one.value for one in of.values())
    for name in names:
        if name not in of:
            continue
        ends = heapq.heappop(free) + cost_s(of[name], paid)
        heapq.heappush(free, ends)
        paid |= set(of[name].features)
        if ends <= budget_s:
            best = max(best, of[name].value)
    return max(one.value for one in of.values()) - best


def table(records: Records) -> str:
    """Compare today's list with one that is chosen without the set, set by set."""
    today = [name_of(config) for config in CPU.warm_start]
    lines = [f"{'regret, today / chosen':<24}" + "".join(f"{f'{budget:g} s':>16}" for budget in BUDGETS_S)]
    pairs = []
    for name, of in sorted(records.items()):
        others = {other: tried for other, tried in records.items() if other != name}
        theirs = chosen(others)
        pairs.append([[regret(names, of, budget) for names in (today, theirs)] for budget in BUDGETS_S])
        lines.append(f"{name:<24}" + "".join(f"{f'{a:.3f} / {b:.3f}':>16}" for a, b in pairs[-1]))
    array = np.array(pairs)  # (sets, budgets, 2)
    lines.append(f"{'mean':<24}" + "".join(f"{f'{a:.3f} / {b:.3f}':>16}" for a, b in array.mean(axis=0)))
    gained = array[:, :, 0] - array[:, :, 1]
    errors = gained.std(axis=0, ddof=1) / np.sqrt(len(array))
    cells = zip(gained.mean(axis=0), errors, strict=True)
    lines.append(f"{'gain of the chosen':<24}" + "".join(f"{f'{a:+.3f} ± {b:.3f}':>16}" for a, b in cells))
    return "\n".join([*lines, "", "chosen on all sets:", *(f"  {name}" for name in chosen(records))])


def read(out: Path, seed: int) -> Records:
    lines = [json.loads(text) for text in out.read_text().splitlines()] if out.is_file() else []
    lines = [line for line in lines if line["seed"] == seed]
    # Whoever needed them first was charged for features: they cost the same in the list of any other.
    paid: dict[tuple[str, str], float] = {}
    for line in lines:
        for feature, seconds in line["features"].items():
            paid[line["set"], feature] = max(seconds, paid.get((line["set"], feature), 0.0))
    records: dict[str, dict[str, Tried]] = {}
    for line in lines:
        features = {feature: paid[line["set"], feature] for feature in line["features"]}
        tried = Tried(line["name"], line["value"], line["seconds"], features)
        records.setdefault(line["set"], {})[line["name"]] = tried
    return records


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="+", default=[])
    parser.add_argument("--images", type=int, default=260)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=None, help="so many configurations of the grid (default: all)")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--out", type=Path, default=Path("runs/first-eight.jsonl"))
    parser.add_argument("--data", type=Path, default=SHARED)
    parser.add_argument("--read-only", action="store_true")
    options = parser.parse_args()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    known = read(options.out, options.seed)
    if not options.read_only:
        ends_s = time.time() + 60 * options.minutes
        jobs = [(name, known.get(name, {})) for name in options.sets]
        one = partial(
            _measure_set,
            root=options.data,
            out=options.out,
            num=options.images,
            seed=options.seed,
            first=options.first,
            ends_s=ends_s,
        )
        if options.jobs > 1:
            with multiprocessing.get_context("spawn").Pool(options.jobs) as pool:
                list(pool.imap_unordered(one, jobs))
        else:
            list(map(one, jobs))
        known = read(options.out, options.seed)
    records = {name: of for name, of in known.items() if not options.sets or name in options.sets}
    if len(records) < 2:
        raise SystemExit("A list is chosen on all sets but one: name at least two sets that are measured.")
    print(table(records))


if __name__ == "__main__":
    main()
