"""Keeps the password of ``--db-url`` out of the list of processes, which every user of a machine can read."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from urllib.parse import unquote, urlsplit

_OPTION = "--db-url"
_PACKAGE = __name__.partition(".")[0]


def hide_password(arguments: Sequence[str] | None = None) -> None:
    """Start this program again with the address in its environment, if its arguments hold a password.

    The environment of a process can be read by its own user only. Returns where there is nothing to hide,
    and where the process is not ours: a program that passes ``arguments`` of its own.
    """
    if os.name == "nt" or not _is_ours(arguments):
        return
    words, url = without_password(sys.orig_argv)
    if words == sys.orig_argv:
        return
    if url is not None:
        os.environ["DATABASE_URL"] = url
    os.execv(sys.executable, [sys.executable, *words[1:]])  # noqa: S606 (our own command line)


def _is_ours(arguments: Sequence[str] | None) -> bool:
    """Whether the process is this command line: ``kraken-db``, or ``python -m`` of a module in here."""
    given = sys.argv[1:]
    if given and sys.orig_argv[-len(given) :] != given:
        return False
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    return arguments is None or (spec is not None and spec.name.startswith(f"{_PACKAGE}."))


def without_password(words: Sequence[str]) -> tuple[list[str], str | None]:
    """The arguments without the passwords in ``--db-url``; the address, if it is gone from them with its own.

    As everywhere on the command line, the last address counts, and ``--`` ends the options.
    """
    parts = _split(words)
    urls = [url for _, url in parts if url is not None]
    address = urls[-1] if urls and _has_password(urls[-1]) else None
    kept: list[str] = []
    for part, url in parts:
        if url is None or (address is None and not _has_password(url)):
            kept.extend(part)
    return kept, address


def _split(words: Sequence[str]) -> list[tuple[Sequence[str], str | None]]:
    """The arguments one by one, each ``--db-url`` together with its value."""
    parts: list[tuple[Sequence[str], str | None]] = []
    at = 0
    while at < len(words):
        word = words[at]
        if word == "--":
            parts.append((words[at:], None))
            break
        if word == _OPTION and at + 1 < len(words):
            parts.append((words[at : at + 2], words[at + 1]))
            at += 1
        elif word.startswith(f"{_OPTION}="):
            parts.append(([word], word.partition("=")[2]))
        else:
            parts.append(([word], None))
        at += 1
    return parts


def _has_password(url: str) -> bool:
    # Among the parameters, libpq knows password and sslpassword.
    if "password=" in unquote(url).lower():
        return True
    try:
        return bool(urlsplit(url).password)
    except ValueError:
        # What cannot be read may hold one all the same.
        return "@" in url
