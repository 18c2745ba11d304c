"""The learning-rate schedules of a configuration."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from trainables.config.base import Fraction
from trainables.config.entries import Entry, Named


class SchedulePart(Named):
    warmup_epochs: Annotated[float, Field(ge=0)] = 0.0


class Constant(SchedulePart):
    name: Literal["constant"] = "constant"


class Cosine(SchedulePart):
    """Cosine from lr to final_fraction x lr over `period_epochs` (None is the whole training), then back up."""

    name: Literal["cosine"] = "cosine"
    period_epochs: Annotated[float, Field(gt=0)] | None = None
    final_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.0


class MultiStep(SchedulePart):
    """lr x gamma at every milestone.

    milestones  in epochs, None takes `spacing`
    spacing     shares of the training: `doubling` is 1/16, 1/8, 1/4, 1/2, 15/16 (the shape of [5, 10, 20, 40, 75]),
                `late` is 3/5, 4/5, 9/10
    """

    name: Literal["multistep"] = "multistep"
    gamma: Annotated[float, Field(gt=0, lt=1)] = 0.25
    spacing: Literal["doubling", "late"] = "doubling"
    milestones: tuple[Annotated[float, Field(gt=0)], ...] | None = None


class CosineThenMultiStep(SchedulePart):
    """Cosine down to final_fraction x lr for the first `switch_fraction` of the epochs, then multistep.

    The cosine comes close fast. Each milestone of the rest multiplies the rate by gamma.
    """

    name: Literal["cosine_then_multistep"] = "cosine_then_multistep"
    switch_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.5
    final_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1
    gamma: Annotated[float, Field(gt=0, lt=1)] = 0.25
    spacing: Literal["doubling", "late"] = "late"


class Piecewise(SchedulePart):
    """Constant pieces: `fractions[0]` x lr, then `fractions[i + 1]` x lr from epoch `boundaries[i]` on.

    Without boundaries there are `num_pieces` pieces of equal length, each `factor` times the one before.
    """

    name: Literal["piecewise"] = "piecewise"
    boundaries: tuple[Annotated[float, Field(gt=0)], ...] = ()
    fractions: tuple[Fraction, ...] = (1.0,)
    num_pieces: Annotated[int, Field(ge=1, le=100)] = 1
    factor: Annotated[float, Field(gt=0, le=1)] = 0.5

    @model_validator(mode="after")
    def _pieces_fit(self) -> Piecewise:
        if len(self.fractions) != len(self.boundaries) + 1 or list(self.boundaries) != sorted(set(self.boundaries)):
            raise ValueError(
                "piecewise needs rising boundaries and one fraction more than boundaries, "
                f"got {len(self.boundaries)} boundaries {list(self.boundaries)} and {len(self.fractions)} fractions"
            )
        if self.boundaries and self.num_pieces > 1:
            raise ValueError("piecewise takes boundaries or num_pieces, and got both")
        return self


# Functions of (settings, epoch, number of epochs) that return the factor of the base learning rate.
SCHEDULES: dict[str, Entry] = {
    "constant": Entry(Constant, "trainables.schedules:constant"),
    "cosine": Entry(Cosine, "trainables.schedules:cosine"),
    "multistep": Entry(MultiStep, "trainables.schedules:multistep"),
    "cosine_then_multistep": Entry(CosineThenMultiStep, "trainables.schedules:cosine_then_multistep"),
    "piecewise": Entry(Piecewise, "trainables.schedules:piecewise"),
}
