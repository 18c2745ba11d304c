import socket

import pytest
import timm
import torch
from safetensors.torch import save_file

from trainables.config.architecture import SEGMENTERS
from trainables.config.model import SegmenterConfig
from trainables.models import pyramids
from trainables.models.known import has_package
from trainables.models.segmenters import Segmenter, build_segmenter
from trainables.models.weights import load_weights
from visionsweep.core.errors import ConfigError, WeightsError

pytestmark = pytest.mark.usefixtures("one_thread")


def build(architecture, backbone, weights="none") -> Segmenter:
    config = SegmenterConfig(architecture={"name": architecture}, backbone=backbone, weights=weights)
    return build_segmenter(config, num_classes=5, image_size=64)


def scattered(model):
    """Scales, biases and statistics, too, are none that a fresh model has."""
    for tensor in model.state_dict().values():
        if tensor.is_floating_point() and tensor.ndim == 1:
            tensor += torch.rand_like(tensor) * 0.1
    return model


BACKBONES = [
    "resnet18",
    "test_convnext",
    "regnety_002",
    "mobilenetv3_small_050",
    "test_mambaout",
    "edgenext_xx_small",
]


@pytest.mark.parametrize("backbone", BACKBONES)
def test_a_files_weights_give_the_maps_that_timm_itself_gives_with_them(backbone, tmp_path):
    file = tmp_path / "weights.safetensors"
    save_file(scattered(timm.create_model(backbone)).state_dict(), file)
    model = build("fpn", backbone, weights=str(file)).eval()
    own = {"pretrained_cfg_overlay": {"file": str(file), "custom_load": False}}
    known = timm.create_model(backbone, features_only=True, pretrained=True, **own).eval()
    example = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        ours = model.backbone(example)
        timms = known(example)
    if getattr(known, "output_fmt", "NCHW") == "NHWC":
        timms = [level.permute(0, 3, 1, 2) for level in timms]
    torch.testing.assert_close(ours[-4:], timms[-4:])


@pytest.mark.skipif(not has_package("tf_efficientnet_lite0"), reason="the weights' package is not installed")
@pytest.mark.parametrize("name", ["unet", "deeplabv3plus"])
def test_packaged_weights_reach_the_encoder_without_any_hub(name, monkeypatch):
    monkeypatch.setattr(socket.socket, "connect", lambda *call: pytest.fail("asked the network"))
    model = build(name, "tf_efficientnet_lite0", weights="imagenet")
    whole = load_weights("tf_efficientnet_lite0", "imagenet", 64).module.state_dict()
    encoder = model.backbone.model.state_dict()
    assert all(torch.equal(tensor, whole[key]) for key, tensor in encoder.items())
    assert model.mean == model.std == (0.5, 0.5, 0.5)


@pytest.mark.parametrize(
    ("name", "prefix"), [("fcn_resnet50", ""), ("voc_resnet18", "model."), ("segnet", ""), ("fcn8s", "")]
)
def test_whole_networks_take_their_own_backbones_weights(name, prefix, tmp_path):
    with torch.device("meta"):
        timms = timm.create_model(SEGMENTERS[name].backbone, num_classes=0).state_dict()
    kept = [key for key in timms if not key.startswith("pre_logits.")]  # VGG's dense layers: half a gigabyte
    stored = {key: torch.rand(timms[key].shape).to(timms[key].dtype) for key in kept}
    save_file(stored, tmp_path / "weights.safetensors")
    model = build(name, None, weights=str(tmp_path / "weights.safetensors"))
    own = model.backbone.state_dict()
    assert own.keys() == {f"{prefix}{key}" for key in stored}
    assert all(torch.equal(own[f"{prefix}{key}"], tensor) for key, tensor in stored.items())


def test_weights_that_do_not_cover_the_encoder_are_refused_with_the_first_that_is_missing(monkeypatch):
    other = load_weights("test_efficientnet", "none", 64)
    monkeypatch.setattr(pyramids, "load_weights", lambda *asked: other)
    with pytest.raises(WeightsError, match=r"weights of 'test_resnet' \(imagenet\) lack \d+ of the \d+ .*model\.conv1"):
        build("unet", "test_resnet", weights="imagenet")


@pytest.mark.parametrize(("name", "backbone"), [("unet", "test_resnet"), ("fcn8s", None)])
def test_weights_that_are_no_file_are_answered_with_what_there_is(name, backbone):
    with pytest.raises(WeightsError, match="'imagnet' is neither imagenet, none nor a file"):
        build(name, backbone, weights="imagnet")


def test_an_unknown_backbone_is_answered_with_the_nearest_right_name():
    with pytest.raises(ConfigError, match=r"unknown backbone 'resnet43'\. Did you mean 'resnet34'\?"):
        build("unet", "resnet43")


@pytest.mark.parametrize("backbone", ["test_vit", "alexnet", "inception_v3", "maxvit_nano_rw_256"])
def test_a_backbone_without_a_pyramid_is_refused_with_some_that_have_one(backbone):
    with pytest.raises(ConfigError, match=rf"'{backbone}' gives no feature pyramid .* such as resnet34"):
        build("unet", backbone)


@pytest.mark.parametrize("name", ["pspnet", "deeplabv3", "deeplabv3plus"])
def test_a_backbone_that_cannot_be_dilated_is_refused_where_the_decoder_needs_it(name):
    with pytest.raises(ConfigError, match=r"'vgg11' cannot keep its last maps at 1/\d+ .* to unet, fpn"):
        build(name, "vgg11")


def test_pspnet_refuses_a_map_that_does_not_split_in_four():
    with torch.device("meta"), pytest.raises(ConfigError, match="that of 'rexnet_100' has 185 channels"):
        build("pspnet", "rexnet_100")
