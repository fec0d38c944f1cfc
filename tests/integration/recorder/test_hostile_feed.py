"""A feed that sends what no exchange sends, between its trades: nothing of it is stored, and all else is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from kraken_db.recorder import RecorderStatus
from tests.support.recording import (
    all_is_there,
    assert_recorded,
    exchange_of,
    is_live,
    market,
    recorder_of,
    recording,
    until,
)

DIGITS = "9" * 400
FRAMES = [
    "", " ", "null", "true", "0", "-1", "1e999", "[]", "{}", "[[]]", '"text"', "{", "}", "[" * 5_000, "nul",
    '{"a":' * 3_000, "\x00", "\ufeff{}", '{"channel":null}', '{"channel":5}', '{"channel":"trade"}',
    '{"channel":"trade","data":null}', '{"channel":"trade","data":{}}', '{"channel":"trade","data":"x"}',
    '{"channel":"trade","data":[null]}', '{"channel":"trade","data":[[]]}', '{"channel":"trade","data":[5]}',
    '{"channel":"trade","type":5,"data":[]}', '{"channel":"trade","type":"update","data":[]}',
    '{"channel":"trade","type":"snapshot","data":[]}', '{"channel":"ohlc","data":[]}', '{"channel":"ohlc"}',
    '{"channel":"ohlc","data":[{}]}', '{"channel":"status","data":[{}]}', '{"channel":"status","data":[]}',
    '{"channel":"status","data":[{"system":"\\u001b]52;c;x"}]}', '{"channel":"heartbeat","data":{}}',
    '{"channel":"status","data":[{"system":"online"}]}', '{"channel":"book","data":[{"bids":[]}]}',
    '{"channel":"trade\\u0000","data":[]}', '{"channel":"x"}', '{"channel":"\\ud800"}', '{"error":""}',
    '{"error":"Currency pair not supported"}', '{"error":"EService:Unavailable","success":false}',
    '{"success":true}', '{"success":false}', '{"success":"yes"}', '{"method":"subscribe"}',
    '{"method":"subscribe","success":true}', '{"method":"subscribe","success":true,"result":null}',
    '{"method":"subscribe","success":true,"result":[]}', '{"method":"subscribe","success":true,"result":{}}',
    '{"method":"subscribe","success":true,"result":{"channel":"trade","symbol":"SOL/USD"},"req_id":1}',
    '{"method":"subscribe","success":true,"result":{"channel":"x","symbol":"BTC/USD"},"req_id":1}',
    '{"method":"subscribe","success":true,"result":{"channel":"ohlc","symbol":"BTC/USD","interval":0}}',
    '{"method":"subscribe","success":false,"error":"x","symbol":"SOL/USD","req_id":99999}',
    '{"method":"pong","req_id":-1}', '{"method":"pong","req_id":"x"}', '{"method":"pong","req_id":1e400}',
    '{"method":"pong","time_out":"9999-12-31T23:59:59-14:00"}', '{"method":"pong","time_out":"0001-01-01"}',
    '{"method":"pong","time_out":"x"}', '{"method":"pong","time_out":5}', '{"method":"\\u001b[31m"}',
    '{"method":"pong","req_id":' + DIGITS + "}", '{"Error":5}', '{"Error":"' + "x" * 100_000 + '"}',
    '{"Error":"\\u202e"}', '{"channel":"trade","channel":"trade"}', '{"' + "k" * 100_000 + '":1}',
]  # fmt: skip
VALUES: dict[str, list[Any]] = {
    "symbol": [
        None, 5, "", " ", "BTC", "BTC/", "/USD", "BTC/USD/EUR", "btc/usd", "XBT/USD ", "BTC\x00/USD",
        "../../x", "A" * 10_000, "\u202eDSU/CTB", ["BTC/USD"], {"a": 1}, True, "SOL/USD", "BTC/USD\n",
        "\ud800",
    ],
    "side": [None, 0, "", "b", "s", "BUY", "Buy", "hold", "buy ", "buy\x00", [], {}, True, "x" * 50_000],
    "price": [
        None, "1.5", "", 0, -1, -0.0, 1e-400, 1e400, "NaN", "Infinity", True, [], {}, [1.5], "0x10",
        -1e-10, "١",
    ],
    "qty": [
        None, "2", "", 0, -2, -0.0, 1e-400, 1e400, "NaN", "inf", False, [], {}, "1_0", -1e-9, "１",
    ],
    "ord_type": [None, 0, "", "m", "MARKET", "stop", "limit\x00", [], {}, "x" * 50_000, True],
    "trade_id": [
        None, "7", 0, -1, 7.5, True, [], {}, 2**62 + 1, 2**63, 2**64, 10**30, -(2**63), "", 1e300, "x" * 999,
        2**61, 2**53, 10**12, 10**9, 10**15, 2**60, 2**59, 2**58, 2**57, 2**56, 1.5e10, "0", "²",
        [1], {"": 1},
    ],
    "timestamp": [
        None, 0, "", "now", "2026-03-01", "2026-03-01T10:02:00", "10:02", "2026-02-30T00:00:00Z", 1e12,
        "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "2026-03-01T25:00:00Z", True, [], {},
        "2026-03-01T10:02:00+99:99", "1969-12-31T23:59:59Z", "2300-01-01T00:00:00Z", "٢٠٢٦-٠٣-٠١T00:00:00Z",
        "x" * 50_000, "-2026-03-01T00:00:00Z", "\x00",
    ],
}  # fmt: skip


def hostile(moment: datetime) -> Iterator[str]:
    yield from FRAMES
    right = {"symbol": "BTC/USD", "side": "buy", "price": 1.5, "qty": 2.0, "ord_type": "limit"}
    right |= {"trade_id": 2**62, "timestamp": moment.isoformat()}
    for name, values in VALUES.items():
        for value in values:
            row = right | {name: value}
            yield json.dumps({"channel": "trade", "type": "update", "data": [row]})
        missing = {key: value for key, value in right.items() if key != name}
        yield json.dumps({"channel": "trade", "type": "update", "data": [missing]})


async def test_what_no_exchange_sends(plain_url: str, tmp_path: Path) -> None:
    one, other = market(trades=2_500), market("ETH/USD", trades=2_500)
    exchange, clock = exchange_of(one, other)
    frames = list(hostile(clock.now() + timedelta(seconds=1)))
    assert len(frames) >= 200
    async with exchange.serve() as base_url:
        recorder = recorder_of(plain_url, base_url, clock, [one.symbol, other.symbol], tmp_path)
        async with recording(recorder) as running:
            await until(recorder, is_live, running)
            clock.go()
            for number, frame in enumerate(frames):
                come = 20 + number // 4

                def enough(status: RecorderStatus, come: int = come) -> bool:
                    return status.received >= come

                await until(recorder, enough, running)
                exchange.feed._to_all(lambda socket, frame=frame: socket.send(frame))  # type: ignore[misc]
            await until(recorder, all_is_there(one, other), running)
            status = recorder.status()
        assert not recorder.is_flawed
        assert status.malformed >= 150
    for wanted in (one, other):
        (pair,) = [pair for pair in recorder.status().pairs if pair.symbol == wanted.symbol]
        assert pair.last_id is not None
        await assert_recorded(plain_url, wanted, pair.last_id - pair.received - pair.repaired + 1)
