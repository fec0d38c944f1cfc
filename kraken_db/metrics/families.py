"""Each number that we tell, with its name, unit and labels: by Prometheus' conventions.

https://prometheus.io/docs/practices/naming/. A counter begins at 0 with the process; what is told of the
store is the same from each process, so that boards take its maximum, not the sum.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, get_args

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)

import kraken_db
from kraken_db.durations import BOUNDS, Durations
from kraken_db.recorder.symbol_feed import State
from kraken_db.status import problems

if TYPE_CHECKING:
    from kraken_db.db.engine import PoolUse
    from kraken_db.kraken.request_counts import RequestCounts
    from kraken_db.progress import Overview
    from kraken_db.recorder import Recorder, RecorderStatus
    from kraken_db.status import StoreStatus

PREFIX = "kraken_db"


def about() -> Iterator[Metric]:
    info = InfoMetricFamily(f"{PREFIX}_build", "The version of kraken-db.")
    info.add_metric([], {"version": kraken_db.__version__})
    yield info


def of_requests(requests: RequestCounts) -> Iterator[Metric]:
    """What was asked of Kraken's REST."""
    counter = CounterMetricFamily(
        f"{PREFIX}_rest_requests",
        "Attempts to ask Kraken's REST, by what came of them: answered, throttled, refused, failed.",
        labels=["method", "outcome"],
    )
    for (method, outcome), count in sorted(requests.by_method.items()):
        counter.add_metric([method, outcome], count)
    yield counter
    yield _histogram(
        "rest_request_duration_seconds",
        "From a question to Kraken's REST to the end of the answer.",
        "method",
        requests.durations,
    )


def of_pools(pools: Mapping[str, PoolUse | None]) -> Iterator[Metric]:
    """Connections to the database, by what they are for."""
    in_use = _gauge("database_connections_in_use", "Connections in use at this moment.", "pool")
    limit = _gauge("database_connections_limit", "Connections that may be in use at once.", "pool")
    for name, use in pools.items():
        if use is not None:
            in_use.add_metric([name], use.in_use)
            limit.add_metric([name], use.limit)
    yield from (in_use, limit)


def of_recorder(recorder: Recorder) -> Iterator[Metric]:
    """A recording. It may be waiting for its beginning."""
    status = recorder.status()
    yield from _of_recording(status)
    yield from _of_pairs(status)
    yield from _of_writer(recorder.writer_statistics)
    yield _histogram(
        "flush_duration_seconds",
        "Transactions that have stored what was received.",
        "data",
        recorder.flush_durations,
    )
    yield from of_requests(recorder.requests)
    yield from of_pools(recorder.pools)


def _of_recording(status: RecorderStatus) -> Iterator[Metric]:
    yield _single("recorder_connected", "Whether the live feed is connected.", status.is_connected)
    yield _single(
        "recorder_database_available", "Whether the database takes rows.", status.database_outage is None
    )
    yield _counter("recorder_reconnects", "Connections to the live feed after the first.", status.reconnects)
    yield _counter("recorder_malformed", "Frames and trades that were left out.", status.malformed)
    yield _counter("recorder_candle_closings", "Times that minutes were closed.", status.minutes)
    yield _single("recorder_buffered_records", "Records that wait in memory.", status.buffer)
    yield _single("recorder_journal_records", "Records that wait on disk.", status.journal)
    if status.lag is not None:
        yield _single(
            "recorder_feed_lag_seconds",
            "From a trade to its arrival, the longest of the last 10 s; absent without a trade.",
            status.lag,
        )


def _of_pairs(status: RecorderStatus) -> Iterator[Metric]:
    states = _gauge("recorder_pairs", "Pairs of the recording by their state.", "state")
    found = Counter(pair.state for pair in status.pairs)
    for state in get_args(State):
        states.add_metric([state.replace(" ", "_")], found[state])
    received = _counters("recorder_trades_received", "Trades of the feed, each once.")
    repaired = _counters("recorder_trades_repaired", "Trades that REST has brought into a hole.")
    holes = _counters("recorder_holes", "Jumps of the ids, each filled through REST.")
    newest = _gauge("recorder_last_trade_timestamp_seconds", "Time of the newest trade.", "symbol")
    waiting = _gauge("recorder_waiting_trades", "Trades that wait behind a hole.", "symbol")
    for pair in status.pairs:
        received.add_metric([pair.symbol], pair.received)
        repaired.add_metric([pair.symbol], pair.repaired)
        holes.add_metric([pair.symbol], pair.holes)
        waiting.add_metric([pair.symbol], pair.waiting)
        if pair.last_time is not None:
            newest.add_metric([pair.symbol], pair.last_time.timestamp())
    yield from (states, received, repaired, holes, newest, waiting)


