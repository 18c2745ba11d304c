"""The tasks, and how they differ, as far as no tensor is needed to say so. `trainables/tasks.py` has the rest.

What depends on the task asks `task_kind(config.task).pixels` and its like. It compares no names.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class TaskKind:
    """How a task's labels and a model's outputs are to be understood.

    metrics     of a validated epoch. Scripts may rely on their names
    compared    the metric of a search that names none. Higher is better
    outputs     softmax: an image has one of several classes. sigmoid: an image answers one or several questions with
                yes or no. pixels: each pixel has one of several classes
    tags        whether an image can have any number of labels
    one_output  whether the model has one output for two classes
    stored      the arrays of a kept prediction, the one with an entry for each image first
    """

    metrics: tuple[str, ...]
    compared: str
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


_COMMON = (
    "val/accuracy", "val/balanced_accuracy", "val/precision", "val/recall", "val/f1",
    "val/map", "val/auroc", "val/loss",
)  # fmt: skip
_AVERAGED = (
    "val/precision_micro", "val/recall_micro", "val/f1_micro",
    "val/precision_macro", "val/recall_macro", "val/f1_macro",
)  # fmt: skip
_OF_PIXELS = ("val/miou", "val/pixel_accuracy", "val/mean_accuracy", "val/fw_iou", "val/loss")

TASKS: dict[str, TaskKind] = {
    "binary": TaskKind(_COMMON, "val/accuracy", "sigmoid", one_output=True),
    "multiclass": TaskKind((*_COMMON, "val/top5", *_AVERAGED), "val/accuracy", "softmax"),
    "multilabel": TaskKind((*_COMMON, *_AVERAGED), "val/f1", "sigmoid", tags=True),
    "segmentation": TaskKind(_OF_PIXELS, "val/miou", "pixels", stored=("shapes", "masks")),
}
CLASSIFICATION = tuple(name for name, task in TASKS.items() if not task.pixels)
UNKNOWN = TaskKind(("val/loss",), "val/loss", "softmax")


def task_kind(task: str | None) -> TaskKind:
    """Return a task's kind. 'classification', which the data settles, and unknown names count as one label an image."""
    return TASKS.get(task or "", UNKNOWN)


def tasks_of(task: str) -> tuple[str, ...]:
    """Return the tasks that a search's task allows: all of images for 'classification', which the data settles."""
    return CLASSIFICATION if task == "classification" else (task,)
