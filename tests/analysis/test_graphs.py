"""ONNX and torch.export graphs of exports say what torch says, or are not left there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from analysis import graphs
from analysis.export import write_export
from analysis.graphs import Graph, open_onnx, require_onnx, worst_difference, write_graphs
from analysis.predict import ExportedModel, load_export
from search_spaces.errors import RunError
from trainables.config_io import parse_config
from trainables.data.augment import eval_transform
from trainables.data.digits import scan_digits
from trainables.inference import predict_batch
from trainables.models.build import build_model
from trainables.tasks import TASKS

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")

COMMON = {"optimizer": {"name": "sgd", "lr": 0.1}, "epochs": 1, "batch_size": 16, "image_size": 32}
CLASSIFIER = {"task": "multiclass", "model": {"backbone": "test_resnet", "weights": "none"}, **COMMON}
TAGGER = {**CLASSIFIER, "task": "multilabel", "precision": "bf16", "threshold": 0.4}
SEGMENTER = {
    "task": "segmentation",
    "model": {"architecture": {"name": "unet", "channels": 16}, "backbone": "test_resnet", "weights": "none"},
    **COMMON,
}


def make_export(folder: Path, values: dict[str, Any], num_classes: int, num_models: int = 1) -> ExportedModel:
    """Untrained models, whose batch norm has seen some data, and whose logits are no smaller than trained ones'."""
    config = parse_config({**values, "ensemble": num_models})
    files = []
    for seed in range(num_models):
        torch.manual_seed(seed)
        model = build_model(config.model, TASKS[config.task].num_outputs(num_classes), config.image_size)
        with torch.no_grad():
            for _ in range(3):
                model(torch.randn(8, 3, 32, 32))
            *_, last = (module for module in model.modules() if isinstance(module, torch.nn.Linear | torch.nn.Conv2d))
            last.weight *= 10
        files.append(folder.with_suffix(f".{seed}"))
        save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, files[-1])
    write_export(folder, config, [f"class {i}" for i in range(num_classes)], files, {}, {})
    return load_export(folder, torch.device("cpu"))


def digits(count: int) -> list[np.ndarray]:
    """Real handwritten ones, of three sizes."""
    read = scan_digits().reader
    return [np.kron(read(i), np.ones((4 + i % 3, 5, 1), np.uint8)) for i in range(count)]


@pytest.mark.parametrize(
    ("values", "num_classes", "num_models"), [(CLASSIFIER, 10, 1), (TAGGER, 5, 2), (SEGMENTER, 4, 1)],
    ids=["classifier", "ensemble of taggers", "segmenter"],
)  # fmt: skip
def test_onnx_says_what_predict_says_on_a_hundred_images(
    tmp_path: Path, values: dict[str, Any], num_classes: int, num_models: int
) -> None:
    exported = make_export(tmp_path / "export", values, num_classes, num_models)
    images = digits(100)
    about = {"classes": list(exported.classes), "task": exported.config.task}
    (written,) = write_graphs(exported, tmp_path / "export", images[:8], about, onnx=True, pt2=False)
    assert written.problem == ""
    assert written.difference <= 1e-4

    run = open_onnx(tmp_path / "export" / "model.onnx")
    config = exported.config.model_copy(update={"precision": "fp32"})
    for image in images:
        seen = torch.from_numpy(eval_transform(config)(image=image)["image"])[None]
        expected = predict_batch(config, exported.models, seen, torch.device("cpu"))
        logits, probabilities = (torch.from_numpy(output) for output in run(seen))
        torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(probabilities, TASKS[config.task].probabilities(expected), rtol=0, atol=1e-4)

    stored = onnx.load(tmp_path / "export" / "model.onnx")
    onnx.checker.check_model(stored)
    about_itself = {entry.key: entry.value for entry in stored.metadata_props}
    assert json.loads(about_itself["classes"]) == list(exported.classes)
    assert stored.opset_import[0].version == graphs.OPSET
    sizes = [size.dim_param or size.dim_value for size in stored.graph.input[0].type.tensor_type.shape.dim]
    assert sizes == ["batch", *(("height", "width") if config.task == "segmentation" else (32, 32)), 3]


@pytest.mark.parametrize("values", [CLASSIFIER, SEGMENTER], ids=["classifier", "segmenter"])
def test_a_pt2_file_runs_in_torch_alone_on_any_number_of_images(tmp_path: Path, values: dict[str, Any]) -> None:
    exported = make_export(tmp_path / "export", values, 3)
    (written,) = write_graphs(exported, tmp_path / "export", digits(6), {}, onnx=False, pt2=True)
    assert (written.file, written.problem) == ("model.pt2", "")
    module = torch.export.load(tmp_path / "export" / "model.pt2").module()
    sizes = [(1, 32, 32), (3, 64, 32), (2, 45, 33)] if values is SEGMENTER else [(1, 32, 32), (5, 32, 32)]
    for size in sizes:
        images = torch.randint(0, 256, (*size, 3), dtype=torch.uint8)
        assert worst_difference(Graph(exported).eval(), module, [images]) <= 1e-4


def test_a_graph_that_disagrees_with_torch_is_not_left_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exported = make_export(tmp_path / "export", CLASSIFIER, 3)
    monkeypatch.setattr(graphs, "TOLERANCE", -1.0)  # what no graph can meet
    (written,) = write_graphs(exported, tmp_path / "export", digits(2), {}, onnx=False, pt2=True)
    assert written.problem.startswith("its outputs differ from torch's by up to ")
    assert not list((tmp_path / "export").glob("*pt2"))


def test_a_model_that_onnx_has_no_words_for_gets_a_sentence(tmp_path: Path) -> None:
    values = {**SEGMENTER, "model": {"architecture": {"name": "voc_deeper"}, "weights": "none"}}
    exported = make_export(tmp_path / "export", values, 3)
    (written,) = write_graphs(exported, tmp_path / "export", digits(2), {}, onnx=True, pt2=False)
    assert "\n" not in written.problem
    assert written.problem.startswith(
        ("torch.export cannot trace this model (", "this model cannot be converted, or not")
    )
    assert not list((tmp_path / "export").glob("*onnx"))


def test_a_difference_is_a_share_of_large_logits_and_a_wrong_shape_is_infinite(tmp_path: Path) -> None:
    exported = make_export(tmp_path / "export", CLASSIFIER, 3)
    graph = Graph(exported).eval()
    images = torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8)
    with torch.no_grad():
        logits, probabilities = graph(images)
    off = torch.zeros_like(logits)
    off[1, 2] = 0.5 * logits[1, 2].abs().clamp(min=1)
    assert worst_difference(graph, lambda _: (logits + off, probabilities), [images]) == pytest.approx(0.5)
    assert worst_difference(graph, lambda _: (logits[:1], probabilities), [images]) == float("inf")
    assert worst_difference(graph, lambda _: (logits * float("nan"), probabilities), [images]) == float("inf")


def test_a_missing_package_is_named_before_anything_is_exported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs, "ONNX_PACKAGES", ("onnx", "no_such_package"))
    with pytest.raises(RunError, match=r"no_such_package is not installed.*pip install --editable '\.\[onnx\]'"):
        require_onnx()
