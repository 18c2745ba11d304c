"""The tasks, and how they differ, as far as no tensor is needed to say so. `trainables/tasks.py` has the rest.

What depends on the task asks `task_kind(config.task).pixels` and its like. It compares no names.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class TaskKind:
    """How a task's labels and a model's outputs are to be understood.

    outputs     softmax: an image has one of several classes. sigmoid: an image answers one or several questions with
                yes or no. pixels: each pixel has one of several classes
    tags        whether an image can have any number of labels
    one_output  whether the model has one output for two classes
    stored      the arrays of a kept prediction, the one with an entry for each image first
    """

    outputs: Literal["softmax", "sigmoid", "pixels"]
    tags: bool = False
    one_output: bool = False
    stored: tuple[str, ...] = ("logits",)

    @property
    def pixels(self) -> bool:
        """Whether pixels are labelled, by masks, instead of whole images."""
        return self.outputs == "pixels"

    @property
    def softmax(self) -> bool:
        """Whether an image has the class of the largest output."""
        return self.outputs == "softmax"

    @property
    def one_label(self) -> bool:
        """Whether an image has exactly one label."""
        return not self.pixels and not self.tags

    @property
    def thresholded(self) -> bool:
        """Whether a threshold decides, instead of the largest output."""
        return self.outputs == "sigmoid"


TASKS: dict[str, TaskKind] = {
    "binary": TaskKind("sigmoid", one_output=True),
    "multiclass": TaskKind("softmax"),
    "multilabel": TaskKind("sigmoid", tags=True),
    "segmentation": TaskKind("pixels", stored=("shapes", "masks")),
}
UNKNOWN = TaskKind("softmax")


def task_kind(task: str | None) -> TaskKind:
    """Return a task's kind. 'classification', which the data settles, and unknown names count as one label an image."""
    return TASKS.get(task or "", UNKNOWN)
