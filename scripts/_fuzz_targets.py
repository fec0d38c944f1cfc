"""The parsers that fuzz_main.py gives made-up input: one function each, which imports what it takes."""

from __future__ import annotations

import asyncio
import io
import json
import zipfile
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

NOW = 1_700_000_000.0
_WHAT = "Trades of XBTUSD"
_TRADES = (
    b'{"error":[],"result":{"XXBTZUSD":[["30243.40000","0.34507674",1688669597.8277369,"b","m","",61044952],'
    b'["30243.30000","0.00376960",1688669598.2804112,"s","l","",61044953]],"last":"1688671969993150842"}}'
)
_OHLC = (
    b'{"error":[],"result":{"XXBTZUSD":[[1688671200,"30306.1","30306.2","30305.7","30305.7","30306.1",'
    b'"3.39243896",23],[1688671260,"30304.5","30304.5","30300.0","30300.0","30300.0","4.42996871",18]],'
    b'"last":1688672160}}'
)
_PAIRS = (
    b'{"error":[],"result":{"XXBTZUSD":{"altname":"XBTUSD","wsname":"XBT/USD","aclass_base":"currency",'
    b'"base":"XXBT","quote":"ZUSD","pair_decimals":1,"lot_decimals":8,"ordermin":"0.0001","status":"online"},'
    b'"AAPLxUSD":{"altname":"AAPLxUSD","wsname":"AAPLx/USD","aclass_base":"tokenized_asset","base":"AAPLx",'
    b'"quote":"ZUSD","pair_decimals":2,"lot_decimals":8}}}'
)
_FRAMES = (
    b'{"channel":"trade","type":"update","data":[{"symbol":"MATIC/USD","side":"sell","price":0.5117,'
    b'"qty":40.0,"ord_type":"market","trade_id":4665906,"timestamp":"2023-09-25T07:49:37.708706Z"}]}',
    b'{"channel":"ohlc","type":"snapshot","data":[{"symbol":"BTC/USD","open":1.1,"high":1.2,"low":1.0,'
    b'"close":1.1,"trades":3,"volume":5,"vwap":1.1,"interval_begin":"2023-10-04T16:25:00.000000000Z",'
    b'"interval":5,"timestamp":"2023-10-04T16:30:00.000000Z"}]}',
    b'{"method":"subscribe","result":{"channel":"trade","symbol":"BTC/USD","snapshot":true},"success":true,'
    b'"time_in":"2023-09-25T09:04:31.742599Z","time_out":"2023-09-25T09:04:31.742648Z","req_id":3}',
    b'{"error":"Currency pair not supported XX/YY","method":"subscribe","success":false,"symbol":"XX/YY"}',
    b'{"channel":"status","type":"update","data":[{"system":"online","api_version":"v2"}]}',
    b'{"Error":"Exceeded msg rate"}',
)
_MESSAGES = (
    b'{"symbol":"BTC/USD","side":"sell","price":0.5117,"qty":40.0,"ord_type":"market","trade_id":4665906,'
    b'"timestamp":"2023-09-25T07:49:37.708706Z"}',
    b'{"price":"5541.20000","volume":"0.15850568","timestamp":"1534614057.321597","side":"s","misc":""}',
    b'{"open":1.1,"high":1.2,"low":1.0,"close":1.1,"trades":3,"volume":5,"vwap":1.1,'
    b'"interval_begin":"2023-10-04T16:25:00.000000000Z","interval":5,"timestamp":1696436700}',
)
_ROWS = (
    b"1381095255,122.0,0.1\n1381179030,123.61,0.1\n",
    b"122.0,0.1,1381095255.1234,b,l,\n123.61,0.1,1381179030.5,s,m,\n",
    b"122.0,0.1,1381095255.1234,b,l,,1\n123.61,0.1,1381179030.5,s,m,,2\n",
    b"price,volume,time,side,order_type,misc,trade_id\n122.0,0.1,1381095255.1234,b,l,,1\n",
    b"\xef\xbb\xbftimestamp,price,volume\r\n1381095255,1E-5,0.1\r\n",
)
_CANDLE_ROWS = (
    b"1381095240,122.0,122.0,122.0,122.0,0.1,1\n1381179000,123.61,123.61,123.61,123.61,0.1,1\n",
    b"1381095240,122.0,122.0,122.0,122.0,122.0,0.1,1\n",
    b"timestamp,open,high,low,close,volume,trades\n1381095240,122.0,122.0,122.0,122.0,0.1,1\n",
)
_MANIFEST = (
    b'{"product":"trades","schema_version":2,"columns":["price","volume","time","side","type","misc","id"],'
    b'"has_header":false,"coverage":{"start":"2013-10-06","end":"2025-12-31"},"pairs":1200,'
    b'"files":["a.csv"],"rows":5000,"generated":"2026-01-05"}'
)
_SUMS = (b"%s  Kraken_Trades_Full_2025Q4.zip.part00\n" % (b"ab" * 32), b"%s *x.zip\r\n" % (b"0F" * 32))


