import sys

from kraken_db.cli import main

main(["import-csv", *sys.argv[1:]])
