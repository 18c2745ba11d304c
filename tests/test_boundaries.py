"""The rooms and the direction between them, held by reading the imports of every file."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("search_spaces", "trainables", "launch", "analysis")
FILES = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))
MAX_LINES = 400  # past it a file is two ideas

TORCH = {"torch", "torchvision", "torchmetrics", "timm", "albumentations", "cv2", "segmentation_models_pytorch"}
PLOTS = {"plotly", "matplotlib"}
TERMINAL = {"typer", "rich"}
BUCKETS = {"boto3", "botocore"}

# What a room never imports: top-level packages, or modules of ours.
FORBIDDEN = {
    "trainables": {"optuna", "ray", "launch", "analysis", "search_spaces", *PLOTS, *TERMINAL, *BUCKETS},
    "launch": {"torchmetrics", "trainables.losses", *PLOTS, *BUCKETS},
    "analysis": {"ray", "optuna", "launch", "trainables", *TORCH, *BUCKETS},
}
# And what it does import in spite of that: everywhere (*), or in one file only.
ALLOWED = {
    "trainables/*": {"search_spaces.errors", "search_spaces.names"},
    "analysis/*": {"trainables.files", "trainables.safe_path", "trainables.writing"},
    "trainables/trainable.py": {"ray"},
    "trainables/s3_client.py": BUCKETS,
    **{
        f"analysis/{name}.py": {"trainables", *TORCH}
        for name in (
            # Exports, and what goes with them.
            *("export", "ensemble_export", "handover", "manifest", "graphs", "preprocessing", "resizing"),
            *(
                "exported",
                "predict",
                "evaluate",
                "judged_data",
                "bootstrap",
                "run_source",
            ),  # an exported model's predictions and scores
            *(
                "bench",
                "ensemble",
                "kept",
                "kept_means",
                "folded",
                "held_out",
                "soup",
                "soup_export",
                "solved_again",
                "recommend",
                "embeddings",
                "overlays",
            ),
        )
    },
    # What judges a finished study. Not what searches: samplers, pruners, storages.
    "analysis/importance.py": {
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
    """The imports of `file` (a path such as 'launch/run.py') that its room does not know of."""
    room, package = file.partition("/")[0], ".".join(Path(file).parent.parts)
    names = list(imports(source, package))
    if room == "search_spaces":  # plain data: the standard library and itself
        return [name for name in names if name.partition(".")[0] not in {*sys.stdlib_module_names, room}]
    allowed = ALLOWED.get(f"{room}/*", set()) | ALLOWED.get(file, set())
    return [name for name in names if _below(name, FORBIDDEN[room]) and not _below(name, allowed)]


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
        ("search_spaces/search.py", "import math\nfrom . import names\nfrom search_spaces.names import pick", []),
        ("trainables/loop.py", "import ray", ["ray"]),
        ("trainables/models/heads.py", "from ray import tune", ["ray.tune"]),
        ("trainables/trainable.py", "from ray import tune\nimport ray", []),
        ("trainables/trainable.py", "import optuna", ["optuna"]),
        ("trainables/data/cache.py", "from launch.run import start", ["launch.run.start"]),
        ("trainables/data/cache.py", "from analysis import load", ["analysis.load"]),
        ("trainables/s3.py", "import boto3", ["boto3"]),
        ("trainables/s3_client.py", "from botocore.config import Config", []),
        ("launch/remote/mirror.py", "import boto3", ["boto3"]),
        ("trainables/tasks.py", "from search_spaces.search import METRICS", ["search_spaces.search.METRICS"]),
        ("trainables/tasks.py", "from search_spaces import search", ["search_spaces.search"]),
        ("trainables/tasks.py", "from search_spaces.names import pick\nfrom search_spaces import errors", []),
        ("launch/run.py", "if True:\n    import plotly.express as px", ["plotly.express"]),
        ("launch/run.py", "from trainables import losses", ["trainables.losses"]),
        ("launch/run.py", "import ray, optuna, torch\nfrom analysis.load import load_run", []),
        ("analysis/load.py", "import torch.nn", ["torch.nn"]),
        ("analysis/load.py", "from trainables.config import TrialConfig", ["trainables.config.TrialConfig"]),
        ("analysis/predict.py", "import torch\nfrom trainables.config import TrialConfig", []),
        ("analysis/predict.py", "import optuna\nimport ray\nimport launch", ["optuna", "ray", "launch"]),
        ("analysis/rank.py", "import torchlike\nimport rayon", []),
        (
            "analysis/rank.py",
            "from optuna.importance import get_param_importances",
            ["optuna.importance.get_param_importances"],
        ),
        ("analysis/importance.py", "from optuna.importance import get_param_importances", []),
        ("analysis/importance.py", "from optuna import samplers, logging", ["optuna.samplers"]),
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


def test_the_command_line_imports_nothing_heavy_until_a_command_is_called() -> None:
    names: set[str] = set()
    light = (
        "launch.options",
        "launch.cli_",
        "launch.commands",
        "launch.hidden",
        "launch.machines.token",
        "launch.option_hints",
        "launch.slow",
    )
    for part in (
        "cli",
        "commands",
        "hidden",
        "cli_search",
        "cli_models",
        "cli_evaluate",
        "cli_show",
        "cli_report",
        "cli_jobs",
        "cli_after",
        "options",
        "machines/token",
        "option_hints",
        "slow",
    ):
        names |= set(imports_at_import_time((ROOT / f"launch/{part}.py").read_text()))
    names = {name for name in names if not name.startswith(light)}
    known = {*sys.stdlib_module_names, "typer", "search_spaces"}
    assert {name for name in names if name.partition(".")[0] not in known} == set()


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
    code = f"import sys, launch.cli, launch.commands; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_no_file_is_longer_than_one_idea(path: Path) -> None:
    num_lines = len(path.read_text().splitlines())
    assert num_lines <= MAX_LINES, f"{relative(path)} has {num_lines} lines: past {MAX_LINES} it is two ideas, split it"


def test_no_file_is_a_drawer_for_everything() -> None:
    assert [relative(path) for path in FILES if path.stem in ("utils", "util", "helpers", "misc")] == []


READ_IN_ONE_WAY = ("json.loads(", "json.load(", "yaml.safe_load(", "yaml.load(", "np.load(")
READERS = {
    "trainables/files.py",
    "trainables/data/cache.py",
    "trainables/data/cache_stack.py",  # a damaged cache is built again, whatever it raises
    "trainables/models/single_image.py",  # what it has just written itself
}


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_files_that_others_may_have_written_are_read_in_one_way(path: Path) -> None:
    found = [call for call in READ_IN_ONE_WAY if call in path.read_text()]
    assert relative(path) in READERS or not found, (
        f"{found}: trainables/files.py reads it, in a sentence where it cannot"
    )
