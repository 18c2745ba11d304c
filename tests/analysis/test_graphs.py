"""ONNX and torch.export graphs of exports agree with torch, or are not kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from analysis.models import graphs
from analysis.models.export import write_export
from analysis.models.graphs import Graph, open_onnx, require_onnx, worst_difference, write_graphs
from analysis.models.predictor import ExportedModel, load_export
from trainables.config.io import parse_config
from trainables.data.augment import eval_transform
from trainables.data.digits import scan_digits
from trainables.inference import predict_batch
from trainables.models.build import build_model
from trainables.tasks import TASKS
from visionsweep.core.errors import RunError

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
    "short_side": 72,  # to be padded to 96
}


def make_export(folder: Path, values: dict[str, Any], num_classes: int, num_models: int = 1) -> ExportedModel:
    """Export untrained models, whose batch norm has seen some data, with logits as large as trained ones'."""
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


class Tiny(torch.nn.Module):
    """A model small enough to be traced at once. `undecided` branches on its images, which no graph can."""

    def __init__(self, undecided: bool = False) -> None:
        super().__init__()
        self.register_buffer("pixel_mean", torch.full((3, 1, 1), 127.0))
        self.register_buffer("pixel_std", torch.full((3, 1, 1), 60.0))
        self.undecided = undecided

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        pooled = images.mean(dim=(2, 3))
        return -pooled if self.undecided and pooled.sum() > 0 else pooled


@pytest.mark.parametrize(
    ("values", "num_classes"), [(CLASSIFIER, 10), (TAGGER, 5), (SEGMENTER, 4)],
    ids=["classifier", "tagger", "segmenter"],
)  # fmt: skip
def test_graphs_say_what_predict_says_on_a_hundred_images(
    tmp_path: Path, values: dict[str, Any], num_classes: int
) -> None:
    exported = make_export(tmp_path / "export", values, num_classes)
    images = digits(100)
    about = {"classes": list(exported.classes), "task": exported.config.task}
    pt2 = values is not TAGGER  # it is the classifier's but for its sigmoid
    written = write_graphs(exported, tmp_path / "export", images[:8], about, onnx=True, pt2=pt2)
    assert [(graph.file, graph.problem) for graph in written] == [("model.onnx", ""), ("model.pt2", "")][: 1 + pt2]
    assert max(graph.difference for graph in written) <= 1e-4
    assert {graph.side for graph in written} == {None if values is SEGMENTER else 32}

    run = open_onnx(tmp_path / "export" / "model.onnx")
    module = torch.export.load(tmp_path / "export" / "model.pt2").module() if pt2 else None
    config = exported.config.model_copy(update={"precision": "fp32"})
    by_size: dict[tuple[int, ...], list[torch.Tensor]] = {}
    for image in images:
        seen = torch.from_numpy(eval_transform(config)(image=image)["image"])
        by_size.setdefault(tuple(seen.shape), []).append(seen)
    assert len(by_size) == (3 if values is SEGMENTER else 1)
    for same in by_size.values():
        batch = torch.stack(same)
        expected = predict_batch(config, exported.models, batch, torch.device("cpu"))
        for logits, probabilities in (map(torch.from_numpy, run(batch)), *([module(batch)] if module else [])):
            torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)
            torch.testing.assert_close(probabilities, TASKS[config.task].probabilities(expected), rtol=0, atol=1e-4)

    stored = onnx.load(tmp_path / "export" / "model.onnx")
    onnx.checker.check_model(stored)
    about_itself = {entry.key: entry.value for entry in stored.metadata_props}
    assert json.loads(about_itself["classes"]) == list(exported.classes)
    assert stored.opset_import[0].version == graphs.OPSET
    sizes = [size.dim_param or size.dim_value for size in stored.graph.input[0].type.tensor_type.shape.dim]
    assert sizes == ["batch", *(("height", "width") if config.task == "segmentation" else (32, 32)), 3]


def test_the_graph_of_an_ensemble_says_what_its_mean_probability_is(tmp_path: Path) -> None:
    exported = make_export(tmp_path / "export", {**TAGGER, "precision": "fp32"}, 5, num_models=3)
    images = torch.randint(0, 256, (4, 32, 32, 3), dtype=torch.uint8)
    with torch.no_grad():
        logits, probabilities = Graph(exported).eval()(images)
    expected = predict_batch(exported.config, exported.models, images, torch.device("cpu"))
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(probabilities, expected.sigmoid())


def test_a_graph_of_two_sure_models_has_finite_logits(tmp_path: Path) -> None:
    """A probability that is one in float32 has none: such a graph was thrown away."""
    exported = make_export(tmp_path / "export", {**TAGGER, "precision": "fp32"}, 5, num_models=2)
    for model in exported.models:
        (*_, last) = (module for module in model.modules() if isinstance(module, torch.nn.Linear))
        with torch.no_grad():
            last.weight *= 50
    (written,) = write_graphs(exported, tmp_path / "export", digits(8), {}, onnx=True, pt2=False)
    assert written.problem == ""
    images = np.stack([eval_transform(exported.config)(image=image)["image"] for image in digits(8)])
    logits, _ = open_onnx(tmp_path / "export" / "model.onnx")(torch.from_numpy(images))
    assert np.isfinite(logits).all()
    assert np.abs(logits).max() > 20  # a float32 probability is one from 17 on


def test_a_graph_that_disagrees_with_torch_is_not_left_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = parse_config(CLASSIFIER)
    exported = ExportedModel(config, ("a", "b", "c"), [Tiny()], torch.device("cpu"))  # type: ignore[list-item]
    assert write_graphs(exported, tmp_path, digits(2), {}, onnx=False, pt2=True)[0].problem == ""
    monkeypatch.setattr(graphs, "TOLERANCE", -1.0)  # what no graph can meet
    (written,) = write_graphs(exported, tmp_path, digits(2), {}, onnx=False, pt2=True)
    assert written.problem.startswith("its outputs differ from torch's by up to ")
    assert [path.name for path in tmp_path.iterdir()] == ["model.pt2"]  # the first one, which was right


def test_a_model_that_cannot_be_a_graph_gets_a_sentence(tmp_path: Path) -> None:
    config = parse_config(CLASSIFIER)
    exported = ExportedModel(config, ("a", "b", "c"), [Tiny(undecided=True)], torch.device("cpu"))  # type: ignore[list-item]
    for written in write_graphs(exported, tmp_path, digits(2), {}, onnx=True, pt2=True):
        assert "\n" not in written.problem
        assert written.problem.startswith("torch.export cannot trace this model (")
    assert not list(tmp_path.iterdir())


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