@dataclass(frozen=True, slots=True)
class Target:
    """``work`` is given any bytes; ``seeds`` are what it is made for, ``longest`` bytes of one input."""

    work: Callable[[bytes], object]
    seeds: Sequence[bytes]
    longest: int = 4096


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _rest_trades() -> Target:
    from kraken_db.kraken import messages

    def work(data: bytes) -> None:
        page = messages.decode_trades(messages.decode_result(data, _WHAT, NOW), _WHAT)
        page.records("BTC/USD")
        for row in page.raw:
            messages.KrakenTrade.from_raw(row)

    return Target(work, [_TRADES, b'{"error":["EAPI:Rate limit exceeded"]}', b'{"error":[],"result":{}}'])


def _rest_ohlc() -> Target:
    from kraken_db.kraken import messages

    def work(data: bytes) -> None:
        messages.decode_ohlc(messages.decode_result(data, _WHAT, NOW), _WHAT, 1).records("BTC/USD")

    return Target(work, [_OHLC])


def _asset_pairs() -> Target:
    from kraken_db.kraken import messages
    from kraken_db.pairs import parse_symbol, to_archive_name, to_rest_pair

    def work(data: bytes) -> None:
        listing = messages.decode_asset_pairs(messages.decode_result(data, _WHAT, NOW), _WHAT)
        for symbol in messages.symbols_of(listing).values():
            to_rest_pair(parse_symbol(symbol))
            to_archive_name(symbol)

    return Target(work, [_PAIRS])


def _websocket() -> Target:
    from kraken_db.kraken.websocket_messages import decode_frame

    return Target(decode_frame, _FRAMES)


class _Writer:
    """What a client's message is handed to, checked as the writer does."""

    loop = None

    def put_trade(self, record: Any) -> None:
        from kraken_db.ingest.rules import check_trade

        check_trade(record, datetime.fromtimestamp(NOW, UTC))

    def put_candle(self, record: Any) -> None:
        from kraken_db.ingest.rules import check_candle

        check_candle(record, datetime.fromtimestamp(NOW, UTC))


def _client_messages() -> Target:
    import logging

    from kraken_db.websocket_integration import WebSocketDBIntegration

    logging.disable(logging.CRITICAL)

    def work(data: bytes) -> None:
        try:
            message = json.loads(data)
        except (ValueError, RecursionError):
            return
        integration = WebSocketDBIntegration(_Writer())  # type: ignore[arg-type]  # all that it uses of one
        integration.take_trade("BTC/USD", message)
        integration.take_ohlc("BTC/USD", message)

    return Target(work, _MESSAGES)


class _Bytes:
    """A source of the bytes that are there."""

    name = "made up"

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.size = len(data)

    async def read(self, start: int, length: int) -> bytes:
        from kraken_db.archives.byte_source import check_range

        check_range(self, start, length)
        return self._data[start : start + length]

    async def stream(self, start: int, length: int) -> AsyncGenerator[bytes]:
        yield await self.read(start, length)

    async def close(self) -> None: ...


def _csv(interval: int | None) -> Callable[[bytes], None]:
    from kraken_db.bulk_csv_importer.reading import ArchiveReader
    from kraken_db.bulk_csv_importer.report import ArchiveFile

    loop = asyncio.new_event_loop()

    async def read(data: bytes) -> None:
        place = _Bytes(data)
        file = ArchiveFile(Path("a.csv"), None, len(data), "BTC/USD", interval, source=place)
        async with ArchiveReader(file, 256, clock=lambda: datetime.fromtimestamp(NOW, UTC)) as reader:
            async for _ in reader.blocks():
                pass

    return lambda data: loop.run_until_complete(read(data))


def _csv_trades() -> Target:
    return Target(_csv(None), _ROWS)


def _csv_candles() -> Target:
    return Target(_csv(1), _CANDLE_ROWS)


def _manifest() -> Target:
    from kraken_db.archives.manifest import parse_manifest

    def work(data: bytes) -> None:
        manifest = parse_manifest(data)
        manifest.contradiction(3, 4)
        manifest.narrowed(None, datetime.fromtimestamp(NOW, UTC))

    return Target(work, [_MANIFEST])


def _sums() -> Target:
    from kraken_db.archives.parts import check_numbers, parse_sums, split_name

    def work(data: bytes) -> None:
        found = parse_sums(data.decode("utf-8", "replace"))
        parts = [(part[1], name) for name in found if (part := split_name(name))]
        if parts:
            check_numbers("a.zip", sorted(parts))

    return Target(work, _SUMS)


def _zips() -> list[bytes]:
    made = []
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", method) as archive:
            archive.writestr("Kraken_Trades/XBTUSD.csv", _ROWS[2] * 3)
            with archive.open("ETHUSD.csv", "w", force_zip64=True) as member:
                member.write(_ROWS[0])
        made.append(file.getvalue())
    return made


def _zip() -> Target:
    from kraken_db.archives.zip_reading import read_directory, unpack
    from kraken_db.errors import ImportFileError

    loop = asyncio.new_event_loop()

    async def read(data: bytes) -> None:
        source = _Bytes(data)
        for member in (await read_directory(source))[:3]:
            try:
                async with aclosing(unpack(source, member)) as blocks:
                    async for _ in blocks:
                        pass
            except ImportFileError:
                continue

    return Target(lambda data: loop.run_until_complete(read(data)), _zips())


