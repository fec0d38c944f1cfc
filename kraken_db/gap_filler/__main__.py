import sys

from kraken_db.cli import main

main(["gaps", "fill", *sys.argv[1:]])
