import copy
from itertools import pairwise

import pytest
import torch
from safetensors.torch import load_file, save_file

from trainables.config.architecture import SEGMENTERS, Decoder
from trainables.config.model import SegmenterConfig
from trainables.config.optimizer import Sgd
from trainables.models.segmenters import Segmenter, build_segmenter
from trainables.optimizers import build_optimizer
from visionsweep.core.errors import ConfigError

pytestmark = pytest.mark.usefixtures("one_thread")

NUM_CLASSES = 5
DECODERS = [name for name, entry in SEGMENTERS.items() if issubclass(entry.part, Decoder)]
PRETRAINABLE = [name for name, entry in SEGMENTERS.items() if name in DECODERS or entry.backbone]
EXTRA = {"fcn32s": {"fc_kernel": 1}}  # with its kernel of 7 it has a hundred million parameters more
BIG = ["fcn32s", "segnet", "unet_paper", "deeplabv3_resnet101", "fcn_resnet50"]
LEVELS = ["none", "stage1", "stage2", "stage3", "stage4", "all"]


def build(architecture, backbone="test_resnet", image_size=64, **values) -> Segmenter:
    own = {"name": architecture, **EXTRA.get(architecture, {})} if isinstance(architecture, str) else architecture
    config = {"weights": "none", "backbone": backbone if own["name"] in DECODERS else None, **values}
    return build_segmenter(SegmenterConfig(architecture=own, **config), NUM_CLASSES, image_size)


def images(height, width, batch=2):
    return torch.randn(batch, 3, height, width)


def train_one_step(model):
    optimizer = build_optimizer(Sgd(lr=0.1, weight_decay=0.1), model)
    model.eval()
    model.train()  # as the loop does, and what is frozen stays in evaluation mode
    output = model(images(20, 30))
    sum(part.square().mean() for part in (output if isinstance(output, tuple) else (output,))).backward()
    optimizer.step()


def test_every_architecture_has_its_function_and_whole_networks_alone_a_backbone_of_their_own():
    for name, entry in SEGMENTERS.items():
        assert entry.load().__name__ == name
        assert not (issubclass(entry.part, Decoder) and entry.backbone)


@pytest.mark.parametrize(
    ("name", "size"),
    [
        (name, size)
        for name in SEGMENTERS
        for size in ([(32, 32), (33, 30)] if name in BIG else [(64, 64), (33, 47), (65, 96)])
    ],
)
def test_logits_have_the_images_size_and_gradients_reach_every_parameter(name, size):
    model = build(name)
    logits = model(images(*size))
    assert logits.shape == (2, NUM_CLASSES, *size)
    logits.square().mean().backward()
    unreached = [key for key, parameter in model.named_parameters() if parameter.grad is None]
    assert not unreached
    assert next(model.backbone.parameters()).grad.abs().sum() > 0
    with torch.no_grad():
        assert model.eval()(images(*size, batch=1)).shape == (1, NUM_CLASSES, *size)


@pytest.mark.parametrize("name", SEGMENTERS)
def test_an_image_of_a_single_pixel_is_large_enough(name):
    with torch.no_grad():
        assert build(name)(images(1, 1)).shape == (2, NUM_CLASSES, 1, 1)


@pytest.mark.parametrize("backbone", ["test_efficientnet", "test_convnext"])
@pytest.mark.parametrize("name", DECODERS)
@pytest.mark.parametrize("channels", [16, 100])
def test_every_decoder_works_on_other_backbones_at_any_width(name, backbone, channels):
    model = build({"name": name, "channels": channels}, backbone).to(memory_format=torch.channels_last)
    assert model(images(40, 70).to(memory_format=torch.channels_last)).shape == (2, NUM_CLASSES, 40, 70)


@pytest.mark.parametrize("backbone", ["swin_tiny_patch4_window7_224", "densenet121", "pnasnet5large", "vgg11_bn"])
def test_pyramids_of_all_makes_are_taken_at_other_sizes_than_their_own(backbone):
    with torch.device("meta"):
        model = build("fpn", backbone, image_size=96, freeze="stage1")
        assert model(torch.empty(2, 3, 70, 100)).shape == (2, NUM_CLASSES, 70, 100)