def _symbols() -> Target:
    from kraken_db import pairs, patterns
    from kraken_db.errors import KrakenDBError

    def work(data: bytes) -> None:
        text = _text(data)
        for read in (
            pairs.parse_symbol,
            pairs.from_rest_pair,
            pairs.from_archive_name,
            pairs.from_result_key,
            pairs.from_wsname,
            pairs.from_ws_symbol,
            pairs.readings,
            patterns.parse_pair,
            patterns.classes_of,
            patterns.has_known_quote,
        ):
            try:
                read(text)
            except KrakenDBError:
                continue
        symbol = pairs.parse_symbol(text)
        pairs.to_rest_pair(symbol), pairs.to_archive_name(symbol), pairs.to_ws_symbol(symbol)
        patterns.matching("*/USD", [symbol])

    return Target(work, [b"BTC/USD", b"XXBTZUSD", b"xbt-usd", b"AAPLx/USD", b"XRP/*", b"USDTZUSD.d"], 64)


def _intervals_and_times() -> Target:
    from kraken_db.errors import KrakenDBError
    from kraken_db.intervals import parse_interval
    from kraken_db.times import parse_period, parse_time, period_text

    def work(data: bytes) -> None:
        text = _text(data)
        for read in (
            parse_interval,
            lambda text: period_text(parse_period(text)),
            lambda text: parse_time(text, datetime.fromtimestamp(NOW, UTC)).isoformat(),
        ):
            try:
                read(text)
            except KrakenDBError:
                continue

    seeds = [b"1h", b"60", b"90d", b"2 weeks", b"2023-01-31T15:30", b"3 days ago", b"2023-01-31", b"never"]
    return Target(work, seeds, 64)


def _database_urls() -> Target:
    from kraken_db.db.embedded import resolve_embedded
    from kraken_db.db.urls import parse_url

    def work(data: bytes) -> None:
        text = _text(data)
        if text.startswith("embedded:"):
            resolve_embedded(text)
        else:
            str(parse_url(text))

    seeds = [
        b"postgresql://kraken:s%40fe@db.example.com:5432/kraken?sslmode=require&connect_timeout=5",
        b"postgres://[::1]/k?host=/tmp,/run&port=1,2&target_session_attrs=read-write&options=-c%20a%3D1",
        b"embedded:///var/lib/x",
        b"embedded:",
    ]
    return Target(work, seeds, 512)


def _archive_addresses() -> Target:
    from kraken_db.archives import catalog, web
    from kraken_db.bulk_csv_importer import addresses

    def work(data: bytes) -> None:
        text = _text(data)
        web.shown(text)
        catalog.covered_by_name(text)
        if addresses.is_address(text):
            addresses.of_whole(text)
            catalog._checked(text)

    seeds = [
        b"https://user:secret@assets.kraken.com/marketing/institutions/",
        b"http://[::1]:8080/Kraken_Trades_Full_2025Q4.zip.part00?sig=abc#x",
        b"Kraken_OHLCVT_2026Q1.zip",
    ]
    return Target(work, seeds, 512)


def _journal() -> Target:
    import msgspec

    from kraken_db.database_writer.journal import frame, scan
    from kraken_db.database_writer.pipeline import decode_record
    from kraken_db.ingest.live import QueuedTrade
    from kraken_db.types import CandleRecord

    decoders = [decode_record(QueuedTrade), decode_record(CandleRecord)]

    def work(data: bytes) -> None:
        for _, payload in scan(data, is_end=True, most=1000).records:
            for decode in decoders:
                try:
                    decode(payload)
                except ValueError:
                    continue
        # Behind the checksum, which no mutation gets past.
        for decode in decoders:
            try:
                decode(data)
            except ValueError:
                continue

    row = ["BTC/USD", datetime.fromtimestamp(NOW, UTC), "1.5", "2", "buy", 7, "market", "", False]
    payload = msgspec.msgpack.encode(row)
    return Target(work, [payload, frame(1, payload) + frame(2, payload)])


def _webhooks() -> Target:
    from kraken_db.alarms import Webhook

    def work(data: bytes) -> None:
        hook = Webhook.parse(_text(data))
        assert hook.host

    return Target(work, [b"https://hooks.slack.com/services/T0/B0/x", b"http://[::1]:80/a?b=c"], 256)


TARGETS: dict[str, Callable[[], Target]] = {
    "rest-trades": _rest_trades,
    "rest-ohlc": _rest_ohlc,
    "asset-pairs": _asset_pairs,
    "websocket": _websocket,
    "client-messages": _client_messages,
    "csv-trades": _csv_trades,
    "csv-candles": _csv_candles,
    "manifest": _manifest,
    "sums": _sums,
    "zip": _zip,
    "symbols": _symbols,
    "intervals-and-times": _intervals_and_times,
    "database-urls": _database_urls,
    "archive-addresses": _archive_addresses,
    "journal": _journal,
    "webhooks": _webhooks,
}
