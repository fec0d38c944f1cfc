"""The alert rules of ``deploy/prometheus``: Prometheus takes them, and each fires when it should."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.prometheus import DEPLOY, RULES, promtool

# By alert: series that fire it, as promtool writes them (a value a minute), after how many minutes, and
# series of the same metric that do not.
CASES: dict[str, tuple[dict[str, str], int, dict[str, str]]] = {
    "KrakenDbDown": ({'up{job="kraken-db"}': "0x10"}, 3, {'up{job="kraken-db"}': "1x10"}),
    "KrakenDbFeedLost": (
        {"kraken_db_recorder_connected": "1 1 0x10"},
        6,
        {"kraken_db_recorder_connected": "1 0 1 0 1 0 1 0 1 0"},
    ),
    "KrakenDbDatabaseAway": (
        {"kraken_db_recorder_database_available": "0x10"},
        3,
        {"kraken_db_recorder_database_available": "1x10"},
    ),
    "KrakenDbRecordsLost": (
        {'kraken_db_records_not_stored_total{why="dropped"}': "0 0 0 5 5 5 5 5"},
        6,
        {'kraken_db_records_not_stored_total{why="dropped"}': "5x10"},
    ),
    "KrakenDbDiskFull": (
        {"kraken_db_disk_usable_bytes": "0x10"},
        3,
        {"kraken_db_disk_usable_bytes": "1000000x10"},
    ),
    "KrakenDbDiskFillsUp": (
        {"kraken_db_disk_usable_bytes": "10000000000-5000000x100"},
        90,
        {"kraken_db_disk_usable_bytes": "10000000000-1000x100"},
    ),
    "KrakenDbPairsNotLive": (
        {'kraken_db_recorder_pairs{state="refused"}': "1x30"},
        16,
        {
            'kraken_db_recorder_pairs{state="live"}': "5x30",
            'kraken_db_recorder_pairs{state="refused"}': "0x30",
        },
    ),
    "KrakenDbFeedLags": (
        {"kraken_db_recorder_feed_lag_seconds": "31x10"},
        6,
        {"kraken_db_recorder_feed_lag_seconds": "1x10"},
    ),
    "KrakenDbJournalGrows": (
        {"kraken_db_recorder_journal_records": "10+100x40"},
        25,
        {"kraken_db_recorder_journal_records": "1000-10x40"},
    ),
    "KrakenDbFlushIsSlow": (
        {
            'kraken_db_flush_duration_seconds_bucket{data="trades",le="2.5"}': "0x40",
            'kraken_db_flush_duration_seconds_bucket{data="trades",le="5.0"}': "0+10x40",
            'kraken_db_flush_duration_seconds_bucket{data="trades",le="+Inf"}': "0+10x40",
        },
        30,
        {
            'kraken_db_flush_duration_seconds_bucket{data="trades",le="0.1"}': "0+10x40",
            'kraken_db_flush_duration_seconds_bucket{data="trades",le="+Inf"}': "0+10x40",
        },
    ),
    "KrakenDbThrottled": (
        {
            'kraken_db_rest_requests_total{method="Trades",outcome="throttled"}': "0+60x60",
            'kraken_db_rest_requests_total{method="Trades",outcome="answered"}': "0+30x60",
        },
        40,
        {
            'kraken_db_rest_requests_total{method="Trades",outcome="throttled"}': "0+1x60",
            'kraken_db_rest_requests_total{method="Trades",outcome="answered"}': "0+30x60",
        },
    ),
    "KrakenDbGaps": (
        {'kraken_db_store_gaps{symbol="BTC/USD",data_type="trades"}': "2x40"},
        31,
        {'kraken_db_store_gaps{symbol="BTC/USD",data_type="trades"}': "0x40"},
    ),
    "KrakenDbProblems": ({"kraken_db_store_problems": "1x20"}, 16, {"kraken_db_store_problems": "0x20"}),
    "KrakenDbMetricsMissing": (
        {'kraken_db_source_up{source="store"}': "0x10"},
        6,
        {'kraken_db_source_up{source="store"}': "1x10"},
    ),
}


def rules() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = yaml.safe_load(RULES.read_text())["groups"][0]["rules"]
    return found


def test_prometheus_takes_them() -> None:
    promtool("check", "rules", "--lint-fatal", RULES)
    promtool("check", "config", "prometheus.yml", cwd=DEPLOY / "prometheus")


def test_each_has_its_case_and_says_what_to_do() -> None:
    assert {rule["alert"] for rule in rules()} == set(CASES)
    for rule in rules():
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert set(rule["annotations"]) == {"summary", "action"}


@pytest.mark.parametrize("alert", CASES)
@pytest.mark.parametrize("is_wrong", [True, False], ids=["fires", "is quiet"])
def test_each_fires_when_it_should(alert: str, is_wrong: bool, tmp_path: Path) -> None:
    bad, minutes, well = CASES[alert]
    series = [{"series": name, "values": values} for name, values in (bad if is_wrong else well).items()]
    test = {
        "interval": "1m",
        "input_series": series,
        "promql_expr_test": [
            {
                "expr": f'count(ALERTS{{alertname="{alert}",alertstate="firing"}}) or vector(0)',
                "eval_time": f"{minutes}m",
                "exp_samples": [{"labels": "{}", "value": int(is_wrong)}],
            }
        ],
    }
    document = {"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": [test]}
    (tmp_path / "test.yml").write_text(yaml.safe_dump(document))
    promtool("test", "rules", tmp_path / "test.yml")
