"""The networks that report UCSD trained on 209 images of PASCAL VOC 2007: its baseline, and Tables 1 and 2."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import torch.nn.functional as F  # noqa: N812 (torch's own convention)
from segmentation_models_pytorch.encoders import get_encoder
from torch import Tensor, nn

from trainables.config.architecture import VocBaseline, VocDeeper, VocResNet18
from trainables.models.deconvolutions import WIDTHS, doublings
from trainables.models.network import Network
from trainables.models.pyramids import Source, pretrained, pretrained_encoder

BASELINE_WIDTHS = (3, 32, 64, 128, 256, 512)

# Table 1: in-channels, out-channels, kernel, padding. Strides are 2. The table gives paddings of 1 and pooling a stride
# of 1, which do not give its own sizes (224, 108, 54, 27, 14, 7, 4, 2, 1 and back). So poolings have a stride of 2
# here, and the deconvolution of 7 x 7 a padding of 3. Row 10 would give a map of 3 where row 6 left one of 4, so it is
# asked for 4. Every step up is asked for the size before its counterpart's step down.
DOWN = (
    (3, 32, 11, 1),
    (32, 64, 3, 1),
    "pool",
    (64, 128, 3, 1),
    (128, 256, 3, 1),
    "pool",
    (256, 512, 3, 1),
    (512, 1024, 3, 1),
)
UP = (
    (1024, 512, 3, 1),
    (512, 256, 3, 1),
    "unpool",
    (256, 128, 3, 1),
    (128, 64, 7, 3),
    "unpool",
    (64, 32, 3, 1),
    (32, 32, 12, 1),
)
# the sizes that its first kernel of 11 and its last of 12 agree on
DEEPER_STRIDE = 2
DEEPER_MIN_SIZE = 10


class Encoded(NamedTuple):
    """An encoded image.

    x       the last map
    sizes   of the map before each step down
    places  of the maxima of each pooling
    """

    x: Tensor
    sizes: list[tuple[int, int]]
    places: list[Tensor]


class BaselineEncoder(nn.Sequential):
    """The baseline's encoder, (B, 3, H, W) to (B, 512, H/32, W/32)."""

    def __init__(self) -> None:
        super().__init__(*(_Down(before, after, 3, 1) for before, after in pairwise(BASELINE_WIDTHS)))


class DoublingDecoder(nn.Module):
    """A decoder of the last map (B, 512, H/32, W/32), alone or in a list, to logits (B, C, H, W)."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.doublings = doublings()
        self.classifier = nn.Conv2d(WIDTHS[-1], num_classes, 1)

    def forward(self, maps: Tensor | list[Tensor]) -> Tensor:
        x = maps[-1] if isinstance(maps, list) else maps
        for double in self.doublings:
            x = double(x)
        logits: Tensor = self.classifier(x)
        return logits


class DeeperEncoder(nn.Module):
    """Rows 1 to 8: (B, 3, 224, 224) to (B, 1024, 1, 1)."""

    def __init__(self) -> None:
        super().__init__()
        # The second pooling rounds up, 7 to 4, as in the table.
        self.steps = nn.ModuleList(
            nn.MaxPool2d(2, stride=2, ceil_mode=True, return_indices=True) if isinstance(row, str) else _Down(*row)
            for row in DOWN
        )

    def forward(self, images: Tensor) -> Encoded:
        x = images
        sizes = []
        places = []
        for step in self.steps:
            sizes.append((x.shape[2], x.shape[3]))
            if isinstance(step, nn.MaxPool2d):
                x, place = step(x)
                places.append(place)
            else:
                x = step(x)
        return Encoded(x, sizes, places)


class DeeperDecoder(nn.Module):
    """Rows 9 to 17: back up through the sizes and the places that the encoder has kept."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.steps = nn.ModuleList(nn.MaxUnpool2d(2, stride=2) if isinstance(row, str) else _Up(*row) for row in UP)
        self.classifier = nn.Conv2d(32, num_classes, 1)

    def forward(self, encoded: Encoded) -> Tensor:
        x = encoded.x
        places = list(encoded.places)
        for step, size in zip(self.steps, encoded.sizes[::-1], strict=True):
            x = step(x, places.pop(), output_size=size) if isinstance(step, nn.MaxUnpool2d) else step(x, size)
        logits: Tensor = self.classifier(x)
        return logits


class _Down(nn.Sequential):
    def __init__(self, before: int, after: int, kernel: int, padding: int) -> None:
        convolution = nn.Conv2d(before, after, kernel, stride=2, padding=padding)
        super().__init__(convolution, nn.ReLU(inplace=True), nn.BatchNorm2d(after))


class _Up(nn.Module):
    def __init__(self, before: int, after: int, kernel: int, padding: int) -> None:
        super().__init__()
        self.deconvolution = nn.ConvTranspose2d(before, after, kernel, stride=2, padding=padding)
        self.norm = nn.BatchNorm2d(after)

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        normed: Tensor = self.norm(F.relu(self.deconvolution(x, output_size=size)))  # (B, after, *size)
        return normed


def voc_baseline(config: VocBaseline, source: Source, num_classes: int) -> Network:
    """Section 3.1."""
    encoder = BaselineEncoder()
    decoder = DoublingDecoder(num_classes)
    _initialise(encoder, decoder)
    return Network(pretrained(encoder, source, stages=()), decoder, stride=32)


def voc_deeper(config: VocDeeper, source: Source, num_classes: int) -> Network:
    """Table 1."""
    encoder = DeeperEncoder()
    decoder = DeeperDecoder(num_classes)
    _initialise(encoder, decoder)
    return Network(pretrained(encoder, source, stages=()), decoder, DEEPER_STRIDE, DEEPER_MIN_SIZE)


def voc_resnet18(config: VocResNet18, source: Source, num_classes: int) -> Network:
    """The network of Table 2. The report kept the ResNet's weights fixed (`freeze: all`)."""
    encoder = get_encoder(f"tu-{source.name}", weights=None)
    decoder = DoublingDecoder(num_classes)
    _initialise(decoder)
    return Network(pretrained_encoder(encoder, source), decoder, stride=32)


def _initialise(*modules: nn.Module) -> None:
    """Initialise with Xavier's Gaussian (section 1, Glorot and Bengio 2010)."""
    for module in modules:
        for layer in module.modules():
            if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.xavier_normal_(layer.weight)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
