"""Low-rank adapters: trained alone, added to their weights in what is kept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from analysis.models.soup import mean_weights, start_of
from trainables.checkpoint import TrialFiles, load_state
from trainables.config.adapter import Lora
from trainables.config.io import load_config, parse_config
from trainables.config.model import ClassifierConfig
from trainables.config.trial import TrialConfig
from trainables.costs import num_parameters
from trainables.data.loader import TrialData
from trainables.ensemble import load_models, model_with
from trainables.evaluate import evaluate
from trainables.features.feature_key import weights_digest
from trainables.inference import autocast
from trainables.loop import fit
from trainables.models.adapters import LowRank, plain_state_dict
from trainables.models.build import build_model
from trainables.targets import classes_and_labels
from visionsweep.core.errors import ConfigError, Contradiction

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")
ADAMW = {"name": "adamw", "lr": 1e-2}
Digits = Callable[..., TrialData]
Tiny = Callable[..., TrialConfig]


@pytest.fixture
def pretrained(tiny: Tiny, tmp_path: Path) -> Path:
    """A file of weights for the tiny transformer."""
    path = tmp_path / "weights.safetensors"
    torch.manual_seed(7)
    save_file(build_model(tiny("test_vit").model, 10, 32).state_dict(), path)
    return path


def adapted(tiny: Tiny, weights: object = "none", model: dict[str, Any] | None = None, **changed: Any) -> TrialConfig:
    own = {"weights": str(weights), "adapter": {"name": "lora", "rank": 2}, **(model or {})}
    return tiny("test_vit", model=own, **{"optimizer": ADAMW, **changed})


def with_drawn_adapters(backbone: str, image_size: int = 32) -> tuple[Any, ClassifierConfig]:
    """A model whose adapters say something, in evaluation mode."""
    config = ClassifierConfig(backbone=backbone, weights="none", adapter=Lora(rank=2))
    torch.manual_seed(0)
    model = build_model(config, 3, image_size)
    for one in model.modules():
        if isinstance(one, LowRank):
            torch.nn.init.normal_(one.up, std=0.1)
    return model.eval(), config


# The second is EVA-02's kind, which reads the weight of its layer without calling it.
@pytest.mark.parametrize("backbone", ["test_vit", "eva02_tiny_patch14_224", "test_vit4"])
@torch.no_grad()
def test_a_merged_network_is_plain_and_says_the_same_to_the_last_bit(backbone: str) -> None:
    model, config = with_drawn_adapters(backbone)
    plain = build_model(config.model_copy(update={"adapter": None}), 3, 32).eval()
    images = torch.randn(2, 3, 32, 32)
    merged = plain_state_dict(model)
    assert list(merged) == list(plain.state_dict())
    plain.load_state_dict(merged)
    assert torch.equal(plain(images), model(images))
    bf16 = parse_config({"task": "multiclass", "model": {"backbone": "test_vit"}, "optimizer": ADAMW, "epochs": 1,
                         "batch_size": 4, "precision": "bf16"})  # fmt: skip
    with autocast(bf16, CPU):
        assert torch.equal(plain(images), model(images))
    for one in model.modules():
        if isinstance(one, LowRank):
            one.up.zero_()
    assert not torch.equal(plain(images), model(images))  # the adapters were heard
    assert num_parameters(model) == num_parameters(plain)


def test_adapters_and_head_alone_are_trained_and_kept_to_go_on(
    digits: Digits, tiny: Tiny, tmp_path: Path, pretrained: Path
) -> None:
    config = adapted(tiny, pretrained, epochs=3, ema_decay=0.9)
    data = digits(train=48, val=16)
    files = TrialFiles(tmp_path / "checkpoints/t1", tmp_path / "predictions/t1", "val/accuracy", "max", 1)
    straight = list(fit(config, data, CPU))
    stopped = fit(config, data, CPU)
    files.save(next(stopped), resumable=True)
    stopped.close()
    stored = torch.load(files.last, weights_only=True)
    assert stored["model"]
    assert all(name.startswith("head.") or name.endswith((".up", ".down")) for name in stored["model"])
    assert {name.removeprefix("module.") for name in stored["ema"]} == stored["model"].keys()
    assert len(stored["optimizer"]["state"]) == len(stored["model"])
    resumed = list(fit(config, data, CPU, resume=load_state(files.last)))
    assert [result.metrics for result in resumed] == [result.metrics for result in straight[1:]]
    for (_, one), (_, two) in zip(
        straight[-1].state.weights.state_dict().items(), resumed[-1].state.weights.state_dict().items(), strict=True
    ):
        assert torch.equal(one, two)


@pytest.mark.parametrize("ema_decay", [None, 0.9])
def test_a_kept_epoch_is_a_plain_network_that_scores_what_its_training_did(
    digits: Digits, tiny: Tiny, tmp_path: Path, pretrained: Path, ema_decay: float | None
) -> None:
    config = adapted(tiny, pretrained, epochs=2, ema_decay=ema_decay)
    data = digits(train=48, val=16)
    files = TrialFiles(tmp_path / "checkpoints/t1", tmp_path / "predictions/t1", "val/loss", "min", 1)
    for result in fit(config, data, CPU):
        files.save(result, resumable=False)
    best = files.best()
    assert best is not None
    weights, _ = files.files_of(best[0])
    plain = build_model(tiny("test_vit").model, 10, 32)
    assert load_file(weights).keys() == plain.state_dict().keys()
    (model,) = load_models(config, 10, [weights], CPU)
    assert not any(isinstance(one, LowRank) for one in model.modules())
    _, labels, _ = classes_and_labels(config, data)
    judged = evaluate(config, [model], data, labels, CPU).metrics
    assert judged == {name: value for name, value in best[1].items() if name != "train/loss"}


def test_trainings_from_one_start_make_a_soup_with_and_without_adapters(
    digits: Digits, tiny: Tiny, tmp_path: Path, pretrained: Path
) -> None:
    data = digits(train=32, val=8)
    configs = [
        adapted(tiny, pretrained),
        adapted(tiny, pretrained, model={"adapter": {"name": "lora", "rank": 4}}),
        adapted(tiny, pretrained, model={"adapter": None}, optimizer={"name": "sgd", "lr": 1e-3}),
    ]
    assert len({start_of(config) for config in configs}) == 1
    saved = []
    for number, config in enumerate(configs):
        files = TrialFiles(tmp_path / f"checkpoints/{number}", tmp_path / f"predictions/{number}", "val/loss", "min", 1)
        for result in fit(config, data, CPU):
            files.save(result, resumable=False)
        saved.append(files.files_of(1)[0])
    model = model_with(mean_weights(saved), configs[0], 10, CPU, saved[0])
    logits = model(torch.zeros(1, 3, 32, 32))
    assert logits.shape == (1, 10)
    assert torch.isfinite(logits).all()


def test_an_adapter_changes_nothing_before_its_first_step(tiny: Tiny, pretrained: Path) -> None:
    """So that the head is drawn alike, and features that were kept without it are its own."""
    models = []
    for config in (adapted(tiny, pretrained), adapted(tiny, pretrained, model={"adapter": None})):
        torch.manual_seed(0)
        models.append(build_model(config.model, 10, 32).eval())
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(models[0](images), models[1](images))
    assert weights_digest(models[0].get_submodule("backbone")) == weights_digest(models[1].get_submodule("backbone"))


def test_freeze_leaves_the_later_blocks_to_adapt(tiny: Tiny, digits: Digits) -> None:
    config = adapted(tiny, model={"freeze": "stage2", "head_init": "probe"})
    model = build_model(config.model, 10, 32)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad and "head" not in name}
    blocks = {name.split(".")[2] for name in trained}
    everything = {name.split(".")[2] for name, _ in model.named_parameters() if name.startswith("backbone.blocks.")}
    assert blocks
    assert blocks < everything
    (result,) = fit(config, digits(train=32, val=8), CPU)
    assert result.metrics["val/loss"] > 0


@pytest.mark.parametrize("optimizer", [ADAMW, {"name": "sgd", "lr": 0.1, "layer_decay": 0.5}])
def test_training_adapters_lowers_the_loss(
    tiny: Tiny, digits: Digits, pretrained: Path, optimizer: dict[str, Any]
) -> None:
    config = adapted(tiny, pretrained, epochs=6, optimizer=optimizer, batch_size=8)
    results = list(fit(config, digits(train=96, val=16), CPU))
    assert results[-1].metrics["train/loss"] < results[0].metrics["train/loss"]


@pytest.mark.parametrize("backbone", ["test_resnet", "test_convnext"])
def test_a_network_without_attention_is_refused_in_a_sentence(backbone: str) -> None:
    with pytest.raises(ConfigError, match=f"backbone '{backbone}' has none. Set model.backbone to a transformer"):
        build_model(ClassifierConfig(backbone=backbone, weights="none", adapter=Lora()), 3, 32)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"freeze": "all"}, "model.freeze is 'all': set model.freeze=none"),
        ({"backbone": "test_vit+test_vit2"}, "joins several backbones, and model.adapter adapts one"),
    ],
)
def test_what_does_not_go_with_an_adapter_is_refused(tiny: Tiny, model: dict[str, Any], message: str) -> None:
    with pytest.raises(Contradiction, match=message):
        adapted(tiny, model=model)


def test_a_frozen_network_leaves_nothing_to_adapt() -> None:
    config = ClassifierConfig(backbone="test_vit", weights="none", freeze="stage4", adapter=Lora())
    with pytest.raises(ConfigError, match=r"model\.freeze leaves none in backbone 'test_vit'\. Set model\.freeze=none"):
        build_model(config, 3, 32)


def test_an_adapter_is_read_from_yaml_and_a_misspelt_key_has_a_sentence(tiny: Tiny, tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    text = (
        "task: multiclass\nmodel: {backbone: test_vit, adapter: {name: lora, rank: 16, alpha: 32}}\n"
        "optimizer: {name: adamw, lr: 1e-3}\nepochs: 2\nbatch_size: 8\n"
    )
    file.write_text(text)
    config = load_config(file)
    assert isinstance(config.model, ClassifierConfig)
    assert config.model.adapter == Lora(rank=16, alpha=32.0)
    file.write_text(text.replace("rank", "rnk"))
    with pytest.raises(ConfigError, match=r"unknown key 'model\.adapter\.rnk'\. Did you mean 'rank'"):
        load_config(file)
