"""Training with torch.compile: the same losses, plain checkpoints, and a start that is no epoch's time."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch
from safetensors.torch import load_file
from support import make_sides, tiny_config
from torch import Tensor, nn

from search_spaces.shipped import SEARCHES
from trainables import compiled
from trainables.checkpoint import TrialFiles, load_state
from trainables.compiled import trained_forward
from trainables.config.io import dump_config, parse_config
from trainables.config.trial import TrialConfig
from trainables.data.formats import load_dataset
from trainables.data.loader import TrialData
from trainables.loop import EpochResult, fit
from trainables.state import build_state
from visionsweep.core.errors import Contradiction
from visionsweep.run_dir.trials import Trial

pytestmark = pytest.mark.usefixtures("one_thread", "fresh_compiler")
Digits = Callable[..., TrialData]
Tiny = Callable[..., TrialConfig]
CPU = torch.device("cpu")
EMA = {"ema_decay": 0.9, "clip_grad_norm": 1.0, "augment": {"mix": {"name": "mixup"}}}


@pytest.fixture
def fresh_compiler() -> Iterator[None]:
    yield
    torch.compiler.reset()


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let graphs run as they are traced, without a C++ compiler, and return the batch size of each of their calls."""
    sizes: list[int] = []

    def backend(graph: torch.fx.GraphModule, examples: list[Tensor]) -> Callable[..., Any]:
        def run(*inputs: Tensor) -> Any:
            sizes.append(next(len(one) for one in inputs if one.ndim == 4 and not isinstance(one, nn.Parameter)))
            return graph(*inputs)

        return run

    monkeypatch.setattr(compiled, "BACKEND", backend)
    return sizes


def losses(results: list[EpochResult]) -> list[float]:
    return [result.metrics[name] for result in results for name in ("train/loss", "val/loss")]


@pytest.mark.parametrize("more", [{}, EMA, {"accumulate": 2, "channels_last": False}], ids=["plain", "ema", "grouped"])
def test_a_compiled_training_has_the_losses_of_the_uncompiled_one(
    digits: Digits, tiny: Tiny, graphs: list[int], more: dict[str, Any]
) -> None:
    data = digits(train=40, val=8)
    plain = list(fit(tiny(epochs=2, **more), data, CPU))
    assert graphs == []
    compiled_ones = list(fit(tiny(epochs=2, compile=True, **more), data, CPU))
    assert losses(compiled_ones) == pytest.approx(losses(plain), rel=1e-5)
    # The first call compiles. The last batch of an epoch, of eight images, runs uncompiled, and so does evaluation.
    assert graphs == [16] * 5
    assert compiled_ones[0].start_s > 0
    assert [one.start_s for one in [*plain, compiled_ones[1]]] == [0, 0, 0]
    assert not any(one.note for one in compiled_ones)


