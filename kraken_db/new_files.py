"""Files written beside their place and then put there: never through a link, never into another's file.

In a folder that others may write into, somebody can lay a link under a name that we are about to use. What
was opened through it would be any file that we may write.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)


def create(path: Path, mode: int = 0o666) -> IO[bytes]:
    """A new file to write into. A file of ours that is there, of a run that was killed, is taken away.

    ``mode``: its rights at most. Raises OSError; FileExistsError where there is something else: a link, or
    another user's file.
    """
    try:
        fd = os.open(path, _FLAGS, mode)
    except FileExistsError:
        if not _is_ours(path):
            said = "a link, or another user's file, is in the way: take it away"
            raise FileExistsError(errno.EEXIST, said, str(path)) from None
        path.unlink()
        fd = os.open(path, _FLAGS, mode)
    return os.fdopen(fd, "wb")


@contextmanager
def replacing(path: Path, beside: Path, mode: int = 0o666) -> Iterator[IO[bytes]]:
    """``create(beside, mode)``, put in the place of ``path`` at the end of the block: whole, or not at all.

    Raises OSError. A link at ``path`` is replaced, not followed.
    """
    file = create(beside, mode)
    try:
        with file:
            yield file
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def is_plain_file(path: Path) -> bool:
    """Whether it is a file, and not a link to one, nor a pipe or a device that would be waited for."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except OSError:
        return False


def _is_ours(path: Path) -> bool:
    found = path.lstat()
    return stat.S_ISREG(found.st_mode) and (os.name == "nt" or found.st_uid == os.geteuid())
