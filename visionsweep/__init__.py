"""visionsweep finds the best way to train an image classifier or a segmenter on your own data.

    import visionsweep as vs

    SEARCH = vs.Search(task="classification", space={"optimizer": {"name": "sgd", "lr": vs.Float(1e-3, 0.1, log=True)}})
    run = vs.search("photos", SEARCH, budget="20m")
    model = run.export("exports/mine")
    model.predict("new/*.jpg")

A name is fetched when it is used (PEP 562). Importing this package loads none of the rooms.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from analysis.from_python import compare, expected, importance, ranking, report
    from analysis.models.loaded import load_model
    from launch.python.export import export
    from launch.python.labels import labels
    from launch.python.refit import refit
    from launch.python.resume import resume
    from launch.python.search import search
    from search_spaces import Branch, Float, Int, Maybe, Pick, Search, recipe
    from visionsweep.run_dir.load import load_run

__all__ = [
    "Branch", "Float", "Int", "Maybe", "Pick", "Search", "__version__", "compare", "expected", "export", "importance",
    "labels", "load_model", "load_run", "ranking", "recipe", "refit", "report", "resume", "search",
]  # fmt: skip
__version__: str

# Public name -> the module that holds it.
_MODULES = {
    **dict.fromkeys(("Branch", "Float", "Int", "Maybe", "Pick", "Search", "recipe"), "search_spaces"),
    **dict.fromkeys(("compare", "expected", "importance", "ranking", "report"), "analysis.from_python"),
    "export": "launch.python.export",
    "labels": "launch.python.labels",
    "load_model": "analysis.models.loaded",
    "load_run": "visionsweep.run_dir.load",
    "refit": "launch.python.refit",
    "resume": "launch.python.resume",
    "search": "launch.python.search",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        value = _version()
    elif name in _MODULES:
        value = getattr(import_module(_MODULES[name]), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("visionsweep")
    except PackageNotFoundError:  # a checkout that nobody installed
        return "unknown"
