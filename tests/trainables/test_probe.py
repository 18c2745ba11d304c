"""Probes: heads that are solved in one epoch, on one backbone or on several side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from trainables.checkpoint import TrialFiles, load_state
from trainables.config.trial import TrialConfig
from trainables.data.augment import eval_transform
from trainables.data.loader import TrialData
from trainables.evaluate import evaluate
from trainables.features import features as features_module
from trainables.features import probe as probe_module
from trainables.features import solved_head as solved_head_module
from trainables.features.features import frozen_backbone
from trainables.features.probe import UNSEEN
from trainables.features.solved_head import solve_head
from trainables.inference import features_of
from trainables.loop import EpochResult, fit
from trainables.models.backbones import check_backbone
from trainables.models.classifiers import Classifier, build_classifier
from trainables.models.known import LITE_PACKAGES, has_package
from trainables.models.weights import require_weights
from trainables.targets import classes_and_labels
from visionsweep.core.errors import ConfigError, Diverged, Interrupted, WeightsError

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")
Tiny = Callable[..., TrialConfig]
Loaded = Callable[..., TrialData]
BOTH = "test_resnet+test_vit"


def probe(tiny: Tiny, backbone: str = "test_resnet", l2: float | None = None, **changed: Any) -> TrialConfig:
    model = {"freeze": "all", **changed.pop("model", {})}
    optimizer = {"name": "lbfgs", "l2": l2}
    return tiny(backbone, model=model, **{"optimizer": optimizer, "views": 1, **changed})


def trained(config: TrialConfig, data: TrialData) -> EpochResult:
    (result,) = fit(config, data, CPU)
    return result


@pytest.mark.parametrize("backbone", ["test_resnet", BOTH])
def test_a_probe_learns_in_its_one_epoch_and_says_how_strongly_it_was_held(
    tiny: Tiny,
    loaded: Loaded,
    backbone: str,
) -> None:
    result = trained(probe(tiny, backbone), loaded(train=300, val=100))
    assert result.last
    assert result.lr == 0
    assert result.metrics["val/accuracy"] > 0.6  # of ten digits, by random weights
    assert result.l2 == result.row()["l2"]
    assert result.l2 is not None
    assert 1e-8 <= result.l2 <= 1e4
    assert 0 < result.metrics["train/loss"] < result.metrics["val/loss"]


def test_where_few_images_validate_every_training_image_is_predicted_by_a_head_that_has_not_seen_it(
    tiny: Tiny, loaded: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = loaded()
    num = len(data.dataset.indices("train"))
    for views in (1, 2):  # of an image and its mirror, the image counts
        result = trained(probe(tiny, views=views), data)
        unseen = result.predictions[UNSEEN]
        assert unseen.shape == (num, 10)
        right = (unseen.argmax(1) == data.dataset.targets[data.dataset.indices("train")]).mean()
        assert abs(right - result.metrics["val/accuracy"]) < 0.25
    assert UNSEEN not in trained(probe(tiny, l2=0.1), data).predictions  # without folds nobody is left out
    monkeypatch.setattr(probe_module, "ENOUGH_TO_CHOOSE", len(data.dataset.indices("val")))
    assert UNSEEN not in trained(probe(tiny), data).predictions


def test_a_given_strength_is_taken_and_a_stronger_one_fits_less(tiny: Tiny, loaded: Loaded) -> None:
    data = loaded()
    weak, strong = (trained(probe(tiny, l2=l2), data) for l2 in (1e-3, 1.0))
    assert (weak.l2, strong.l2) == (1e-3, 1.0)
    assert weak.metrics["train/loss"] < strong.metrics["train/loss"]


@pytest.mark.parametrize("backbone", ["test_resnet", BOTH])
def test_a_probe_judged_by_its_whole_model_is_what_its_kept_features_said(
    tiny: Tiny,
    loaded: Loaded,
    backbone: str,
) -> None:
    config = probe(tiny, backbone)
    data = loaded()
    result = trained(config, data)
    _, labels, _ = classes_and_labels(config, data)
    whole = evaluate(config, [result.state.weights], data, labels, CPU)
    assert np.array_equal(whole.predictions["logits"], result.predictions["logits"])


def test_all_views_are_learnt_from(
    tiny: Tiny,
    loaded: Loaded,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[tuple[int, ...]] = []
    real = solve_head

    def spy(features: torch.Tensor, *args: Any, groups: torch.Tensor, **kwargs: Any) -> Any:
        seen.append((len(features), len(set(groups.tolist()))))
        return real(features, *args, groups=groups, **kwargs)

    monkeypatch.setattr(probe_module, "solve_head", spy)
    data = loaded()
    for views in (1, 2):
        trained(probe(tiny, l2=0.1, views=views), data)
    assert seen == [(64, 64), (128, 64)]


def test_images_of_a_group_share_a_fold(tiny: Tiny, loaded: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    folds: list[np.ndarray] = []
    groups: list[np.ndarray] = []
    real = solved_head_module.spread_over_folds

    def spy(targets: torch.Tensor, of_rows: torch.Tensor, *args: Any) -> torch.Tensor:
        found = real(targets, of_rows, *args)
        folds.append(found.numpy())
        groups.append(of_rows.numpy())
        return found

    monkeypatch.setattr(solved_head_module, "spread_over_folds", spy)
    data = loaded()
    together = np.arange(len(data.dataset.names)) // 4
    trained(probe(tiny, views=2), TrialData(replace(data.dataset, groups=together), data.images))
    learnt = together[data.dataset.indices("train")]
    assert sorted(groups[0]) == sorted([*learnt, *learnt])
    assert all(len(set(folds[0][groups[0] == group])) == 1 for group in set(learnt))
    assert len(set(folds[0])) == 5


@pytest.mark.parametrize(
    ("backbone", "model"),
    [
        ("test_resnet", {}),
        (BOTH, {}),
        (BOTH, {"features": "stages"}),
        ("test_convnext2+test_resnet+test_vit", {}),
    ],
)
def test_features_of_several_backbones_are_those_of_each_side_by_side(
    tiny: Tiny,
    loaded: Loaded,
    backbone: str,
    model: dict[str, Any],
) -> None:
    config = probe(tiny, backbone, model=model)
    data = loaded()
    network = build_classifier(config.model, 10, 32)  # type: ignore[arg-type]
    frozen = frozen_backbone(config, network, data, CPU)
    assert frozen is not None
    network.eval()
    view = data.judged(config, "val")
    indices = data.dataset.indices("val")[:16]
    images = torch.from_numpy(np.stack([_seen(config, view, index) for index in indices]))
    kept = frozen.judged("val")
    assert kept is not None
    assert torch.equal(kept[:16], features_of(config, network, images, CPU))
    sees_maps = network.sees_maps
    parts = [part.wide() if sees_maps else part for part in network.parts()]
    assert sum(len(part.features(torch.zeros(1, 3, 32, 32))[0]) for part in parts) == kept.shape[1]
    # Each backbone's features, and then each stage's, are scaled by a deviation of their own.
    own = [len(part.features(torch.zeros(1, 3, 32, 32))[0]) for part in network.parts()]
    assert frozen.widths == [*own, *(width for part in parts for _, width in part.maps if sees_maps)]


def _seen(config: TrialConfig, data: TrialData, index: int) -> np.ndarray:
    found: np.ndarray = eval_transform(config)(image=data.images[int(index)])["image"]
    return found


@pytest.mark.skipif(not all(map(has_package, LITE_PACKAGES)), reason="the weights' packages (extra 'lite')")
def test_two_backbones_cost_no_pass_after_each_was_tried(
    tiny: Tiny,
    loaded: Loaded,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    passes: list[int] = []
    real = features_of

    def counted(*args: Any) -> torch.Tensor:
        passes.append(1)
        return real(*args)

    monkeypatch.setattr(features_module, "features_of", counted)
    data = loaded(train=16, val=8)
    pretrained = {"weights": "imagenet"}
    first = "tf_efficientnet_lite0"
    second = "tf_efficientnet_lite1"
    for name in (first, second):
        trained(probe(tiny, name, l2=0.1, model=pretrained), data)
    before = len(passes)
    joined = trained(probe(tiny, f"{first}+{second}", l2=0.1, model=pretrained), data)
    assert before == 4
    assert len(passes) == before
    assert joined.state.model.get_submodule("head")[1].in_features == 2560  # type: ignore[index]


def test_backbones_side_by_side_train_too(tiny: Tiny, loaded: Loaded) -> None:
    config = tiny(BOTH, optimizer={"name": "adamw", "lr": 1e-3, "backbone_lr_scale": 0.5})
    before = build_classifier(config.model, 10, 32).state_dict().keys()  # type: ignore[arg-type]
    result = trained(config, loaded())
    assert result.state.model.state_dict().keys() == before
    assert np.isfinite(result.metrics["train/loss"])


def test_a_probe_that_was_killed_after_its_epoch_has_nothing_left_to_do(
    tiny: Tiny,
    loaded: Loaded,
    tmp_path: Path,
) -> None:
    config = probe(tiny, l2=0.1)
    data = loaded()
    files = TrialFiles.below(tmp_path, "0001", "val/accuracy", "max", config)
    result = trained(config, data)
    files.save(result, resumable=True)
    assert list(fit(config, data, CPU, resume=load_state(files.last))) == []


def test_a_probe_can_be_stopped(tiny: Tiny, loaded: Loaded) -> None:
    asked: Iterator[str | None] = iter([None] * 20 + ["enough"] * 1000)
    with pytest.raises(Interrupted, match="enough"):
        list(fit(probe(tiny), loaded(), CPU, should_stop=lambda: next(asked)))


def test_features_that_are_no_numbers_end_a_probe_as_diverged(
    tiny: Tiny,
    loaded: Loaded,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*args: Any) -> torch.Tensor:
        return features_of(*args) * torch.nan

    monkeypatch.setattr(features_module, "features_of", broken)
    with pytest.raises(Diverged):
        trained(probe(tiny), loaded(cache=None))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"views": None}, "and views is not set: set model.freeze=all and views=1"),
        ({"model": {"freeze": "all", "head": {"name": "mish_mlp"}}}, "model.head is mish_mlp with dropout 0.5: set"),
        ({"model": {"freeze": "all", "head": {"name": "linear", "dropout": 0.1}}}, "model.head.dropout=0"),
        ({"epochs": 2}, "and epochs is 2: set epochs=1"),
        ({"ema_decay": 0.9}, "and ema_decay is 0.9: set ema_decay=null"),
        ({"accumulate": 2}, "and accumulate is 2: set accumulate=1"),
        ({"loss": {"name": "cross_entropy", "reduction": "sum"}}, "set loss.reduction=mean"),
        ({"optimizer": {"name": "lbfgs", "l2": 1e-9}}, "l2"),
        ({"optimizer": {"name": "lbfgs", "lr": 0.1}}, "lr"),
    ],
)
def test_what_does_not_go_with_a_solved_head_is_refused(tiny: Tiny, changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        probe(tiny, **changed)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("backbone", "model", "message"),
    [
        ("resnet18+resnet18", {}, "each must be named once"),
        ("resnet18+", {}, "each must be named once"),
        (BOTH, {"freeze": "stage2"}, "set model.freeze=all or none"),
        (BOTH, {"weights": "some.pt"}, "set model.weights=imagenet or none"),
    ],
)
def test_backbones_that_cannot_stand_side_by_side_are_refused(
    tiny: Tiny, backbone: str, model: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        tiny(backbone, model=model)
    assert message in str(caught.value)


def test_a_misspelt_part_and_missing_weights_are_told_by_the_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ConfigError, match="unknown backbone 'resnet43'"):
        check_backbone("resnet18+resnet43")
    with pytest.raises(WeightsError, match="no ImageNet weights for test_byobnet"):
        require_weights(["tf_efficientnet_lite0+test_byobnet"])


def test_a_part_with_an_auxiliary_classifier_leaves_it_at_home(tiny: Tiny) -> None:
    config = tiny("inception_v3+test_resnet", image_size=96).model
    model = build_classifier(config, 3, 96).train()  # type: ignore[arg-type]
    assert isinstance(model, Classifier)
    with torch.no_grad():
        assert isinstance(model(torch.zeros(2, 3, 96, 96)), torch.Tensor)
    assert not any("aux" in name.lower() for name, _ in model.named_parameters())
    assert isinstance(model.head, nn.Module)
