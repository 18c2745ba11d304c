"""What is known of a search's costs before its first trial: images, backbones, and the features in the cache."""

from __future__ import annotations

from launch.machines.cluster import MachineShare
from launch.machines.compatibility import Shared
from launch.samplers.work import GFLOPS_PER_S_OF_A_CORE, Known
from launch.search.records import Records
from search_spaces.search import Search
from trainables.features.kept_before import EVAL_CROP, kept_before
from trainables.models.known import forward_gflops
from visionsweep.run_dir.trials import read_search

GFLOPS_PER_S_OF_A_GPU = 2000.0  # a tenth of what its tensor cores could do


def known_before(records: Records, search: Search, shared: Shared, share: MachineShare, packed: bool) -> Known:
    """Return what costs are predicted from, see `Known`.

    A resumed run's own features do not count as kept before it: its first trials have paid for them.

    share   of a trial
    packed  whether trials differ in their threads
    """
    num_train, num_val = (len(shared.dataset.indices(split)) for split in ("train", "val"))
    eval_crop = search.full_space.get("eval_crop")
    kept = kept_before(
        shared.cache_dir,
        shared.dataset,
        float(read_search(records.run_dir).get("started", 0.0)),
        eval_crop=float(eval_crop) if isinstance(eval_crop, (int, float)) else EVAL_CROP,
        threads=None if packed or share.gpus else max(1, int(share.cpus)),
    )
    speed = GFLOPS_PER_S_OF_A_GPU * share.gpus if share.gpus else GFLOPS_PER_S_OF_A_CORE * share.cpus
    return Known(num_train, num_val, forward_gflops, kept, speed)
