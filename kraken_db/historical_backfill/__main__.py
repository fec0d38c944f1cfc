import sys

from kraken_db.cli import main

main(["backfill", *sys.argv[1:]])
