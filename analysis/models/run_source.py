"""Trusted source of a run's data, since a run may be somebody else's.

search.json says where the data was, and where decoded images were kept. Both are used as they are only for a run of the
user's own. Such a run carries a seal that nobody else can make: a digest of the two with a key in the user's own state
folder.

For any other run, decoded images go to this user's cache folder. Data that would have to be fetched is fetched only
from where the user names it again. A local folder is read, and used if its fingerprint is the run's.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainables.data.cache import default_cache_dir
from trainables.data.there import FETCHED
from visionsweep.core.errors import RunError
from visionsweep.run_dir.shapes import cache_dir_of, is_text, value_at

SEAL = "seal"


def sealed(search: Mapping[str, Any]) -> dict[str, Any]:
    """Return search.json with the seal of this user, who started the run. There is no seal if no key can be kept."""
    key = _key(make=True)
    return {**search, SEAL: None if key is None else _seal(search, key)}


def is_own(search: Mapping[str, Any]) -> bool:
    """Return whether this user started the run, and the paths of its data are unchanged."""
    key = _key(make=False)
    seal = search.get(SEAL)
    return key is not None and is_text(seal) and hmac.compare_digest(_seal(search, key).encode(), str(seal).encode())


def source_of(search: Mapping[str, Any], named: str | None = None) -> tuple[str, Path | None]:
    """Return where to read the data of a run, and where decoded images are kept, None for nowhere.

    `named` is the path that the user gives with --data. Raises RunError if the data would have to be fetched from where
    somebody else's search.json says.
    """
    own = is_own(search)
    spec = named or str(value_at(search, "options.data"))
    if named is None and not own and spec.lower().startswith(FETCHED):
        raise RunError(
            f"this run was not started by you on this machine, and its data would be fetched from {spec}. "
            f"If you trust that, add --data {spec}."
        )
    return spec, cache_of(search)


def cache_of(search: Mapping[str, Any]) -> Path | None:
    """Return where decoded images of a run are kept: where its search.json says, if it is the user's own."""
    return cache_dir_of(search) if cache_dir_of(search) is None or is_own(search) else default_cache_dir()


def with_cache_dir(search: Mapping[str, Any], cache_dir: str | None) -> dict[str, Any]:
    """Return search.json with another cache folder, for a run that is read on this machine.

    A run of the user's own stays sealed.
    """
    moved = {**search, "options": {**search.get("options", {}), "cache_dir": cache_dir}}
    return sealed(moved) if is_own(search) else moved


def _seal(search: Mapping[str, Any], key: bytes) -> str:
    options = search.get("options", {})
    text = json.dumps([options.get("data"), options.get("cache_dir")])
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


def _key(*, make: bool) -> bytes | None:
    """Return the user's key, made first if `make`. None if it cannot be kept, or others could write it."""
    path = state_dir() / "key"
    with contextlib.suppress(OSError):
        if make and not path.exists():
            _make_key(path)
        with path.open("rb") as file:
            is_mine = os.fstat(file.fileno()).st_uid == os.geteuid()
            key = file.read(65).strip()
        return key if is_mine and len(key) == 64 else None
    return None


def _make_key(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    made = path.with_name(f"key.{os.getpid()}.partial")
    try:
        descriptor = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(32))
        with contextlib.suppress(FileExistsError):
            os.link(made, path)  # atomic, and if another process was faster, its key stays
    finally:
        made.unlink(missing_ok=True)


def state_dir() -> Path:
    """Return $XDG_STATE_HOME/visionsweep, or ~/.local/state/visionsweep."""
    named = os.environ.get("XDG_STATE_HOME", "")
    home = Path(named) if named.startswith("/") else Path(os.path.expanduser("~")) / ".local" / "state"
    return home / "visionsweep"
