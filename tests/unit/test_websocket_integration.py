"""Messages of clients of many kinds, and handlers that never hear of the database."""

from __future__ import annotations

import asyncio
import inspect
import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from kraken_db import CandleRecord, DatabaseWriter, TradeRecord, WebSocketDBIntegration, integrate_db_writer
from kraken_db.errors import ConfigurationError

TRADE = {"price": "64000.1", "qty": "0.5", "timestamp": "2024-01-01T00:00:01.123456789Z", "side": "buy"}
MOMENT = datetime(2024, 1, 1, 0, 0, 1, 123456, UTC)
OHLC = {
    "timestamp": "2024-01-01T00:00:00Z",
    "open": "1.0",
    "high": "3.0",
    "low": "0.5",
    "close": "2.0",
    "volume": "7.5",
    "trades": 4,
    "vwap": "1.5",
}


class Writer(DatabaseWriter):
    """Keeps what it is given."""

    def __init__(self) -> None:
        super().__init__("postgresql://nobody@nowhere/nothing")
        self.trades: list[TradeRecord] = []
        self.candles: list[CandleRecord] = []
        self.flushed = 0
        self.failure: Exception | None = None

    def put_trade(self, trade: TradeRecord, *, is_official: bool = False) -> bool:
        if self.failure:
            raise self.failure
        self.trades.append(trade)
        return True

    def put_candle(self, candle: CandleRecord) -> None:
        if self.failure:
            raise self.failure
        self.candles.append(candle)

    async def flush(self) -> None:
        self.flushed += 1


@pytest.fixture
def writer() -> Writer:
    return Writer()


@pytest.fixture
def integration(writer: Writer) -> WebSocketDBIntegration:
    return WebSocketDBIntegration(writer)


# --- trades ---


async def test_a_trade_as_the_specification_has_it(
    writer: Writer, integration: WebSocketDBIntegration
) -> None:
    await integration.on_trade("BTC/USD", TRADE)
    assert writer.trades == [TradeRecord("BTC/USD", MOMENT, "64000.1", "0.5", "buy")]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("timestamp", "expected"),
    [
        ("2024-01-01T00:00:01.999999999Z", datetime(2024, 1, 1, 0, 0, 1, 999999, UTC)),
        ("2024-01-01T01:00:01+01:00", datetime(2024, 1, 1, 0, 0, 1, tzinfo=UTC)),
        (1704067201, datetime(2024, 1, 1, 0, 0, 1, tzinfo=UTC)),
        (1704067201.123456, datetime(2024, 1, 1, 0, 0, 1, 123456, UTC)),
        ("1704067201.1234567", datetime(2024, 1, 1, 0, 0, 1, 123456, UTC)),
        (Decimal("1704067201.999999999"), datetime(2024, 1, 1, 0, 0, 1, 999999, UTC)),
        (MOMENT, MOMENT),
    ],
)
async def test_times_in_every_way(
    writer: Writer, integration: WebSocketDBIntegration, timestamp: Any, expected: datetime
) -> None:
    await integration.on_trade("BTC/USD", TRADE | {"timestamp": timestamp})
    assert writer.trades[0].timestamp == expected
    assert integration.error_count == 0


async def test_a_trade_as_websocket_v2_has_it(writer: Writer, integration: WebSocketDBIntegration) -> None:
    """An example of Kraken's documentation; a client's json turns its numbers into floats."""
    data = json.loads(
        '{"symbol":"MATIC/USD","side":"sell","price":0.5117,"qty":40.0,"ord_type":"market",'
        '"trade_id":4665906,"timestamp":"2023-09-25T07:49:37.708706Z"}'
    )
    await integration.on_trade("MATIC/USD", data)
    moment = datetime(2023, 9, 25, 7, 49, 37, 708706, UTC)
    (trade,) = writer.trades
    assert (trade.timestamp, trade.side, trade.trade_id, trade.order_type) == (
        moment,
        "sell",
        4665906,
        "market",
    )
    numbers: tuple[object, ...] = (trade.price, trade.volume)
    assert numbers == (0.5117, 40.0)  # the writer reads a float by its shortest text


