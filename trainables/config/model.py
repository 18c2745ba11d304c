"""The models of a configuration: classifiers (a backbone with a head) and segmenters (a backbone with a decoder)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from trainables.config.adapter import Lora
from trainables.config.base import Part
from trainables.config.parts import check_classifier, part_names

Freeze = Literal["none", "stage1", "stage2", "stage3", "stage4", "all"]
# The backbone's statistics: of the training batches, or fixed to those of its weights. Scale and shift train with both.
BatchNorm = Literal["trained", "fixed"]


class LinearHead(Part):
    name: Literal["linear"] = "linear"
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0


class MishMlpHead(Part):
    """Linear, Mish, Dropout, Linear (report "3080Ti", section 2-b: 256 hidden units, dropout 0.5)."""

    name: Literal["mish_mlp"] = "mish_mlp"
    hidden: Annotated[int, Field(ge=1)] = 256
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.5


class ClassifierConfig(Part):
    """A backbone with a head.

    backbone    a name, or several joined by `+`, whose features are concatenated
    weights     imagenet, none, or the path of a file, or of a folder of files named after their backbones
    freeze      what is not trained: none, all (but the head), or everything up to and including one of the backbone's
                four stages, a transformer's quarters
    adapter     trains only adapters in what `freeze` leaves; None trains the weights themselves
    head_init   the head's initial weights: random, or a probe's, solved on features of the untouched backbone
    aux_weight  of the loss of an auxiliary classifier, where the backbone has one
    """

    backbone: str
    weights: str = "imagenet"
    freeze: Freeze = "none"
    batch_norm: BatchNorm = "trained"
    adapter: Lora | None = None
    head: Annotated[LinearHead | MishMlpHead, Field(discriminator="name")] = LinearHead()
    head_init: Literal["random", "probe"] = "random"
    aux_weight: Annotated[float, Field(ge=0)] = 0.3

    @model_validator(mode="after")
    def _parts_fit(self) -> ClassifierConfig:
        check_classifier(self)
        return self

    @property
    def backbone_name(self) -> str | None:
        """The name of the network whose ImageNet weights the backbone takes."""
        return self.backbone


class Decoder(Part):
    """A decoder for any backbone of timm's. `channels` are those of its widest map."""

    channels: Annotated[int, Field(ge=16, le=2048)] = 256


class UNet(Decoder):
    """Skips by concatenation, on any backbone (Ronneberger et al. 2015, arXiv:1505.04597)."""

    name: Literal["unet"] = "unet"


class Fpn(Decoder):
    """Feature pyramid (Kirillov et al. 2019, arXiv:1901.02446)."""

    name: Literal["fpn"] = "fpn"


class PspNet(Decoder):
    """Pooling over a pyramid of regions, at an eighth of the resolution (Zhao et al. 2017, arXiv:1612.01105)."""

    name: Literal["pspnet"] = "pspnet"


class DeepLabV3(Decoder):
    """Dilated convolutions at several rates (Chen et al. 2017, arXiv:1706.05587)."""

    name: Literal["deeplabv3"] = "deeplabv3"


class DeepLabV3Plus(Decoder):
    """DeepLabV3 with a skip from the second stage (Chen et al. 2018, arXiv:1802.02611)."""

    name: Literal["deeplabv3plus"] = "deeplabv3plus"


class UPerNet(Decoder):
    """Pyramid pooling and a feature pyramid (Xiao et al. 2018, arXiv:1807.10221)."""

    name: Literal["upernet"] = "upernet"


class SegFormer(Decoder):
    """All levels through small linear layers, added up (Xie et al. 2021, arXiv:2105.15203)."""

    name: Literal["segformer"] = "segformer"


# --- segmenters: whole networks ----------------------------------------------------------------------------------


class Fcn32s(Part):
    """VGG16, its two dense layers as convolutions, one upsampling by 32 (Long et al. 2015, arXiv:1411.4038).

    `fc_kernel` is 7 in the paper, and 1 in report "DLCV HW1".
    """

    name: Literal["fcn32s"] = "fcn32s"
    fc_kernel: Literal[1, 7] = 7


class Fcn8s(Part):
    """VGG16 and five upsamplings by two (report "CV Homework 4"). With `skips` maps 3 and 4 are added on the way up."""

    name: Literal["fcn8s"] = "fcn8s"
    skips: bool = True


class SegNet(Part):
    """VGG16 with batch norm and its mirror image, unpooled at the stored positions (arXiv:1511.00561)."""

    name: Literal["segnet"] = "segnet"


class UNetPaper(Part):
    """U-Net of its paper, 64 to 1024 channels, padded so that maps keep their size, trained from scratch."""

    name: Literal["unet_paper"] = "unet_paper"


class DeepLabV3ResNet101(Part):
    """torchvision's network. `aux_weight` is that of its auxiliary classifier's loss, 0 omits that classifier."""

    name: Literal["deeplabv3_resnet101"] = "deeplabv3_resnet101"
    aux_weight: Annotated[float, Field(ge=0)] = 0.0


class FcnResNet50(Part):
    """torchvision's network. `aux_weight` is that of its auxiliary classifier's loss, 0 omits that classifier."""

    name: Literal["fcn_resnet50"] = "fcn_resnet50"
    aux_weight: Annotated[float, Field(ge=0)] = 0.0


class VocBaseline(Part):
    """Five convolutions and five deconvolutions, Xavier initialisation, from scratch (report UCSD, section 3.1)."""

    name: Literal["voc_baseline"] = "voc_baseline"


class VocDeeper(Part):
    """The baseline deepened with max pooling and unpooling, from scratch (report UCSD, Table 1)."""

    name: Literal["voc_deeper"] = "voc_deeper"


class VocResNet18(Part):
    """ResNet-18 and five deconvolutions (report UCSD, Table 2)."""

    name: Literal["voc_resnet18"] = "voc_resnet18"


Architecture = (
    UNet | Fpn | PspNet | DeepLabV3 | DeepLabV3Plus | UPerNet | SegFormer
    | Fcn32s | Fcn8s | SegNet | UNetPaper | DeepLabV3ResNet101 | FcnResNet50 | VocBaseline | VocDeeper | VocResNet18
)  # fmt: skip

# Whole networks -> the network whose ImageNet weights their backbone takes (timm's name), None if from scratch.
OWN_BACKBONE = {
    "fcn32s": "vgg16.tv_in1k",
    "fcn8s": "vgg16.tv_in1k",
    "segnet": "vgg16_bn.tv_in1k",
    "deeplabv3_resnet101": "resnet101.tv_in1k",
    "fcn_resnet50": "resnet50.tv_in1k",
    "voc_resnet18": "resnet18.tv_in1k",
    "unet_paper": None,
    "voc_baseline": None,
    "voc_deeper": None,
}


class SegmenterConfig(Part):
    """A backbone with a decoder, or a whole network.

    architecture        a decoder, for any `backbone`, or a whole network, which has its own
    weights             of the backbone: imagenet, none, or the path of a file
    freeze, batch_norm  of the backbone, as in `ClassifierConfig`; the decoder's norms always train
    decoder_first       share of the epochs in which the decoder trains alone
    """

    architecture: Annotated[Architecture, Field(discriminator="name")]
    backbone: str | None = None
    weights: str = "imagenet"
    freeze: Freeze = "none"
    batch_norm: BatchNorm = "trained"
    decoder_first: Annotated[float, Field(ge=0, lt=1)] = 0.0

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
        return self.backbone or OWN_BACKBONE.get(self.architecture.name)

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