@pytest.mark.parametrize("name", ["deeplabv3_resnet101", "fcn_resnet50"])
def test_an_auxiliary_classifier_answers_in_training_mode_only_and_not_without_weight(name):
    model = build({"name": name, "aux_weight": 0.4})
    logits, aux_logits = model(images(33, 47))
    assert logits.shape == aux_logits.shape == (2, NUM_CLASSES, 33, 47)
    with torch.no_grad():
        assert isinstance(model.eval()(images(33, 47)), torch.Tensor)
    with torch.device("meta"):
        assert not any("aux" in key for key in build(name).state_dict())


@pytest.mark.parametrize(
    ("name", "level"),
    [(name, level) for name in PRETRAINABLE for level in ("stage2", "all") if name not in BIG or level == "all"],
)
def test_what_is_frozen_stays_through_a_step_of_training_and_the_rest_moves(name, level):
    model = build(name, freeze=level)
    frozen = {key for key, parameter in model.named_parameters() if not parameter.requires_grad}
    assert frozen
    assert all(key.startswith("backbone.") for key in frozen)
    before = copy.deepcopy(model.state_dict())
    train_one_step(model)
    modules = {key.rpartition(".")[0] for key in frozen}
    for key, tensor in model.state_dict().items():
        if key.rpartition(".")[0] in modules:  # batch norm's statistics too
            assert torch.equal(tensor, before[key]), key
        elif tensor.ndim > 1:
            assert not torch.equal(tensor, before[key]), key


@pytest.mark.parametrize(
    ("name", "backbone"),
    [(name, None) for name in PRETRAINABLE if name not in DECODERS]
    + [("fpn", "test_efficientnet"), ("deeplabv3", "test_resnet"), ("unet", "test_convnext")],
)
def test_each_freeze_level_holds_more_of_the_backbone_than_the_one_below(name, backbone):
    held = []
    for level in LEVELS:
        with torch.device("meta"):
            model = build(name, backbone, freeze=level)
        held.append({key for key, parameter in model.named_parameters() if not parameter.requires_grad})
    assert not held[0]
    assert all(fewer < more for fewer, more in pairwise(held[:4]))
    assert (
        held[3] <= held[4] <= held[5] == {key for key in dict(model.named_parameters()) if key.startswith("backbone.")}
    )


def test_a_wholly_frozen_backbone_keeps_no_graph_while_its_decoder_trains():
    model = build("unet", freeze="all")
    assert not any(level.requires_grad for level in model.run_backbone(images(64, 64)))
    assert not any(module.training for module in model.backbone.modules())
    assert model.decoder.training
    assert model(images(64, 64)).requires_grad


@pytest.mark.parametrize("name", ["unet", "segnet", "deeplabv3_resnet101"])
def test_fixed_batch_norm_is_the_backbones_and_the_decoders_goes_on_collecting(name):
    model = build(name, batch_norm="fixed")
    before = copy.deepcopy(model.state_dict())
    train_one_step(model)
    moved = {key for key, buffer in model.named_buffers() if key in before and not torch.equal(before[key], buffer)}
    assert moved
    assert all(key.startswith("decoder.") for key in moved)


def test_what_is_trained_from_scratch_has_no_statistics_to_keep():
    with pytest.raises(ValueError, match=r"model\.decoder_first 0, and they are none, none, fixed, 0\.0"):
        SegmenterConfig(architecture={"name": "voc_baseline"}, weights="none", batch_norm="fixed")
    with pytest.raises(ValueError, match=r"model\.decoder_first 0, and they are none, none, trained, 0\.5"):
        SegmenterConfig(architecture={"name": "voc_baseline"}, weights="none", decoder_first=0.5)


@pytest.mark.parametrize("name", SEGMENTERS)
def test_the_lower_stages_of_the_backbone_learn_more_slowly(name):
    with torch.device("meta"):
        model = build(name)
    if not model.stages:
        with pytest.raises(ConfigError, match=r"this backbone has no four stages\. Set optimizer\.layer_decay=1"):
            build_optimizer(Sgd(lr=0.1, layer_decay=0.5), model)
        return
    scales = {group["lr_scale"] for group in build_optimizer(Sgd(lr=0.1, layer_decay=0.5), model).param_groups}
    assert {1.0, 0.5, 0.25, 0.125} <= scales <= {1.0, 0.5, 0.25, 0.125, 0.0625}


@pytest.mark.parametrize("name", SEGMENTERS)
def test_the_backbone_learns_at_its_own_rate_and_every_parameter_is_in_a_group(name):
    with torch.device("meta"):
        model = build(name)
        optimizer = build_optimizer(Sgd(lr=0.1, backbone_lr_scale=0.1), model)
    grouped = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    assert {id(parameter) for parameter in grouped} == {id(parameter) for parameter in model.parameters()}
    scaled = [p for group in optimizer.param_groups if group["lr_scale"] == 0.1 for p in group["params"]]
    assert {id(parameter) for parameter in scaled} == {id(parameter) for parameter in model.backbone.parameters()}


@pytest.mark.parametrize("name", SEGMENTERS)
def test_the_state_of_a_segmenter_goes_through_a_file_into_another(name, tmp_path):
    source = build(name).eval()
    target = build(name).eval()
    save_file(source.state_dict(), tmp_path / "model.safetensors")
    target.load_state_dict(load_file(tmp_path / "model.safetensors"))
    example = images(20, 30)
    with torch.no_grad():
        assert torch.equal(source(example), target(example))


def test_freezing_stages_is_refused_where_the_pyramids_levels_are_no_modules():
    with torch.device("meta"), pytest.raises(ConfigError, match=r"no four stages\. Set model\.freeze to none or all"):
        build("fpn", "hrnet_w18_small", freeze="stage1")


def test_fcn32s_has_the_papers_layers_and_interpolates_before_it_is_trained():
    with torch.device("meta"):
        decoder = build({"name": "fcn32s"}).decoder
    assert decoder.fc1.weight.shape == (4096, 512, 7, 7)
    assert decoder.fc2.weight.shape == (4096, 4096, 1, 1)
    upscore = build("fcn32s").decoder.upscore
    scores = torch.randn(1, NUM_CLASSES, 3, 4)
    interpolated = torch.nn.functional.interpolate(scores, scale_factor=32, mode="bilinear", align_corners=False)
    inner = (..., slice(16, -16), slice(16, -16))  # at the rim one repeats the last value, the other fades to zero
    torch.testing.assert_close(upscore(scores)[inner], interpolated[inner])


def test_fcn8s_adds_the_maps_of_the_fourth_and_the_third_pooling_if_asked():
    plain = build({"name": "fcn8s", "skips": False}).eval()
    skipping = build("fcn8s").eval()
    skipping.load_state_dict(plain.state_dict())
    maps = [torch.randn(1, width, 64 >> i, 64 >> i) for i, width in enumerate((64, 128, 256, 512, 512), start=1)]
    with torch.no_grad():
        assert not torch.equal(plain.decoder(maps), skipping.decoder(maps))
        maps[2:4] = [torch.zeros_like(level) for level in maps[2:4]]
        assert torch.equal(plain.decoder(maps), skipping.decoder(maps))


def test_a_narrow_fpn_takes_a_single_image_of_one_stride():
    model = build({"name": "fpn", "channels": 16}, backbone="test_resnet").eval()
    with torch.no_grad():
        assert model(images(32, 20, batch=1)).shape == (1, NUM_CLASSES, 32, 20)


def test_fcn8s_adds_a_skip_after_the_relu_and_before_the_batch_norm():
    decoder = build("fcn8s").eval().decoder
    convolution, relu, norm = decoder.doublings[0]
    norm.weight.data.uniform_(2, 3)
    norm.running_mean.fill_(0.5)
    below = torch.randn(1, 512, 2, 2)
    skip = torch.randn(1, 512, 4, 4)
    seen = []
    decoder.doublings[1].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    levels = [torch.zeros(1, 64, 32, 32), torch.zeros(1, 128, 16, 16), torch.zeros(1, 256, 8, 8)]
    with torch.no_grad():
        decoder([*levels, skip, below])
        torch.testing.assert_close(seen[0], norm(relu(convolution(below)) + skip))


@pytest.mark.parametrize("name", ["segnet", "voc_deeper"])
def test_unpooling_finds_its_places_in_either_memory_format(name):
    model = build(name).double().eval()
    example = images(40, 70, batch=1).double()
    with torch.no_grad():
        logits = model(example)
        in_other_format = model.to(memory_format=torch.channels_last)(example.to(memory_format=torch.channels_last))
    torch.testing.assert_close(in_other_format, logits)


def test_voc_deeper_has_the_sizes_of_its_table():
    with torch.device("meta"):
        encoded = build("voc_deeper").backbone(torch.empty(2, 3, 224, 224))
    assert [height for height, _ in encoded.sizes] == [224, 108, 54, 27, 14, 7, 4, 2]
    assert encoded.x.shape == (2, 1024, 1, 1)