@pytest.mark.parametrize(
    "broken",
    [
        {"timestamp": "yesterday"},
        {"timestamp": True},
        {"timestamp": None},
        {"timestamp": 1704067201000},
        {"trade_id": "x"},
        {"trade_id": 1.5},
        {"price": ...},
    ],
)
async def test_a_message_that_makes_no_sense_is_counted(
    writer: Writer, integration: WebSocketDBIntegration, broken: dict[str, Any]
) -> None:
    data = {key: value for key, value in (TRADE | broken).items() if value is not ...}
    await integration.on_trade("BTC/USD", data)
    assert (writer.trades, integration.error_count) == ([], 1)
    await integration.on_trade("BTC/USD", [data, TRADE])
    assert (len(writer.trades), integration.error_count) == (1, 2)
    await integration.on_trade("BTC/USD", None)  # type: ignore[arg-type]
    await integration.on_trade("no pair", TRADE)
    assert integration.error_count == 4


async def test_sides_and_symbols(writer: Writer, integration: WebSocketDBIntegration) -> None:
    for side in ("b", "SELL", None, "hold"):
        await integration.on_trade("XBT/USD", TRADE | {"side": side})
    assert [trade.side for trade in writer.trades] == ["buy", "sell", "", "hold"]  # which the writer rejects
    assert {trade.symbol for trade in writer.trades} == {"BTC/USD"}


# --- candles ---


async def test_a_candle_as_the_specification_has_it(
    writer: Writer, integration: WebSocketDBIntegration
) -> None:
    await integration.on_ohlc("BTC/USD", OHLC)
    (candle,) = writer.candles
    assert (candle.timestamp, candle.interval_minutes) == (datetime(2024, 1, 1, tzinfo=UTC), 1)
    values: tuple[object, ...] = (candle.open, candle.close, candle.trade_count, candle.vwap)
    assert values == ("1.0", "2.0", 4, "1.5")


async def test_a_candle_as_websocket_v2_has_it(writer: Writer, integration: WebSocketDBIntegration) -> None:
    """There ``timestamp`` is the end of the interval."""
    begin = {"interval_begin": "2024-01-01T00:05:00.000000000Z", "timestamp": "2024-01-01T00:10:00.000000Z"}
    await integration.on_ohlc("BTC/USD", OHLC | begin | {"interval": 5})
    (candle,) = writer.candles
    assert (candle.timestamp, candle.interval_minutes) == (datetime(2024, 1, 1, 0, 5, tzinfo=UTC), 5)


async def test_a_candle_stamped_with_its_last_update(
    writer: Writer, integration: WebSocketDBIntegration
) -> None:
    await integration.on_ohlc("BTC/USD", OHLC | {"timestamp": 1704067259.9, "vwap": "0.0"}, interval=5)
    (candle,) = writer.candles
    assert candle.timestamp == datetime(2024, 1, 1, tzinfo=UTC)
    assert candle.vwap is None


async def test_running_candles_are_written_at_the_end(
    writer: Writer, integration: WebSocketDBIntegration
) -> None:
    await integration.on_ohlc("BTC/USD", OHLC)
    await integration.on_ohlc("BTC/USD", OHLC | {"trades": 5})
    await integration.on_ohlc("ETH/USD", OHLC)
    writer.candles.clear()
    await integration.flush_current_candles()
    assert [(candle.symbol, candle.trade_count) for candle in writer.candles] == [
        ("BTC/USD", 5),
        ("ETH/USD", 4),
    ]
    assert writer.flushed == 1


# --- handlers ---


class Asynchronous:
    def __init__(self) -> None:
        self.seen: list[Any] = []

    async def on_trade(self, symbol: str, data: dict[str, Any]) -> str:
        self.seen.append((symbol, data))
        return "async"

    async def on_ohlc(self, symbol: str, data: dict[str, Any], interval: int = 1) -> int:
        self.seen.append((symbol, data, interval))
        return interval


class Synchronous:
    def __init__(self) -> None:
        self.seen: list[Any] = []

    def on_trade(self, symbol: str, data: dict[str, Any]) -> str:
        self.seen.append((symbol, data))
        return "sync"

    def on_ohlc(self, symbol: str, data: dict[str, Any], interval: int = 1) -> int:
        self.seen.append((symbol, data, interval))
        return interval


async def test_a_client_with_asynchronous_handlers(writer: Writer) -> None:
    client = Asynchronous()
    integrate_db_writer(client, writer)
    assert inspect.iscoroutinefunction(client.on_trade)
    assert await client.on_trade("BTC/USD", TRADE) == "async"
    assert await client.on_ohlc("BTC/USD", OHLC, 5) == 5
    assert await client.on_ohlc("BTC/USD", data=OHLC, interval=15) == 15
    assert client.seen == [("BTC/USD", TRADE), ("BTC/USD", OHLC, 5), ("BTC/USD", OHLC, 15)]
    assert (len(writer.trades), [c.interval_minutes for c in writer.candles]) == (1, [5, 15])


