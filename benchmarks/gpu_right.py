"""Sections A and E of `gpu.py`: a GPU computes what a CPU computes, in every precision and for every network."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.gpu_ground import Ground, Wrong, classifier, segmenter, train_batches
from search_spaces.paths import possible_values
from search_spaces.regimes import wholes
from search_spaces.shipped import SEARCHES
from trainables.config.architecture import SEGMENTERS, Decoder
from trainables.config.model import SegmenterConfig
from trainables.config.parts import part_names
from trainables.config.trial import TrialConfig
from trainables.data.loader import TrialData
from trainables.inference import autocast, to_input
from trainables.loop import fit
from trainables.losses import build_loss, loss_with_aux
from trainables.precision import precision_in_force
from trainables.state import build_state
from trainables.targets import classes_and_labels
from trainables.tasks import TASKS

# Relative error of the loss, and cosine of all gradients together, against fp32 on a CPU.
# Batch norm at random weights multiplies rounding: a CPU's own bf16 has cosines down to 0.86 on the smallest network.
AGREE = {"fp32": (1e-3, 0.999), "fp16": (0.01, 0.98), "bf16": (0.03, 0.8)}
SAME_TRAINING = 0.05  # relative difference of a short training's last losses
LOSS_SCALE = 1024.0  # of fp16, whose small gradients would be zero


@dataclass(frozen=True)
class Step:
    """A training step's loss, and its gradients as one float32 vector in the host's memory."""

    loss: float
    gradient: Tensor


def one_step(config: TrialConfig, data: TrialData, device: torch.device) -> Step:
    """Return the first training step of a configuration, the same on every device up to rounding."""
    images, targets = next(train_batches(config, data))
    classes, _, train_targets = classes_and_labels(config, data)
    torch.manual_seed(0)
    model = build_state(config, TASKS[config.task].num_outputs(len(classes)), device).model
    model.train()
    loss_of = build_loss(config, train_targets, len(classes)).to(device)
    with autocast(config, device):
        output = model(to_input(images, model, config, device))
    loss = loss_with_aux(output, targets.to(device), loss_of, config.model.aux_weight)
    scale = LOSS_SCALE if precision_in_force(config, device) == "fp16" else 1.0
    (loss * scale).backward()  # type: ignore[no-untyped-call]
    gradients = [one.grad.float().flatten() / scale for one in model.parameters() if one.grad is not None]
    return Step(float(loss.detach()), torch.cat(gradients).cpu())


def correctness(ground: Ground, left_s: float) -> dict[str, object]:
    """Compare a step in fp32, fp16 and bf16, and a short training in fp32, with the CPU's in fp32."""
    cpu = torch.device("cpu")
    found: dict[str, object] = {}
    wrong = []
    size = ground.size(64, 32)
    nets = [
        (classifier(ground.size("resnet18", "test_resnet"), image_size=size), ground.photos()),  # type: ignore[arg-type]
        (classifier(ground.size("vit_tiny_patch16_224", "test_vit"), image_size=size), ground.photos()),  # type: ignore[arg-type]
        (segmenter("unet", ground.size("resnet18", "test_resnet"), image_size=size), ground.masks()),  # type: ignore[arg-type]
    ]
    with exact_fp32():
        for config, folder in nets:
            data = ground.data(config, folder)
            net = name_of(config)
            base = one_step(config, data, cpu)
            for precision, (most_error, least_cosine) in AGREE.items():
                step = one_step(config.model_copy(update={"precision": precision}), data, ground.device)
                error = abs(step.loss - base.loss) / abs(base.loss)
                cosine = float(torch.nn.functional.cosine_similarity(step.gradient, base.gradient, dim=0))
                name = f"{net} {precision}"
                found[name] = {"loss error": error, "gradient cosine": cosine}
                if not (error <= most_error and cosine >= least_cosine):  # nan is wrong too
                    wrong.append(f"{name}: the loss differs by {error:.2g}, the gradient's cosine is {cosine:.4f}")
    config, folder = nets[0]
    data = ground.data(config, folder)
    ends = [list(fit(config, data, device))[-1].metrics["val/loss"] for device in (cpu, ground.device)]
    found["val/loss after 2 epochs, CPU and here"] = ends
    if not abs(ends[0] - ends[1]) <= SAME_TRAINING * ends[0]:
        wrong.append(f"after two epochs val/loss is {ends[1]:.4f}, on the CPU {ends[0]:.4f}")
    if wrong:
        raise Wrong("; ".join(wrong), found)
    return {"said": f"{len(found) - 1} steps and a training agree with the CPU", **found}


def name_of(config: TrialConfig) -> str:
    """Return the name of a segmenter's architecture, or of a classifier's backbone."""
    model = config.model
    return model.architecture.name if isinstance(model, SegmenterConfig) else model.backbone


class exact_fp32:  # noqa: N801 (a context manager)
    """Compute fp32 products in fp32 within the body, not in TF32."""

    def __enter__(self) -> None:
        self.before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
        torch.set_float32_matmul_precision("highest")
        torch.backends.cudnn.allow_tf32 = False

    def __exit__(self, *_: object) -> None:
        torch.set_float32_matmul_precision(self.before[0])
        torch.backends.cudnn.allow_tf32 = self.before[1]


def networks(ground: Ground) -> Iterator[tuple[TrialConfig, bool]]:
    """Yield a configuration for every backbone of the shipped searches and for every segmenter.

    With --fake only timm's test networks are taken, and decoders on one of them.
    """
    shipped = {
        part
        for search in SEARCHES.values()
        for whole in wholes(search.space)
        for backbone in possible_values(whole, "model.backbone")
        for part in part_names(str(backbone))
    }
    size = ground.size(224, 32)
    for backbone in sorted(shipped):
        if not ground.fake or backbone.startswith("test_"):
            yield classifier(backbone, image_size=size, batch_size=4, precision="bf16"), False
    for name, entry in SEGMENTERS.items():
        decodes = issubclass(entry.part, Decoder)
        if decodes or not ground.fake:
            backbone = ("test_resnet" if ground.fake else "resnet50") if decodes else None
            yield segmenter(name, backbone, image_size=size, precision="bf16"), True


def every_network(ground: Ground, left_s: float) -> dict[str, object]:
    """Train every shipped backbone and segmenter for one step in bf16."""
    ends = time.monotonic() + left_s
    wrong = []
    asked = list(networks(ground))
    for number, (config, masks) in enumerate(asked):
        if time.monotonic() > ends:
            raise Wrong("; ".join([f"only {number} of {len(asked)} networks fitted into the time", *wrong]))
        name = name_of(config)
        try:
            step = one_step(config, ground.data(config, ground.masks() if masks else ground.photos()), ground.device)
            norm = float(step.gradient.norm())
            if not (math.isfinite(step.loss) and math.isfinite(norm) and norm > 0):
                wrong.append(f"{name}: loss {step.loss}, norm of the gradient {norm}")
        except Exception as error:
            if ground.device.type == "cuda":
                torch.cuda.synchronize()  # a broken context raises again, and nothing below could be trusted
            wrong.append(f"{name}: {type(error).__name__}: {next(iter(str(error).splitlines()), '')}")
    if wrong:
        raise Wrong("; ".join(wrong))
    return {"said": f"{len(asked)} networks took a step in bf16", "networks": len(asked)}
