"""A trial's cost is measured: it grows with the model, and accumulates when a training is resumed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from trainables.checkpoint import TrialFiles, load_state
from trainables.config.trial import TrialConfig
from trainables.costs import latency_ms, num_parameters, peak_memory_mb, reset_peak_memory
from trainables.data.loader import TrialData
from trainables.loop import fit
from trainables.models.build import build_model

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")


def test_a_larger_image_takes_longer_and_the_weights_are_counted(tiny: Callable[..., TrialConfig]) -> None:
    small = tiny(image_size=32)
    large = tiny(image_size=256)
    model = build_model(small.model, 10, 32)
    model.train()
    assert 0 < latency_ms(model, small, CPU) * 2 < latency_ms(model, large, CPU)
    assert num_parameters(model) == sum(weights.numel() for weights in model.parameters()) > 1000


def test_measuring_changes_nothing_that_is_trained(tiny: Callable[..., TrialConfig]) -> None:
    config = tiny()
    model = build_model(config.model, 10, 32)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    random = torch.get_rng_state()
    latency_ms(model, config, CPU)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(random, torch.get_rng_state())


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux can start the peak anew")
def test_the_peak_of_memory_starts_anew_with_each_training() -> None:
    reset_peak_memory(CPU)
    block = torch.ones(64 * 2**20)  # 256 MB
    high = peak_memory_mb(CPU)
    del block
    reset_peak_memory(CPU)
    low = peak_memory_mb(CPU)
    assert low > 10
    assert high - low > 200


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux can start the peak anew")
def test_images_that_all_processes_map_are_no_memory_of_a_training(tmp_path: Path) -> None:
    (tmp_path / "images.u8").write_bytes(bytes(200 * 2**20))
    reset_peak_memory(CPU)
    before = peak_memory_mb(CPU)
    images = np.memmap(tmp_path / "images.u8", np.uint8, "r")
    block = torch.ones(16 * 2**20)  # 64 MB
    assert images[::4096].sum() == 0
    assert 50 < peak_memory_mb(CPU) - before < 120
    del block


def test_seconds_add_up_over_a_training_that_was_stopped_and_a_share_counts_as_one(
    digits: Callable[..., TrialData], tiny: Callable[..., TrialConfig], tmp_path: Path
) -> None:
    files = TrialFiles(tmp_path / "c", tmp_path / "p", "val/accuracy", "max", 1)
    first = next(fit(tiny(epochs=3), digits(), CPU, gpu_share=0.5))
    files.save(first, resumable=True)
    assert first.gpu_seconds == pytest.approx(first.seconds / 2)
    again = list(fit(tiny(epochs=3), digits(), CPU, gpu_share=0.5, resume=load_state(files.last)))
    spent = first.seconds + sum(result.seconds for result in again)
    assert again[-1].gpu_seconds == pytest.approx(spent / 2)
