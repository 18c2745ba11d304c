"""The end of a search: its kept models are compared alone, as an ensemble and as a soup
(`analysis/models/recommend.py`)."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass

from rich.console import Console

from launch.cli.signals import asked, finishing
from launch.cli.slow import said_if_slow
from launch.search.records import Records
from launch.search.settled import SettledSearch
from trainables.data.dataset import Dataset
from trainables.data.formats import reopen_images
from trainables.worker.settings import TrialSettings
from visionsweep.core.errors import InputError
from visionsweep.run_dir.load import load_run
from visionsweep.run_dir.recommended import forget

# A greedy choice among eight models took 0.15 s of a CPU (accuracy, 76 photos) to 1.8 s (mAP of 18 tags, 300 photos).
# A whole comparison makes eleven such choices. Solving the head of a probe again takes about a second.
SHARE = 0.04  # of the budget
MOST_S = 20.0
LEAST_S = 6.0
IMPORTS_S = 3.0  # of torch and timm, which the driver of a search goes without until here
WITHOUT_BUDGET_S = 120.0


@dataclass(frozen=True)
class Comparing:
    """The comparison of a run's kept models.

    ends_s: when it must be over, of time.monotonic(); None without a budget.
    """

    records: Records
    search: SettledSearch
    ends_s: float | None

    @property
    def wanted(self) -> bool:
        """Whether the run compares its models.

        It does not with several objectives, where nobody knows what a gain may cost. Nor does it on S3, where the
        weights are not at hand.
        """
        return len(self.search.compared) == 1 and self.records.mirror is None

    def reserve_s(self, budget_s: float | None) -> float:
        """Return how many seconds before the end the trials must stop."""
        if budget_s is None or not self.wanted:
            return 0.0
        imports_s = 0.0 if "torch" in sys.modules else min(IMPORTS_S, budget_s / 20)
        return imports_s + min(MOST_S, max(SHARE * budget_s, min(LEAST_S, budget_s / 10)))

    def recommend(self, dataset: Dataset, settings: TrialSettings, console: Console) -> None:
        """Write what the run recommends, if there is something to compare and time for it.

        A problem is only printed: the search itself is done.
        """
        kept = [trial for trial in self.records.trials.values() if trial.epochs]
        if not self.wanted or len(kept) < 2:
            return
        ends_s = self.ends_s or time.monotonic() + WITHOUT_BUDGET_S
        with finishing(), said_if_slow("importing libraries"):  # what the search itself went without
            import torch

            from analysis.models.recommend import recommend
            from trainables.data.loader import TrialData
            from trainables.device import CPU, device_here
            from trainables.worker.threads import threads_of_a_trial

        device = device_here() if settings.gpu_share else CPU
        try:
            with finishing(), said_if_slow("comparing the kept models"):
                if self.records.syncer is not None:
                    self.records.syncer.sync()  # deletes dropped files now, not while they are read
                images = reopen_images(dataset, settings.short_side_px, settings.cache_dir, settings.views)
                run = load_run(self.records.run_dir)
                with threads_of_a_trial(int(settings.cpus)):
                    recommend(run, TrialData(dataset, images), device, lambda: _left_s(ends_s))
        except (InputError, OSError, MemoryError, torch.OutOfMemoryError) as error:
            forget(self.records.run_dir)
            console.print(f"The kept models could not be compared: {error}", style="yellow", soft_wrap=True)


def _left_s(ends_s: float) -> float:
    """Return the seconds until `ends_s`, 0 if the user asked to stop."""
    return 0.0 if asked() else ends_s - time.monotonic()
