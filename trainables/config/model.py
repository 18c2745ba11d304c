"""The models of a configuration: classifiers (a backbone with a head) and segmenters (a backbone with a decoder)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from trainables.config.adapter import Lora
from trainables.config.architecture import SEGMENTERS, Decoder
from trainables.config.bands import Bands
from trainables.config.base import Part
from trainables.config.entries import Entry, Named, OneOf
from trainables.config.parts import check_classifier, part_names

Freeze = Literal["none", "stage1", "stage2", "stage3", "stage4", "all"]
# The backbone's statistics: of the training batches, or fixed to those of its weights. Scale and shift train with both.
BatchNorm = Literal["trained", "fixed"]
Features = Literal["last", "stages"]  # left out of what is written where it is the first, like bands


class HeadPart(Named):
    """A head's settings."""


class LinearHead(HeadPart):
    name: Literal["linear"] = "linear"
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0


class MishMlpHead(HeadPart):
    """Linear, Mish, Dropout, Linear (report "3080Ti", section 2-b: 256 hidden units, dropout 0.5)."""

    name: Literal["mish_mlp"] = "mish_mlp"
    hidden: Annotated[int, Field(ge=1)] = 256
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.5


# Functions of (settings, number of features, number of outputs) that return a module.
HEADS: dict[str, Entry] = {
    "linear": Entry(LinearHead, "trainables.models.heads:linear"),
    "mish_mlp": Entry(MishMlpHead, "trainables.models.heads:mish_mlp"),
}


# Left out of what is written where there is none: files of photos stay what they were.
AnyBands = Annotated[Bands | None, Field(exclude_if=lambda value: value is None)]


class ClassifierConfig(Part):
    """A backbone with a head.

    backbone    a name, or several joined by `+`, whose features are concatenated
    weights     imagenet, none, or the path of a file, or of a folder of files named after their backbones
    freeze      what is not trained: none, all (but the head), or everything up to and including one of the backbone's
                four stages, a transformer's quarters
    adapter     trains only adapters in what `freeze` leaves; None trains the weights themselves
    features    what the head sees: `last`, the backbone's pooled output, or `stages`, the means of its four stages'
                maps too (Evci et al. 2022, "Head2Toe", arXiv:2201.03529)
    head_init   the head's initial weights: random, or a probe's, solved on features of the untouched backbone
    aux_weight  of the loss of an auxiliary classifier, where the backbone has one
    bands       of images that are trained on as they are (`--channels`), set by the data; None: RGB of 8 bits
    """

    backbone: str
    weights: str = "imagenet"
    freeze: Freeze = "none"
    batch_norm: BatchNorm = "trained"
    adapter: Lora | None = None
    head: Annotated[HeadPart, OneOf(HEADS)] = LinearHead()
    features: Annotated[Features, Field(exclude_if=lambda value: value == "last")] = "last"
    head_init: Literal["random", "probe"] = "random"
    aux_weight: Annotated[float, Field(ge=0)] = 0.3
    bands: AnyBands = None

    @model_validator(mode="after")
    def _parts_fit(self) -> ClassifierConfig:
        check_classifier(self)
        return self

    @property
    def backbone_name(self) -> str | None:
        """The name of the network whose ImageNet weights the backbone takes."""
        return self.backbone


class SegmenterConfig(Part):
    """A backbone with a decoder, or a whole network.

    architecture        a decoder, for any `backbone`, or a whole network, which has its own
    weights             of the backbone: imagenet, none, or the path of a file
    freeze, batch_norm  of the backbone, as in `ClassifierConfig`; the decoder's norms always train
    decoder_first       share of the epochs in which the decoder trains alone
    bands               as in `ClassifierConfig`
    """

    architecture: Annotated[Named, OneOf(SEGMENTERS)]
    backbone: str | None = None
    weights: str = "imagenet"
    freeze: Freeze = "none"
    batch_norm: BatchNorm = "trained"
    decoder_first: Annotated[float, Field(ge=0, lt=1)] = 0.0
    bands: AnyBands = None

    @model_validator(mode="after")
    def _parts_fit(self) -> SegmenterConfig:
        name = self.architecture.name
        if isinstance(self.architecture, Decoder):
            if self.backbone is None:
                raise ValueError(f"architecture '{name}' is a decoder and needs model.backbone, such as resnet34")
            if len(part_names(self.backbone)) > 1:
                raise ValueError(
                    f"model.backbone '{self.backbone}' joins several backbones, which classifiers alone can, and the "
                    f"architecture is '{name}': name one backbone"
                )
        elif self.backbone is not None:
            raise ValueError(
                f"architecture '{name}' has a backbone of its own, and model.backbone is '{self.backbone}' "
                "(null leaves it to the architecture)"
            )
        held = self.weights, self.freeze, self.batch_norm, self.decoder_first
        if self.backbone_name is None and (held[0] == "imagenet" or held[1:] != ("none", "trained", 0)):
            raise ValueError(
                f"architecture '{name}' is trained from scratch: it needs model.weights none, model.freeze none, "
                f"model.batch_norm trained and model.decoder_first 0, and they are {', '.join(map(str, held))}"
            )
        return self

    @property
    def backbone_name(self) -> str | None:
        """The name of the network whose ImageNet weights the backbone takes, None if trained from scratch."""
        return self.backbone or SEGMENTERS[self.architecture.name].backbone

    @property
    def aux_weight(self) -> float:
        """The weight of an auxiliary classifier's loss, 0 without one."""
        return float(getattr(self.architecture, "aux_weight", 0.0))


def kind_of_model(values: Any) -> str:
    """Return 'segmenter' for a mapping or a parsed model with an architecture, else 'classifier'."""
    has_architecture = "architecture" in values if isinstance(values, dict) else hasattr(values, "architecture")
    return "segmenter" if has_architecture else "classifier"


AnyModel = Annotated[
    Annotated[ClassifierConfig, Tag("classifier")] | Annotated[SegmenterConfig, Tag("segmenter")],
    Discriminator(kind_of_model),
]
