"""``--symbols A B C``: several values after one option, also beside paths."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from kraken_db.cli.moments import interval_options, range_options
from kraken_db.cli.options import (
    MultiValueCommand,
    exclude_option,
    one_pair_options,
    pair_options,
    stored_option,
    symbols_option,
)
from kraken_db.intervals import Interval


@click.command(cls=MultiValueCommand)
@click.argument("paths", nargs=-1)
@click.option("--dir", "directory")
@click.option("--all", "everything", is_flag=True)
@symbols_option("Which.")
def with_paths(
    paths: tuple[str, ...], directory: str | None, everything: bool, symbols: tuple[str, ...] | None
) -> None:
    click.echo(f"{list(paths)} {directory} {everything} {symbols}")


@click.command(cls=MultiValueCommand)
@click.option("--resume", is_flag=True)
@symbols_option("Which.")
def without_paths(resume: bool, symbols: tuple[str, ...] | None) -> None:
    click.echo(f"{resume} {symbols}")


@click.command(cls=MultiValueCommand)
@click.option("--all", "everything", is_flag=True)
@pair_options("Which.", required=True)
@exclude_option
@stored_option
def with_arguments(
    everything: bool, symbols: tuple[str, ...] | None, exclude: tuple[str, ...], stored: bool
) -> None:
    click.echo(f"{everything} {list(symbols or ())} {list(exclude)} {stored}")


@click.command(cls=MultiValueCommand)
@pair_options("Which.", stored_adds=True)
@stored_option
def recording(symbols: tuple[str, ...] | None, stored: bool) -> None:
    click.echo(f"{symbols} {stored}")


@click.command(cls=MultiValueCommand)
@one_pair_options
@range_options("From.", "To.")
def one_pair(symbol: str, since: datetime | None, until: datetime | None) -> None:
    click.echo(f"{symbol} {since:%Y-%m-%d} {until:%Y-%m-%d}" if since and until else symbol)


@click.command(cls=MultiValueCommand)
@click.argument("paths", nargs=-1)
@symbols_option("Which.")
@exclude_option
def with_both(paths: tuple[str, ...], symbols: tuple[str, ...] | None, exclude: tuple[str, ...]) -> None:
    click.echo(f"{list(paths)} {symbols} {list(exclude)}")


@click.command()
@symbols_option("Which.")
def with_patterns(symbols: tuple[str, ...] | None) -> None:
    click.echo(str(symbols))


BOTH = "('BTC/USDC', 'ETH/USDC')"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("", "[] None False None"),
        ("--symbols BTC/USDC ETH/USDC --dir X", f"[] X False {BOTH}"),
        ("--dir X --symbols BTC/USDC ETH/USDC", f"[] X False {BOTH}"),
        ("--symbols BTC/USDC,ETH/USDC", f"[] None False {BOTH}"),
        ("--symbols BTC/USDC, ETH/USDC", f"[] None False {BOTH}"),
        ("--symbols BTC/USDC --symbols ETH/USDC", f"[] None False {BOTH}"),
        ("--symbols=BTC/USDC --symbols=ETH/USDC", f"[] None False {BOTH}"),
        ("--symbols BTC/USDC --all --symbols ETH/USDC", f"[] None True {BOTH}"),
        ("--symbols xbtusdc ETH-USDC btc/usdc", f"[] None False {BOTH}"),
        ("file.zip --symbols BTC/USDC", "['file.zip'] None False ('BTC/USDC',)"),
        ("--symbols BTC/USDC file.zip", "['file.zip'] None False ('BTC/USDC',)"),
        ("--symbols BTC/USDC ETH/USDC ./a b/c.csv", f"['./a', 'b/c.csv'] None False {BOTH}"),
        ("--symbols BTC/USDC data/kraken", "['data/kraken'] None False ('BTC/USDC',)"),
        ("a.zip --symbols BTC/USDC ETH/USDC b.zip", f"['a.zip', 'b.zip'] None False {BOTH}"),
        ("--symbols BTC/USDC -- ETH/USDC", "['ETH/USDC'] None False ('BTC/USDC',)"),
        ("-- --symbols", "['--symbols'] None False None"),
    ],
)
def test_symbols_beside_paths(line: str, expected: str) -> None:
    done = CliRunner().invoke(with_paths, line.split())
    assert done.output.strip() == expected


def test_what_exists_is_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ETH" / "USD").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(with_paths, ["--symbols", "BTC/USD", "ETH/USD"])
    assert done.output.strip() == "['ETH/USD'] None False ('BTC/USD',)"


def test_without_paths_every_value_is_a_symbol() -> None:
    done = CliRunner().invoke(without_paths, ["--symbols", "XRP/USDT", "FOO/BAR", "--resume"])
    assert done.output.strip() == "True ('XRP/USDT', 'FOO/BAR')"


@pytest.mark.parametrize("line", ["--symbols", "--symbols --resume", "--symbols --"])
def test_at_least_one_value_is_needed(line: str) -> None:
    done = CliRunner().invoke(without_paths, line.split())
    assert done.exit_code == 2
    assert "--symbols' needs at least one symbol" in done.output


def test_what_is_no_pair_is_refused() -> None:
    done = CliRunner().invoke(without_paths, ["--symbols", "XRP/USDT", "nonsense"])
    assert done.exit_code == 2
    assert "'NONSENSE' is not a pair" in done.output


def test_patterns_with_a_dot() -> None:
    done = CliRunner().invoke(with_patterns, ["--symbols", "eth2.*/eth,eth2.s/eth"])
    assert done.output == "('ETH2.*/ETH', 'ETH2.S/ETH')\n"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("*/USD xbtusd --all", "True ['*/USD', 'BTC/USD'] [] False"),
        ("*x/usd AAPLx/USD aaplx/*", "False ['*x/USD', 'AAPLx/USD', 'AAPLX/*'] [] False"),
        ("* --exclude XRP/* doge/btc --all", "True ['*'] ['XRP/*', 'DOGE/BTC'] False"),
        ("--stored --exclude XRP/*,*/EUR", "False [] ['XRP/*', '*/EUR'] True"),
        ("--exclude XRP/* --stored", "False [] ['XRP/*'] True"),
        ("--symbols xbtusd ETH/USD --all", "True ['BTC/USD', 'ETH/USD'] [] False"),
        ("xbtusd --symbols ETH/USD,BTC/USD", "False ['BTC/USD', 'ETH/USD'] [] False"),
        ("BTC/USD,ETH/USD XRP/*", "False ['BTC/USD', 'ETH/USD', 'XRP/*'] [] False"),
        ("--symbols BTC/USD --exclude XRP/* -- ETH/USD", "False ['ETH/USD', 'BTC/USD'] ['XRP/*'] False"),
    ],
)
def test_symbols_as_arguments(line: str, expected: str) -> None:
    done = CliRunner().invoke(with_arguments, line.split())
    assert done.output.strip() == expected


def test_arguments_that_are_missing() -> None:
    done = CliRunner().invoke(with_arguments, ["--exclude", "XRP/*"])
    assert done.exit_code == 2
    assert "Missing argument 'SYMBOL...' (or --stored)" in done.output


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("a.zip --symbols */USD XRP/* --exclude *x/USD", "['a.zip'] ('*/USD', 'XRP/*') ['*x/USD']"),
        ("--exclude XRP/* --symbols * a.zip", "['a.zip'] ('*',) ['XRP/*']"),
        ("--symbols XRP/* */XBT a.zip ../*", "['a.zip', '../*'] ('XRP/*', '*/XBT') []"),
        ("--exclude XRP/* data/*.csv", "['data/*.csv'] None ['XRP/*']"),
    ],
)
def test_patterns_beside_paths(line: str, expected: str) -> None:
    done = CliRunner().invoke(with_both, line.split())
    assert done.output.strip() == expected


def test_what_is_no_pattern_is_refused() -> None:
    done = CliRunner().invoke(with_patterns, ["--symbols", "XRP/*/x"])
    assert done.exit_code == 2
    assert "'XRP/*/x' is not a pattern of pairs" in done.output


@pytest.mark.parametrize("line", ["BTC/USD --stored", "--symbols BTC/USD --stored"])
def test_stored_means_all_of_them(line: str) -> None:
    done = CliRunner().invoke(with_arguments, line.split())
    assert done.exit_code == 2
    assert "--stored cannot be combined with" in done.output
    assert CliRunner().invoke(recording, line.split()).output == "('BTC/USD',) True\n"


def test_no_pair_is_none() -> None:
    assert CliRunner().invoke(recording, []).output == "None False\n"


@pytest.mark.parametrize("line", ["xbtusd", "--symbols BTC/USD", "BTC/USD --symbols btc-usd"])
def test_one_pair_as_argument_and_as_option(line: str) -> None:
    assert CliRunner().invoke(one_pair, line.split()).output == "BTC/USD\n"


@pytest.mark.parametrize("first", ["--since", "--start"])
@pytest.mark.parametrize("last", ["--until", "--end"])
def test_both_names_of_a_range(first: str, last: str) -> None:
    done = CliRunner().invoke(one_pair, ["BTC/USD", first, "2023", last, "2024-02"])
    assert done.output == "BTC/USD 2023-01-01 2024-02-01\n"
    done = CliRunner().invoke(one_pair, ["BTC/USD", first, "2024", last, "2023"])
    assert done.exit_code == 2
    assert f"{first} is not before {last}" in done.output


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ("2026-11-20 15:00", "15:00"),
        ("2026-11-20 9:30 Europe/Berlin", "9:30"),
        ("yesterday 15:30", "15:30"),
    ],
)
def test_a_time_without_its_quotes_is_no_pair(words: str, named: str) -> None:
    result = CliRunner().invoke(one_pair, ["BTC/USD", "--since", *words.split()])
    assert result.exit_code == 2
    assert f"{named!r} is part of a time, and no pair; put a time with a blank in quotes:" in result.output


@click.command(cls=MultiValueCommand)
@pair_options("Which.")
@interval_options("Which.", name="intervals", multiple=True)
def several(symbols: tuple[str, ...] | None, intervals: tuple[Interval, ...]) -> None:
    click.echo(f"{symbols} {[str(one) for one in intervals]}")


def test_several_intervals_are_one_word_or_repeated() -> None:
    def run(*words: str) -> str:
        return CliRunner().invoke(several, ["BTC/USD", *words]).output

    both = "('BTC/USD',) ['1h', '1d']\n"
    assert run("-i", "1h,1d") == run("-i", "1h", "-i", "1d") == run("--interval", "1h, 1d,1h") == both
    assert run("-i", "1h,1d", "--tz", "Europe/Berlin").endswith("['1h', '1d Europe/Berlin']\n")
    assert "'1d' is an interval, and no pair; several intervals are one word: -i 1h,1d" in run(
        "-i", "1h", "1d"
    )
    assert "there is no interval '1x'" in run("-i", "1h,1x")
    assert "Invalid value for '-i'" in run("-i", ",")


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--tz", "Berlin"], "'--tz': there is no time zone 'Berlin'; did you mean Europe/Berlin?"),
        (["--tz", "new york"], "'--tz': there is no time zone 'new york'; did you mean America/New_York?"),
        (["--tz", "+1"], "'--tz': there is no time zone '+1'; Write an IANA name such as Europe/Berlin"),
        (["--session", "noon"], "'--session': a day cannot begin at 'noon'"),
        (["--anchor", "monday"], "'--anchor': 'monday' is no anchor"),
    ],
)
def test_a_wrong_zone_is_wrong_in_its_own_option(words: list[str], why: str) -> None:
    result = CliRunner().invoke(several, ["BTC/USD", "-i", "1d", *words])
    assert result.exit_code == 2
    assert why in result.output
