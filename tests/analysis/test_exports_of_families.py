"""A small network of each family in the GPU searches is exported, read again and written as a graph."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from analysis.models.export import write_export
from analysis.models.graphs import write_graphs
from analysis.models.predictor import load_export
from trainables.config.io import parse_config
from trainables.inference import predict_batch
from trainables.models.adapters import LowRank, plain_state_dict
from trainables.models.build import build_model

SIDE = 56  # of no whole number of patches of 16
LORA = {"name": "lora", "rank": 2}
FAMILIES = [
    ("vit_tiny_patch16_dinov3_qkvb", LORA),  # DINOv3: rotated positions
    ("test_vit3", LORA),  # SigLIP's kind: attention pooling
    ("eva02_tiny_patch14_224", LORA),
    ("convnextv2_atto", None),
    ("mobilenetv4_conv_small_035", None),
    ("fastvit_t8", None),
]


def images(count: int) -> list[np.ndarray]:
    drawn = np.random.default_rng(0)
    return [drawn.integers(0, 256, (60 + 7 * number, 80, 3), dtype=np.uint8) for number in range(count)]


def exported(
    folder: Path, backbone: str, adapter: dict[str, object] | None, **model_values: str
) -> tuple[object, torch.nn.Module]:
    """Export an untrained network. Return the export and the network as it was kept."""
    config = parse_config(
        {"task": "multiclass", "epochs": 1,
         "model": {"backbone": backbone, "weights": "none", "adapter": adapter, **model_values},
         "optimizer": {"name": "adamw", "lr": 1e-3}, "batch_size": 2, "image_size": SIDE}
    )  # fmt: skip
    torch.manual_seed(0)
    model = build_model(config.model, 3, SIDE).eval()
    for one in model.modules():
        if isinstance(one, LowRank):
            torch.nn.init.normal_(one.up, std=0.1)
    weights = {name: tensor.contiguous() for name, tensor in plain_state_dict(model).items()}
    save_file(weights, folder.with_suffix(".safetensors"))
    write_export(folder, config, ["a", "b", "c"], [folder.with_suffix(".safetensors")], {}, {})
    return config, model


@pytest.mark.parametrize(("backbone", "adapter"), FAMILIES)
def test_an_export_of_each_family_predicts_what_was_kept(
    tmp_path: Path, backbone: str, adapter: dict[str, object] | None
) -> None:
    config, model = exported(tmp_path / "export", backbone, adapter)
    loaded = load_export(tmp_path / "export", torch.device("cpu"))
    assert not any(isinstance(one, LowRank) for one in loaded.models[0].modules())
    batch = torch.randint(0, 256, (2, SIDE, SIDE, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    now, then = (predict_batch(config, [one], batch, torch.device("cpu")) for one in (loaded.models[0], model))
    torch.testing.assert_close(now, then, rtol=1e-5, atol=1e-6)
    probabilities = loaded.probabilities(images(3))
    assert probabilities.shape == (3, 3)
    torch.testing.assert_close(probabilities.sum(dim=1), torch.ones(3))


def test_a_graph_has_the_means_of_stages_of_backbones_side_by_side(tmp_path: Path) -> None:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package)
    _, model = exported(tmp_path / "export", "test_resnet+test_efficientnet", None, features="stages", freeze="all")
    loaded = load_export(tmp_path / "export", torch.device("cpu"))
    (layer,) = (one for one in loaded.models[0].get_submodule("head").modules() if isinstance(one, torch.nn.Linear))
    assert layer.in_features > sum(width for _, width in model.maps)  # type: ignore[operator, misc, union-attr]
    about = {"classes": list(loaded.classes), "task": "multiclass"}
    graphs = write_graphs(loaded, tmp_path / "export", images(3), about, onnx=True, pt2=True)
    assert [(one.file, one.problem) for one in graphs] == [("model.onnx", ""), ("model.pt2", "")]
    assert max(one.difference for one in graphs) <= 1e-4


@pytest.mark.parametrize(("backbone", "adapter"), FAMILIES[:2])  # what no other graph has, as a graph takes its time
def test_a_graph_of_a_transformer_says_what_torch_says(
    tmp_path: Path, backbone: str, adapter: dict[str, object] | None
) -> None:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package)
    exported(tmp_path / "export", backbone, adapter)
    loaded = load_export(tmp_path / "export", torch.device("cpu"))
    about = {"classes": list(loaded.classes), "task": "multiclass"}
    (graph,) = write_graphs(loaded, tmp_path / "export", images(3), about, onnx=True, pt2=False)
    assert (graph.file, graph.problem) == ("model.onnx", "")
    assert graph.difference <= 1e-4
