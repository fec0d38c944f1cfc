"""Keeps the password of ``--db-url`` out of the list of processes, which every user of a machine can read."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from urllib.parse import urlsplit

_OPTION = "--db-url"


def hide_password() -> None:
    """Start this program again with the address in its environment, if its arguments hold a password.

    The environment of a process can be read by its own user only. Returns where there is nothing to hide.
    """
    words, url = without_password(sys.orig_argv)
    if url is None or os.name == "nt":
        return
    os.environ["DATABASE_URL"] = url
    os.execv(sys.executable, [sys.executable, *words[1:]])  # noqa: S606 (our own command line)


def without_password(words: Sequence[str]) -> tuple[list[str], str | None]:
    """The arguments without ``--db-url``, and the address, if that has a password; else as they were."""
    kept: list[str] = []
    url: str | None = None
    rest = iter(words)
    for word in rest:
        if word == _OPTION:
            value = next(rest, None)
            if value is not None and _has_password(value):
                url = value
                continue
            kept.extend([word] if value is None else [word, value])
        elif word.startswith(f"{_OPTION}=") and _has_password(word):
            url = word.partition("=")[2]
        else:
            kept.append(word)
    return kept, url


def _has_password(text: str) -> bool:
    try:
        return bool(urlsplit(text.partition("=")[2] if text.startswith("--") else text).password)
    except ValueError:
        # What cannot be read may hold one all the same.
        return "@" in text
