"""Heads on kept features: the numbers of the whole model, to the last bit."""

from __future__ import annotations

import multiprocessing
import shutil
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from trainables.checkpoint import TrialFiles, load_state
from trainables.config.trial import TrialConfig
from trainables.data import loader_processes
from trainables.data.augment import eval_transform
from trainables.data.cache import CachedImages
from trainables.data.folds import of_fold, with_folds
from trainables.data.kept_views import training_views
from trainables.data.loader import TrialData, shuffled
from trainables.evaluate import evaluate
from trainables.features import features
from trainables.features.feature_key import backbone_key, weights_digest
from trainables.features.features import FrozenBackbone, frozen_backbone
from trainables.features.images_key import images_key
from trainables.features.kept_before import kept_before
from trainables.inference import features_of
from trainables.loop import EpochResult, fit
from trainables.models.classifiers import Classifier, build_classifier
from trainables.precision import precision_in_force
from trainables.seeds import derived_seed, seed_everything
from trainables.targets import classes_and_labels
from visionsweep.core.errors import Contradiction, Interrupted

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")
FROZEN = {"freeze": "all"}
ROTATE = {"rotate": {"degrees": 20.0, "p": 1.0}}
Tiny = Callable[..., TrialConfig]
Loaded = Callable[..., TrialData]


def store(data: TrialData) -> Path:
    assert isinstance(data.images, CachedImages)
    return data.images.place.folder("features")


def num_kept(data: TrialData) -> int:
    return sum(path.is_dir() for path in store(data).iterdir())


def metrics(results: list[EpochResult]) -> list[dict[str, float]]:
    return [result.metrics for result in results]


def built(config: TrialConfig) -> Classifier:
    torch.manual_seed(config.seed)
    return build_classifier(config.model, 10, config.image_size)


def source(config: TrialConfig, data: TrialData) -> FrozenBackbone:
    model = built(config).to(memory_format=torch.channels_last)
    found = frozen_backbone(config, model, data, CPU)
    assert found is not None
    return found


@pytest.mark.parametrize("backbone", ["test_resnet", "test_efficientnet", "test_convnext", "test_vit"])
@pytest.mark.parametrize(
    "changed",
    [
        {"batch_size": 7},
        {"batch_size": 64, "ema_decay": 0.9, "views": 2},
        {"precision": "bf16", "views": 1},
        {"channels_last": False, "accumulate": 2},
        {"model": {"head": {"name": "mish_mlp", "hidden": 32}}, "views": 3, "augment": ROTATE},
        {"model": {"features": "stages"}, "views": 2},
    ],
    ids=["small batch", "mean weights", "bf16", "rows first", "mlp", "stages"],
)
def test_validation_is_the_whole_models_bit_for_bit(
    loaded: Loaded, tiny: Tiny, backbone: str, changed: dict[str, Any]
) -> None:
    size = 160 if backbone == "test_vit" else 32
    options = {**changed, "model": {**FROZEN, **changed.get("model", {})}}
    config = tiny(backbone, epochs=2, image_size=size, **options)
    data = loaded(val=42, short_side=size)
    _, labels, _ = classes_and_labels(config, data)
    for result in fit(config, data, CPU):
        fresh = evaluate(config, [result.state.weights], data, labels, CPU)
        assert np.array_equal(result.predictions["logits"], fresh.predictions["logits"])
        assert {name: result.metrics[name] for name in fresh.metrics} == fresh.metrics
    assert num_kept(data) == 1 + (config.views or 0)


