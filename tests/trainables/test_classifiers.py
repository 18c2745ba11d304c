import copy
import re
from itertools import pairwise

import pytest
import torch

from search_spaces.shipped import SEARCHES
from trainables.config.model import HEADS, ClassifierConfig, LinearHead, MishMlpHead
from trainables.models.classifiers import TORCHVISION_BACKBONES, Classifier, build_classifier, check_backbone
from trainables.models.freezing import parameter_stages
from trainables.models.heads import build_head
from visionsweep.core.errors import ConfigError

BACKBONES = [
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet10t",
    "seresnext101_32x4d",
    "pnasnet5large",
    "efficientnet_b0",
    "efficientnet_b2",
    "tf_efficientnet_b7",
    "tf_efficientnet_lite0",
    "tf_efficientnet_lite1",
    "tf_efficientnet_lite2",
    "tf_efficientnetv2_s",
    "mobilenetv3_large_100",
    "convnext_tiny",
    "regnety_016",
    "vit_small_patch16_224",
    "inception_v3",
    "alexnet",
]
SMALL = {
    "test_resnet": 32,
    "resnet18": 32,
    "tf_efficientnet_lite0": 32,
    "test_vit": 32,
    "alexnet": 63,
    "inception_v3": 75,
}
LEVELS = ["none", "stage1", "stage2", "stage3", "stage4", "all"]
HEAD_EXAMPLES = {"linear": LinearHead(dropout=0.1), "mish_mlp": MishMlpHead(hidden=5)}


def build(backbone, image_size=32, num_outputs=3, **values) -> Classifier:
    return build_classifier(ClassifierConfig(backbone=backbone, weights="none", **values), num_outputs, image_size)


def logits_of(output):
    return output[0] if isinstance(output, tuple) else output


@pytest.mark.parametrize("backbone", BACKBONES)
def test_every_backbone_of_the_searches_builds_and_runs(backbone):
    """At a size that no patch divides. Those of the searches are in test_backbones_of_searches.py."""
    image_size = 100
    with torch.device("meta"):
        model = build(backbone, image_size)
        output = logits_of(model(torch.empty(2, 3, image_size, image_size)))
    assert output.shape == (2, 3)
    assert all(len(colour) == 3 for colour in (model.mean, model.std))


@pytest.mark.parametrize("name", HEADS)
def test_every_head_maps_features_to_logits(name):
    assert HEAD_EXAMPLES.keys() == HEADS.keys()
    head = build_head(HEAD_EXAMPLES[name], in_features=7, num_outputs=4)
    assert head(torch.randn(2, 7)).shape == (2, 4)


def test_the_head_works_on_what_features_returns():
    model = build("test_resnet", head=MishMlpHead(hidden=8)).eval()
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(model.head(model.features(images)), model(images))


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("backbone", SMALL)
def test_what_is_frozen_stays_through_a_step_of_training_and_the_rest_moves(backbone, level):
    torch.manual_seed(0)
    size = SMALL[backbone]
    model = build(backbone, size, freeze=level)
    before = copy.deepcopy(model.state_dict())
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}

    model.eval()
    model.train()  # as the loop does, and what is frozen stays in evaluation mode
    output = model(torch.randn(2, 3, size, size))
    loss = sum(part.square().sum() for part in (output if isinstance(output, tuple) else (output,)))
    loss.backward()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter -= 0.01 * parameter.grad.sign() + 1e-3

    after = model.state_dict()
    trained = [name for name, parameter in model.named_parameters() if parameter.grad is not None]
    assert not frozen & set(trained)
    assert all(torch.equal(before[name], after[name]) for name in frozen)
    assert any(name.startswith("head.") for name in trained)
    still = {name.rpartition(".")[0] for name in frozen}
    running = [name for name in before if "running_" in name and name.rpartition(".")[0] in still]
    assert all(torch.equal(before[name], after[name]) for name in running)


@pytest.mark.parametrize("backbone", SMALL)
def test_each_freeze_level_holds_more_of_the_backbone_than_the_one_below(backbone):
    held = []
    for level in LEVELS:
        with torch.device("meta"):
            model = build(backbone, SMALL[backbone], freeze=level)
        held.append({name for name, parameter in model.named_parameters() if not parameter.requires_grad})
    assert all(fewer <= more for fewer, more in pairwise(held))
    assert [len(names) for names in held[:4]] == sorted({len(names) for names in held[:4]})
    assert not held[0]
    assert not any(name.startswith("head.") for name in held[-1])
    assert all(name in held[-1] for name, _ in model.named_parameters() if name.startswith("backbone."))


def test_a_cut_follows_the_stages_of_the_backbone():
    model = build("resnet18", freeze="stage2")
    frozen = {name.split(".")[1] for name, parameter in model.named_parameters() if not parameter.requires_grad}
    assert frozen == {"conv1", "bn1", "layer1", "layer2"}


