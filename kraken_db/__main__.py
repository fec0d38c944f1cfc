"""``kraken-db`` and ``python -m kraken_db``: the command line, which Ctrl-C ends by a word at any moment.

The command line takes half a second to load: it is loaded where an interrupt is caught already.
"""

import gc
import signal
import sys


def main() -> None:
    """Run ``kraken_db.cli.main`` with this process' arguments."""
    try:
        gc.disable()  # nothing of what is loaded is garbage: looking through it takes a tenth of the time
        from kraken_db.cli import main

        gc.freeze()
        gc.enable()
        main()
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        sys.exit(128 + signal.SIGINT)
    finally:
        # From here on the interpreter only takes itself down. What it has loaded it need not look through for
        # garbage: that takes most of the time, and who stops a recording waits for it.
        gc.freeze()
        signal.signal(signal.SIGINT, signal.SIG_DFL)


if __name__ == "__main__":
    main()
