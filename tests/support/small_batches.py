"""``kraken-db`` with batches of some hundred rows, so that a small file is stored in many steps."""

import sys

from kraken_db.bulk_csv_importer import trade_batches
from kraken_db.cli import main

if __name__ == "__main__":
    trade_batches.BATCH_SIZE = 12_000
    main(sys.argv[1:])