def test_folds_compute_the_features_of_each_image_and_view_once(loaded: Loaded, tiny: Tiny) -> None:
    data = loaded()
    folded = with_folds(data.dataset, 3, seed=0)
    sources = []
    for fold in (1, 2, 3):
        of = source(tiny(model=FROZEN, views=2), TrialData(of_fold(folded, fold), data.images))
        sources.append(of)
        rows, images = of.training_rows()
        judged = of.judged("val")
        assert judged is not None
        assert len(rows) == 2 * len(images.unique())
        assert len(judged) + len(images.unique()) == 64 + 40
    assert num_kept(data) == 2 * 3, "of every fold the plain pictures and the mirrored ones"
    # Whichever fold is judged, an image has the same features, in its place.
    rows, images = sources[1].training_rows()
    first = sources[0].judged("val")
    of_first = np.isin(images.numpy()[: len(images) // 2], folded.indices("val"))
    assert torch.equal(rows[: len(images) // 2][torch.from_numpy(of_first)], first)


def test_trials_of_other_heads_batches_and_seeds_share_features(
    loaded: Loaded, tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = nn.Module.state_dict(built(tiny(model=FROZEN)).backbone)
    _start_from(weights, monkeypatch)
    data = loaded()
    list(fit(tiny(model=FROZEN, views=2), data, CPU))
    assert num_kept(data) == 3
    monkeypatch.setattr(features, "features_of", _refuse)
    for changed in (
        {"batch_size": 8},
        {"seed": 3, "views": 1},
        {"optimizer": {"name": "adam", "lr": 0.01}},
        {"ema_decay": 0.9, "accumulate": 2},
    ):
        list(fit(tiny(model=FROZEN, **{"views": 2, **changed}), data, CPU))
    list(fit(tiny(model={**FROZEN, "head": {"name": "mish_mlp", "hidden": 16}}, views=2), data, CPU))
    list(fit(tiny(model={**FROZEN, "features": "stages"}, views=2), data, CPU))


def test_what_a_cache_holds_is_named_by_backbone_size_and_fit_and_what_came_later_is_not(
    loaded: Loaded, tiny: Tiny, tmp_path: Path
) -> None:
    data = loaded()
    begun = time.time() - 1
    list(fit(tiny(model=FROZEN, views=2), data, CPU))
    list(fit(tiny(model=FROZEN, views=1, image_size=28, fit_image="crop"), data, CPU))
    list(fit(tiny(model=FROZEN, views=3, augment=ROTATE, seed=1), data, CPU))  # no pictures of these count
    ask = partial(kept_before, tmp_path / "cache", before_s=time.time() + 1)
    found = {("test_resnet", 32, "squash", False), ("test_resnet", 32, "squash", True)}
    assert ask(data.dataset, threads=1) == found | {("test_resnet", 28, "crop", False)}
    assert ask(data.dataset, eval_crop=1.0) == found
    assert ask(data.dataset, threads=2) == ask(data.dataset, before_s=begun) == frozenset()
    assert ask(loaded(train=63).dataset) == frozenset()
    assert ask(loaded(val=39).dataset) == {("test_resnet", 32, "squash", True)}  # is of training images alone


def _start_from(weights: dict[str, torch.Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    """Start every seed from the same weights, as pretrained ones do."""
    build = features.Classifier.__init__

    def built_alike(self: Classifier, backbone: nn.Module, *args: Any, **options: Any) -> None:
        backbone.load_state_dict(weights)
        build(self, backbone, *args, **options)

    monkeypatch.setattr(Classifier, "__init__", built_alike)


def _refuse(*args: object) -> None:
    raise AssertionError("the backbone was run again")


def test_a_frozen_backbone_runs_once_and_a_trained_one_in_every_epoch(
    loaded: Loaded, tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    run = Classifier.features
    monkeypatch.setattr(Classifier, "features", lambda self, images: (seen.append(len(images)), run(self, images))[1])
    data = loaded(train=64, val=40)

    def images_seen(config: TrialConfig) -> int:
        seen.clear()
        list(fit(config, data, CPU))
        return sum(seen) - seen.count(1)

    assert images_seen(tiny(model=FROZEN, epochs=3, views=2)) == 40 + 2 * 64
    assert images_seen(tiny(model=FROZEN, epochs=3, seed=1)) == 40 + 3 * 64
    assert images_seen(tiny(epochs=3)) == 3 * (40 + 64)


def test_a_head_on_one_view_trains_as_a_loop_written_by_hand(loaded: Loaded, tiny: Tiny) -> None:
    config = tiny(model={**FROZEN, "head": {"name": "linear", "dropout": 0.2}}, views=1, epochs=3, batch_size=24)
    data = loaded()
    results = fit(config, data, CPU)
    model = built(config).to(memory_format=torch.channels_last).eval()
    _, labels, _ = classes_and_labels(config, data)
    assert isinstance(labels, torch.Tensor)
    rows = data.dataset.indices("train")
    transform = eval_transform(config)
    pictures = torch.from_numpy(np.stack([transform(image=data.images[int(row)])["image"] for row in rows]))
    seen = torch.cat([features_of(config, model, chunk, CPU) for chunk in torch.split(pictures, 16)])
    optimizer = torch.optim.SGD(model.head.parameters(), lr=0.05, momentum=0.9)
    num_steps = 3  # 64 images, 24 at a time
    for epoch in range(3):
        seed = derived_seed(config.seed, epoch)
        seed_everything(seed)
        model.head.train()
        for step, drawn in enumerate(shuffled(len(rows), 24, seed)):
            optimizer.param_groups[0]["lr"] = 0.05 * 0.5 * (1 + np.cos(np.pi * (epoch + step / num_steps) / 3))
            logits = model.head(seen[drawn])
            optimizer.zero_grad()
            nn.functional.cross_entropy(logits, labels[torch.from_numpy(rows[drawn])]).backward()
            optimizer.step()
        ours = next(results).state.model.state_dict()
        for name, tensor in model.state_dict().items():
            torch.testing.assert_close(ours[name], tensor, rtol=0, atol=1e-7, msg=f"epoch {epoch}: {name}")


def test_an_image_and_its_mirror_image_take_turns(loaded: Loaded, tiny: Tiny) -> None:
    config = tiny(model=FROZEN, views=2, batch_size=64)
    data = loaded()
    frozen = source(config, data)
    rows = data.dataset.indices("train")
    transform = eval_transform(config)
    plain = [transform(image=data.images[int(row)])["image"] for row in rows]
    views = [plain, [np.ascontiguousarray(one[:, ::-1]) for one in plain]]
    expected = [
        torch.cat([features_of(config, frozen.model.eval(), chunk, CPU) for chunk in torch.split(_stack(view), 16)])
        for view in views
    ]
    labels = torch.arange(len(data.dataset.split)).float().unsqueeze(1)  # which image it is
    which = []
    for epoch in range(3):
        ((found, names),) = frozen.batches(labels, epoch, seed=epoch)
        order = {int(row): number for number, row in enumerate(rows)}
        positions = [order[int(name)] for name in names.flatten()]
        shown = torch.tensor([torch.equal(row, expected[1][at]) for row, at in zip(found, positions, strict=True)])
        for row, at, mirrored in zip(found, positions, shown.tolist(), strict=True):
            assert torch.equal(row, expected[int(mirrored)][at])
        which.append(shown[torch.argsort(torch.tensor(positions))])
    assert torch.equal(which[0], ~which[1])
    assert torch.equal(which[0], which[2])
    assert 16 < int(which[0].sum()) < 48  # half of the images begin with their mirror image


def _stack(images: list[np.ndarray]) -> torch.Tensor:
    return torch.from_numpy(np.stack(images))


def test_drawn_views_differ_from_one_another_and_are_the_same_for_every_seed_and_process(
    loaded: Loaded, tiny: Tiny
) -> None:
    config = tiny(model=FROZEN, views=3, augment=ROTATE)
    data = loaded()
    rows = data.dataset.indices("train")[:20].tolist()
    views = training_views(config, data, data.dataset.indices("train"))
    pictures = [np.stack([view(row) for row in rows]) for view in views]
    assert all((pictures[a] != pictures[b]).any() for a, b in ((0, 1), (0, 2), (1, 2)))
    again = training_views(config.model_copy(update={"seed": 5}), loaded(), data.dataset.indices("train"))
    for picture, view in zip(pictures, again, strict=True):
        assert np.array_equal(picture, np.stack([view(row) for row in reversed(rows)])[::-1])


def test_repeated_images_show_another_view_each_time(loaded: Loaded, tiny: Tiny) -> None:
    config = tiny(model=FROZEN, views=3, augment=ROTATE, repeat=3, batch_size=64)
    data = loaded()
    frozen = source(config, data)
    labels = torch.arange(len(data.dataset.split)).float().unsqueeze(1)
    found = {int(row): [] for row in data.dataset.indices("train")}
    for rows, names in frozen.batches(labels, 0, seed=1):
        for row, name in zip(rows, names.flatten().tolist(), strict=True):
            found[int(name)].append(row)
    drawn = [torch.stack(rows) for rows in found.values() if len(rows) == 3]
    assert len(drawn) > 60
    assert all(len(one.unique(dim=0)) == 3 for one in drawn)


@pytest.mark.parametrize("views", [1, 2, 4])
@pytest.mark.parametrize("lost", [True, False], ids=["store lost", "store kept"])
def test_a_training_on_kept_features_goes_on_exactly(
    loaded: Loaded, tiny: Tiny, tmp_path: Path, views: int, lost: bool
) -> None:
    config = tiny(
        model={**FROZEN, "head": {"name": "linear", "dropout": 0.3}}, views=views, epochs=5, ema_decay=0.9, accumulate=2, batch_size=8,
        augment=ROTATE if views > 2 else {}, optimizer={"name": "adamw", "lr": 0.01},
    )  # fmt: skip
    data = loaded()
    whole = metrics(list(fit(config, data, CPU)))
    files = TrialFiles(tmp_path / "checkpoints", tmp_path / "predictions", "val/loss", "min", 1)
    stopped = fit(config, data, CPU)
    for _ in range(2):
        files.save(next(stopped), resumable=True)
    del stopped
    if lost:
        shutil.rmtree(store(data))
    rest = metrics(list(fit(config, loaded(), CPU, resume=load_state(files.last))))
    assert whole[2:] == rest


def test_memory_and_disk_give_the_same_training_and_computing_each_time_nearly(
    loaded: Loaded, tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny(model=FROZEN, views=2, epochs=3)
    on_disk = metrics(list(fit(config, loaded(), CPU)))
    assert metrics(list(fit(config, loaded(cache=None), CPU))) == on_disk
    monkeypatch.setattr(features, "MOST_IN_MEMORY", 0)
    each_time = metrics(list(fit(config, loaded(cache=None), CPU)))
    for one, other in zip(each_time, on_disk, strict=True):
        assert one == pytest.approx(other, rel=1e-4)  # a backbone's last bits depend on the batch


def test_a_training_with_workers_is_the_same(loaded: Loaded, tiny: Tiny, tmp_path: Path) -> None:
    config = tiny(model={**FROZEN, "head": {"name": "linear", "dropout": 0.3}}, views=3, epochs=2, augment=ROTATE)
    alone = metrics(list(fit(config, loaded(), CPU)))
    assert metrics(list(fit(config, loaded(cache=tmp_path / "other"), CPU, num_workers=2))) == alone


def test_features_are_loaded_by_processes_of_the_server_where_batches_are_many(
    loaded: Loaded, tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A forked process would have the threads of Ray and the GPU's memory of the one that forked it."""
    config = tiny(model=FROZEN, views=1)
    data = loaded(train=48)
    model = built(config).to(memory_format=torch.channels_last)
    rows = data.dataset.indices("train")  # three chunks of 16
    seen: list[list[str]] = []

    def computed(num_workers: int, few: int) -> torch.Tensor:
        monkeypatch.setattr(loader_processes, "FEW_BATCHES", few)
        seen.append([])

        def ask() -> None:
            seen[-1] += [type(one).__name__ for one in multiprocessing.active_children()]

        source = FrozenBackbone(config, model.eval(), data, CPU, num_workers, ask)
        view = training_views(config, data, rows)[0]
        chunks = [rows[start : start + 16] for start in range(0, 48, 16)]
        return torch.cat(list(source._computed(model, view, chunks)))

    before = torch.get_rng_state()
    alone = computed(0, few=3)
    assert torch.equal(computed(2, few=3), alone)
    assert torch.equal(computed(2, few=4), alone)
    assert seen[0] == seen[2] == []
    assert set(seen[1]) == {"ForkServerProcess"}
    assert len(seen[1]) == 2 * 2, "started with the first batch, before the second and third are asked for"
    assert multiprocessing.active_children() == []
    assert torch.equal(torch.get_rng_state(), before), "a training's draws must not depend on kept features"


def test_what_changes_the_bits_has_features_of_its_own(loaded: Loaded, tiny: Tiny) -> None:
    config = tiny(model=FROZEN)
    indices = np.arange(5)
    side = {"side": 32}
    model = built(config)
    plain = backbone_key(config, model, CPU)
    assert plain == backbone_key(tiny(model=FROZEN, batch_size=4, seed=9), built(config), CPU)
    nudged = built(config)
    with torch.no_grad():
        next(nudged.backbone.buffers()).add_(1e-6)
    others = [
        backbone_key(config, built(tiny(model=FROZEN, seed=1)), CPU),
        backbone_key(config, nudged, CPU),
        backbone_key(tiny(model=FROZEN, channels_last=False), model, CPU),
        backbone_key(tiny(model=FROZEN, image_size=1024), model, CPU),  # smaller chunks
    ]
    bf16 = tiny(model=FROZEN, precision="bf16")
    assert (backbone_key(bf16, model, CPU) == plain) == (precision_in_force(bf16, CPU) == "fp32")
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    others.append(backbone_key(config, model, CPU))
    torch.set_num_threads(threads)
    assert all(other != plain for other in others)
    same = images_key(indices, side)
    assert same == images_key(np.arange(5), {"side": 32})
    different = [images_key(indices[::-1], side), images_key(indices[:4], side), images_key(indices, {"side": 33})]
    assert all(other != same for other in different)
    assert weights_digest(model.backbone) == weights_digest(built(config).backbone)
    data = loaded()
    assert store(data).name.startswith(data.dataset.fingerprint)


@pytest.mark.parametrize(
    "changed", [{"image_size": 24}, {"fit_image": "crop"}, {"fit_image": "crop", "eval_crop": 1.0}]
)
def test_other_sizes_and_crops_never_share(loaded: Loaded, tiny: Tiny, changed: dict[str, Any]) -> None:
    data = loaded()
    list(fit(tiny(model=FROZEN), data, CPU))
    config = tiny(model=FROZEN, **changed)
    (result,) = fit(config, data, CPU)
    _, labels, _ = classes_and_labels(config, data)
    fresh = evaluate(config, [result.state.weights], data, labels, CPU)
    assert np.array_equal(result.predictions["logits"], fresh.predictions["logits"])
    assert num_kept(data) == 2


def test_what_is_computed_once_counts_into_the_first_epochs_time(
    loaded: Loaded, tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    (first, second) = fit(tiny(model=FROZEN, views=2, epochs=2), loaded(), CPU, should_stop=lambda: asked.append(1))
    assert first.seconds > second.seconds > 0
    assert second.images_per_s > first.images_per_s
    assert second.parameters == sum(one.numel() for one in built(tiny(model=FROZEN)).parameters())


def test_a_training_can_be_stopped_while_features_are_computed(loaded: Loaded, tiny: Tiny) -> None:
    asked = 0

    def stop() -> str | None:
        nonlocal asked
        asked += 1
        return "the budget is spent" if asked == 4 else None

    data = loaded()
    with pytest.raises(Interrupted, match="the budget is spent"):
        list(fit(tiny(model=FROZEN, views=1), data, CPU, should_stop=stop))
    assert num_kept(data) == 0


def test_without_a_validation_split_only_the_training_views_are_kept(loaded: Loaded, tiny: Tiny) -> None:
    data = loaded(val=0)
    (result,) = fit(tiny(model=FROZEN, views=1), data, CPU)
    assert list(result.metrics) == ["train/loss"]
    assert num_kept(data) == 1


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"model": {"freeze": "none"}, "views": 1}, "model.freeze is 'none': set model.freeze=all"),
        ({"model": {"freeze": "stage4"}, "views": 2}, "model.freeze is 'stage4'"),
        ({"views": 4, "augment": {**ROTATE, "mix": {"name": "mixup"}}}, "augment.mix mixup mixes pixels"),
        ({"views": 1, "augment": ROTATE}, "views 1 trains on the evaluation's view alone, and augment.rotate is set"),
        ({"views": 2, "augment": {"tone": {}}}, "its mirror image alone, and augment.tone is set: set views=3"),
        ({"views": 3}, "would keep 3 equal pictures"),
        ({"backbone": "inception_v3", "views": 1, "image_size": 96}, "set model.aux_weight=0"),
    ],
)
def test_views_that_do_not_fit_are_refused_with_the_next_move(tiny: Tiny, changed: dict[str, Any], said: str) -> None:
    with pytest.raises(Contradiction) as caught:
        tiny(**{"model": FROZEN, **changed})
    assert said in str(caught.value)


def test_random_crops_are_views_without_any_augmentation(loaded: Loaded, tiny: Tiny) -> None:
    config = tiny(model=FROZEN, views=3, fit_image="crop", image_size=24)
    indices = loaded().dataset.indices("train")
    pictures = [view(int(indices[0])) for view in training_views(config, loaded(), indices)]
    assert {picture.shape for picture in pictures} == {(24, 24, 3)}


def test_views_mean_nothing_to_a_segmenter() -> None:
    from trainables.config.io import parse_config

    with pytest.raises(Contradiction, match="'views' means nothing to task 'segmentation'"):
        parse_config(
            {
                "task": "segmentation",
                "model": {"architecture": {"name": "voc_baseline"}, "weights": "none"},
                "optimizer": {"name": "sgd", "lr": 0.1},
                "epochs": 1,
                "batch_size": 2,
                "views": 1,
            }
        )