def _of_writer(statistics: Mapping[str, Any]) -> Iterator[Metric]:
    stored = _counters("records_stored", "Rows that were new or better than the stored ones.", "data")
    stored.add_metric(["trades"], statistics["trades_written"])
    stored.add_metric(["candles"], statistics["candles_written"])
    yield stored
    lost = _counters("records_not_stored", "Records that were rejected, or dropped for want of room.", "why")
    lost.add_metric(["rejected"], statistics["rejected_count"])
    lost.add_metric(["dropped"], statistics["dropped_count"])
    yield lost
    yield _counter("flush_errors", "Attempts to store that failed.", statistics["error_count"])
    yield _single("journal_bytes", "Size of the journals on disk.", statistics["journal_bytes"])


def of_job(kind: str, overview: Overview) -> Iterator[Metric]:
    """A job over pairs, ``kind``: ``backfill`` for example."""
    pairs = _gauge("job_pairs", "Pairs of the job by their state.", "job", "state")
    done = overview.pairs - overview.failed
    waiting = overview.of_pairs - overview.pairs - overview.at_work
    for state, count in (
        ("waiting", max(0, waiting)),
        ("running", overview.at_work),
        ("done", done),
        ("failed", overview.failed),
    ):
        pairs.add_metric([kind, state], count)
    records = _counters("job_records", "Records that the job has been through.", "job")
    records.add_metric([kind], overview.rows)
    expected = _gauge("job_expected_records", "Records in all, as far as is known by now.", "job")
    expected.add_metric([kind], overview.of_rows)
    yield from (pairs, records, expected)


def of_store(status: StoreStatus) -> Iterator[Metric]:
    """What is stored, by symbol and data type, and what is wrong with it."""
    labels = "symbol", "data_type"
    records = _gauge("store_records", "Distinct records ever stored.", *labels)
    newest = _gauge("store_newest_timestamp_seconds", "Time of the newest record.", *labels)
    lag = _gauge("store_lag_seconds", "From the last moment that is known to be complete until now.", *labels)
    gaps = _gauge("store_gaps", "Gaps between what is known to be complete.", *labels)
    missing = _gauge("store_missing_seconds", "How long these gaps are together.", *labels)
    for item in status.data:
        key = [item.symbol, item.data_type]
        records.add_metric(key, item.rows)
        if item.newest is not None:
            newest.add_metric(key, item.newest.timestamp())
        if item.lag is not None:
            lag.add_metric(key, item.lag.total_seconds())
        if item.gaps is not None:
            gaps.add_metric(key, item.gaps)
        if item.missing is not None:
            missing.add_metric(key, item.missing.total_seconds())
    yield from (records, newest, lag, gaps, missing)
    yield from _of_database(status)


def _of_database(status: StoreStatus) -> Iterator[Metric]:
    sizes = _gauge("store_table_size_bytes", "Size of a table with its indexes.", "table")
    for table in status.tables:
        sizes.add_metric([table.table], table.size)
    yield sizes
    yield _single("store_size_bytes", "Size of the whole database.", status.database_size)
    yield _single(
        "store_pending_refreshes", "Ranges not yet in the higher intervals.", status.pending_refreshes
    )
    yield _single("store_stalled_refreshes", "Those of them whose run was killed.", status.stalled_refreshes)
    yield _single("store_problems", "What status --check would report.", len(problems(status)))
    jobs = _gauge("store_jobs", "Recordings, backfills and others: at work, or killed.", "job", "state")
    states = Counter(
        (job.kind, "running" if job.is_alive else "killed")
        for job in status.running
        if job.is_alive or job.is_dead
    )
    for (kind, state), count in sorted(states.items()):
        jobs.add_metric([kind, state], count)
    yield jobs
    if status.disk is not None:
        yield _single("disk_free_bytes", "Free on the disk of the embedded database.", status.disk.free)
        yield _single("disk_usable_bytes", "The same without the reserve.", status.disk.usable)


def _gauge(name: str, text: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"{PREFIX}_{name}", text, labels=labels)


def _single(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"{PREFIX}_{name}", text, value=float(value))


def _counter(name: str, text: str, value: float) -> CounterMetricFamily:
    return CounterMetricFamily(f"{PREFIX}_{name}", text, value=value)


def _counters(name: str, text: str, *labels: str) -> CounterMetricFamily:
    return CounterMetricFamily(f"{PREFIX}_{name}", text, labels=labels or ("symbol",))


def _histogram(name: str, text: str, label: str, durations: Mapping[str, Durations]) -> Metric:
    family = HistogramMetricFamily(f"{PREFIX}_{name}", text, labels=[label])
    for key, found in sorted(durations.items()):
        family.add_metric([key], list(_cumulative(found.counts)), sum_value=found.total)
    return family


def _cumulative(counts: Iterable[int]) -> Iterator[tuple[str, float]]:
    total = 0
    for bound, count in zip((*map(str, BOUNDS), "+Inf"), counts, strict=True):
        total += count
        yield bound, total
