"""Ray's token: the key to running code on its machines. Knows nothing of ray, which reads the environment at import."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
import sys
from pathlib import Path


def use_token() -> None:
    """Have Ray show the token that there is to whatever cluster is joined; a local Ray makes one where there is none.

    Ray 2.60 turns tokens on for what it starts, and shows none to what it joins unless told so before it is imported.
    """
    if "ray" in sys.modules:
        return  # too late: it has read the environment, and would now contradict itself
    if "RAY_AUTH_TOKEN" in os.environ or token_path().is_file():
        os.environ.setdefault("RAY_AUTH_MODE", "token")


def make_token() -> None:
    """The file that Ray would make itself, readable for all until it is closed: made closed."""
    path = token_path()
    if "RAY_AUTH_TOKEN" in os.environ or os.environ.get("RAY_AUTH_MODE") == "disabled" or path.exists():
        return
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):  # another search was first
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w") as file:
            file.write(secrets.token_hex(32))


def token_is_on() -> bool:
    """Whether the Ray that this process is connected to asks for a token (Ray notes it in the environment)."""
    return os.environ.get("RAY_AUTH_MODE") == "token"


def close_token_file() -> None:
    """One that an older Ray has written is readable for all."""
    token = token_path()
    if token.is_file() and stat.S_IMODE(token.stat().st_mode) & 0o077:
        token.chmod(0o600)


def token_path() -> Path:
    return Path(os.environ.get("RAY_AUTH_TOKEN_PATH", Path.home() / ".ray" / "auth_token"))
