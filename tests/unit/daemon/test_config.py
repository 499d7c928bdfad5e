from __future__ import annotations

import os
import stat
import tomllib
from pathlib import Path

import pytest

from daemon.config import SECTION, DeviceSettings, find_config, find_state_dir, load_config, prepare_folders
from domain.errors import InvalidConfig
from domain.settings import settings_of

CONFIG_TOML = Path(__file__).parents[3] / "config.toml"


def _keys(table: dict[str, object], prefix: str) -> dict[str, object]:
    found: dict[str, object] = {}
    for name, value in table.items():
        path = f"{prefix}.{name}"
        found |= _keys(value, path) if isinstance(value, dict) else {path: value}
    return found


def test_config_toml_shows_every_key_of_the_device_with_its_default() -> None:
    shown = _keys(tomllib.loads(CONFIG_TOML.read_text())[SECTION], SECTION)
    defaults = {s.path: list(s.default) if isinstance(s.default, tuple) else s.default for s in settings_of(DeviceSettings, SECTION)}
    assert shown == defaults
    assert {path: type(value) for path, value in shown.items()} == {path: type(value) for path, value in defaults.items()}


def test_config_toml_says_of_the_live_keys_and_of_no_others_that_they_are_live() -> None:
    live: set[str] = set()
    table, comment = "", ""
    for line in CONFIG_TOML.read_text().splitlines():
        if line.startswith("["):
            table, comment = line.strip("[]"), ""
        elif line.startswith("#"):
            comment += f" {line}"
        elif " = " in line:
            if comment.endswith("Live."):
                live.add(f"{table}.{line.split(' = ')[0]}")
        else:
            comment = ""
    assert {path for path in live if path.startswith(f"{SECTION}.")} == {
        s.path for s in settings_of(DeviceSettings, SECTION) if s.rule.live
    }


def test_config_toml_names_the_unit_of_every_key_that_has_one() -> None:
    text = CONFIG_TOML.read_text()
    words = {
        "s": "second",
        "ms": "millisecond",
        "bytes": "bytes",
        "min": "minutes",
        "h": "hours",
        "days": "in days",
        "of poll_s": "share of it",
    }
    for found in settings_of(DeviceSettings, SECTION):
        if found.rule.unit:
            paragraph = text[: text.index(f"\n{found.path.split('.')[-1]} = ")].rsplit("\n\n", 1)[-1]
            assert words[found.rule.unit] in paragraph, found.path


def test_every_default_keeps_its_own_rule() -> None:
    for found in settings_of(DeviceSettings, SECTION):
        rule, value = found.rule, found.default
        assert rule.minimum is None or value >= rule.minimum, found.path
        assert rule.maximum is None or value <= rule.maximum, found.path
        assert not rule.choices or value in rule.choices, found.path
        assert rule.check is None or rule.check(value) is None, found.path


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_the_loopback_addresses_may_be_listened_on(host: str) -> None:
    assert load_config(None, {"CARREL_DEVICE_API_HOST": host}).api.host == host


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "127.0.0.2", "localhost", "", "127.0.0.1.example.org"])
def test_any_other_address_is_refused(host: str) -> None:
    with pytest.raises(InvalidConfig, match="loopback"):
        load_config(None, {"CARREL_DEVICE_API_HOST": host})


@pytest.mark.parametrize("url", ["https://school.example", "http://10.0.0.5:8751", "http://[::1]:8751", ""])
def test_a_server_address_is_http_with_a_host(url: str) -> None:
    assert load_config(None, {"CARREL_DEVICE_CLOUD_URL": url}).cloud_url == url


@pytest.mark.parametrize("url", ["ftp://a", "school.example", "https://", "https://u:p@a", "https://a?b=c", "http://a:port", "http://[::1"])
def test_any_other_server_address_is_refused(url: str) -> None:
    with pytest.raises(InvalidConfig, match="must be an address"):
        load_config(None, {"CARREL_DEVICE_CLOUD_URL": url})


