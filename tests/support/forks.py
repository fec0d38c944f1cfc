"""``kraken-db``, or Python's ``-c``, as a process that is forked from one that has loaded it already.

A command loads for half a second, and works for a tenth of it. What runs here has its own arguments,
environment, folder, streams, signals and exit code, as any process. It dies with what the test has started:
its streams end when it is dead. Warnings are errors. Tests of the start and of the process itself take a
program of ``tests.support.shell`` instead.

Three processes: what a test starts (``forks.py SOCKET ARGUMENTS``: it loads next to nothing), the loaded one
(``forks.py --serve SOCKET``), and between them one that waits for the command.
"""

# pathlib takes longer to load than everything else of what a test starts
# ruff: noqa: PTH108, PTH106, PTH109, PTH120, SIM115

import os
import select
import signal
import socket
import sys

_LENGTH = 4
_LOADED_LATE = ("historical_backfill", "gap_filler", "recorder", "verification", "db.migrations")


def ask(address: str, arguments: list[str]) -> int:
    """Have a command run with our streams, in our folder. Its exit code; below 0: a signal ended it."""
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(address)
    environment = [f"{name}={value}" for name, value in os.environ.items()]
    message = os.fsencode("\0".join([os.getcwd(), str(len(arguments)), *arguments, *environment]))
    socket.send_fds(connection, [len(message).to_bytes(_LENGTH, "big")], [0, 1, 2])
    connection.sendall(message)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: connection.sendall(bytes([number])))
    code = connection.recv(_LENGTH)
    return int.from_bytes(code, "big", signed=True) if code else 1


def load() -> None:
    """What most commands load, but nothing that starts threads, as polars does."""
    for module in pkgutil.iter_modules(cli.__path__):
        importlib.import_module(f"{cli.__name__}.{module.name}")
    for name in _LOADED_LATE:
        importlib.import_module(f"kraken_db.{name}")
    importlib.import_module("sqlalchemy.dialects.postgresql.asyncpg")
    assert threading.active_count() == 1
    gc.freeze()


def serve(address: str) -> None:
    """Fork a process for each who asks, until our standard input ends. Returns in such a process alone."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while sys.stdin.fileno() not in select.select([listener, sys.stdin.fileno()], [], [])[0]:
        connection, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            become(*receive(connection))
            return
        connection.close()
    os.unlink(address)
    os.rmdir(os.path.dirname(address))
    os._exit(0)


def receive(connection: socket.socket) -> tuple[str, list[int]]:
    """What is asked for, and the streams. Returns in the process of the command; the one before it waits."""
    head, streams, _, _ = socket.recv_fds(connection, _LENGTH, 3)
    length, message = int.from_bytes(head, "big"), b""
    while part := connection.recv(length - len(message)):
        message += part
    if len(message) < length or not streams:  # who asked was killed while asking
        os._exit(1)
    runs, running = os.pipe()  # it is closed when the command has ended
    if child := os.fork():
        for stream in (*streams, running):
            os.close(stream)
        wait(connection, child, runs)
    connection.close()
    return os.fsdecode(message), streams


def become(message: str, streams: list[int]) -> None:
    folder, count, *words = message.split("\0")
    sys.argv = ["-c", *words[: int(count)]]
    os.environ.clear()
    os.environ.update(dict(word.split("=", 1) for word in words[int(count) :]))
    os.chdir(folder)
    sys.path.insert(0, "")
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    sys.stdin = open(0, closefd=False)
    sys.stdout = open(1, "w", closefd=False)
    sys.stderr = open(2, "w", buffering=1, errors="backslashreplace", closefd=False)


def wait(connection: socket.socket, child: int, runs: int) -> None:
    """Pass signals on until the child has ended, and tell how. It ends with who asked for it."""
    while connection.fileno() in select.select([connection.fileno(), runs], [], [])[0]:
        asked = connection.recv(1)
        os.kill(child, asked[0] if asked else signal.SIGKILL)
        if not asked:
            break
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    try:
        connection.sendall(code.to_bytes(_LENGTH, "big", signed=True))
    finally:
        os._exit(0)


if __name__ == "__main__":
    if sys.argv[1] != "--serve":
        ended = ask(sys.argv[1], sys.argv[2:])
        if ended < 0:
            os.kill(os.getpid(), -ended)
        os._exit(ended)
    import gc
    import importlib
    import pkgutil
    import threading

    from kraken_db import cli
    from kraken_db.__main__ import main

    load()
    serve(sys.argv[2])
    if sys.argv[1:2] == ["-c"]:
        code = sys.argv[2]
        del sys.argv[1:3]
        exec(code, {"__name__": "__main__"})
    else:
        main()
