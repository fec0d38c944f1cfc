#!/usr/bin/env python3
"""Write docs/kraken-db.1, the man page, from the help texts of the command line."""

from __future__ import annotations

import subprocess

import _bootstrap as bootstrap

CODE = "import sys; from kraken_db.cli.manual import our_page; sys.stdout.write(our_page())"


def main() -> None:
    bootstrap.ensure("dev")
    page = subprocess.run([bootstrap.PYTHON, "-c", CODE], check=True, capture_output=True).stdout
    (bootstrap.ROOT / "docs" / "kraken-db.1").write_bytes(page)


if __name__ == "__main__":
    main()
