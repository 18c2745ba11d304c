"""Ray's token: the key to running code on its machines. Knows nothing of ray, which reads the environment at import."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
import sys
from pathlib import Path

from search_spaces.errors import ConfigError


def use_token() -> None:
    """Have Ray show the token that there is to whatever cluster is joined; a local Ray makes one where there is none.

    Ray 2.60 turns tokens on for what it starts, and shows none to what it joins unless told so before it is imported.
    """
    if "ray" in sys.modules:
        return  # too late: it has read the environment, and would now contradict itself
    if "RAY_AUTH_TOKEN" in os.environ or _is_there():
        os.environ.setdefault("RAY_AUTH_MODE", "token")


def make_token() -> None:
    """The file that Ray would make itself, readable for all until it is closed: made closed."""
    if "RAY_AUTH_TOKEN" in os.environ or os.environ.get("RAY_AUTH_MODE") == "disabled" or _is_there():
        return
    path = token_path()
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):  # another search was first
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "w") as file:
                file.write(secrets.token_hex(32))
    except OSError as error:
        raise ConfigError(
            f"Ray's token is kept in a file of its own, and {path} cannot be written ({error.strerror or error}). "
            "Set RAY_AUTH_TOKEN_PATH to a file in a folder that can be written, or set HOME."
        ) from None


def token_is_on() -> bool:
    """Whether the Ray that this process is connected to asks for a token (Ray notes it in the environment)."""
    return os.environ.get("RAY_AUTH_MODE") == "token"


def close_token_file() -> None:
    """One that an older Ray has written is readable for all."""
    if not _is_there():
        return
    token = token_path()
    try:
        if stat.S_IMODE(token.stat().st_mode) & 0o077:
            token.chmod(0o600)
    except OSError as error:
        raise ConfigError(
            f"Ray's token is the user's alone, and others can read {token} ({error.strerror or error}). "
            f"Run `chmod 600 {token}`, or set RAY_AUTH_TOKEN_PATH to another file."
        ) from None


def token_path() -> Path:
    """Raises ConfigError where the user has no home folder."""
    named = os.environ.get("RAY_AUTH_TOKEN_PATH")
    try:
        return Path(named) if named else Path.home() / ".ray" / "auth_token"
    except RuntimeError:  # a container's user without a name
        raise ConfigError(
            "Ray's token is kept in the user's home folder, and this user has none. "
            "Set HOME, or RAY_AUTH_TOKEN_PATH to a file in a folder that can be written."
        ) from None


def _is_there() -> bool:
    """Whether there is a token's file; one in a folder that must not be looked into is none."""
    try:
        return token_path().is_file()
    except (OSError, ConfigError):
        return False
