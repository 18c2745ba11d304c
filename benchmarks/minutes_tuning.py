"""What a good hand does with more minutes: one careful fine-tuning that fills them. See `minutes.py`.

Photos: the probe's head first, then all layers with batch norm's statistics fixed (Kumar et al. 2022, "Fine-tuning can
distort pretrained features"). Masks: an FPN with cross-entropy and dice. Plain torch, all training rows, no validation.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import segmentation_models_pytorch as smp
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.minutes_hands import (
    BACKBONES,
    Outcome,
    as_input,
    backbone_of,
    features_of,
    fit_head,
    read_photos,
    use_all_cores,
    weights_of,
)
from benchmarks.minutes_scores import read_mask
from benchmarks.minutes_sets import VOID, Example, Labelled

MAX_EPOCHS = 60  # a hand's patience: few photos and a long budget would turn the same ones over and over
WARMUP = 0.05  # share of the training
WEIGHT_DECAY = 0.01

PHOTO_PX = 160
MARGIN = 1.1  # photos are kept so much larger, for crops to move in
PHOTO_BATCH = 32
PHOTO_LR = 3e-4  # past it the features that the head was fitted on are lost in the first steps
SMALLEST_CROP = 0.7  # of a side
# With less time the probe's head is kept, as a few steps spoil it. On wbc its error of 0.08 becomes 0.28 after 0.9
# epochs, and 0.07 after 8.
LEAST_EPOCHS = 2

MASK_SIDE_PX = 224  # the shorter side of a photo with a mask
MASK_CROP_PX = 160
MASK_BATCH = 8
MASK_LR = 2e-3
MASK_BACKBONE_LR = 5e-4
STRIDE = 32  # a network's deepest maps: photos are filled up to a multiple of it


@dataclass
class Clock:
    """The progress of a training, 0 to 1: by its time, or by MAX_EPOCHS if those are over sooner."""

    started_s: float
    ends_s: float
    max_steps: int
    step: int = 0

    @property
    def progress(self) -> float:
        passed = (time.time() - self.started_s) / max(self.ends_s - self.started_s, 1e-9)
        return min(max(passed, self.step / self.max_steps), 1.0)

    def rate(self) -> float:
        """Share of the full learning rate: a short rise, then half a cosine."""
        return min(1.0, (self.progress + 1e-3) / WARMUP) * (1 + math.cos(math.pi * self.progress)) / 2


def train(
    optimizer: torch.optim.Optimizer, batch_loss: Callable[[Tensor], Tensor], num: int, batch: int, ends_s: float
) -> int:
    """Train until the time is up, at least one step, and return the number of steps.

    batch_loss: of row numbers (B,).
    """
    clock = Clock(time.time(), ends_s, MAX_EPOCHS * math.ceil(num / batch))
    rates = [group["lr"] for group in optimizer.param_groups]
    for rows in _batches(num, batch):
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * clock.rate()
        loss = batch_loss(rows)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        clock.step += 1
        if clock.progress >= 1:
            break
    return clock.step


def _batches(num: int, size: int) -> Iterator[Tensor]:
    """Row numbers, in another order in every epoch, without end. What is left over opens no batch of its own."""
    while True:
        order = torch.randperm(num)
        yield from (order[start : start + size] for start in range(0, max(num - size + 1, 1), size))


def tuned(data: Labelled, started_s: float, budget_s: float, seed: int = 0) -> Outcome:
    """Fine-tune lite0 on photos until `budget_s` after Enter (`started_s`, Unix time)."""
    use_all_cores()
    torch.manual_seed(seed)
    backbone = backbone_of(BACKBONES[0])
    small = read_photos(data.train, PHOTO_PX)
    large = read_photos(data.train, round(PHOTO_PX * MARGIN))
    targets = data.targets(data.train)
    features = features_of(backbone, small)
    fitted = fit_head(features, targets, data.groups(), seed)
    head = nn.Linear(features.shape[1], len(data.classes))
    head.load_state_dict({"weight": torch.from_numpy(fitted.weight), "bias": torch.from_numpy(fitted.bias)})
    network = nn.Sequential(backbone, head)
    known = torch.from_numpy(targets)

    def batch_loss(rows: Tensor) -> Tensor:
        logits = network(as_input_crops(large[rows], PHOTO_PX, mirror=data.may_mirror))
        return loss_of(logits, known[rows])

    network.eval()  # batch norm's statistics stay those of ImageNet
    optimizer = torch.optim.AdamW(network.parameters(), PHOTO_LR, weight_decay=WEIGHT_DECAY)
    step_s = _seconds_of_a_step(batch_loss, min(PHOTO_BATCH, len(data.train)))
    left_s = started_s + budget_s - time.time()
    num_batches = len(data.train) / PHOTO_BATCH
    steps = 0
    if left_s > LEAST_EPOCHS * num_batches * step_s:
        steps = train(optimizer, batch_loss, len(data.train), PHOTO_BATCH, started_s + budget_s)
    wall_s = time.time() - started_s
    with torch.inference_mode():
        seen = [network(as_input(chunk)) for chunk in read_photos(data.test, PHOTO_PX).split(16)]
    return Outcome(torch.cat(seen).numpy(), wall_s, {"epochs": steps * PHOTO_BATCH / len(data.train), "c": fitted.c})


def _seconds_of_a_step(batch_loss: Callable[[Tensor], Tensor], batch: int) -> float:
    """Return the seconds of the second forward and backward pass, as the first one also plans its kernels.

    Nothing is learnt.
    """
    for _ in range(2):
        before = time.time()
        batch_loss(torch.arange(batch)).backward()  # type: ignore[no-untyped-call]
    return time.time() - before


def loss_of(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of (B, K) logits and (B,) classes, or binary cross-entropy of (B, K) tags."""
    if targets.ndim == 2:
        return functional.binary_cross_entropy_with_logits(logits, targets.to(logits))
    return functional.cross_entropy(logits, targets)


