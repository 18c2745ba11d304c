"""Everything visionsweep raises on purpose.

    VisionsweepError
    ├── InputError             the request cannot be carried out; the command line exits with code 2
    │   ├── ConfigError        a configuration, a search or a name in one of them
    │   │   └── Contradiction  each value is valid by itself, but they do not go together
    │   ├── DataError          images, labels, masks, splits
    │   ├── WeightsError       pretrained weights that cannot be had
    │   ├── RunError           a run directory or an export: exists already, missing, unreadable, unwritable
    │   │   ├── DiskFull       there is no room for it
    │   │   └── Damaged        a training's stored state cannot be read
    │   └── StorageError       a bucket that cannot be reached, read or written
    └── TrialEnded             one trial cannot continue; the search does
        ├── Diverged           the loss is not finite
        └── Interrupted        asked to stop in the middle of an epoch (budget spent, Ctrl-C)

A message states the rule, the value and the next move. The tree is in this room because every other room may import it.
"""

from __future__ import annotations


class VisionsweepError(Exception):
    """Root of everything raised on purpose."""


class InputError(VisionsweepError):
    """The request cannot be carried out as it stands."""


class ConfigError(InputError):
    """A configuration, a search, or a name in one of them is wrong."""


class Contradiction(ConfigError):
    """Every value of a configuration is valid by itself, but they do not go together. Another draw may be valid."""


class DataError(InputError):
    """The data set is not what it has to be."""


class WeightsError(InputError):
    """Pretrained weights cannot be had here."""


class RunError(InputError):
    """A run directory or an export exists already, is missing, or cannot be read or written."""


class DiskFull(RunError):
    """There is no room for what is to be stored."""


class Damaged(RunError):
    """The stored state of a training cannot be read. Its progress is lost, but the training can be restarted."""

    def __init__(self, path: object, why: str) -> None:
        super().__init__(
            f"{path}: cannot be read as a checkpoint of this configuration ({why}). Delete it to start the trial anew."
        )
        self.path = path
        self.why = why

    def __reduce__(self) -> tuple[type[Damaged], tuple[object, str]]:
        return type(self), (self.path, self.why)


class StorageError(InputError):
    """Remote storage cannot be reached, read or written."""


class TrialEnded(VisionsweepError):
    """One trial cannot continue, but the search does."""


class Diverged(TrialEnded):
    """The loss is not finite.

    epoch  from 1
    step   optimizer step within the epoch, from 0
    lr     learning rate at that step
    """

    def __init__(self, loss: float, epoch: int, step: int, lr: float) -> None:
        super().__init__(
            f"the loss became {loss} at epoch {epoch}, step {step}, learning rate {lr:.3g}. "
            "A lower learning rate, warm-up or gradient clipping may help."
        )
        self.loss = loss
        self.epoch = epoch
        self.step = step
        self.lr = lr

    def __reduce__(self) -> tuple[type[Diverged], tuple[float, int, int, float]]:
        return type(self), (self.loss, self.epoch, self.step, self.lr)  # crosses process borders


class Interrupted(TrialEnded):
    """The trial was asked to stop in the middle of an epoch. That epoch does not count."""
