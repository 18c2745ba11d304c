"""Batch norm folded into convolutions where a backbone is judged: the same network, in fewer steps."""

from __future__ import annotations

import copy
import pickle

import pytest
import timm
import torch
from torch import Tensor, nn

from trainables.config.model import ClassifierConfig
from trainables.models.classifiers import Classifier, build_classifier
from trainables.models.folding import Folding


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def network(name: str) -> nn.Module:
    """Return a network whose batch norms have statistics, as after a training."""
    module = timm.create_model(name, num_classes=0).train()
    for _ in range(3):
        module(2 * torch.randn(4, 3, 64, 64) + 1)
    return module.eval()


def norms(module: nn.Module) -> int:
    return sum(isinstance(one, nn.modules.batchnorm._BatchNorm) for one in module.modules())


@pytest.mark.parametrize("name", ["test_efficientnet", "test_resnet", "tf_efficientnet_lite0"])
def test_what_is_folded_makes_the_same_of_images(name: str) -> None:
    module = network(name)
    images = torch.randn(2, 3, 64, 64)
    folded = Folding().of(module)
    assert norms(folded) < norms(module) / 3  # one follows a convolution that is a level deeper
    with torch.no_grad():
        torch.testing.assert_close(folded(images), module(images), rtol=1e-3, atol=1e-4)


class BeforeTheConvolution(nn.Module):
    """A module whose norm is defined after a convolution but called before it."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 3, 3, padding=1)
        self.norm = nn.BatchNorm2d(3)

    def forward(self, images: Tensor) -> Tensor:
        return self.first(self.norm(images).relu()).mean((2, 3))  # type: ignore[no-any-return]


def test_another_order_of_layers_is_noticed_and_nothing_folded() -> None:
    module = BeforeTheConvolution().train()
    module(3 * torch.randn(8, 3, 64, 64) + 2)
    module.eval()
    assert Folding().of(module) is module


class SeveralMaps(nn.Module):
    """A module that returns a mapping with lists and other objects than tensors, as segmenters' networks do."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)

    def forward(self, images: Tensor) -> dict[str, object]:
        maps = self.norm(self.convolution(images))
        return {"out": maps, "others": [maps.mean(), "nearest"], "places": maps.argmax(dim=1)}


def test_a_backbone_that_gives_several_maps_is_folded_too() -> None:
    module = SeveralMaps().train()
    images = torch.randn(4, 3, 64, 64)
    module(images)
    module.eval()
    folded = Folding().of(module)
    assert norms(folded) == 0
    with torch.no_grad():
        torch.testing.assert_close(folded(images)["out"], module(images)["out"], rtol=1e-3, atol=1e-4)


def test_a_backbone_without_batch_norm_stays_itself() -> None:
    module = network("test_vit")
    assert Folding().of(module) is module


def test_new_weights_are_folded_anew_and_equal_ones_are_not() -> None:
    module = network("test_resnet")
    folding = Folding()
    images = torch.randn(2, 3, 64, 64)
    first = folding.of(module)
    assert folding.of(module) is first
    with torch.no_grad():
        next(module.parameters()).mul_(1.5)
        assert folding.of(module) is not first
        torch.testing.assert_close(folding.of(module)(images), module(images), rtol=1e-3, atol=1e-4)


def classifier() -> Classifier:
    return build_classifier(ClassifierConfig(backbone="test_resnet", weights="none"), 2, 64)


def test_a_classifier_is_judged_folded_and_trained_as_it_is() -> None:
    model = classifier()
    images = torch.randn(4, 3, 64, 64)
    names = set(model.state_dict())
    model(images).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    model.eval()
    with torch.no_grad():
        judged = model(images)
    assert norms(model.folding.of(model.backbone)) < norms(model.backbone)
    torch.testing.assert_close(judged, model(images), rtol=1e-3, atol=1e-4)  # with a graph: its own layers
    assert set(model.state_dict()) == names


def test_copies_and_pickles_hold_the_weights_once() -> None:
    model = classifier().eval()
    with torch.no_grad():
        model(torch.randn(1, 3, 64, 64))
    size = len(pickle.dumps(classifier()))
    assert abs(len(pickle.dumps(model)) - size) < 1000
    assert copy.deepcopy(model).folding._copy is None
