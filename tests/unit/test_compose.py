"""docker-compose.yml: what it promises, read without Docker."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.lanes import timescale

COMPOSE = Path(__file__).parents[2] / "docker-compose.yml"


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())["services"]
    return found


def settings(service: dict[str, Any]) -> dict[str, str]:
    program, *arguments = service["command"]
    assert program == "postgres"
    assert set(arguments[::2]) == {"-c"}
    return dict(argument.split("=", 1) for argument in arguments[1::2])


def test_the_image_is_pinned_and_the_one_that_tests_use(services: dict[str, Any]) -> None:
    image = services["timescaledb"]["image"]
    assert re.fullmatch(r"timescale/timescaledb:\d+\.\d+\.\d+-pg\d+", image)
    assert timescale._image() == image
    assert all(re.search(r":v?\d", service.get("image", ":0")) for service in services.values())
    assert [name for name, service in services.items() if "image" not in service] == ["recorder"]


def test_every_port_is_open_to_this_machine_only(services: dict[str, Any]) -> None:
    assert services["timescaledb"]["ports"] == ["127.0.0.1:5433:5432"]
    for name, service in services.items():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
        assert ("network_mode" in service) == (name in ("prometheus", "grafana"))
    assert "--web.listen-address=127.0.0.1:9090" in services["prometheus"]["command"]
    assert services["grafana"]["environment"]["GF_SERVER_HTTP_ADDR"] == "127.0.0.1"


def test_metrics_are_set_up_by_what_is_in_deploy(services: dict[str, Any]) -> None:
    names = ("prometheus", "grafana")
    assert all(services[name]["profiles"] == ["metrics"] for name in names)
    folders = [volume.split(":")[0] for name in names for volume in services[name]["volumes"]]
    mounted = [COMPOSE.parent / folder for folder in folders if folder.startswith("./")]
    assert all(folder.is_dir() for folder in mounted)
    wanted = {
        name
        for file in (COMPOSE.parent / "deploy/grafana/provisioning").rglob("*.yml")
        for name in re.findall(r"\$(\w+)", file.read_text())
    }
    assert wanted <= set(services["grafana"]["environment"])


def test_names_are_those_of_the_documented_addresses(services: dict[str, Any]) -> None:
    environment = services["timescaledb"]["environment"]
    assert environment["POSTGRES_USER"] == "trading"
    assert environment["POSTGRES_DB"] == "kraken_data"


def test_passwords_are_required_and_have_no_default(services: dict[str, Any]) -> None:
    passwords = {
        name: value
        for service in services.values()
        for name, value in service.get("environment", {}).items()
        if "PASSWORD" in name
    }
    # Grafana's role can do nothing before it is made, so it has none until then.
    assert passwords.pop("KRAKEN_DB_PASSWORD") == "${GRAFANA_DB_PASSWORD:-}"
    pgadmin = passwords["PGADMIN_DEFAULT_PASSWORD"]
    assert passwords.pop("GF_SECURITY_ADMIN_PASSWORD") == f"${{GRAFANA_PASSWORD:-{pgadmin}}}"
    required = {name: re.fullmatch(r"\$\{(\w+):\?[^}]+\}", value) for name, value in passwords.items()}
    assert {name: found and found[1] for name, found in required.items()} == {
        "POSTGRES_PASSWORD": "DB_PASSWORD",
        "PGPASSWORD": "DB_PASSWORD",
        "PGADMIN_DEFAULT_PASSWORD": "PGADMIN_PASSWORD",
    }


def test_the_server_is_set_up_for_long_histories(services: dict[str, Any]) -> None:
    found = settings(services["timescaledb"])
    assert found["max_locks_per_transaction"] == "1024"
    # Twelve policies; each worker of TimescaleDB's and of a parallel query is one of all workers.
    jobs, parallel = int(found["timescaledb.max_background_workers"]), int(found["max_parallel_workers"])
    assert jobs >= 12
    assert int(found["max_worker_processes"]) > jobs + parallel


def test_data_outlives_the_container_and_its_health_is_looked_at(services: dict[str, Any]) -> None:
    document = yaml.safe_load(COMPOSE.read_text())
    (volume,) = services["timescaledb"]["volumes"]
    name, _, folder = volume.partition(":")
    assert name in document["volumes"]
    assert folder == "/var/lib/postgresql/data"
    assert "pg_isready" in services["timescaledb"]["healthcheck"]["test"]


def test_pgadmin_starts_only_when_it_is_asked_for(services: dict[str, Any]) -> None:
    assert [name for name, service in services.items() if "profiles" not in service] == ["timescaledb"]


def test_the_cluster_listens_on_this_machine_only_and_has_no_password() -> None:
    text = COMPOSE.with_name("docker-compose.citus.yml").read_text()
    nodes: dict[str, Any] = yaml.safe_load(text)["services"]
    assert set(nodes) == {"coordinator", "worker-1", "worker-2"}
    ports = [port for node in nodes.values() for port in node["ports"]]
    assert all(port.startswith("127.0.0.1:") and port.endswith(":5432") for port in ports)
    assert re.search(r":\d+\.\d+$", nodes["coordinator"]["image"])
    assert all("${DB_PASSWORD:?" in node["environment"]["POSTGRES_PASSWORD"] for node in nodes.values())
    assert all(int(settings(node)["max_prepared_transactions"]) >= 300 for node in nodes.values())
