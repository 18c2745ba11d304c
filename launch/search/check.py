"""`visionsweep check`: what would stand in the way of a search, before anything is spent.

`run` makes the fatal ones of these checks too.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.console import Console

from launch.cli.printing import print_found
from launch.machines.auth_token import token_is_on
from launch.machines.capacity import Capacity, plan
from launch.machines.cluster import MachineShare
from launch.machines.compatibility import Finding, Shared, look_at_nodes
from launch.machines.nodes import Node
from launch.machines.trial_probe import NUM_DRAWS, costliest, measure
from launch.remote.location import new_location
from launch.remote.session import check_new
from launch.search.duplicates import duplicates
from launch.search.estimate import Cost, Estimate, sizes_of, times_folds, usual_epochs
from launch.search.prepare import RunOptions, prepared
from launch.search.settled import SettledSearch
from launch.search.speed import speeds
from search_spaces.search import Search
from trainables.data.cache_build import SAMPLE
from trainables.data.dataset import Dataset
from trainables.data.view import View
from trainables.tasks import TASKS
from visionsweep.core.text import in_words


def check_search(
    search: Search, options: RunOptions, runs_dir: str, console: Console, *, list_duplicates: bool = False
) -> list[Finding]:
    """Return the findings of all checks, in the order in which they would go wrong.

    Prints first, on `console`, what the data is, and its near duplicates if they are to be listed. runs_dir: a folder,
    or an address on S3.

    Raises InputError, as `run` does, for what is wrong with the search or the data.
    """
    settled, dataset = prepared(search, options)
    cache_dir = options.cache
    location = new_location(runs_dir, "visionsweep-check", cache_dir)
    check_new(location)
    print_found(dataset, console)
    for line in duplicates(dataset, cache_dir) if list_duplicates else ():
        console.print(line, soft_wrap=True, markup=False, highlight=False)
    found: list[Finding] = []
    nodes = Shared(dataset, location, cache_dir).asking().everyone()
    found += look_at_nodes(nodes)
    if any(finding.fatal for finding in found):
        return found
    if len(nodes) > 1:
        seen = f"seen alike by all {len(nodes)} machines"
        runs = (
            Path(runs_dir).resolve() if location.remote is None else f"{location.remote.parent}, which all can write to"
        )
        found.append(Finding(f"data and runs folder {runs}: {seen}"))
    needed_gb = cache_gb(dataset, settled.short_side_px, settled.views)
    found += look_at_cache(nodes, needed_gb, cache_dir)
    found += look_at_trials(settled, dataset, *plan(*options.resources), nodes)
    if not any(finding.fatal for finding in found):
        found += look_at_budget(settled, dataset, plan(*options.resources)[0], options.budget_s)
    found.append(_tokens())
    return found


def look_at_trials(
    search: SettledSearch, dataset: Dataset, share: MachineShare, capacity: Capacity | None, nodes: Sequence[Node]
) -> list[Finding]:
    """Return what the costliest trial needs, and how many run at once. capacity: set if trials are packed."""
    outputs = TASKS[search.task].num_outputs(len(dataset.classes))
    need = measure(costliest(search, outputs), dataset, share)
    words = in_words(need.config)
    if need.problem:
        advice = "Fix what it shows with --set, such as a smaller image_size or batch_size, or other weights."
        return [Finding(f"the costliest of {NUM_DRAWS} configurations ({words}) fails: {need.problem}", advice, True)]
    gb = need.peak_memory_mb * 2**20 / 1e9
    device = "GPU memory" if share.gpus else "memory"
    if capacity is not None:
        return look_at_capacity(capacity, need.peak_memory_mb, f"{need.step_seconds:.1f} s for a first batch ({words})")
    per_trial = f"--cpus-per-trial {share.cpus:g}" + (f" --gpus-per-trial {share.gpus:g}" if share.gpus else "")
    found = [
        Finding(
            f"a trial: {per_trial}, up to about {gb:.1f} GB of {device} and {need.step_seconds:.1f} s for a first "
            f"batch ({words}); {share.concurrent} at once"
        )
    ]
    have = [node.gpu_memory_gb if share.gpus else node.memory_gb for node in nodes if not share.gpus or node.gpus]
    each = max(1, int(1 / share.gpus)) if share.gpus else max(1, round(share.concurrent / len(nodes)))
    if have and gb * each > min(have):
        advice = "Give each more with --gpus-per-trial or --cpus-per-trial, or fix a smaller batch_size or image_size."
        found.append(Finding(f"{each} such trials on one machine would not fit into its {min(have):.0f} GB", advice))
    return found


def look_at_budget(
    search: SettledSearch, dataset: Dataset, share: MachineShare, budget_s: float | None
) -> list[Finding]:
    """Return what a budget buys. A usual configuration of each regime is timed on a few images, for some seconds."""
    found = speeds(search, dataset, share)
    lengths = usual_epochs(search)
    sizes = sizes_of(search)
    num_train = len(dataset.indices("train"))
    num_val = len(dataset.indices("val"))
    costs = {}
    for regime, one in found.items():
        cut = one.config.get("epoch_images")
        num = num_train if cut is None else min(num_train, int(cut))
        whole = one.trial_s(num, num_val, lengths[regime]) * times_folds(one.config, dataset.num_folds)
        size = one.config.get("image_size")
        by_area = None if one.by_area is None else one.by_area * (whole - one.fixed_s) / whole
        costs[regime] = Cost(whole, size, by_area)
    estimate = Estimate(costs, budget_s, 0.0, share.concurrent, sizes)
    bought, *warned = estimate.sentences() or [""]
    return [Finding(bought, warned[0] if warned else "")] if bought else []


def look_at_capacity(capacity: Capacity, peak_memory_mb: float, details: str) -> list[Finding]:
    """Return the share that `auto` gives to the costliest trial. details: of that trial."""
    fraction = capacity.fraction_for(peak_memory_mb)
    of = "a GPU" if capacity.on_gpus else "a machine"
    part = "all" if fraction == 1 else f"1/{round(1 / fraction)}"
    part_gb = capacity.resources(fraction).memory_mb * 2**20 / 1e9
    each = min(capacity.most, int(capacity.devices / fraction + 1e-9))
    found = [
        Finding(
            f"a trial: up to about {peak_memory_mb * 2**20 / 1e9:.1f} GB and {details}, for which it gets {part} "
            f"of {of}'s memory ({part_gb:.1f} GB); {each} of the costliest at once, up to {capacity.most} of the "
            f"smallest"
        )
    ]
    if peak_memory_mb > capacity.device_mb:
        advice = "Fix a smaller batch_size or image_size with --set: such a trial continues at half the batch."
        found.append(Finding(f"that is more than all of {of}'s {capacity.device_mb * 2**20 / 1e9:.1f} GB", advice))
    return found


def cache_gb(dataset: Dataset, short_side_px: int, views: Sequence[View] = ()) -> float:
    """Estimate the size of the decoded images from a few of them.

    All images count at one size, the validation images also at the others.
    """
    indices = np.flatnonzero(~np.isin(dataset.split, ("skipped", "duplicate")))
    sample = indices[np.linspace(0, len(indices) - 1, min(SAMPLE, len(indices)), dtype=int)]
    trained = 0  # bytes
    judged = 0  # bytes
    for index in sample.tolist():
        image = dataset.reader(index)
        trained += View(short_side_px).shrink(image).nbytes
        judged += sum(view.shrink(image).nbytes for view in views if view.key != str(short_side_px))
        if dataset.mask_reader is not None:
            trained += dataset.mask_reader(index).nbytes
    return (trained * len(dataset.names) + judged * len(dataset.indices("val"))) / len(sample) / 1e9


def _tokens() -> Finding:
    if token_is_on():
        return Finding("Ray asks for a token")
    advice = "Start Ray with RAY_AUTH_MODE=token on every machine (SECURITY.md)."
    return Finding("Ray asks for no token: anyone who reaches its ports can run code", advice)


def look_at_cache(nodes: Sequence[Node], cache_gb: float, cache_dir: Path | None) -> list[Finding]:
    """Return whether every machine has room for the decoded images."""
    if cache_dir is None:
        return [Finding("images are decoded at every access (--no-cache)")]
    found = [Finding(f"decoded images: about {cache_gb:.2f} GB on each machine, in {cache_dir}")]
    for node in nodes:
        if not node.problem and node.free_gb < 1.1 * cache_gb:
            advice = "Free some space there, name another --cache-dir, or pass --no-cache."
            found.append(Finding(f"{node.address}: {node.free_gb:.1f} GB are free for them", advice, fatal=True))
    return found