def test_a_client_with_synchronous_handlers(writer: Writer) -> None:
    client = Synchronous()
    integrate_db_writer(client, writer)
    assert client.on_trade("BTC/USD", TRADE) == "sync"
    assert client.on_ohlc("BTC/USD", OHLC) == 1
    assert client.on_trade(symbol="BTC/USD", data=TRADE) == "sync"
    assert len(client.seen) == 3
    assert (len(writer.trades), len(writer.candles)) == (2, 1)


async def test_a_client_whose_handlers_are_attributes(writer: Writer) -> None:
    class Client:
        on_trade: Any = None
        on_ohlc: Any = None

    client, seen = Client(), []

    class Callable:
        async def __call__(self, symbol: str, data: Any) -> str:
            seen.append(symbol)
            return "called"

    client.on_trade = Callable()
    integrate_db_writer(client, writer)
    assert await client.on_trade("BTC/USD", TRADE) == "called"
    assert await client.on_ohlc("BTC/USD", OHLC) is None  # there was none
    client.on_ohlc("BTC/USD", OHLC)
    assert (seen, len(writer.trades), len(writer.candles)) == (["BTC/USD"], 1, 2)


async def test_a_failing_database_layer_does_not_reach_the_trading_code(
    writer: Writer, caplog: pytest.LogCaptureFixture
) -> None:
    client = Asynchronous()
    integration = integrate_db_writer(client, writer)
    writer.failure = RuntimeError("broken")
    for _ in range(100):
        assert await client.on_trade("BTC/USD", TRADE) == "async"
    assert await client.on_ohlc("BTC/USD", OHLC) == 1
    await integration.flush_current_candles()
    assert integration.error_count == 102
    assert len(client.seen) == 101
    assert len(caplog.records) == 5


async def test_a_writer_that_does_not_run_does_not_reach_it_either() -> None:
    client = Synchronous()
    integration = integrate_db_writer(client, DatabaseWriter("embedded:"))
    assert client.on_trade("BTC/USD", TRADE) == "sync"
    await integration.flush_current_candles()
    assert integration.error_count == 2


async def test_an_error_of_the_clients_own_handler_is_its_own(writer: Writer) -> None:
    class Client(Synchronous):
        def on_trade(self, symbol: str, data: dict[str, Any]) -> str:
            raise KeyError("mine")

    client = Client()
    integrate_db_writer(client, writer)
    with pytest.raises(KeyError, match="mine"):
        client.on_trade("BTC/USD", TRADE)
    assert len(writer.trades) == 1


async def test_integrating_again_writes_nothing_twice(writer: Writer) -> None:
    client = Synchronous()
    first = integrate_db_writer(client, writer)
    assert integrate_db_writer(client, writer) is first
    client.on_trade("BTC/USD", TRADE)
    assert len(writer.trades) == 1
    client.on_trade = lambda symbol, data: "set later"  # type: ignore[method-assign]
    client.on_trade("BTC/USD", TRADE)
    assert len(writer.trades) == 1  # as documented
    assert integrate_db_writer(client, writer) is first
    assert client.on_trade("BTC/USD", TRADE) == "set later"
    client.on_ohlc("BTC/USD", OHLC)
    assert (len(writer.trades), len(writer.candles)) == (2, 1)


async def test_two_writers_each_get_everything(writer: Writer) -> None:
    client, other = Synchronous(), Writer()
    integrate_db_writer(client, writer)
    integrate_db_writer(client, other)
    client.on_trade("BTC/USD", TRADE)
    assert (len(writer.trades), len(other.trades), len(client.seen)) == (1, 1, 1)


def test_a_client_that_cannot_be_integrated(writer: Writer) -> None:
    class Client:
        __slots__ = ()

        def on_trade(self, symbol: str, data: Any) -> None: ...

    with pytest.raises(ConfigurationError, match="on_trade of Client cannot be set"):
        integrate_db_writer(Client(), writer)


async def test_a_handler_called_in_another_thread(writer: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A synchronous client has a thread of its own; the writer belongs to the event loop."""
    loop = asyncio.get_running_loop()
    monkeypatch.setattr(Writer, "loop", loop)
    client = Synchronous()
    integrate_db_writer(client, writer)
    data = dict(TRADE)

    def receive() -> None:
        assert client.on_trade("BTC/USD", data) == "sync"
        data.clear()  # a client may use its dictionary again

    await asyncio.to_thread(receive)
    await asyncio.sleep(0)
    assert len(writer.trades) == 1
