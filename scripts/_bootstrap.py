"""From a bare clone to a virtual environment with this package in it: what the scripts here share.

Standard library only, and no syntax newer than Python 3.8: an old Python must get as far as the message that
says it is too old.
"""

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

ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / ".venv"
BIN = VENV / ("Scripts" if os.name == "nt" else "bin")
PYTHON = BIN / ("python.exe" if os.name == "nt" else "python")
_STAMP = VENV / "installed.json"
_OLDEST = (3, 11)


def ensure(extra):
    """Make sure that ``.venv`` holds this package with the extra, and nothing has changed since."""
    _check_python()
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
        with step("Installing kraken-db with [%s] and what it needs" % extra):
            pip = [
                str(PYTHON),
                "-m",
                "pip",
                "--disable-pip-version-check",
                "--no-input",
                "install",
                "--quiet",
            ]
            _quietly([*pip, "--editable", "%s[%s]" % (ROOT, extra)], "installing")
        stamp["extras"].append(extra)
        _STAMP.write_text(json.dumps(stamp))


@contextlib.contextmanager
def step(what):
    """Say what is being done, and how long it took."""
    started = time.monotonic()
    print("%s ..." % what, flush=True)
    yield
    print("  done in %.0f s" % (time.monotonic() - started), flush=True)


def fail(problem, *advice):
    raise SystemExit("\n".join(["error: " + problem, *advice]))


def _check_python():
    if sys.version_info < _OLDEST:
        fail(
            "this is Python %d.%d (%s); kraken-db needs 3.11 or newer"
            % (*sys.version_info[:2], sys.executable),
            "If you have a newer one, name it: python3.12 %s" % sys.argv[0],
        )


def _make_venv():
    # Debian and Ubuntu ship Python without these two, as a package of their own.
    if not importlib.util.find_spec("venv") or not importlib.util.find_spec("ensurepip"):
        fail(
            "this Python (%s) cannot make virtual environments: venv or ensurepip is missing"
            % sys.executable,
            "On Debian and Ubuntu: apt install python%d.%d-venv" % sys.version_info[:2],
        )
    if VENV.exists():
        shutil.rmtree(VENV)
    _quietly([sys.executable, "-m", "venv", str(VENV)], "making the virtual environment")


def _works():
    """Whether .venv has the version of this Python; one that was copied or half made has not."""
    if not PYTHON.exists():
        return False
    asked = [str(PYTHON), "-c", "import sys, pip; print(sys.prefix, *sys.version_info[:2])"]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    return done.stdout.split() == [str(VENV), *map(str, sys.version_info[:2])]


def _fingerprint():
    return hashlib.sha256((ROOT / "pyproject.toml").read_bytes() + str(ROOT).encode()).hexdigest()


def _read_stamp():
    try:
        return json.loads(_STAMP.read_text())
    except (OSError, ValueError):
        return {}


def _quietly(command, doing):
    done = subprocess.run(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if done.returncode:
        print(done.stdout, file=sys.stderr)
        fail("%s failed (exit code %d); the reason is above" % (doing, done.returncode))


@contextlib.contextmanager
def _only_one():
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
            "cannot write to %s: %s" % (ROOT, error.strerror),
            "The checkout must belong to the user who runs this.",
        )
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
