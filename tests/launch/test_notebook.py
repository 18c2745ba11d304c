"""The notebook of the docs: it runs from its first cell to its last, in a kernel as Jupyter's."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from visionsweep.core.files import read_object

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "docs" / "python.ipynb"


def code_cells() -> list[str]:
    return ["".join(cell["source"]) for cell in read_object(NOTEBOOK)["cells"] if cell["cell_type"] == "code"]


def test_the_notebook_is_stored_without_outputs_and_each_cell_has_its_id() -> None:
    told = read_object(NOTEBOOK)
    assert (told["nbformat"], told["nbformat_minor"]) == (4, 5)
    ids = [cell["id"] for cell in told["cells"]]
    assert len(set(ids)) == len(ids)
    for cell in told["cells"]:
        assert cell.get("outputs", []) == []
        assert cell.get("execution_count") is None


@pytest.mark.skipif(find_spec("nbclient") is not None, reason="the whole notebook runs in a kernel below")
@pytest.mark.with_ray
def test_the_cells_of_the_notebook_run_as_a_script_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VISIONSWEEP_CACHE_DIR", str(tmp_path / "cache"))
    names: dict[str, Any] = {}
    for source in code_cells():
        exec(compile(source, "python.ipynb", "exec"), names)
    assert names["run"].status().counts.get("complete", 0) >= 1
    assert names["model"].classes == tuple("0123456789")
    assert len(names["said"]) == 5
    assert 0 <= names["scores"].loc["accuracy", "value"] <= 1
    assert "[3/3] trial" in capfd.readouterr().out


@pytest.mark.with_ray
def test_the_notebook_runs_in_a_kernel_and_shows_its_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")
    nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed")
    pytest.importorskip("ipykernel", reason="ipykernel is not installed")
    monkeypatch.setenv("VISIONSWEEP_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")])))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = {cell["id"]: cell.get("outputs", []) for cell in notebook.cells}
    table = "".join(one["data"].get("text/html", "") for one in outputs["search"] if "data" in one)
    assert table.count("<td>1</td>") == 1, "one table, which was drawn anew, and not one for each time"
    assert "ended after" in table
    assert not [one for one in outputs["search"] if "[3/3] trial" in one.get("text", "")], (
        "the table is instead of lines"
    )
    assert "<table>" in outputs["show"][0]["data"]["text/html"]
