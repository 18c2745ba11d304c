"""The rooms and the direction between them, held by reading the imports of every file."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Container, Iterator
from graphlib import CycleError, TopologicalSorter
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
    "visionsweep/run_dir/run.py": {"pandas"},
    "trainables/worker/trainable.py": {"ray"},
    "trainables/worker/door.py": {"ray"},
    # Exports, what an exported model says and how well, and which of a run's models are recommended.
    "analysis/models/*": {"trainables", *TORCH},
    "analysis/figures/batches.py": {"trainables", *TORCH},
    "analysis/figures/embeddings.py": {"trainables", *TORCH},
    "analysis/report/look.py": {"trainables"},  # before there is a run: from the data itself
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
    return imports_at_run_time(source, in_functions=False)


def imports_at_run_time(source: str, *, in_functions: bool = True) -> Iterator[str]:
    """Those outside of `if TYPE_CHECKING`."""
    waiting: list[ast.AST] = [ast.parse(source)]
    while waiting:
        node = waiting.pop()
        yield from _imported(node)
        is_typing_only = isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
        if isinstance(node, ast.If) and is_typing_only:
            waiting.extend(node.orelse)
        elif in_functions or not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
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
        ("visionsweep/run_dir/run.py", "import pandas\nfrom visionsweep.run_dir.shown import run_line", []),
        (
            "visionsweep/run_dir/run.py",
            "def compare():\n    from analysis.figures import compare",
            ["analysis.figures.compare"],
        ),
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


def circle_of(sources: dict[str, str]) -> list[str]:
    """Return the files of a circle of imports, in functions too, the first one again at its end. Empty: there is none.

    sources: by their paths. What a file imports for types alone makes no circle.
    """
    graph = {
        file: {other for name in imports_at_run_time(source) if (other := _file_of(name, sources)) not in (None, file)}
        for file, source in sources.items()
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        circle: list[str] = error.args[1]
        return circle
    return []


def _file_of(name: str, files: Container[str]) -> str | None:
    """Return the file that an imported name is, or is in."""
    while name:
        path = name.replace(".", "/")
        for file in (f"{path}.py", f"{path}/__init__.py"):
            if file in files:
                return file
        name = name.rpartition(".")[0]
    return None


def test_no_file_imports_itself_in_a_roundabout_way() -> None:
    assert circle_of({relative(path): path.read_text() for path in FILES}) == []


def test_a_circle_of_imports_is_found_in_functions_and_through_other_rooms() -> None:
    sources = {
        "visionsweep/run_dir/run.py": "def compare():\n    from analysis.figures.compare import compare",
        "analysis/figures/compare.py": "from analysis import figures\nfrom analysis.figures.style import BLUE",
        "analysis/figures/style.py": "import visionsweep.run_dir.run",
        "analysis/figures/__init__.py": "",
    }
    assert set(circle_of(sources)) == {*sources} - {"analysis/figures/__init__.py"}
    for_types = "if TYPE_CHECKING:\n    import visionsweep.run_dir.run"
    assert circle_of({**sources, "analysis/figures/style.py": for_types}) == []


COMMAND_LINE = (
    *(f"launch.cli.{name}" for name in ("app", "commands", "hidden", "option_groups", "option_hints", "options")),
    *(f"launch.cli.{name}" for name in ("search_options", "slow")),
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


PATHS_OF_A_RUN = (
    "search.json",
    "trials.jsonl",
    "epochs.jsonl",
    "best.yaml",
    "study.journal",
    "last.pt",
    "process.json",
)
ROOMS_OF_A_RUN = ("checkpoints", "predictions")
PARTS_OF_PATHS = (*(f"{room}/" for room in ROOMS_OF_A_RUN), "epoch-")
# Files that mean something else by such a word.
OTHER_PATHS = {
    "visionsweep/run_dir/files.py",
    "launch/python/process.py",  # the search that Python hands to its command
    "trainables/models/weights.py",  # torch's hub has a folder of that name
    "analysis/models/predict.py",  # where predictions are written by default
}


def spelled_paths(source: str) -> list[str]:
    """Return the paths of a run, or parts of them, that a source spells. Its docstrings and sentences may."""
    words = (node.value for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Constant))
    return [
        word
        for word in words
        if isinstance(word, str)
        and (word in (*PATHS_OF_A_RUN, *ROOMS_OF_A_RUN) or (" " not in word and any(p in word for p in PARTS_OF_PATHS)))
    ]


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_a_path_of_a_run_is_spelled_once(path: Path) -> None:
    assert relative(path) in OTHER_PATHS or spelled_paths(path.read_text()) == [], "visionsweep/run_dir/files.py has it"


def test_a_path_that_is_spelled_again_is_found() -> None:
    source = """
def weights(run_dir, trial_id, epoch):
    \"\"\"Return RUN/checkpoints/TRIAL/epoch-0007.safetensors.\"\"\"
    print("search.json: has no metric, see predictions/0007")
    return run_dir / "checkpoints" / f"epoch-{epoch:04d}.safetensors", run_dir / f"predictions/{trial_id}/last.pt"