def test_a_wholly_frozen_backbone_keeps_no_graph_while_its_head_trains():
    model = build("test_resnet", freeze="all")
    assert not model.features(torch.randn(2, 3, 32, 32)).requires_grad
    assert model(torch.randn(2, 3, 32, 32)).requires_grad
    assert not any(module.training for module in model.backbone.modules())
    assert model.head.training


@pytest.mark.parametrize("level", ["none", "stage2"])
@pytest.mark.parametrize("backbone", ["test_resnet", "test_efficientnet", "inception_v3"])
def test_fixed_batch_norm_keeps_its_statistics_and_learns_scale_and_shift(backbone, level):
    torch.manual_seed(0)
    size = SMALL.get(backbone, 32)
    model = build(backbone, size, freeze=level, batch_norm="fixed")
    before = copy.deepcopy(model.state_dict())
    model.eval()
    model.train()
    output = model(torch.randn(2, 3, size, size))
    sum(part.square().sum() for part in (output if isinstance(output, tuple) else (output,))).backward()
    assert all(torch.equal(before[name], buffer) for name, buffer in model.named_buffers() if name in before)
    norms = {name for name, one in model.named_modules() if isinstance(one, torch.nn.BatchNorm2d)}
    learnt = {name.rpartition(".")[0] for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert norms & learnt
    assert (norms <= learnt) == (level == "none")
    others = [one for name, one in model.named_modules() if name not in norms and not name.startswith("backbone.")]
    assert all(one.training for one in others)


def test_a_network_trains_as_it_is_judged_where_its_batch_norm_is_fixed():
    model = build("resnet18", batch_norm="fixed")
    images = torch.randn(2, 3, 32, 32)
    trained = model.train()(images)
    assert torch.equal(trained, model.eval()(images))


@pytest.mark.parametrize(
    ("backbone", "stage_of"),
    [
        ("resnet18", {"conv1.": 0, "bn1.": 0, "layer1.": 1, "layer2.": 2, "layer3.": 3, "layer4.": 4}),
        (
            "tf_efficientnet_lite0",
            {"conv_stem.": 0, "bn1.": 0, "blocks.0.": 1, "blocks.1.": 1, "blocks.2.": 2, "blocks.3.": 3}
            | {"blocks.4.": 3, "blocks.5.": 4, "blocks.6.": 4, "conv_head.": 4, "bn2.": 4},
        ),
        ("vit_small_patch16_224", {"cls_token": 0, "pos_embed": 0, "patch_embed.": 0, "blocks.0.": 1, "blocks.3.": 2,
                                   "blocks.6.": 3, "blocks.11.": 4, "norm.": 4}),
        ("convnext_tiny", {"stem.": 0, "stages.0.": 1, "stages.1.": 2, "stages.2.": 3, "stages.3.": 4, "head.": 4}),
    ],
)  # fmt: skip
def test_each_parameter_of_a_backbone_belongs_to_a_stage(backbone, stage_of):
    with torch.device("meta"):
        model = build(backbone, 224)
    stages = parameter_stages(model.backbone, model.stages)
    assert stages.keys() == dict(model.backbone.named_parameters()).keys()
    for beginning, stage in stage_of.items():
        found = {stages[name] for name in stages if name.startswith(beginning)}
        assert found == {stage}, beginning


def test_a_copy_freezes_its_own_modules():
    copied = copy.deepcopy(build("test_resnet", freeze="all"))
    copied.train()
    assert not any(module.training for module in copied.backbone.modules())


@pytest.mark.parametrize("image_size", [75, 128])
def test_inception_gives_auxiliary_logits_in_training_mode_only_at_any_size(image_size):
    model = build("inception_v3", image_size, num_outputs=4)
    images = torch.randn(2, 3, image_size, image_size)
    logits, aux_logits = model(images)
    assert logits.shape == aux_logits.shape == (2, 4)
    assert all(parameter.requires_grad for parameter in model.aux_head.parameters())
    assert model.eval()(images).shape == (2, 4)


def test_inception_has_no_auxiliary_head_where_its_loss_has_no_weight():
    model = build("inception_v3", 75, aux_weight=0.0)
    assert model.aux_head is None
    assert isinstance(model(torch.randn(2, 3, 75, 75)), torch.Tensor)


def test_both_classifiers_of_a_wholly_frozen_inception_train_and_nothing_else():
    model = build("inception_v3", 75, freeze="all")
    logits, aux_logits = model(torch.randn(2, 3, 75, 75))
    (logits.square().mean() + 0.3 * aux_logits.square().mean()).backward()
    trained = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert trained == {
        f"{layer}.{leaf}" for layer in ("head.1", "aux_head.classifier.fc") for leaf in ("weight", "bias")
    }
    frozen = [
        *model.backbone.modules(),
        *model.aux_head.classifier.conv0.modules(),
        *model.aux_head.classifier.conv1.modules(),
    ]
    assert not any(module.training for module in frozen)
    assert not model.features(torch.randn(2, 3, 75, 75)).requires_grad
    assert isinstance(model.eval()(torch.randn(2, 3, 75, 75)), torch.Tensor)


def test_inceptions_auxiliary_head_sees_the_map_that_torchvisions_own_sees():
    model = build("inception_v3", 75, aux_weight=1.0)
    torchvisions = copy.deepcopy(model.backbone)
    torchvisions.AuxLogits = torch.nn.Identity()
    torchvisions.aux_logits = True
    images = torch.randn(2, 3, 75, 75)
    seen = []
    copied = copy.deepcopy(model)  # a copy looks into its own backbone
    copied.aux_head.register_forward_pre_hook(lambda head, maps: seen.append(maps[0]))
    copied(images)
    assert torch.equal(seen[0], torchvisions(images).aux_logits)


def test_torchvisions_backbones_refuse_images_too_small_for_them():
    for name, entry in TORCHVISION_BACKBONES.items():
        with pytest.raises(
            ConfigError, match=rf"'{name}' takes images of {entry.min_image_size} pixels or more, not 32"
        ):
            build(name, 32)


def test_a_transformer_takes_image_sizes_that_are_no_multiple_of_its_patch():
    assert build("test_vit", 50)(torch.randn(1, 3, 50, 50)).shape == (1, 3)


def test_an_unknown_backbone_is_answered_with_the_nearest_right_name():
    with pytest.raises(ConfigError, match=r"unknown backbone 'resnet43'\. Did you mean 'resnet34'\?"):
        check_backbone("resnet43")
    with pytest.raises(ConfigError, match="Did you mean 'alexnet'"):
        check_backbone("alex_net")
    check_backbone("alexnet")
    check_backbone("resnet18.a1_in1k")


def test_the_search_that_an_unknown_backbone_is_pointed_to_exists():
    with pytest.raises(ConfigError) as caught:
        check_backbone("resnet43")
    named = re.search(r"`visionsweep spaces ([\w-]+)`", str(caught.value))
    assert named is not None
    assert named[1] in SEARCHES


def test_freezing_stages_is_refused_where_a_backbone_has_none():
    with pytest.raises(ConfigError, match=r"no four stages\. Set model\.freeze to none or all"), torch.device("meta"):
        build("levit_128s", 224, freeze="stage1")


def test_features_of_stages_are_refused_where_a_backbone_has_none():
    with pytest.raises(ConfigError, match=r"has no stages.*Set model\.features=last"), torch.device("meta"):
        build("levit_128s", 224, features="stages")


@pytest.mark.parametrize(
    ("backbone", "size", "channels", "over"),
    [
        ("test_resnet", 32, (32, 48, 192, 96), (2, 3)),
        ("test_vit", 160, (64, 64, 64, 64), (1,)),  # tokens
        ("swin_tiny_patch4_window7_224", 224, (96, 192, 384, 768), (1, 2)),  # maps with channels last
        ("alexnet", 63, (64, 192, 256, 256), (2, 3)),
    ],
)
def test_a_head_may_see_the_means_of_the_stages_maps_behind_the_last_features(backbone, size, channels, over):
    model = build(backbone, size, features="stages").eval()
    maps = {}
    for name in model.stages:
        model.backbone.get_submodule(name).register_forward_hook(
            lambda module, inputs, output, name=name: maps.setdefault(name, output)
        )
    images = torch.randn(2, 3, size, size)
    seen = model.features(images)  # with a graph: as it is, not folded
    last = model.backbone(images)
    means = [maps[name].mean(over) for name in model.stages]
    assert tuple(mean.shape[1] for mean in means) == channels
    assert torch.equal(seen, torch.cat([last, *means], dim=1))
    with torch.no_grad():
        torch.testing.assert_close(model.features(images), seen.detach(), rtol=1e-3, atol=1e-5)
    assert model(images).shape == (2, 3)
    assert model.state_dict().keys() == build(backbone, size).state_dict().keys()


def test_normalisation_is_that_of_the_backbones_own_weights():
    with torch.device("meta"):
        assert build("resnet18").mean == (0.485, 0.456, 0.406)
        assert build("tf_efficientnet_lite0").mean == build("tf_efficientnet_lite0").std == (0.5, 0.5, 0.5)


def test_the_colours_lie_on_the_models_device_and_are_not_stored_with_its_weights():
    model = build("resnet18")
    assert not any("pixel" in name for name in model.state_dict())
    assert torch.equal(model.pixel_mean.flatten(), torch.tensor(model.mean) * 255)
    assert torch.equal(model.pixel_std.flatten(), torch.tensor(model.std) * 255)
    moved = copy.deepcopy(model).to("meta")
    assert moved.pixel_mean.device.type == moved.pixel_std.device.type == "meta"


def test_the_state_of_a_classifier_loads_into_another():
    source = build("test_resnet")
    target = build("test_resnet")
    target.load_state_dict(source.state_dict())
    images = torch.randn(1, 3, 32, 32)
    assert torch.equal(source.eval()(images), target.eval()(images))