def as_input_crops(photos: Tensor, px: int, mirror: bool) -> Tensor:
    """Cut another crop from each photo, mirrored or not: (B, H, W, 3) uint8 -> (B, 3, px, px)."""
    num = len(photos)
    size = torch.empty(num).uniform_(SMALLEST_CROP, 1.0)
    flip = torch.where(torch.rand(num) < 0.5, -1.0, 1.0) if mirror else torch.ones(num)
    shift = (torch.rand(num, 2) * 2 - 1) * (1 - size)[:, None]
    theta = torch.zeros(num, 2, 3)  # where each output pixel is read, in units of half a photo
    theta[:, 0, 0], theta[:, 1, 1], theta[:, :, 2] = size * flip, size, shift
    where = functional.affine_grid(theta, [num, 3, px, px], align_corners=False)
    return functional.grid_sample(as_input(photos), where, align_corners=False)


# --- masks ---


def tuned_masks(data: Labelled, started_s: float, budget_s: float, seed: int = 0) -> tuple[list[np.ndarray], Outcome]:
    """Train an FPN on lite0. Return the test rows' masks, (H, W) class numbers each, and the costs."""
    use_all_cores()
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    network = smp.FPN(f"tu-{BACKBONES[0]}", encoder_weights=None, classes=len(data.classes))
    encoder: nn.Module = network.encoder.model
    encoder.load_state_dict(weights_of(BACKBONES[0], encoder), strict=False)
    network.to(memory_format=torch.channels_last)
    photos = [sized(one) for one in data.train]
    masks = [_sized_mask(data, one, photo.shape[:2]) for one, photo in zip(data.train, photos, strict=True)]

    def batch_loss(rows: Tensor) -> Tensor:
        crops = [crop(photos[row], masks[row], rng, data.may_mirror) for row in rows.tolist()]
        images = torch.from_numpy(np.stack([image for image, _ in crops]))
        truth = torch.from_numpy(np.stack([mask for _, mask in crops])).long()
        return cross_entropy_and_dice(network(as_input(images)), truth)

    network.train()
    for module in network.encoder.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()  # eight crops are few to take statistics of
    optimizer = torch.optim.AdamW(
        [
            {"params": network.encoder.parameters(), "lr": MASK_BACKBONE_LR},
            {"params": [*network.decoder.parameters(), *network.segmentation_head.parameters()], "lr": MASK_LR},
        ],
        weight_decay=WEIGHT_DECAY,
    )
    steps = train(optimizer, batch_loss, len(photos), MASK_BATCH, started_s + budget_s)
    wall_s = time.time() - started_s
    network.eval()
    found = [decided(network, one) for one in data.test]
    return found, Outcome(np.empty(0), wall_s, {"epochs": steps * MASK_BATCH / len(photos)})


