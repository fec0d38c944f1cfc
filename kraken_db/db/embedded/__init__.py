"""A PostgreSQL of our own: no server to set up, no TCP port, gone when its last user ends.

    server.py      EmbeddedServer, the interface
    layout.py      which files lie where, and how private they are
    account.py     the system user the server runs as (PostgreSQL refuses to run as root)
    cluster.py     PostgreSQL's programs, the data directory, the server's settings
    postmaster.py  the running server: start, wait, stop; whether it accepts connections
    locks.py       kernel locks: they end with their process, however that ends
    keeper.py      the small process that stops the server after its last user

Who uses what is written nowhere: it is held as kernel locks (flock) on files in the data directory.

    start.lock     exclusive, while anybody starts, stops or changes anything
    users.lock     shared, by every process that is attached
    keeper.lock    exclusive, by the keeper
    server.lock    exclusive, inherited by the server and all its children: as long as one of them
                   lives, the server is not gone
"""

from kraken_db.db.embedded.layout import resolve_embedded
from kraken_db.db.embedded.server import EmbeddedServer, ServerStatus

__all__ = ["EmbeddedServer", "ServerStatus", "resolve_embedded"]
