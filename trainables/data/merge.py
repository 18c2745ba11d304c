"""Fewer classes than the masks have: several become one, or none that is judged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trainables.data.dataset import VOID
from trainables.data.mask_names import is_void
from visionsweep.core.errors import ConfigError
from visionsweep.core.names import did_you_mean


@dataclass(frozen=True, eq=False)
class Merge:
    """Merged classes: C new names, and a table (256,) uint8 of old mask values to new ones.

    The table holds VOID for what is not judged.
    """

    classes: tuple[str, ...]
    table: npt.NDArray[np.uint8]

    def counts(self, pixel_counts: np.ndarray) -> np.ndarray:
        """Merge pixel counts: (N, old classes) -> (N, C)."""
        merged = np.zeros((len(pixel_counts), len(self.classes)), np.int64)
        for old in range(pixel_counts.shape[1]):
            if self.table[old] != VOID:
                merged[:, self.table[old]] += pixel_counts[:, old]
        return merged

    @property
    def background(self) -> int | None:
        """The class that is called background, in letters of either case, where there is one."""
        return next((i for i, name in enumerate(self.classes) if name.lower() == "background"), None)


def merge_classes(classes: Sequence[str], merge: Mapping[str, Sequence[str]]) -> Merge:
    """Merge classes. `merge` maps each new class to the old ones that become it, and other classes stay.

    A new class takes the place of the first of its old ones. Classes merged into `void`, or another name that mask
    files have for it, are neither learnt nor judged. Raises ConfigError for a name that the data does not have, or if
    fewer than two classes are left.
    """
    new_name = {name: name for name in classes}
    for new, old_names in merge.items():
        for name in old_names:
            if name not in new_name:
                raise ConfigError(f"merge: the data has no class '{name}'. {did_you_mean(name, classes)}")
            new_name[name] = new
    kept = tuple(dict.fromkeys(new_name[name] for name in classes if not is_void(new_name[name])))
    if len(kept) < 2:
        raise ConfigError(f"merge leaves {len(kept)} classes ({', '.join(kept)}), and two are needed. Merge fewer.")
    table = np.full(256, VOID, np.uint8)
    for old, name in enumerate(classes):
        if not is_void(new_name[name]):
            table[old] = kept.index(new_name[name])
    return Merge(kept, table)
