"""Checks that no other account of the machine can replace a signing key."""

import os
import stat
from pathlib import Path

from eventboard.modules.auth.keys import KeyFileError


def check_permissions(path: Path) -> None:
    """Raises KeyFileError where everybody may write a key or its folder. A missing path is ignored.

    A group may write: a volume of Kubernetes belongs to one. What is mounted read-only passes, whatever its mode:
    Compose and Kubernetes mount secrets so.
    """
    try:
        if path.is_dir():
            # Anybody who can add a key can sign with it, so the sticky bit of a shared folder doesn't suffice.
            _check(path, sticky_suffices=False)
            for file in path.glob("*.pem"):
                _check(file, sticky_suffices=False)
        elif path.exists():
            _check(path.parent, sticky_suffices=True)
            _check(path, sticky_suffices=False)
    except OSError as error:
        raise KeyFileError(f"{path}: no signing key can be read: {error}") from None


def _check(path: Path, *, sticky_suffices: bool) -> None:
    mode = path.stat().st_mode
    if not mode & stat.S_IWOTH or (sticky_suffices and mode & stat.S_ISVTX):
        return
    if os.statvfs(path).f_flag & os.ST_RDONLY:
        return
    raise KeyFileError(f"{path}: everybody may write to it, so anybody could sign tokens; `chmod o-w` it")
