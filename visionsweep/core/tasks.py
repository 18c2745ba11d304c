"""The tasks, and how they differ, as far as no tensor is needed to say so. `trainables/tasks.py` has the rest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class TaskKind:
    """How a task's outputs are to be understood.

    outputs  softmax: an image has one of several classes. sigmoid: an image answers one or several questions with yes
             or no. pixels: every pixel has one of several classes
    """

    outputs: Literal["softmax", "sigmoid", "pixels"]

    @property
    def pixels(self) -> bool:
        """Whether pixels are labelled, by masks, instead of whole images."""
        return self.outputs == "pixels"


TASKS: dict[str, TaskKind] = {
    "binary": TaskKind("sigmoid"),
    "multiclass": TaskKind("softmax"),
    "multilabel": TaskKind("sigmoid"),
    "segmentation": TaskKind("pixels"),
}
