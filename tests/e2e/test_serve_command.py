"""``kraken-db serve`` as it is typed: what it prints, who may ask, how it ends."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.archives import import_file, minutes, write
from tests.support.shell import Shell, run


@contextmanager
def serving(
    shell: Shell, url: str, *arguments: str
) -> Iterator[tuple[subprocess.Popen[str], str, list[str]]]:
    """The process, its address, and what it has printed until then. It is ended at the end."""
    process = shell.start("serve", "--port", "0", "--db-url", url, *arguments)
    try:
        assert process.stdout is not None
        lines = []
        while not (line := process.stdout.readline().rstrip()).startswith("Page: "):
            assert line, process.stderr and process.stderr.read()
            lines.append(line)
        yield process, line.removeprefix("Page: "), lines
    finally:
        process.kill()
        process.communicate()


def ask(address: str, token: str | None = None) -> tuple[int, bytes]:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    try:
        with urllib.request.urlopen(urllib.request.Request(address, headers=headers), timeout=30) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


async def test_from_the_first_line_to_ctrl_c(plain_url: str, tmp_path: Path) -> None:
    await import_file(plain_url, write(tmp_path, "XBTUSD_1.csv", minutes(10)))
    with serving(Shell(tmp_path), plain_url) as (process, address, lines):
        assert lines == [] and re.fullmatch(r"http://127\.0\.0\.1:\d+/", address)
        status, body = ask(f"{address}api/v1/symbols")
        assert (status, json.loads(body)) == (200, {"symbols": ["BTC/USD"]})
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
        assert (process.returncode, out, err) == (0, "", "Ctrl-C ends it\nended\n")


async def test_a_token_is_printed_once_and_nowhere_else(plain_url: str, tmp_path: Path) -> None:
    log = tmp_path / "serve.log"
    arguments = ("--host", "0.0.0.0", "--debug", "--log-file", str(log))
    with serving(Shell(tmp_path), plain_url, *arguments) as (process, address, lines):
        (line,) = lines
        token = line.removeprefix("Token: ")
        assert len(token) >= 40
        local = address.replace("0.0.0.0", "127.0.0.1") + "api/v1/symbols"
        assert ask(local)[0] == 401 and ask(local, token + "x")[0] == 401
        assert ask(f"{local}?token={token}x")[0] == 401
        assert ask(local, token)[0] == 200
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=60)
        assert token not in out + err + log.read_text()
    own = Shell(tmp_path, KRAKEN_DB_TOKEN="a-token-of-my-own-choice")
    with serving(own, plain_url) as (process, address, lines):
        assert lines == []  # who has set it knows it
        assert ask(f"{address}api/v1/symbols")[0] == 401
        assert ask(f"{address}api/v1/symbols", "a-token-of-my-own-choice")[0] == 200


def test_what_cannot_be(plain_url: str, tmp_path: Path) -> None:
    short = Shell(tmp_path, KRAKEN_DB_TOKEN="secret").run("serve", "--db-url", plain_url)
    assert (short.returncode, short.stdout) == (2, "")
    assert short.stderr == "Error: KRAKEN_DB_TOKEN has less than 16 characters\n"
    with serving(Shell(tmp_path), plain_url) as (_, address, _lines):
        port = address.rstrip("/").rpartition(":")[2]
        taken = Shell(tmp_path).run("serve", "--port", port, "--db-url", plain_url)
        assert taken.returncode == 1
        expected = f"Error: port {port} of 127.0.0.1 is taken. Choose another --port, or 0 for any\n"
        assert taken.stderr == expected
    assert run(plain_url, "serve", "--host", " ").exit_code == 2
    none = run(f"embedded://{tmp_path}/none", "serve")
    assert none.exit_code == 1 and "there is no" in none.stderr
