"""Ray's authentication token, the key to running code on its machines.

This module must not import ray, which reads the environment at import.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

VARIABLE = "RAY_AUTH_TOKEN"


def use_token() -> None:
    """Have Ray present this machine's token to any cluster that it joins.

    Ray 2.60 uses tokens for what it starts. It presents none to what it joins, unless set to before it is imported.
    """
    if "ray" in sys.modules:
        return  # too late: Ray has read the environment, and would now contradict itself
    if has_token():
        os.environ.setdefault("RAY_AUTH_MODE", "token")


def has_token() -> bool:
    """Whether this machine has a token."""
    path = token_path()
    return VARIABLE in os.environ or (path is not None and _is_file(path))


@contextlib.contextmanager
def own_token() -> Iterator[None]:
    """Set a new token for a private Ray, in the environment of its processes. No file is written.

    A token that the environment names is kept.
    """
    if VARIABLE in os.environ or os.environ.get("RAY_AUTH_MODE") == "disabled":
        yield
        return
    os.environ[VARIABLE] = secrets.token_hex(32)
    try:
        yield
    finally:
        os.environ.pop(VARIABLE, None)


def token_is_on() -> bool:
    """Whether the connected Ray asks for a token (Ray notes it in the environment)."""
    return os.environ.get("RAY_AUTH_MODE") == "token"


def close_token_file() -> None:
    """Make a token file private that an older Ray has written readable for all."""
    token = token_path()
    with contextlib.suppress(OSError):  # somebody else's, or a file system that is read-only
        if token is not None and token.is_file() and stat.S_IMODE(token.stat().st_mode) & 0o077:
            token.chmod(0o600)


def token_path() -> Path | None:
    """Return the path of a cluster's token on this machine, or None for a user without a home."""
    named = os.environ.get("RAY_AUTH_TOKEN_PATH")
    if named is not None:
        return Path(named)
    try:
        return Path.home() / ".ray" / "auth_token"
    except RuntimeError:
        return None


def _is_file(path: Path) -> bool:
    """Return whether a path is a file, False in a folder that may not be entered."""
    try:
        return path.is_file()
    except OSError:
        return False
