"""Segmenters on VGG16 (Simonyan and Zisserman 2014, arXiv:1409.1556): FCN-32s, FCN-8s and SegNet."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise, zip_longest

import torch
import torch.nn.functional as F  # noqa: N812 (torch's own convention)
from torch import Tensor, nn
from torchvision.models.vgg import cfgs, make_layers

from trainables.config.architecture import Fcn8s, Fcn32s, SegNet
from trainables.models.deconvolutions import WIDTHS, doublings
from trainables.models.network import Network
from trainables.models.pyramids import Source, pretrained

STRIDE = 32
DENSE = 4096  # units in each of VGG16's two dense layers
# VGG16 mirrored, a row per block. The very last convolution gives the classes' scores.
SEGNET_WIDTHS = ((512, 512, 512, 512), (512, 512, 512, 256), (256, 256, 256, 128), (128, 128, 64), (64, 64))


class Vgg16(nn.Module):
    """VGG16's convolutions: images (B, 3, H, W) to the maps after its five poolings, strides 2 to 32.

    The layers are torchvision's, without the dense ones that hold nine tenths of its parameters.
    """

    def __init__(self) -> None:
        super().__init__()
        self.features = make_layers(cfgs["D"])
        _initialise(self)

    def forward(self, images: Tensor) -> list[Tensor]:
        maps = []
        x = images
        for layer in self.features:
            x = layer(x)
            if isinstance(layer, nn.MaxPool2d):
                maps.append(x)
        return maps


class SegNetEncoder(nn.Module):
    """VGG16 with batch norm: the last map (B, 512, H/32, W/32), and the places of each pooling's maxima."""

    def __init__(self) -> None:
        super().__init__()
        self.features = make_layers(cfgs["D"], batch_norm=True)
        _initialise(self)

    def forward(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        places = []
        x = images
        for layer in self.features:
            if isinstance(layer, nn.MaxPool2d):
                x, place = F.max_pool2d(x, kernel_size=2, stride=2, return_indices=True)
                places.append(place)
            else:
                x = layer(x)
        return x, places


class Fcn32sDecoder(nn.Module):
    """VGG16's dense layers as convolutions, the scores of each class, and one upsampling to the image's size."""

    def __init__(self, num_classes: int, fc_kernel: int) -> None:
        super().__init__()
        # Padded, so that any image will do. The authors' code pads the image itself, by 100 pixels.
        self.fc1 = nn.Conv2d(512, DENSE, fc_kernel, padding=fc_kernel // 2)
        self.fc2 = nn.Conv2d(DENSE, DENSE, 1)
        self.score = nn.Conv2d(DENSE, num_classes, 1)
        self.dropout = nn.Dropout2d(0.5)
        # Cuts off as much on all sides as makes the output exactly 32 times its input.
        self.upscore = nn.ConvTranspose2d(num_classes, num_classes, 64, stride=32, padding=16, bias=False)
        _initialise(self)
        _make_bilinear(self.upscore)

    def forward(self, maps: list[Tensor]) -> Tensor:
        x = self.dropout(F.relu(self.fc1(maps[-1])))
        x = self.dropout(F.relu(self.fc2(x)))
        logits: Tensor = self.upscore(self.score(x))
        return logits


class Fcn8sDecoder(nn.Module):
    """Double the map five times. With `skips`, add the maps after the fourth and the third pooling on the way.

    They are added after the convolution and its ReLU and before the batch norm, as in github.com/pochih/FCN-pytorch
    (python/fcn.py).
    """

    def __init__(self, num_classes: int, skips: bool) -> None:
        super().__init__()
        self.skips = skips
        self.doublings = doublings()
        self.classifier = nn.Conv2d(WIDTHS[-1], num_classes, 1)

    def forward(self, maps: list[Tensor]) -> Tensor:
        *_, x3, x4, x = maps
        skips = [x4, x3] if self.skips else []
        for double, skip in zip_longest(self.doublings, skips):
            x = double(x, skip)
        logits: Tensor = self.classifier(x)
        return logits


class SegNetDecoder(nn.Module):
    """The encoder mirrored: maxima return to their places, and convolutions fill in between."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.Sequential(*(_conv_norm_relu(before, after) for before, after in pairwise(widths)))
            for widths in SEGNET_WIDTHS
        )
        self.classifier = nn.Conv2d(64, num_classes, kernel_size=3, padding=1)
        _initialise(self)

    def forward(self, encoded: tuple[Tensor, list[Tensor]]) -> Tensor:
        x, places = encoded
        for block, place in zip(self.blocks, places[::-1], strict=True):
            x = block(F.max_unpool2d(x, place, kernel_size=(2, 2), stride=(2, 2)))
        logits: Tensor = self.classifier(x)
        return logits


def fcn32s(config: Fcn32s, source: Source, num_classes: int) -> Network:
    """FCN-32s. With a kernel of 7, the dense layers take VGG16's weights too (Long et al. 2015, section 4.1)."""
    vgg = Vgg16()
    decoder = Fcn32sDecoder(num_classes, config.fc_kernel)
    loaded = nn.ModuleDict({"features": vgg.features})
    if config.fc_kernel == 7:
        loaded["pre_logits"] = nn.ModuleDict({"fc1": decoder.fc1, "fc2": decoder.fc2})  # timm's names
    backbone = pretrained(loaded, source, _stages(vgg.features))
    return Network(replace(backbone, module=vgg), decoder, STRIDE)


def fcn8s(config: Fcn8s, source: Source, num_classes: int) -> Network:
    vgg = Vgg16()
    return Network(pretrained(vgg, source, _stages(vgg.features)), Fcn8sDecoder(num_classes, config.skips), STRIDE)


def segnet(config: SegNet, source: Source, num_classes: int) -> Network:
    encoder = SegNetEncoder()
    return Network(pretrained(encoder, source, _stages(encoder.features)), SegNetDecoder(num_classes), STRIDE)


def _stages(features: nn.Sequential) -> tuple[str, ...]:
    """Return the last four of five blocks. The first of them ends at a stride of 4, like a ResNet's first stage."""
    return tuple(f"features.{i}" for i, layer in enumerate(features) if isinstance(layer, nn.MaxPool2d))[1:]


def _conv_norm_relu(before: int, after: int) -> nn.Module:
    """Return layers from (B, before, h, w) to (B, after, h, w)."""
    convolution = nn.Conv2d(before, after, kernel_size=3, padding=1)
    return nn.Sequential(convolution, nn.BatchNorm2d(after), nn.ReLU(inplace=True))


def _initialise(module: nn.Module) -> None:
    """Initialise like torchvision's VGG (He et al. 2015, arXiv:1502.01852).

    A deep net without batch norm needs it to start learning.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


@torch.no_grad()
def _make_bilinear(layer: nn.ConvTranspose2d) -> None:
    """Initialise a layer so that it interpolates each class by itself (Long et al. 2015, section 4.3).

    There the last such layer is fixed. Here it is trained on: report "DLCV HW1" lists the layer, and says nothing of
    its start or of freezing it.
    """
    size = layer.kernel_size[0]
    factor = layer.stride[0]
    taps = 1 - (torch.arange(size) - (size - 1) / 2).abs() / factor
    layer.weight.zero_()
    for i in range(layer.in_channels):
        layer.weight[i, i] = taps[:, None] * taps