@pytest.mark.parametrize("origin", ["*", "null", "http://a/path", "a"])
def test_an_allowed_origin_is_an_origin(origin: str) -> None:
    with pytest.raises(InvalidConfig, match="origins"):
        load_config(None, {"CARREL_DEVICE_API_ALLOWED_ORIGINS": f"http://localhost:3000,{origin}"})


def test_database_and_inbox_lie_in_the_state_folder_unless_said_otherwise(tmp_path: Path) -> None:
    config = load_config(None, {"CARREL_DEVICE_STATE_DIR": str(tmp_path)})
    assert (config.database_path, config.inbox_dir) == (tmp_path / "carrel.sqlite3", tmp_path / "inbox")


def test_the_database_url_of_the_environment_wins(tmp_path: Path) -> None:
    environ = {
        "CARREL_DEVICE_STATE_DIR": str(tmp_path),
        "CARREL_DEVICE_DATABASE_PATH": str(tmp_path / "a.sqlite3"),
        "SQLITE_DATABASE_URL": f"sqlite:///{tmp_path}/b.sqlite3",
    }
    assert load_config(None, environ).database_path == tmp_path / "b.sqlite3"


def test_a_relative_database_url_starts_at_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_config(None, {"SQLITE_DATABASE_URL": "sqlite:///b.sqlite3"}).database_path == tmp_path / "b.sqlite3"


@pytest.mark.parametrize("url", ["postgresql://a/b", "sqlite:///", "sqlite:///:memory:", "b.sqlite3"])
def test_a_database_url_that_names_no_file_is_refused(url: str) -> None:
    with pytest.raises(InvalidConfig, match="SQLITE_DATABASE_URL"):
        load_config(None, {"SQLITE_DATABASE_URL": url})


def test_the_inbox_must_not_be_the_folder_of_the_database_not_even_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "state")
    environ = {"CARREL_DEVICE_STATE_DIR": str(tmp_path / "state"), "CARREL_DEVICE_INBOX_DIR": str(tmp_path / "link")}
    with pytest.raises(InvalidConfig, match="must not be the folder of the database"):
        load_config(None, environ)


def test_a_named_file_is_used_even_when_it_is_missing_so_that_the_mistake_shows(tmp_path: Path) -> None:
    missing = tmp_path / "none.toml"
    assert find_config({"CARREL_CONFIG": str(missing)}) == missing
    with pytest.raises(InvalidConfig, match="cannot be read"):
        load_config(missing, {})


def test_folders_are_made_for_this_account_alone_and_an_open_one_is_closed(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir(mode=0o755)
    state.chmod(0o755)
    config = load_config(None, {"CARREL_DEVICE_STATE_DIR": str(state)})
    prepare_folders(config)
    assert [stat.S_IMODE(folder.stat().st_mode) for folder in (config.state_dir, config.inbox_dir)] == [0o700, 0o700]


@pytest.mark.parametrize("rest", ["", "[device.api]\nport = -1\n", "[devcie]\n"])
def test_the_state_folder_is_found_in_a_file_that_has_faults_elsewhere(tmp_path: Path, rest: str) -> None:
    file = tmp_path / "config.toml"
    file.write_text(f'[device]\nstate_dir = "{tmp_path}/here"\n{rest}')
    assert find_state_dir(file, {}) == tmp_path / "here"
    assert find_state_dir(file, {"CARREL_DEVICE_STATE_DIR": str(tmp_path)}) == tmp_path


def test_a_file_that_cannot_be_read_at_all_leaves_the_accounts_own_folder(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text("[device\n")
    assert find_state_dir(file, {}) == load_config(None, {}).state_dir


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_a_home_that_may_not_be_looked_into_has_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after `runuser -u carrel`, which keeps the caller's."""
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / ".config"))
    os.seteuid(65534)
    try:
        assert find_config({}) is None
    finally:
        os.seteuid(0)
