"""deploy/systemd: what systemd says of the units, and whether the commands in them exist."""

from __future__ import annotations

import configparser
import shlex
import shutil
import subprocess
from pathlib import Path

import click
import pytest

from kraken_db.cli import cli

UNITS = Path(__file__).parents[2] / "deploy" / "systemd"
SERVICES = sorted(UNITS.glob("*.service"))
TIMERS = sorted(UNITS.glob("*.timer"))
PROGRAM = "/opt/kraken-db/bin/kraken-db"
HIGHEST_EXPOSURE = 20  # tenths: systemd calls up to 2.0 "OK"
needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed"
)


def read(unit: Path) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # names of settings have capitals
    parser.read(unit)
    return parser


def commands(unit: Path) -> list[str]:
    settings = read(unit)["Service"]
    return [settings[name] for name in ("ExecStart", "ExecStop") if name in settings]


def test_there_are_units() -> None:
    assert {unit.stem for unit in SERVICES} >= {f"kraken-db-{name}" for name in ("recorder", "check", "gaps")}
    assert {unit.stem for unit in TIMERS} < {unit.stem for unit in SERVICES}, "each timer has its service"


@pytest.mark.parametrize("unit", SERVICES, ids=lambda unit: unit.name)
def test_the_command_line_takes_what_a_unit_starts(unit: Path) -> None:
    for line in commands(unit):
        program, *words = shlex.split(line)
        assert program == PROGRAM
        command: click.Command = cli
        context = click.Context(cli, info_name="kraken-db")
        while isinstance(command, click.Group):
            found = command.get_command(context, words.pop(0))
            assert found is not None, line
            command = found
        known = {name for option in command.params for name in (*option.opts, *option.secondary_opts)}
        assert {word for word in words if word.startswith("-")} <= known, line


@pytest.mark.parametrize("unit", SERVICES, ids=lambda unit: unit.name)
def test_what_each_unit_has(unit: Path) -> None:
    settings, text = read(unit), unit.read_text()
    service = settings["Service"]
    assert settings["Unit"]["StartLimitIntervalSec"] == "0", "or it stays off after some failures"
    assert (service["User"], service["KillMode"]) == ("krakendb", "mixed")
    assert service["EnvironmentFile"] == "-/etc/kraken-db/environment"
    assert "RemoveIPC=yes" not in text, "it would take the embedded database's shared memory away"
    assert "KRAKEN_DB_CONFIG=/etc/kraken-db/config.toml" in text
    if "recorder" in unit.name:
        assert (service["Restart"], service["RestartSec"]) == ("always", "5")
    if "database" not in unit.name:
        assert {"network-online.target", "postgresql.service"} <= set(settings["Unit"]["After"].split())


@needs_systemd
def test_systemd_understands_them(tmp_path: Path) -> None:
    for unit in (*SERVICES, *TIMERS):
        # It looks whether the program is there.
        (tmp_path / unit.name).write_text(unit.read_text().replace(PROGRAM, "/bin/true"))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *sorted(tmp_path.iterdir())],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@needs_systemd
@pytest.mark.parametrize("unit", SERVICES, ids=lambda unit: unit.name)
def test_little_is_open_to_them(unit: Path) -> None:
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=yes", f"--threshold={HIGHEST_EXPOSURE}", str(unit)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout
