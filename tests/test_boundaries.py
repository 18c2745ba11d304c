"""The rooms and the direction between them, held by reading the imports of every file."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import MAX_LINES

ROOT = Path(__file__).parents[1]
ROOMS = ("visionsweep", "search_spaces", "trainables", "launch", "analysis")
FILES = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))

TORCH = {"torch", "torchvision", "torchmetrics", "timm", "albumentations", "cv2", "segmentation_models_pytorch"}
PLOTS = {"plotly", "matplotlib"}
TERMINAL = {"typer", "rich"}
BUCKETS = {"boto3", "botocore"}

# All that a room imports beside the standard library: top-level packages, or modules of ours.
KNOWN = {
    "visionsweep/core": {"visionsweep.core", "numpy"},
    "visionsweep/run_dir": {"visionsweep.core", "visionsweep.run_dir", "numpy"},
    "search_spaces": {"visionsweep.core", "search_spaces"},
}
# What the other rooms never import.
FORBIDDEN = {
    "trainables": {"optuna", "ray", "launch", "analysis", "search_spaces", "benchmarks", *PLOTS, *TERMINAL, *BUCKETS},
    "launch": {"torchmetrics", "trainables.losses", "benchmarks", *PLOTS, *BUCKETS},
    "analysis": {"ray", "optuna", "launch", "trainables", "benchmarks", *TORCH, *BUCKETS},
}
# What a folder (*) or one file imports in spite of that.
ALLOWED = {
    "visionsweep/core/files.py": {"yaml"},
    "visionsweep/core/s3_client.py": BUCKETS,
    "visionsweep/run_dir/rank.py": {"pandas"},
    # The methods of a run are for notebooks, and import their work when they are called.
    "visionsweep/run_dir/load.py": {
        "pandas",
        "analysis.expect.ties",
        "analysis.figures.importance",
        "analysis.figures.compare",
    },
    "trainables/worker/trainable.py": {"ray"},
    # Exports, what an exported model says and how well, and which of a run's models are recommended.
    "analysis/models/*": {"trainables", *TORCH},
    "analysis/figures/batches.py": {"trainables", *TORCH},
    "analysis/figures/embeddings.py": {"trainables", *TORCH},
    "analysis/figures/overlays.py": {"trainables", *TORCH},
    # What judges a finished study. Not what searches: samplers, pruners, storages.
    "analysis/figures/importance.py": {
        "optuna.importance",
        "optuna.distributions",
        "optuna.study",
        "optuna.trial",
        "optuna.logging",
    },
}


def imports(source: str, package: str = "") -> Iterator[str]:
    """Yield every imported name of a source: 'a.b' for `import a.b` and for `from a import b`."""
    for node in ast.walk(ast.parse(source)):
        yield from _imported(node, package)


def imports_at_import_time(source: str) -> Iterator[str]:
    """Those outside of functions and of `if TYPE_CHECKING`."""
    waiting: list[ast.AST] = [ast.parse(source)]
    while waiting:
        node = waiting.pop()
        yield from _imported(node)
        is_typing_only = isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
        if isinstance(node, ast.If) and is_typing_only:
            waiting.extend(node.orelse)
        elif not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            waiting.extend(ast.iter_child_nodes(node))


def _imported(node: ast.AST, package: str = "") -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
        origin = ".".join([*above, *([node.module] if node.module else [])])
        yield from (f"{origin}.{alias.name}" for alias in node.names)


def broken_rules(file: str, source: str) -> list[str]:
    """The imports of `file` (a path such as 'launch/search/run.py') that its room does not know of."""
    room = room_of(file)
    allowed = {name for place, names in ALLOWED.items() if file == place or _holds(place, file) for name in names}
    if room == "visionsweep":  # hands out what the rooms hold, and imports it when it is asked for
        return [name for name in imports_at_import_time(source) if not _is_standard(name)]
    names = list(imports(source, ".".join(Path(file).parent.parts)))
    if room in KNOWN:
        known = KNOWN[room] | allowed
        return [name for name in names if not (_is_standard(name) or _below(name, known))]
    return [name for name in names if _below(name, FORBIDDEN[room]) and not _below(name, allowed)]


def room_of(file: str) -> str:
    """The first folder of a path; of `visionsweep/` the second one too, where there is one."""
    parts = Path(file).parent.parts
    return "/".join(parts[: 2 if parts[0] == "visionsweep" else 1])


def _holds(place: str, file: str) -> bool:
    return place.endswith("/*") and file.startswith(place[:-1])


def _is_standard(name: str) -> bool:
    return name.partition(".")[0] in sys.stdlib_module_names


def _below(name: str, modules: set[str]) -> bool:
    return any(name == module or name.startswith(f"{module}.") for module in modules)


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_a_file_imports_only_what_its_room_knows(path: Path) -> None:
    assert broken_rules(relative(path), path.read_text()) == []


@pytest.mark.parametrize(
    ("file", "source", "broken"),
    [
        ("search_spaces/search.py", "import torch", ["torch"]),
        ("search_spaces/search.py", "from optuna.trial import Trial", ["optuna.trial.Trial"]),
        ("search_spaces/search.py", "def f():\n    import numpy.linalg", ["numpy.linalg"]),
        ("search_spaces/search.py", "from trainables import config", ["trainables.config"]),
        ("search_spaces/search.py", "from ..trainables import config", ["trainables.config"]),
        ("search_spaces/search.py", "import math\nfrom . import paths\nfrom search_spaces.grammar import Pick", []),
        ("search_spaces/search.py", "from visionsweep.core.names import pick", []),
        ("search_spaces/search.py", "from visionsweep.run_dir import load", ["visionsweep.run_dir.load"]),
        ("search_spaces/search.py", "from visionsweep import load_run", ["visionsweep.load_run"]),
        ("visionsweep/core/pareto.py", "import numpy as np\nfrom visionsweep.core.errors import RunError", []),
        ("visionsweep/core/pareto.py", "import pandas\nimport yaml", ["pandas", "yaml"]),
        ("visionsweep/core/pareto.py", "from search_spaces import grammar", ["search_spaces.grammar"]),
        ("visionsweep/core/pareto.py", "from visionsweep.run_dir import trials", ["visionsweep.run_dir.trials"]),
        ("visionsweep/core/s3.py", "import boto3", ["boto3"]),
        ("visionsweep/core/s3_client.py", "from botocore.config import Config", []),
        (
            "visionsweep/run_dir/trials.py",
            "from visionsweep.core import files\nfrom visionsweep.run_dir import shapes",
            [],
        ),
        ("visionsweep/run_dir/trials.py", "import pandas", ["pandas"]),
        ("visionsweep/run_dir/trials.py", "from analysis.figures import compare", ["analysis.figures.compare"]),
        ("visionsweep/run_dir/load.py", "import pandas\nfrom analysis.figures.compare import compare", []),
        ("visionsweep/run_dir/load.py", "from launch.search import records", ["launch.search.records"]),
        ("visionsweep/__init__.py", "import sys\nimport search_spaces", ["search_spaces"]),
        ("visionsweep/__main__.py", "def main():\n    from launch.cli import main", []),
        ("trainables/loop.py", "import ray", ["ray"]),
        ("trainables/models/heads.py", "from ray import tune", ["ray.tune"]),
        ("trainables/worker/trainable.py", "from ray import tune\nimport ray", []),
        ("trainables/worker/trainable.py", "import optuna", ["optuna"]),
        ("trainables/data/cache.py", "from launch.search.run import start", ["launch.search.run.start"]),
        ("trainables/data/cache.py", "from analysis import load_run", ["analysis.load_run"]),
        ("trainables/tasks.py", "from search_spaces.search import Search", ["search_spaces.search.Search"]),
        ("trainables/tasks.py", "from search_spaces import search", ["search_spaces.search"]),
        ("trainables/tasks.py", "from visionsweep.core.names import pick\nfrom visionsweep.core import errors", []),
        ("launch/remote/mirror.py", "import boto3", ["boto3"]),
        ("launch/search/run.py", "if True:\n    import plotly.express as px", ["plotly.express"]),
        ("launch/search/run.py", "from trainables import losses", ["trainables.losses"]),
        ("launch/search/run.py", "from benchmarks.simulate import Clock", ["benchmarks.simulate.Clock"]),
        ("launch/search/run.py", "import ray, optuna, torch\nfrom visionsweep.run_dir.load import load_run", []),
        ("analysis/figures/slices.py", "import torch.nn", ["torch.nn"]),
        ("analysis/figures/slices.py", "from trainables import tasks", ["trainables.tasks"]),
        ("analysis/models/predict.py", "import torch\nfrom trainables.config.trial import TrialConfig", []),
        ("analysis/models/predict.py", "import optuna\nimport ray\nimport launch", ["optuna", "ray", "launch"]),
        ("analysis/figures/cost.py", "import torchlike\nimport rayon", []),
        (
            "analysis/figures/cost.py",
            "from optuna.importance import get_param_importances",
            ["optuna.importance.get_param_importances"],
        ),
        ("analysis/figures/importance.py", "from optuna.importance import get_param_importances", []),
        ("analysis/figures/importance.py", "from optuna import samplers, logging", ["optuna.samplers"]),
        ("analysis/report/page.py", "from trainables import tasks", ["trainables.tasks"]),
    ],
)
def test_a_forbidden_import_is_found_wherever_it_stands(file: str, source: str, broken: list[str]) -> None:
    assert broken_rules(file, source) == broken


def test_there_is_something_in_every_room() -> None:
    for room in ROOMS:
        assert ROOT / room / "__init__.py" in FILES
        assert any(path.name != "__init__.py" for path in FILES if path.is_relative_to(ROOT / room))


def test_every_module_of_ours_that_is_imported_exists() -> None:
    """A command imports when it is called: a wrong name there would be found by its user."""
    missing = []
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.partition(".")[0] in ROOMS:
                place = ROOT.joinpath(*node.module.split("."))
                if not (place.is_dir() or place.with_suffix(".py").is_file()):
                    missing.append(f"{relative(path)}: {node.module}")
    assert missing == []


COMMAND_LINE = (
    *(f"launch.cli.{name}" for name in ("app", "commands", "hidden", "option_hints", "options", "slow")),
    *(f"launch.cli.{name}" for name in ("after", "evaluate", "jobs", "models", "report", "runs", "search")),
    "launch.machines.auth_token",
)


def test_the_command_line_imports_nothing_heavy_until_a_command_is_called() -> None:
    names: set[str] = set()
    for module in COMMAND_LINE:
        names |= set(imports_at_import_time((ROOT / f"{module.replace('.', '/')}.py").read_text()))
    light = {*sys.stdlib_module_names, "typer", "search_spaces", "visionsweep.core", *COMMAND_LINE}
    assert {name for name in names if not _below(name, light)} == set()


def test_a_heavy_import_of_the_command_line_would_be_found() -> None:
    source = """
if TYPE_CHECKING:
    import rich
else:
    import numpy
try:
    import torch
except ImportError:
    pass
class Options:
    import pandas
def run():
    import ray
"""
    assert set(imports_at_import_time(source)) == {"numpy", "torch", "pandas"}


def test_importing_the_command_line_loads_no_heavy_library_in_a_roundabout_way() -> None:
    heavy = sorted({*TORCH, *PLOTS, *BUCKETS, "ray", "optuna", "pandas", "numpy", "sklearn", "pydantic"})
    code = f"import sys, launch.cli, launch.cli.commands; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_no_file_is_longer_than_one_idea(path: Path) -> None:
    """Past 250 lines a file is named at the end of the tests (see conftest.py): nobody folds lines to fit."""
    num_lines = len(path.read_text().splitlines())
    assert num_lines <= MAX_LINES, f"{relative(path)} has {num_lines} lines: past {MAX_LINES} it is two ideas, split it"


def test_no_file_is_a_drawer_for_everything() -> None:
    assert [relative(path) for path in FILES if path.stem in ("utils", "util", "helpers", "misc")] == []


READ_IN_ONE_WAY = ("json.loads(", "json.load(", "yaml.safe_load(", "yaml.load(", "np.load(")
READERS = {
    "visionsweep/core/files.py",
    "trainables/data/cache.py",
    "trainables/data/cache_stack.py",  # a damaged cache is built again, whatever it raises
    "trainables/models/single_image.py",  # what it has just written itself
}


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_files_that_others_may_have_written_are_read_in_one_way(path: Path) -> None:
    found = [call for call in READ_IN_ONE_WAY if call in path.read_text()]
    assert relative(path) in READERS or not found, (
        f"{found}: visionsweep/core/files.py reads it, in a sentence where it cannot"
    )
