"""Where Ray 2.60 takes no setting, and keeps or adds what a search must not have."""

from __future__ import annotations

import site
from pathlib import Path

from ray import _raylet
from ray.job_config import JobConfig

import search_spaces


class OurCode(JobConfig):  # type: ignore[misc]
    """Which code Ray's workers look for first: this package's. Ray itself would add the current folder, where a file
    called torch.py or a folder called launch would then stand in the place of what it hides."""

    @classmethod
    def config(cls) -> OurCode:
        root = str(Path(search_spaces.__file__).parents[1])
        return cls(_py_driver_sys_path=[] if root in site.getsitepackages() else [root])

    def _runtime_env_has_working_dir(self) -> bool:
        return True  # what keeps Ray from adding it


def forget_token() -> None:
    """Ray reads its token once in a process, and this one may come to use another Ray."""
    _raylet.AuthenticationTokenLoader.instance().reset_cache()  # type: ignore[attr-defined]
