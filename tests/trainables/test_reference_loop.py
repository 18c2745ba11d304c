"""fit() beside a loop written by hand with torch and timm: two epochs, bit for bit."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F  # noqa: N812 (torch's own convention)
from timm.data import Mixup
from timm.utils import ModelEmaV3
from torch import Tensor, nn

from trainables.config.trial import TrialConfig
from trainables.data.augment import train_transform
from trainables.data.loader import TrialData, batches
from trainables.loop import fit
from trainables.models.classifiers import Classifier, build_classifier
from trainables.seeds import derived_seed, seed_everything
from trainables.tasks import LABEL_TASKS

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")
C = 10
Digits = Callable[..., TrialData]
Tiny = Callable[..., TrialConfig]


class Plain(nn.Module):
    """A timm network with a head of its own."""

    def __init__(self, like: Classifier, dropout: float) -> None:
        super().__init__()
        self.body = timm.create_model("test_resnet", num_classes=0)
        self.dropout = nn.Dropout(dropout)
        self.last = nn.Linear(self.body.num_features, C)
        self.body.load_state_dict(like.backbone.state_dict())
        self.last.load_state_dict({name: like.head.state_dict()[f"1.{name}"] for name in ("weight", "bias")})

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.last(self.dropout(self.body(images)))
        return logits


def started(config: TrialConfig, dropout: float = 0.0) -> tuple[Plain, Callable[[Tensor], Tensor]]:
    """Return fit()'s initial model, and the function that turns pixels (B, H, W, 3) into its input."""
    torch.manual_seed(config.seed)
    ours = build_classifier(config.model, C, config.image_size)
    mean, std = (torch.tensor(colour).view(3, 1, 1) * 255 for colour in (ours.mean, ours.std))
    model = Plain(ours, dropout).to(memory_format=torch.channels_last)
    return model, lambda pixels: (pixels.permute(0, 3, 1, 2).float() - mean) / std


def epoch_of(config: TrialConfig, data: TrialData, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
    seed = derived_seed(config.seed, epoch)
    seed_everything(seed)
    labels = LABEL_TASKS["multiclass"].encode(data.dataset.targets, C)
    yield from batches(data, "train", labels, train_transform(config), config.batch_size, seed=seed)


def assert_same(one: nn.Module, ours: nn.Module) -> None:
    by_hand = one.state_dict()
    found = ours.state_dict()
    assert len(by_hand) == len(found)
    for name, tensor in by_hand.items():
        place = name.replace("body.", "backbone.").replace("last.", "head.1.")
        assert torch.equal(tensor, found[place]), name


def test_plain_sgd_is_the_loop_that_everybody_writes(digits: Digits, tiny: Tiny) -> None:
    config = tiny(epochs=2, schedule={"name": "constant"}, augment={"rotate": {"p": 1.0}})
    data = digits(train=40, val=8)
    model, to_input = started(config)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    for epoch in range(2):
        model.train()
        for pixels, targets in epoch_of(config, data, epoch):
            loss = F.cross_entropy(model(to_input(pixels)), targets.argmax(1))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    assert_same(model, list(fit(config, data, CPU))[-1].state.model)


MIXES: list[dict[str, Any]] = [{"name": "mixup", "alpha": 0.4}, {"name": "cutmix", "alpha": 1.0}]


@pytest.mark.parametrize("mix", MIXES, ids=lambda mix: str(mix["name"]))
def test_all_that_a_training_can_have_is_what_torch_and_timm_make_of_it(
    digits: Digits, tiny: Tiny, mix: dict[str, Any]
) -> None:
    """Covers decay groups, a slower backbone, clipping, accumulation with a smaller last group, and dropout.

    Also mixing, averaged weights with their warm-up, and a cosine after a linear warm-up.
    """
    config = tiny(
        epochs=2, batch_size=8, accumulate=2, clip_grad_norm=0.5, ema_decay=0.9, augment={"mix": mix},
        model={"head": {"name": "linear", "dropout": 0.3}},
        optimizer={"name": "adamw", "lr": 0.01, "weight_decay": 0.1, "backbone_lr_scale": 0.25},
        schedule={"name": "cosine", "warmup_epochs": 0.5},
    )  # fmt: skip
    data = digits(train=40, val=8)  # five batches: two steps of two, and one of one
    # The same training in plain torch and timm.
    model, to_input = started(config, dropout=0.3)
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        groups.setdefault((name.startswith("body."), parameter.ndim == 1), []).append(parameter)
    optimizer = torch.optim.AdamW(
        [
            {"params": members, "scale": 0.25 if of_body else 1.0, "weight_decay": 0.0 if plain else 0.1}
            for (of_body, plain), members in groups.items()
        ]
    )
    averaged = ModelEmaV3(model, decay=0.9, use_warmup=True)
    mixup = Mixup(**{"mixup_alpha": 0.0, f"{mix['name']}_alpha": mix["alpha"]}, label_smoothing=0.0, num_classes=C)
    num_steps = 3
    steps_done = 0
    for epoch in range(2):
        model.train()
        listed = list(epoch_of(config, data, epoch))
        for step in range(num_steps):
            group = listed[2 * step : 2 * step + 2]
            now = epoch + step / num_steps
            for part in optimizer.param_groups:
                part["lr"] = 0.01 * factor(now) * part["scale"]
            num_images = sum(len(pixels) for pixels, _ in group)
            for pixels, targets in group:
                images, mixed = mixup(to_input(pixels), targets.argmax(1))
                log_p = F.log_softmax(model(images), dim=1)
                # As many as there are images, but for the rounding of a mixture's two shares.
                loss = -(mixed * log_p).sum() / mixed.sum()
                (loss * (len(pixels) / num_images)).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 0.5)
            optimizer.step()
            optimizer.zero_grad()
            steps_done += 1
            averaged.update(model, step=steps_done)
    # fit() ends with the same weights.
    state = list(fit(config, data, CPU))[-1].state
    assert state.num_steps == steps_done
    assert_same(model, state.model)
    assert_same(averaged.module, state.weights)


def factor(epoch: float) -> float:
    """Return the rate's factor: linear from 1% over half an epoch, then half a cosine to zero over two."""
    warm_up = min(1.0, 0.01 + 0.99 * epoch / 0.5)
    return warm_up * (1 + math.cos(math.pi * epoch / 2)) / 2
