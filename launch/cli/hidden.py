"""Files of the user's that Python finds before this package and its libraries.

Only Python's own modules are imported here: any other could be the one that is hidden.
"""

from __future__ import annotations

import sys
from importlib.machinery import PathFinder
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROOMS = ("analysis", "launch", "search_spaces", "trainables", "visionsweep")
LIBRARIES = (
    "PIL", "albumentations", "boto3", "botocore", "cmaes", "cv2", "filelock", "grpc", "huggingface_hub", "jinja2",
    "numpy", "optuna", "pandas", "plotly", "pydantic", "ray", "rich", "safetensors", "scipy",
    "segmentation_models_pytorch", "sklearn", "timm", "torch", "torchmetrics", "torchvision", "typer", "yaml",
)  # fmt: skip
# Imported before Python looks into any folder, so nothing hides them.
LOADED_FIRST = {*sys.builtin_module_names, "abc", "codecs", "encodings", "io", "os", "posixpath", "site", "stat"}


def what_hides() -> str | None:
    """Return a sentence if a module in the current folder hides one of ours or of a library, else None.

    It does if Python looks there first: with `python -m`, or by PYTHONPATH. The installed command `visionsweep` does
    not.
    """
    here = Path.cwd()
    for name in ROOMS:
        found = _found(name, [entry or str(here) for entry in sys.path])
        if found is not None and found.parent != ROOT:
            return _hides(found, name)
    if here != ROOT and ("" in sys.path or str(here) in sys.path):
        for name in (*LIBRARIES, *sorted(sys.stdlib_module_names - LOADED_FIRST)):
            found = _found(name, [str(here)])
            if found is not None:
                return _hides(found, name)
    return None


def neighbour_that_hides(search: Path) -> str | None:
    """Return a sentence if a file beside a search hides one of our modules or of a library, else None.

    The search has been loaded, and has imported that file in the place of ours.
    """
    folder = search.resolve().parent
    for name in (*ROOMS, *LIBRARIES):
        file = getattr(sys.modules.get(name), "__file__", None)
        if file is not None and folder != ROOT and _module_file(Path(file)).parent == folder:
            del sys.modules[name]
            return _hides(_module_file(Path(file)), name)
    return None


def _found(name: str, path: list[str]) -> Path | None:
    """Return the file or folder that `import name` would take from `path`."""
    spec = PathFinder.find_spec(name, path)
    return None if spec is None or not spec.has_location or spec.origin is None else _module_file(Path(spec.origin))


def _module_file(origin: Path) -> Path:
    return (origin.parent if origin.stem == "__init__" else origin).resolve()


def _hides(found: Path, name: str) -> str:
    whose = "visionsweep's own package" if name in ROOMS else "the library"
    return (
        f"{found} hides {whose} '{name}': Python finds it first. Rename it, or run `visionsweep` (not `python -m`, no "
        "current folder in PYTHONPATH)."
    )
