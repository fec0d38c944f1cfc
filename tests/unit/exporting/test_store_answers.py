"""What object stores answer, where it is not what one would expect."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from kraken_db.exporting.stores import Bucket, _cause

pytest.importorskip("obstore")


@pytest.fixture
def azure(monkeypatch: pytest.MonkeyPatch) -> Bucket:
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "account")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "a2V5")
    return Bucket("az://container/history")


@pytest.mark.parametrize("tag", ["0x8DC583FA3C7F2C0", '"0x8DC583FA3C7F2C0"'])
def test_azures_lists_and_its_other_answers_name_the_same_version(azure: Bucket, tag: str) -> None:
    found = azure._held({"e_tag": tag, "size": 1, "last_modified": datetime(2026, 1, 1, tzinfo=UTC)})
    assert found.tag == '"0x8DC583FA3C7F2C0"'


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("operation timed out, retry_timeout: 120s", "it does not answer in time"),
        ("builder error (http://store/x): URL scheme is not allowed, retry_timeout: 120s", "without TLS"),
        ("error sending request, retry_timeout: 120s", "the request failed"),
    ],
)
def test_the_settings_in_an_error_are_not_its_cause(text: str, told: str) -> None:
    assert told in _cause(OSError(text))
