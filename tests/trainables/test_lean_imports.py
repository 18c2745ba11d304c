"""What a trial's process imports. What it leaves out can still be imported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from trainables.lean_imports import eager

ROOT = Path(__file__).parents[2]
# Seconds of imports each, and nothing that a trial calls.
UNNEEDED = (
    *("torch._dynamo", "torch._inductor", "torch.distributed.fsdp", "triton.language", "sympy", "wandb"),
    *("scipy.signal", "scipy.stats", "scipy.special", "sklearn", "optuna", "plotly", "matplotlib", "boto3", "mlflow"),
)
TRAIN = """
import torch
import trainables.worker.trainable
from trainables.checkpoint import TrialFiles
from trainables.config.io import parse_config
from trainables.data.formats import load_dataset
from trainables.data.loader import TrialData
from trainables.loop import fit

data = TrialData(*load_dataset("PHOTOS", short_side_px=32, cache_dir=None))
for number, optimizer in enumerate(OPTIMIZERS):
    config = parse_config({
        "task": "binary", "model": {"backbone": "test_resnet", "weights": "none", "freeze": "all"},
        "optimizer": optimizer, "views": 1, "batch_size": 4, "image_size": 32, "epochs": 1, "schedule": {"name": "constant"},
    })
    files = TrialFiles.below(RUN, f"t{number}", "val/loss", "min", config)
    for result in fit(config, data, torch.device("cpu")):
        files.save(result, resumable=True)
"""


def modules_after(code: str) -> set[str]:
    """Those that a fresh Python has imported after this code."""
    code += "\nimport sys; print('loaded:', *sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.rpartition("loaded:")[2].split())


def test_a_trials_process_imports_nothing_that_no_trial_needs() -> None:
    loaded = modules_after("import trainables.worker.preloaded")
    assert {"torch", "torchvision", "timm", "torchmetrics", "ray.tune"} <= loaded
    assert loaded.intersection(UNNEEDED) == set()


def test_training_imports_no_compiler_either(tmp_path: Path) -> None:
    from tests.support import make_photos

    photos = make_photos(tmp_path / "photos", {"cats": 12, "dogs": 12})
    optimizers = [{"name": name, "lr": 0.01} for name in ("sgd", "adam", "adamw")] + [{"name": "lbfgs"}]
    code = TRAIN.replace("PHOTOS", str(photos)).replace("OPTIMIZERS", repr(optimizers))
    code = f"from pathlib import Path\nRUN = Path({str(tmp_path / 'run')!r})\n{code}"
    assert modules_after(code).intersection(UNNEEDED) == set()


def test_what_was_put_off_is_the_real_thing_for_whoever_uses_it() -> None:
    code = """
import sys
import trainables.worker.trainable
import timm.models.naflexvit as naflexvit
detectors = sys.modules["torchvision.ops.roi_align"]
for name in ("torch._dynamo", "torch._dynamo.utils", "scipy.signal", "scipy.special", "wandb"):
    assert name not in sys.modules, name
import torch
assert isinstance(detectors.is_compile_supported("cpu"), bool)
boxes = torch.tensor([[0.0, 0.0, 0.0, 4.0, 4.0]])
assert detectors.roi_align(torch.ones(1, 1, 8, 8), boxes, 2).eq(1).all()
rope = naflexvit.NaFlexRopeIterator.__dict__
decorated = next(value for value in rope.values() if hasattr(value, "__wrapped__"))
assert decorated.__name__ == decorated.__wrapped__.__name__
import torch._dynamo, torch._dynamo.utils, scipy.signal, scipy.special
assert detectors.is_compile_supported("cpu") == torch._dynamo.utils.is_compile_supported("cpu")
assert torch._dynamo.utils.__file__ and scipy.special.erf(0.0) == 0.0 and len(scipy.signal.windows.hann(5)) == 5
assert float(torch.compile(torch.sin, backend="eager")(torch.zeros(()))) == 0.0
"""
    assert {"torch._dynamo", "scipy.signal", "scipy.special"} <= modules_after(code)


def test_wandb_is_imported_when_timm_logs_there() -> None:
    pytest.importorskip("wandb")
    code = "import trainables.worker.trainable, timm.utils.summary as s; s.wandb.init; import wandb; assert s.wandb.init is wandb.init"
    assert "wandb" in modules_after(code)


def test_a_library_that_was_imported_before_stays_as_it_is() -> None:
    code = (
        "import scipy.signal as before, trainables.worker.trainable, sys; assert sys.modules['scipy.signal'] is before"
    )
    assert "scipy.signal" in modules_after(code)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01, "nesterov": True}),
        (torch.optim.Adam, {"lr": 0.01, "weight_decay": 0.01}),
        (torch.optim.AdamW, {"lr": 0.01, "weight_decay": 0.01}),
        (torch.optim.LBFGS, {"lr": 0.5, "max_iter": 4, "line_search_fn": "strong_wolfe"}),
    ],
)
def test_an_eager_optimizer_takes_the_steps_of_torchs_bit_for_bit(
    kind: type[torch.optim.Optimizer], options: dict[str, object]
) -> None:
    def trained(build: type[torch.optim.Optimizer]) -> list[torch.Tensor]:
        torch.manual_seed(0)
        model, inputs = nn.Linear(5, 3), torch.randn(16, 5)

        def closure() -> torch.Tensor:
            model.zero_grad()
            loss = model(inputs).square().mean()
            loss.backward()
            return loss

        optimizer = build(model.parameters(), **options)  # type: ignore[call-arg]
        for step in range(6):
            if step == 3:  # resumed from its state
                stored = optimizer.state_dict()
                optimizer = build(model.parameters(), **options)  # type: ignore[call-arg]
                optimizer.load_state_dict(stored)
            optimizer.step(closure)  # type: ignore[arg-type]
            optimizer.zero_grad()
            assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())
        return [parameter.detach().clone() for parameter in model.parameters()]

    assert issubclass(eager(kind), kind)
    for own, torchs in zip(trained(eager(kind)), trained(kind), strict=True):
        assert torch.equal(own, torchs)