"""
    assert sorted(spelled_paths(source)) == ["checkpoints", "epoch-", "predictions/"]


# What others call private, by the files that touch it. None: whatever there is, with the versions it was read in.
PRIVATE: dict[str, set[str] | None] = {
    "launch/machines/ray_internals.py": None,
    "launch/samplers/optuna_internals.py": None,
    "launch/jobs/ray_client.py": {"_private"},  # in code that is sent to machines without this package
    "trainables/averaging.py": {"_foreach_lerp_"},  # torch's own optimizers stand on it
    "trainables/models/folding.py": {"_BatchNorm", "_pytree", "_version", "_C", "_get_tracing_state"},
    "trainables/data/loader_processes.py": {
        "_iterator",
        "_shutdown_workers",
        "_workers",
    },  # torch ends them in no other way
    "trainables/data/on_device/policies.py": {"_augmentation_space"},  # where torchvision has a policy's magnitudes
    "trainables/models/freezing.py": {"_BatchNorm"},
}
DOCUMENTED = {"_replace", "_exit"}  # of named tuples, and of the module os


def private_names(source: str) -> set[str]:
    """Names with an underscore in front, of objects that are not a method's own, and of what is imported."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute):
            own = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
            found |= set() if own else {node.attr}
        elif isinstance(node, ast.ImportFrom):
            found |= {*(node.module or "").split("."), *(alias.name for alias in node.names)}
        elif isinstance(node, ast.Import):
            found |= {part for alias in node.names for part in alias.name.split(".")}
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("getattr", "setattr", "hasattr", "delattr"):
            found |= {str(one.value) for one in node.args[1:2] if isinstance(one, ast.Constant)}
    return {name for name in found if name.startswith("_") and not name.startswith("__")} - DOCUMENTED


def test_what_others_call_private_is_touched_in_the_files_that_say_so() -> None:
    found = {relative(path): names for path in FILES if (names := private_names(path.read_text()))}
    assert {file: names for file, names in found.items() if PRIVATE.get(file, set()) is not None} == {
        file: names for file, names in PRIVATE.items() if names is not None
    }, "what else is touched belongs into ray_internals.py, or the like"


def test_a_private_name_would_be_found_however_it_is_reached() -> None:
    source = """
import ray._private.worker
from optuna.samplers import _tpe
class Own:
    def method(self, trial, node):
        self._mine = os._exit(trial._trial_id + trial.study._storage.get(1))
        node.child._flag = getattr(node, "_hidden", None)
        return node.__class__
"""
    assert private_names(source) == {"_private", "_tpe", "_trial_id", "_storage", "_flag", "_hidden"}


# Objects that others make half: their constructors do not take it.
HALF_MADE = {"launch/search/interrupt.py": {"late.daemon"}}
WHOLE = ("launch/search", "launch/samplers", "launch/remote")


def assigned_from_outside(source: str) -> set[str]:
    """Attributes that are assigned on anything but a method's own object."""
    found = {}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, (ast.Store, ast.Del)):
            found[ast.unparse(node)] = ast.unparse(node.value)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("setattr", "object.__setattr__", "delattr"):
            found[ast.unparse(node)] = ast.unparse(node.args[0])
    return {whole for whole, holder in found.items() if holder not in ("self", "cls")}


def test_the_objects_of_a_search_are_whole_when_they_are_made() -> None:
    files = [path for path in FILES if relative(path).startswith(WHOLE)]
    found = {relative(path): names for path in files if (names := assigned_from_outside(path.read_text()))}
    assert found == HALF_MADE, "give it to the constructor, or to a method that says what has happened"


def test_an_assignment_from_outside_would_be_found() -> None:
    source = """
class Own:
    def method(self, records, parts):
        self.mirror, records.mirror = None, parts
        records.count += 1
        parts[0].name: str = "a"
        setattr(parts, "other", 1)
        self.parts.journal = self.mirror
"""
    assert assigned_from_outside(source) == {
        "records.mirror", "records.count", "parts[0].name", "setattr(parts, 'other', 1)", "self.parts.journal",
    }  # fmt: skip


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


# Only what settles a data set's task from its labels compares names of tasks. All else asks `task_kind`.
NAMES_OF_TASKS = {"binary", "multiclass", "multilabel", "segmentation"}
SETTLES_THE_TASK = {"trainables/data/scan.py"}


def compared_tasks(source: str) -> list[str]:
    """Return the comparisons of a source with a task's name."""
    compares = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Compare)]
    constants = [{one.value for one in ast.walk(node) if isinstance(one, ast.Constant)} for node in compares]
    return [ast.unparse(node) for node, found in zip(compares, constants, strict=True) if NAMES_OF_TASKS & found]


def test_what_depends_on_the_task_asks_its_kind_and_not_its_name() -> None:
    compared = {relative(path): compared_tasks(path.read_text()) for path in FILES}
    assert {file for file, found in compared.items() if found} == SETTLES_THE_TASK
    assert compared_tasks("if run.task in ('binary', 'multiclass'): pass") == ["run.task in ('binary', 'multiclass')"]
