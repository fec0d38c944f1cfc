"""``kraken-db`` and ``python -m kraken_db``: the command line, which Ctrl-C ends without a traceback at any moment.

Nothing is imported before that can be promised: what the command line needs takes a tenth of a second to load.
"""

import signal
import sys


def main() -> None:
    """Run ``kraken_db.cli.main`` with this process' arguments."""
    try:
        from kraken_db.cli import main

        main()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)
    finally:
        # From here on the interpreter only takes itself down.
        signal.signal(signal.SIGINT, signal.SIG_DFL)


if __name__ == "__main__":
    main()