def test_a_real_compiler_gives_the_same_losses(digits: Digits, tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    """AOTAutograd traces the backward pass too, which is all of torch.compile but the C++ code."""
    monkeypatch.setattr(compiled, "BACKEND", "aot_eager")
    data = digits(train=40, val=8)
    plain = list(fit(tiny(**EMA), data, CPU))
    assert losses(list(fit(tiny(compile=True, **EMA), data, CPU))) == pytest.approx(losses(plain), rel=1e-5)


def test_checkpoints_have_plain_names_and_a_resumed_training_is_the_uninterrupted_one(
    digits: Digits, tiny: Tiny, graphs: list[int], tmp_path: Path
) -> None:
    data = digits(train=40, val=8)
    config = tiny(epochs=2, compile=True, **EMA)
    whole = list(fit(config, data, CPU))
    files = TrialFiles(tmp_path / "c", tmp_path / "p", "val/accuracy", "max", 1)
    files.save(next(fit(config, data, CPU)), resumable=True)
    stored = torch.load(files.last, weights_only=True)
    names = [*stored["model"], *stored["ema"], *load_file(files.files_of(1)[0])]
    assert not any("_orig_mod" in name for name in names)
    (resumed,) = fit(config, data, CPU, resume=load_state(files.last))
    assert resumed.metrics == whole[1].metrics
    assert resumed.start_s > 0, "another process compiles again"
    # And it is resumed without a compiler as well.
    (plain,) = fit(tiny(epochs=2, **EMA), data, CPU, resume=load_state(files.last))
    assert losses([plain]) == pytest.approx(losses([whole[1]]), rel=1e-5)


def test_a_start_leaves_weights_statistics_modes_and_random_numbers(tiny: Tiny, graphs: list[int]) -> None:
    config = tiny(compile=True)
    torch.manual_seed(0)
    state = build_state(config, 10, CPU)
    before = {name: one.clone() for name, one in state.model.state_dict().items()}
    drawn = torch.get_rng_state()
    modes = [module.training for module in state.model.modules()]
    forward = trained_forward(config, state, CPU)
    assert len(graphs) == 1
    assert forward.taken()[0] > 0
    assert forward.taken() == (0, "")
    assert all(torch.equal(one, before[name]) for name, one in state.model.state_dict().items())
    assert all(parameter.grad is None for parameter in state.model.parameters())
    assert torch.equal(torch.get_rng_state(), drawn)
    assert [module.training for module in state.model.modules()] == modes


def test_a_compiler_that_fails_is_said_and_the_training_runs_without_it(
    digits: Digits, tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> Any:
        raise RuntimeError("No working C++ compiler found")

    monkeypatch.setattr(compiled, "BACKEND", broken)
    data = digits(train=40, val=8)
    first, second = fit(tiny(epochs=2, compile=True), data, CPU)
    assert first.note.startswith("compile is true, but torch.compile failed, so that it trains uncompiled")
    assert "No working C++ compiler found" in first.note
    assert first.note.endswith("or set compile=false.")
    assert second.note == ""
    assert [first.metrics, second.metrics] == [one.metrics for one in fit(tiny(epochs=2), data, CPU)]


def test_too_little_memory_is_no_fault_of_the_compiler(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(compiled, "_first_step", full)
    config = tiny(compile=True)
    with pytest.raises(torch.OutOfMemoryError):
        trained_forward(config, build_state(config, 10, CPU), CPU)


def test_a_head_on_kept_features_is_not_compiled(digits: Digits, tiny: Tiny, graphs: list[int]) -> None:
    config = tiny(model={"freeze": "all"}, views=1, compile=True)
    assert next(fit(config, digits(train=32, val=8), CPU)).start_s == 0
    assert graphs == []


def test_a_frozen_backbone_is_compiled_with_its_head(digits: Digits, tiny: Tiny, graphs: list[int]) -> None:
    data = digits(train=32, val=8)
    frozen = {"model": {"freeze": "all"}}
    plain = list(fit(tiny(**frozen), data, CPU))
    assert losses(list(fit(tiny(compile=True, **frozen), data, CPU))) == pytest.approx(losses(plain), rel=1e-4)
    assert graphs == [16] * 3


def test_both_phases_of_a_segmenter_are_compiled_before_its_first_epoch(tmp_path: Path, graphs: list[int]) -> None:
    sides = make_sides(tmp_path / "sides", noise=90, brighter=110)
    scenes = TrialData(*load_dataset(str(sides), short_side_px=32, cache_dir=tmp_path / "cache"))
    model = {
        "backbone": "test_resnet",
        "architecture": {"name": "fpn", "channels": 16},
        "weights": "none",
        "decoder_first": 0.5,
    }
    plain = tiny_config(task="segmentation", model=model, batch_size=4, epochs=2)
    expected = list(fit(parse_config(plain), scenes, CPU))
    assert graphs == []
    results = list(fit(parse_config({**plain, "compile": True}), scenes, CPU))
    assert losses(results) == pytest.approx(losses(expected), rel=1e-4)
    whole_batches = len(scenes.dataset.indices("train")) // 4
    assert len(graphs) == 2 + 2 * whole_batches


def test_a_start_counts_in_the_trials_time_and_in_no_epochs() -> None:
    rows = [{"epoch": 1, "seconds": 2.0, "start_s": 30.0}, {"epoch": 2, "seconds": 2.0}]
    trial = Trial("0000", {}, {})
    trial.epochs.extend(rows)
    assert trial.seconds == 34


def test_it_is_an_option_of_a_configuration(tiny: Tiny) -> None:
    assert not tiny().compile
    assert "compile: true" in dump_config(tiny(compile=True))


@pytest.mark.parametrize("name", ["classification-cpu", "segmentation-cpu"])
def test_a_search_fixes_it_for_all_of_its_trainings(name: str) -> None:
    search = SEARCHES[name].with_set({"compile": True})
    search = search.for_task("segmentation" if name.startswith("segmentation") else "multiclass")
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(3):
        with contextlib.suppress(Contradiction):
            assert parse_config(search.draw(study.ask())).compile
