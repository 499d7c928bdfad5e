"""The server's configuration."""

from __future__ import annotations

from pathlib import Path

import pytest

from cloud_api.config import CloudConfig, database_url, load_config
from domain.errors import InvalidConfig, OperatorError


def test_without_a_file_the_defaults_hold() -> None:
    assert load_config(None, {}) == CloudConfig()


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text('[cloud]\nlog_level = "debug"\n[cloud.server]\nport = 9000\ntrusted_hosts = ["school.example"]\n')
    config = load_config(None, {"CARREL_CONFIG": str(path), "CARREL_CLOUD_SERVER_PORT": "9001"})
    assert (config.log_level, config.server.port, config.server.trusted_hosts) == ("debug", 9001, ("school.example",))


def test_all_problems_are_reported_together() -> None:
    with pytest.raises(InvalidConfig) as refused:
        load_config(None, {"CARREL_CLOUD_SERVER_PORT": "70000", "CARREL_CLOUD_DATABASE_WAIT_S": "never", "CARREL_CLOUD_PASSWORD": "x"})
    assert {p.path for p in refused.value.problems} == {
        "CARREL_CLOUD_SERVER_PORT",
        "CARREL_CLOUD_DATABASE_WAIT_S",
        "CARREL_CLOUD_PASSWORD",
    }


def test_the_databases_address_comes_from_the_environment_alone() -> None:
    assert database_url({"DATABASE_URL": "postgresql://db/carrel"}) == "postgresql://db/carrel"
    with pytest.raises(OperatorError):
        database_url({})
