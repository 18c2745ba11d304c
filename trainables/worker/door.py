"""The door between Ray Tune and a trial. Who only asks for trials imports this, and neither torch nor timm."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ray import tune

from trainables.data.dataset import Dataset
from trainables.worker.settings import TrialSettings

if TYPE_CHECKING:
    from trainables.worker.trainable import VisionTrainable


class TrialDoor(tune.Trainable):  # type: ignore[misc]
    """Ray Tune's trainable, which hands every call on to a VisionTrainable. Its process imports that at the first."""

    trial: VisionTrainable

    def setup(self, config: dict[str, Any], dataset: Dataset, settings: TrialSettings) -> None:
        from trainables.worker.trainable import VisionTrainable

        self.trial = VisionTrainable()
        self.trial.setup(config, dataset, settings)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        return self.trial.reset_config(new_config)

    def step(self) -> dict[str, Any]:
        return self.trial.step()

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        self.trial.save_checkpoint(checkpoint_dir)

    def load_checkpoint(self, checkpoint_dir: str | None) -> None:
        self.trial.load_checkpoint(checkpoint_dir)

    def cleanup(self) -> None:
        self.trial.cleanup()
