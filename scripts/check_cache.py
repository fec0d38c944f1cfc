"""The cache of repeated reads under random commits, at full length: run by hand.

    python3 scripts/check_cache.py                               # the embedded server, 10,000 commits
    python3 scripts/check_cache.py --db-url URL --seed 2         # an empty database of another server
    python3 scripts/check_cache.py --db-url URL --distribute     # an empty database of a cluster of Citus
    python3 scripts/check_cache.py --without renew_updated_candles   # it has to find something then

Each read is compared with the same read without the cache, inside of its own snapshot.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
import tempfile
from pathlib import Path

import _bench as bench
from sqlalchemy import text

from kraken_db.backends.citus_schema import distribute
from kraken_db.db.migrations import upgrade
from kraken_db.store import Store

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.support.cache_storm import CacheStorm, Outcome


async def check(url: str, options: argparse.Namespace) -> Outcome:
    await upgrade(url)
    if options.distribute:
        await distribute(url)
    store = await Store.open(url)
    try:
        if options.without:
            async with store.database.begin() as connection:
                if options.distribute:
                    await connection.execute(text("SET LOCAL citus.enable_unsafe_triggers TO on"))
                await connection.execute(text(f"DROP TRIGGER {options.without} ON candles"))
        with tempfile.TemporaryDirectory() as folder:
            return await CacheStorm(store, Path(folder), options.seed).run(options.commits, options.reads)
    finally:
        await store.close()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--db-url", help="an empty database; by default an embedded server of its own")
    parser.add_argument("--distribute", action="store_true", help="by pair, over the nodes of Citus")
    parser.add_argument("--commits", type=int, default=10_000)
    parser.add_argument("--reads", type=int, default=5_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--without", metavar="TRIGGER", help="drop a trigger of candles first")
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        url = options.db_url or stack.enter_context(bench.server())[0].url()
        found = asyncio.run(check(url, options))
    print(f"{found.commits.total():,} commits: {dict(found.commits)}")
    print(
        f"{found.reads:,} reads compared, {found.whole:,} of them from files alone; {found.spoiled:,} spoiled"
    )
    print(f"{len(found.wrong):,} differences")
    for line in found.wrong[:20]:
        print(f"  {line}")
    sys.exit(1 if found.wrong else 0)


if __name__ == "__main__":
    main()
