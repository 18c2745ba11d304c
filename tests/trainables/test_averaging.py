"""The mean of a training's weights is timm's own, to the last bit."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from timm.utils import ModelEmaV3

from trainables.averaging import MeanWeights, names_that_move
from trainables.config.model import ClassifierConfig
from trainables.models.classifiers import build_classifier


@pytest.mark.parametrize(
    "model",
    [{}, {"batch_norm": "fixed"}, {"freeze": "stage2"}, {"freeze": "all"}],
    ids=["all", "fixed", "stages", "frozen"],
)
def test_it_is_timms_average_of_the_whole_model(model: dict[str, Any]) -> None:
    torch.manual_seed(0)
    config = ClassifierConfig(backbone="test_resnet", weights="none", **model)
    trained = build_classifier(config, 3, 32)
    options: dict[str, Any] = {"decay": 0.9, "use_warmup": True}
    ours = MeanWeights(trained, **options)
    timms = ModelEmaV3(trained, **options)
    optimizer = torch.optim.SGD([one for one in trained.parameters() if one.requires_grad], lr=0.1)
    for step in range(1, 6):
        trained.eval()
        trained.train()
        trained(torch.randn(4, 3, 32, 32)).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        for mean in (ours, timms):
            mean.update(trained, step=step)
        if step == 3:  # as after a resume
            ours.load_state_dict(ours.state_dict())
    expected = timms.state_dict()
    assert ours.state_dict().keys() == expected.keys()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in ours.state_dict().items())


def test_what_cannot_move_is_not_looked_at() -> None:
    config = ClassifierConfig(backbone="test_resnet", weights="none", freeze="all")
    assert list(names_that_move(build_classifier(config, 3, 32))) == ["head.1.weight", "head.1.bias", *COLOURS]


COLOURS = ["pixel_mean", "pixel_std"]  # buffers that are no part of the stored weights
