"""What ``scripts/fuzz`` has found: input at which a parser raised what is no error of the package."""

from __future__ import annotations

import pytest

from kraken_db.bulk_csv_importer.addresses import archives_at, of_whole
from kraken_db.database_writer.pipeline import decode_record
from kraken_db.db.urls import parse_url
from kraken_db.errors import ConfigurationError, ImpossibleRowError, KrakenDBError
from kraken_db.ingest.live import QueuedTrade
from kraken_db.kraken.messages import decode_trades
from kraken_db.times import utc_now

ROW = b'["1.5","2",1688669597.8,"b","m","",7,%s]'


def test_a_trade_with_a_field_more_that_cannot_be_read() -> None:
    """The decoder of trades passes over it; that of Kraken's own rows, ``TradesPage.raw``, does not."""
    page = decode_trades(b'{"XXBTZUSD":[' + ROW % b'"\xb0"' + b'],"last":"1"}', "Trades of XBTUSD")
    assert [trade.trade_id for trade in page.trades] == [7]
    with pytest.raises(ImpossibleRowError, match=r"Trades of XBTUSD: result\.XXBTZUSD: "):
        _ = page.raw


@pytest.mark.parametrize("url", ["postgresql://h/k?options=\udcff", "postgres://h/\ud800?a=b", "\udcff"])
def test_an_address_of_a_database_with_bytes_that_are_no_text(url: str) -> None:
    with pytest.raises(ConfigurationError, match="no UTF-8"):
        parse_url(url)


@pytest.mark.parametrize("address", ["http://[::1/a.zip", "https://h/\udcf2.zip.part00", "http://]/.part00"])
async def test_an_address_of_archives_that_is_none(address: str) -> None:
    assert of_whole(address) == address
    with pytest.raises(KrakenDBError):
        await archives_at(address, None, utc_now)


@pytest.mark.parametrize("payload", [b"", b"\xc1", b"\x91" * 50_000, b"\x9f" + b"\x91" * 50_000, b"\xff" * 9])
def test_a_record_of_a_journal_that_is_none(payload: bytes) -> None:
    with pytest.raises(ValueError):
        decode_record(QueuedTrade)(payload)
