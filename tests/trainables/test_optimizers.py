import pytest
import torch
from torch import nn

from trainables import optimizers
from trainables.config.optimizer import OPTIMIZERS, Adam, AdamW, Sgd
from trainables.optimizers import build_optimizer, load_optimizer
from visionsweep.core.errors import ConfigError

EXAMPLES = {
    "sgd": Sgd(lr=0.1, weight_decay=0.01, backbone_lr_scale=0.1, nesterov=True),
    "adam": Adam(lr=0.1, weight_decay=0.01, backbone_lr_scale=0.1),
    "adamw": AdamW(lr=0.1, weight_decay=0.01, backbone_lr_scale=0.1),
}


class SmallModel(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten())
        self.head = nn.Linear(4 * 6 * 6, 2)

    def forward(self, images):
        return self.head(self.backbone(images))


def test_every_optimizer_has_an_example_here():
    assert EXAMPLES.keys() == OPTIMIZERS.keys()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_lowers_a_loss(name):
    torch.manual_seed(0)
    model = SmallModel()
    images = torch.randn(8, 3, 8, 8)
    optimizer = build_optimizer(EXAMPLES[name].model_copy(update={"lr": 0.01}), model)
    losses = []
    for _ in range(10):
        loss = model(images).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_backbone_learns_at_its_own_scale_and_the_head_at_one(name):
    model = SmallModel()
    optimizer = build_optimizer(EXAMPLES[name], model)
    scales = _by_parameter(optimizer, "lr_scale")
    assert {scales[parameter] for parameter in model.backbone.parameters()} == {0.1}
    assert {scales[parameter] for parameter in model.head.parameters()} == {1.0}
    assert all(group["lr"] == pytest.approx(0.1 * group["lr_scale"]) for group in optimizer.param_groups)


def test_a_wholly_frozen_backbone_needs_no_stages_for_its_decay():
    model = SmallModel()
    model.backbone.requires_grad_(False)
    assert build_optimizer(Sgd(lr=0.1, layer_decay=0.5), model)
    model.backbone.requires_grad_(True)
    with pytest.raises(ConfigError, match=r"layer_decay is 0\.5, but this backbone has no four stages"):
        build_optimizer(Sgd(lr=0.1, layer_decay=0.5), model)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_biases_and_norms_are_not_decayed(name):
    model = SmallModel()
    decay = _by_parameter(build_optimizer(EXAMPLES[name], model), "weight_decay")
    assert decay[model.backbone[0].weight] == decay[model.head.weight] == 0.01
    assert decay[model.backbone[0].bias] == decay[model.head.bias] == 0
    assert decay[model.backbone[1].weight] == decay[model.backbone[1].bias] == 0


def test_what_the_backbone_exempts_from_decay_is_exempt():
    model = SmallModel()
    model.backbone.no_weight_decay = lambda: {"0.weight"}
    decay = _by_parameter(build_optimizer(EXAMPLES["sgd"], model), "weight_decay")
    assert decay[model.backbone[0].weight] == 0


def test_frozen_parameters_are_left_out():
    model = SmallModel()
    model.backbone.requires_grad_(False)
    held = _by_parameter(build_optimizer(EXAMPLES["adam"], model), "lr")
    assert set(held) == set(model.head.parameters())


def test_nesterov_without_momentum_is_plain_sgd():
    optimizer = build_optimizer(Sgd(lr=0.1, momentum=0.0, nesterov=True), SmallModel())
    assert not optimizer.param_groups[0]["nesterov"]


def _by_parameter(optimizer, key):
    return {parameter: group[key] for group in optimizer.param_groups for parameter in group["params"]}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_fused_step_is_the_same_step(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU's steps are fused. torch fuses them on a CPU too, so that this can be compared."""
    images = torch.randn(8, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    trained = []
    for fused in ((), ("cpu",)):
        monkeypatch.setattr(optimizers, "FUSED", fused)
        torch.manual_seed(0)
        model = SmallModel()
        optimizer = build_optimizer(EXAMPLES[name], model)
        assert all(bool(group.get("fused")) == bool(fused) for group in optimizer.param_groups)
        for _ in range(3):
            optimizer.zero_grad()
            model(images).square().mean().backward()
            optimizer.step()
        fresh = build_optimizer(EXAMPLES[name], model)
        load_optimizer(fresh, optimizer.state_dict(), model)
        fresh.step()  # from stored moments, as after a resume
        del model.backbone[0].bias  # batch norm takes it away again, so its gradient is noise around zero
        trained.append([value.clone() for value in model.parameters()])
    torch.testing.assert_close(trained[0], trained[1])
