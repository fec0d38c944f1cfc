"""The server's settings, written at every start: an upgrade of this package is in force at once."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from kraken_db.db.embedded.account import Account
from kraken_db.db.embedded.layout import PORT, Layout

_SETTINGS = """\
# Written by kraken-db at every start: changes are lost. Your own settings go into local.conf beside it.
fsync = on
synchronous_commit = on
full_page_writes = on

shared_buffers = 256MB
work_mem = 32MB
maintenance_work_mem = 256MB
max_connections = 100
random_page_cost = 1.1
jit = off
# Not /dev/shm: a container has only 64 MB of it, and systemd empties it when a user logs out.
dynamic_shared_memory_type = mmap
min_dynamic_shared_memory = 64MB

wal_level = minimal
max_wal_senders = 0
max_logical_replication_workers = 0
max_wal_size = 4GB
min_wal_size = 256MB
checkpoint_timeout = 15min

timezone = 'UTC'
log_timezone = 'UTC'
datestyle = 'ISO, YMD'

# Standard error is server.log. Statements stay out of it: a failed one may be megabytes of data.
log_destination = 'stderr'
logging_collector = off
log_min_messages = warning
log_min_error_statement = panic
log_checkpoints = off
log_line_prefix = '%m [%p] '
"""
_LOCAL = "local.conf"
_HBA = "# Written by kraken-db at every start.\nlocal all all peer map=kraken\n"


def write_config(layout: Layout, account: Account) -> list[str]:
    """Write the settings and who may connect; return the server's arguments that name them."""
    names = account.allowed_names()
    allowed = [f'kraken "{name}" {role}\n' for name in names for role in ("kraken", "postgres")]
    ident = "# Written by kraken-db at every start.\n" + "".join(allowed)
    files = {"config_file": "server.conf", "hba_file": "pg_hba.conf", "ident_file": "pg_ident.conf"}
    local = f"\ninclude '{_LOCAL}'\n" if (layout.root / _LOCAL).exists() else ""
    for name, text in zip(files.values(), (_SETTINGS + local, _HBA, ident), strict=True):
        _replace(layout.root / name, text, account)
    socket_dir = layout.socket_dir(account.uid)
    settings = {name: str(layout.root / file) for name, file in files.items()} | {
        # On the command line, where local.conf cannot open the server to others.
        "listen_addresses": "",
        "port": str(PORT),
        "unix_socket_directories": str(socket_dir),
        "unix_socket_permissions": "0700",
    }
    return [argument for name, value in settings.items() for argument in ("-c", f"{name}={value}")]


def _replace(path: Path, text: str, account: Account) -> None:
    """Put a file in place whole, readable by the server's user."""
    fd, name = tempfile.mkstemp(prefix=f"{path.name}.new-", dir=path.parent)
    new = Path(name)
    try:
        with os.fdopen(fd, "w") as file:
            if account.switch:
                owner = path.parent.stat()
                os.fchown(fd, owner.st_uid, account.gid)
                os.fchmod(fd, 0o640)
            file.write(text)
        new.replace(path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise
