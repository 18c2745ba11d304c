"""TrialConfig: the only schema of a configuration.

A drawn dict or a YAML file is parsed once (`io.py`) into these frozen objects. All other code takes typed
values.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from trainables.config.architecture import SEGMENTERS
from trainables.config.augment import Augmentations, AugmentConfig
from trainables.config.base import Part
from trainables.config.entries import OneOf
from trainables.config.loss import LOSSES, LossPart, losses_of
from trainables.config.model import AnyModel, SegmenterConfig
from trainables.config.optimizer import OPTIMIZERS, OptimizerPart
from trainables.config.schedule import SCHEDULES, Cosine, SchedulePart
from trainables.config.solved import SOLVERS, Lbfgs, check_solved
from trainables.config.views import check_views
from visionsweep.core.names import check_metric
from visionsweep.core.tasks import task_kind

# Fields of only one kind of task. A value other than the default is refused for the other kind.
SEGMENTATION_ONLY = ("merge", "short_side", "evaluation", "tile_overlap")
CLASSIFICATION_ONLY = ("threshold", "eval_crop", "views", "sampling")


class TrialConfig(Part):
    """Everything that decides how one model is trained. With the data it is all that is needed to train it again."""

    task: Literal["binary", "multiclass", "multilabel", "segmentation"]
    model: AnyModel
    optimizer: Annotated[OptimizerPart | Lbfgs, OneOf(OPTIMIZERS, SOLVERS)]
    loss: Annotated[LossPart, OneOf(LOSSES)]
    schedule: Annotated[SchedulePart, OneOf(SCHEDULES)] = Cosine()
    augment: Augmentations = AugmentConfig()
    # Where images are augmented after their crop: by the loader's processes, or in batches on the training's device.
    # auto is a GPU, if all that is set has a device version there, and the CPU everywhere else.
    augment_on: Literal["auto", "cpu", "device"] = "auto"

    epochs: Annotated[int, Field(ge=1, le=100_000)]
    batch_size: Annotated[int, Field(ge=1, le=65_536)]
    accumulate: Annotated[int, Field(ge=1, le=1024)] = 1
    image_size: Annotated[int, Field(ge=8, le=4096)] = 224
    fit_image: Literal["crop", "squash"] = "crop"  # at evaluation: centre crop of the resized image, or all of it
    eval_crop: Annotated[float, Field(ge=0.5, le=1)] = 0.875  # share of the shorter side that the centre crop keeps
    threshold: Annotated[float, Field(gt=0, lt=1)] = 0.5  # of a probability, for binary and multilabel decisions
    repeat: Annotated[int, Field(ge=1, le=100)] = 1  # how often an epoch goes through the training set
    # balanced: an epoch draws every class equally often, and with tags an image by how rare its rarest tag is.
    sampling: Literal["uniform", "balanced"] = "uniform"
    # Most images of an epoch. The next epoch continues where it stopped, so that all images have their turn. With views
    # so many training images are drawn once, by class, and only their features are computed. None is the whole set.
    epoch_images: Annotated[int, Field(ge=1, le=2**40)] | None = None
    # Fewest images of an epoch. It goes through a smaller set several times, so that few photos cost few evaluations.
    least_epoch_images: Annotated[int, Field(ge=1, le=10_000_000)] | None = None
    # With model.freeze all, the views whose kept features the head trains on. 1 is the evaluation's view, 2 adds its
    # mirror image, and more are so many drawn views. None trains on pictures that are drawn anew in every epoch.
    views: Annotated[int, Field(ge=1, le=64)] | None = None

    # Segmentation: `image_size` is the side of the training crops (of the whole image, if that is squashed).
    short_side: Annotated[int, Field(ge=8, le=8192)] | None = None  # the network sees images at this; None: image_size
    evaluation: Literal["whole", "tiled"] = "whole"  # the whole image at once, or windows of image_size that overlap
    tile_overlap: Annotated[float, Field(ge=0, lt=0.9)] = 0.25  # share of a window that the next one covers too
    merge: Annotated[
        dict[str, Annotated[tuple[str, ...], Field(min_length=1)]], Field(default_factory=dict)
    ]  # new class: old classes; a new class `void` (or ignore, unlabeled) is neither trained on nor evaluated

    precision: Literal["fp32", "fp16", "bf16"] = "fp32"
    channels_last: bool = True
    compile: bool = False  # torch.compile for the training step; see `trainables/compiled.py`
    # On several devices batch norm takes the statistics of the whole batch, else each device those of its own images.
    sync_batch_norm: Annotated[bool, Field(exclude_if=lambda value: not value)] = False
    clip_grad_norm: Annotated[float, Field(gt=0)] | None = None
    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None = None
    early_stopping_patience: Annotated[int, Field(ge=1)] | None = None
    early_stopping_metric: str = "val/loss"
    keep_best: Annotated[int, Field(ge=1, le=100)] = 1
    ensemble: Annotated[int, Field(ge=1, le=100)] = 1  # how many epochs' predictions the exported model averages
    ensemble_metric: str | None = None  # by which those epochs are the best; None: what the search compares
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    regime: str | None = None  # the arm of the search's space that it was drawn from; not used by training

    @model_validator(mode="before")
    @classmethod
    def _default_loss(cls, values: Any) -> Any:
        """Fill in the task's own loss where none is named."""
        if isinstance(values, dict) and values.get("loss") is None:
            own = (*losses_of(str(values.get("task"))), "cross_entropy")[0]  # a wrong task has its own message
            return {**values, "loss": {"name": own}}
        return values

    @model_validator(mode="after")
    def _parts_fit(self) -> TrialConfig:
        allowed = losses_of(self.task)
        if self.loss.name not in allowed:
            listed = " and ".join(sorted(allowed))
            raise ValueError(f"task '{self.task}' takes the losses {listed}, not '{self.loss.name}'")
        check_metric(self.early_stopping_metric, self.task, "early_stopping_metric")
        if self.ensemble_metric is not None:
            check_metric(self.ensemble_metric, self.task, "ensemble_metric")
        if self.schedule.warmup_epochs >= self.epochs > 1:
            raise ValueError(
                f"schedule.warmup_epochs {self.schedule.warmup_epochs:g} must be below epochs {self.epochs}"
            )
        batched = not isinstance(self.optimizer, Lbfgs)
        if batched and self.epoch_images is not None and self.epoch_images < self.batch_size:
            raise ValueError(
                f"epoch_images {self.epoch_images} must be at least batch_size {self.batch_size}: set a smaller "
                "batch_size, or a larger epoch_images"
            )
        self._check_kind()
        check_views(self)
        check_solved(self)
        return self

    def _check_kind(self) -> None:
        """Refuse a classifier's settings for a segmenter, and the other way round."""
        segments = task_kind(self.task).pixels
        if segments != isinstance(self.model, SegmenterConfig):
            needs = "a model.architecture, such as unet" if segments else "a model.backbone and no model.architecture"
            raise ValueError(f"task '{self.task}' needs {needs}")
        for name in CLASSIFICATION_ONLY if segments else SEGMENTATION_ONLY:
            if getattr(self, name) != type(self).model_fields[name].get_default(call_default_factory=True):
                raise ValueError(f"'{name}' means nothing to task '{self.task}', and is {getattr(self, name)!r}")
        if self.batch_size == 1 and not isinstance(self.optimizer, Lbfgs):  # which trains on no batches
            self._check_batch_of_one()
        if segments:
            for name in ("policy", "mix"):  # they move or mix pixels without their labels
                if getattr(self.augment, name) is not None:
                    raise ValueError(f"augment.{name} is for classification, and the task is segmentation")
            if self.augment.foreground_crop and self.augment.random_resized_crop:
                raise ValueError("augment takes random_resized_crop or foreground_crop, and got both")
        elif getattr(self.loss, "class_weights", "none") == "median_frequency":
            raise ValueError(f"class_weights median_frequency counts pixels, and the task is {self.task}")
        elif self.augment.foreground_crop is not None:
            raise ValueError(f"augment.foreground_crop is for segmentation, and the task is {self.task}")
        sources = [name for old in self.merge.values() for name in old]
        twice = sorted({name for name in sources if sources.count(name) > 1})
        if twice:
            raise ValueError(f"merge sends a class to two: {', '.join(twice)}")

    def _check_batch_of_one(self) -> None:
        """Refuse networks whose batch norm would train on a single value per channel."""
        architecture = self.model.architecture.name if isinstance(self.model, SegmenterConfig) else None
        if architecture is not None and SEGMENTERS[architecture].two_images:  # whatever the image's size
            who = f"architecture '{architecture}'"
            way_out = "take another architecture"
        else:
            from trainables.models.single_image import needs_two_images  # builds the network: not for every import

            if not needs_two_images(self.model, self.image_size):
                return
            name = f"architecture '{architecture}'" if architecture is not None else f"backbone '{self.model.backbone}'"
            who = f"{name} at image_size {self.image_size}"
            way_out = "a larger image_size"
        raise ValueError(
            f"{who} normalises one value per channel over the batch, and batch_size is 1: "
            f"set batch_size=2 or more, or {way_out}"
        )
