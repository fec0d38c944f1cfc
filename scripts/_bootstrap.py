"""From a bare clone to a virtual environment with this package in it: what the scripts here share.

Standard library only, and no syntax newer than Python 3.8: an old Python must get as far as the message that
says it is too old.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, NoReturn

ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / ".venv"
BIN = VENV / ("Scripts" if os.name == "nt" else "bin")
PYTHON = BIN / ("python.exe" if os.name == "nt" else "python")
WORKERS = ["-n", "3", "--dist", "loadfile", "--no-loadscope-reorder"]
"""Of pytest. More than the cores of a small machine: many tests wait, for a server or the end of a minute. In
their order, so that the longest ones, of whole commands, come first, and the shortest at the end."""
_STAMP = VENV / "installed.json"
_OLDEST = (3, 11)
_VERSION = "{}.{}".format(*sys.version_info)


def ensure(extra: str) -> None:
    """Make sure that ``.venv`` holds this package with the extra, and nothing has changed since."""
    _check_python()
    # Containers often have this: every process of ours would compile all its modules again.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    with _only_one():
        stamp = _read_stamp()
        wanted = _fingerprint()
        if stamp.get("fingerprint") != wanted or not _works():
            stamp = {"fingerprint": wanted, "extras": []}
        if extra in stamp["extras"]:
            return
        if not _works():
            with step("Making a virtual environment in .venv"):
                _make_venv()
        with step(f"Installing kraken-db with [{extra}] and what it needs"):
            pip = [
                str(PYTHON),
                "-m",
                "pip",
                "--disable-pip-version-check",
                "--no-input",
                "install",
                "--quiet",
            ]
            _quietly([*pip, "--editable", f"{ROOT}[{extra}]"], "installing")
        stamp["extras"].append(extra)
        _STAMP.write_text(json.dumps(stamp))


def ensure_browser() -> None:
    """Have a Chromium for the tests of our pages, if that can be had. Without one they are skipped."""
    code = "from tests.support.browsers import find; raise SystemExit(find() is None)"
    if subprocess.run([str(PYTHON), "-c", code], cwd=ROOT, check=False).returncode == 0:
        return
    ways = [[str(PYTHON), "-m", "playwright", "install", "chromium"]]
    if shutil.which("apt-get") and hasattr(os, "geteuid") and os.geteuid() == 0:
        ways.insert(0, ["apt-get", "install", "-qq", "-y", "--no-install-recommends", "chromium"])
    with step("Installing Chromium, for the tests of pages"):
        for command in ways:
            done = subprocess.run(
                command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
            )
            if done.returncode == 0:
                return
        print("  it cannot be had here: those tests are skipped")


@contextlib.contextmanager
def step(what: str) -> Iterator[None]:
    """Say what is being done, and how long it took."""
    started = time.monotonic()
    print(f"{what} ...", flush=True)
    yield
    print(f"  done in {time.monotonic() - started:.0f} s", flush=True)


def fail(problem: str, *advice: str) -> NoReturn:
    raise SystemExit("\n".join(["error: " + problem, *advice]))


def _check_python() -> None:
    if sys.version_info < _OLDEST:
        fail(
            f"this is Python {_VERSION} ({sys.executable}); kraken-db needs 3.11 or newer",
            f"If you have a newer one, name it: python3.12 {sys.argv[0]}",
        )


def _make_venv() -> None:
    # Debian and Ubuntu ship Python without these two, as a package of their own.
    if not importlib.util.find_spec("venv") or not importlib.util.find_spec("ensurepip"):
        fail(
            f"this Python ({sys.executable}) cannot make virtual environments: venv or ensurepip is missing",
            f"On Debian and Ubuntu: apt install python{_VERSION}-venv",
        )
    if VENV.exists():
        shutil.rmtree(VENV)
    _quietly([sys.executable, "-m", "venv", str(VENV)], "making the virtual environment")


def _works() -> bool:
    """Whether .venv has the version of this Python; one that was copied or half made has not."""
    if not PYTHON.exists():
        return False
    code = "import sys, pip; print(sys.prefix, '%d.%d' % sys.version_info[:2], sep='\\n')"
    done = subprocess.run([str(PYTHON), "-c", code], capture_output=True, text=True, check=False)
    return done.stdout.splitlines() == [str(VENV), _VERSION]


def _fingerprint() -> str:
    return hashlib.sha256((ROOT / "pyproject.toml").read_bytes() + str(ROOT).encode()).hexdigest()


def _read_stamp() -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(_STAMP.read_text())
        return found
    except (OSError, ValueError):
        return {}


def _quietly(command: list[str], doing: str) -> None:
    done = subprocess.run(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if done.returncode:
        print(done.stdout, file=sys.stderr)
        fail(f"{doing} failed (exit code {done.returncode}); the reason is above")


@contextlib.contextmanager
def _only_one() -> Iterator[None]:
    """Two scripts at once would install into the same place: the second waits for the first."""
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    cache = ROOT / ".cache"
    try:
        cache.mkdir(exist_ok=True)
        lock = (cache / "bootstrap.lock").open("w")
    except OSError as error:
        fail(
            f"cannot write to {ROOT}: {error.strerror}",
            "The checkout must belong to the user who runs this.",
        )
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
