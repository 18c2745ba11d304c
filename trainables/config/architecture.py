"""The architectures of segmenters: decoders for any backbone, and whole networks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from trainables.config.entries import Entry, Named


class Decoder(Named):
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


class Fcn32s(Named):
    """VGG16, its two dense layers as convolutions, one upsampling by 32 (Long et al. 2015, arXiv:1411.4038).

    `fc_kernel` is 7 in the paper, and 1 in report "DLCV HW1".
    """

    name: Literal["fcn32s"] = "fcn32s"
    fc_kernel: Literal[1, 7] = 7


class Fcn8s(Named):
    """VGG16 and five upsamplings by two (report "CV Homework 4"). With `skips` maps 3 and 4 are added on the way up."""

    name: Literal["fcn8s"] = "fcn8s"
    skips: bool = True


class SegNet(Named):
    """VGG16 with batch norm and its mirror image, unpooled at the stored positions (arXiv:1511.00561)."""

    name: Literal["segnet"] = "segnet"


class UNetPaper(Named):
    """U-Net of its paper, 64 to 1024 channels, padded so that maps keep their size, trained from scratch."""

    name: Literal["unet_paper"] = "unet_paper"


class DeepLabV3ResNet101(Named):
    """torchvision's network. `aux_weight` is that of its auxiliary classifier's loss, 0 omits that classifier."""

    name: Literal["deeplabv3_resnet101"] = "deeplabv3_resnet101"
    aux_weight: Annotated[float, Field(ge=0)] = 0.0


class FcnResNet50(Named):
    """torchvision's network. `aux_weight` is that of its auxiliary classifier's loss, 0 omits that classifier."""

    name: Literal["fcn_resnet50"] = "fcn_resnet50"
    aux_weight: Annotated[float, Field(ge=0)] = 0.0


class VocBaseline(Named):
    """Five convolutions and five deconvolutions, Xavier initialisation, from scratch (report UCSD, section 3.1)."""

    name: Literal["voc_baseline"] = "voc_baseline"


class VocDeeper(Named):
    """The baseline deepened with max pooling and unpooling, from scratch (report UCSD, Table 1)."""

    name: Literal["voc_deeper"] = "voc_deeper"


class VocResNet18(Named):
    """ResNet-18 and five deconvolutions (report UCSD, Table 2)."""

    name: Literal["voc_resnet18"] = "voc_resnet18"


@dataclass(frozen=True)
class SegmenterEntry(Entry):
    """An architecture. Its function of (settings, source of the backbone, number of classes) returns a `Network`.

    backbone    of a whole network: the network whose ImageNet weights its backbone takes (timm's name), None if it is
                trained from scratch
    two_images  whether it needs batches of two: its pooling leaves one value per channel, and batch norm cannot train
                on a single value
    """

    backbone: str | None = None
    two_images: bool = False


SEGMENTERS: dict[str, SegmenterEntry] = {
    "unet": SegmenterEntry(UNet, "trainables.models.decoders:unet"),
    "fpn": SegmenterEntry(Fpn, "trainables.models.decoders:fpn"),
    "pspnet": SegmenterEntry(PspNet, "trainables.models.decoders:pspnet"),
    "deeplabv3": SegmenterEntry(DeepLabV3, "trainables.models.decoders:deeplabv3", two_images=True),
    "deeplabv3plus": SegmenterEntry(DeepLabV3Plus, "trainables.models.decoders:deeplabv3plus", two_images=True),
    "upernet": SegmenterEntry(UPerNet, "trainables.models.decoders:upernet", two_images=True),
    "segformer": SegmenterEntry(SegFormer, "trainables.models.decoders:segformer"),
    "fcn32s": SegmenterEntry(Fcn32s, "trainables.models.vgg:fcn32s", backbone="vgg16.tv_in1k"),
    "fcn8s": SegmenterEntry(Fcn8s, "trainables.models.vgg:fcn8s", backbone="vgg16.tv_in1k"),
    "segnet": SegmenterEntry(SegNet, "trainables.models.vgg:segnet", backbone="vgg16_bn.tv_in1k"),
    "unet_paper": SegmenterEntry(UNetPaper, "trainables.models.unet_paper:unet_paper"),
    "deeplabv3_resnet101": SegmenterEntry(
        DeepLabV3ResNet101,
        "trainables.models.residual:deeplabv3_resnet101",
        backbone="resnet101.tv_in1k",
        two_images=True,
    ),
    "fcn_resnet50": SegmenterEntry(FcnResNet50, "trainables.models.residual:fcn_resnet50", backbone="resnet50.tv_in1k"),
    "voc_baseline": SegmenterEntry(VocBaseline, "trainables.models.voc:voc_baseline"),
    "voc_deeper": SegmenterEntry(VocDeeper, "trainables.models.voc:voc_deeper"),
    "voc_resnet18": SegmenterEntry(VocResNet18, "trainables.models.voc:voc_resnet18", backbone="resnet18.tv_in1k"),
}
