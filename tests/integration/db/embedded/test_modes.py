"""Every file, folder and socket that is made, with its mode, whatever the umask is: as root and as a user."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import stat
import tempfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from kraken_db.alarms import Memory, Reported, Webhook
from kraken_db.cli import cli
from kraken_db.database_writer import DatabaseWriter
from kraken_db.database_writer.journal import Journal, Ownership, Space
from kraken_db.db.embedded import EmbeddedServer
from kraken_db.times import utc_now


def make_everything(root: Path) -> None:
    """All that a command leaves behind: a database, a journal, what alarms have told, and exports."""
    base = root / "deep" / "base"
    url = f"embedded://{base}"
    EmbeddedServer(base).start()
    folder = DatabaseWriter(url, journal_dir=root / "state" / "journal")._options.journal_folder()
    journal = Journal(Ownership.of_new(folder, "trades"), Space(1 << 20), 1.0)
    assert journal.append(1, b"record")
    memory = Memory.of(Webhook("http://127.0.0.1/x"), url, "record BTC/USD", root / "state" / "alarms")
    with memory.held():
        memory.save({"key": Reported("text", 0, utc_now())})
    (root / "XBTUSD_1.csv").write_text("1700000040,1,1,1,1,1,1\n")
    out = root / "out"
    for command in (
        ["import-csv", str(root / "XBTUSD_1.csv")],
        ["export", "BTC/USD", "--format", "csv", "--out", str(out / "csv")],
        ["export", "BTC/USD", "--out", str(out / "parquet")],
    ):
        done = CliRunner().invoke(cli, [*command, "--db-url", url])
        assert done.exit_code == 0, done.output


def in_a_child(work: Callable[[], None], umask: int, uid: int, gid: int) -> None:
    """Another user could not even start this Python, where it lies in root's home; a child may be him."""
    child = os.fork()
    if child == 0:
        try:
            os.umask(umask)
            if os.geteuid() != uid:
                os.setgroups([])
                os.setgid(gid)
                os.setuid(uid)
            work()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def modes(root: Path) -> dict[str, str]:
    """By name; numbers and digests in it are ``#``."""
    found = {}
    for path in sorted(root.rglob("*")):
        name = re.sub(r"[0-9a-f]{12,}|\d{20}", "#", str(path.relative_to(root)))
        found[name] = oct(stat.S_IMODE(path.lstat().st_mode))[2:]
    return found


# By hand: ours alone, but what the server must read, whom root runs as another user. An export is the user's.
OURS = {
    "deep": "700",
    "deep/base": "700",
    "deep/base/data": "700",
    "deep/base/keep": "600",
    "deep/base/pg_hba.conf": "600",
    "deep/base/pg_ident.conf": "600",
    "deep/base/run": "700",
    "deep/base/run/.s.PGSQL.5432": "700",
    "deep/base/run/.s.PGSQL.5432.lock": "600",
    "deep/base/server.conf": "600",
    "deep/base/server.lock": "600",
    "deep/base/server.log": "600",
    "deep/base/start.lock": "600",
    "deep/base/users.lock": "600",
    "state": "700",
    "state/alarms": "700",
    "state/alarms/#-#": "700",
    "state/alarms/#-#/#.json": "600",
    "state/alarms/#-#/#.lock": "600",
    "state/journal": "700",
    "state/journal/#": "700",
    "state/journal/#/trades-#-#.journal": "600",
    "state/journal/#/trades-#.lock": "600",
}
OF_ROOT = OURS | {
    "deep": "711",
    "deep/base": "711",
    "deep/base/pg_hba.conf": "640",
    "deep/base/pg_ident.conf": "640",
    "deep/base/server.conf": "640",
}
FOLDERS = ["out", "out/csv", "out/parquet", "out/parquet/symbol=BTC-USD"]
FILES = ["out/csv/.kraken-db-export.json", "out/csv/XBTUSD_1.csv"]


@pytest.fixture(scope="module")
def imported() -> Iterator[None]:
    """All modules are: a child that is another user cannot read them."""
    warm = Path(tempfile.mkdtemp(prefix="kdb-", dir="/tmp"))
    warm.chmod(0o755)
    make_everything(warm)
    EmbeddedServer(warm / "deep" / "base").stop()
    yield
    shutil.rmtree(warm)


@pytest.mark.usefixtures("imported")
@pytest.mark.parametrize("umask", [0o000, 0o077])
@pytest.mark.parametrize("user", ["root", "nobody"])
def test_modes(place: Path, umask: int, user: str, request: pytest.FixtureRequest) -> None:
    account = pwd.getpwnam(user)
    if user != "root":
        request.getfixturevalue("open_checkout")
    home = place / "home"
    home.mkdir(mode=0o755)
    if os.geteuid() == 0:
        os.chown(home, account.pw_uid, account.pw_gid)
    elif user == "root":
        pytest.skip("needs root")
    else:
        account = pwd.getpwuid(os.geteuid())
    in_a_child(lambda: make_everything(home), umask, account.pw_uid, account.pw_gid)
    found = modes(home)
    cluster = {name: found.pop(name) for name in list(found) if name.startswith("deep/base/data/")}
    exported = {name: found.pop(name) for name in list(found) if name.startswith(("out", "XBTUSD"))}
    assert found == (OF_ROOT if user == "root" else OURS)
    assert set(cluster.values()) == {"600", "700"}
    assert {exported[name] for name in FOLDERS} == {oct(0o777 & ~umask)[2:]}
    assert {exported[name] for name in FILES} == {oct(0o666 & ~umask)[2:]}