def sized(one: Example) -> np.ndarray:
    """Read a photo as (h, w, 3) uint8 with MASK_SIDE_PX as the shorter side."""
    with Image.open(one.image) as image:
        scale = MASK_SIDE_PX / min(image.size)
        size = round(image.width * scale), round(image.height * scale)
        return np.array(image.convert("RGB").resize(size, Image.Resampling.BICUBIC))


def _sized_mask(data: Labelled, one: Example, shape: tuple[int, ...]) -> np.ndarray:
    mask = Image.fromarray(read_mask(data, one.mask))
    return np.array(mask.resize((shape[1], shape[0]), Image.Resampling.NEAREST))


def crop(photo: np.ndarray, mask: np.ndarray, rng: np.random.Generator, mirror: bool) -> tuple[np.ndarray, np.ndarray]:
    """Cut a square of two thirds to four thirds of MASK_CROP_PX, resized to it: (px, px, 3) and (px, px)."""
    side = min(int(MASK_CROP_PX / rng.uniform(0.75, 1.5)), *mask.shape)
    top, left = (int(rng.integers(length - side + 1)) for length in mask.shape)
    box = (left, top, left + side, top + side)
    size = (MASK_CROP_PX, MASK_CROP_PX)
    image = np.asarray(Image.fromarray(photo).resize(size, Image.Resampling.BILINEAR, box))
    truth = np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.NEAREST, box))
    return (image[:, ::-1], truth[:, ::-1]) if mirror and rng.random() < 0.5 else (image, truth)


def cross_entropy_and_dice(logits: Tensor, truth: Tensor) -> Tensor:
    """Return the loss of (B, C, H, W) logits and (B, H, W) classes, without VOID.

    The dice part covers the classes that the batch holds.
    """
    known = truth != VOID
    if not known.any():
        return logits.sum() * 0
    entropy = functional.cross_entropy(logits, truth, ignore_index=VOID)
    shares = logits.softmax(1) * known[:, None]
    wanted = functional.one_hot(truth.where(known, 0), logits.shape[1]).permute(0, 3, 1, 2) * known[:, None]
    overlap = (shares * wanted).sum((0, 2, 3))
    size = shares.sum((0, 2, 3)) + wanted.sum((0, 2, 3))
    there = wanted.sum((0, 2, 3)) > 0
    return entropy + 1 - (2 * overlap[there] / size[there]).mean()


@torch.inference_mode()
def decided(network: nn.Module, one: Example) -> np.ndarray:
    """Predict (H, W) class numbers at the photo's own size."""
    photo = torch.from_numpy(sized(one))[None]
    height, width = photo.shape[1:3]
    filled = functional.pad(as_input(photo), (0, -width % STRIDE, 0, -height % STRIDE), mode="replicate")
    logits = network(filled)[:, :, :height, :width]
    with Image.open(one.image) as image:
        whole = functional.interpolate(logits, (image.height, image.width), mode="bilinear")
    found: np.ndarray = whole.argmax(1)[0].numpy()
    return found
