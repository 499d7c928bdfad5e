from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from domain.errors import InvalidConfig
from domain.settings import FILE_BYTES_MAX, load, origins_of, setting, settings_of, values_of


def _is_even(value: int) -> str | None:
    return "must be even" if value % 2 else None


@dataclasses.dataclass(frozen=True)
class Api:
    port: int = setting(8750, "The port.", minimum=1, maximum=65535)
    origins: tuple[str, ...] = setting((), "Origins that may call.")


@dataclasses.dataclass(frozen=True)
class Sync:
    poll_s: float = setting(30.0, "How often to ask.", unit="s", minimum=1)
    enabled: bool = setting(True, "Whether to sync.")
    pairs: int = setting(2, "An even number.", check=_is_even)


@dataclasses.dataclass(frozen=True)
class Config:
    level: str = setting("info", "How much to log.", choices=("debug", "info"))
    api: Api = dataclasses.field(default_factory=Api)
    sync: Sync = dataclasses.field(default_factory=Sync)


def _load(tmp_path: Path, toml: str = "", environ: dict[str, str] | None = None) -> Config:
    path = tmp_path / "config.toml"
    path.write_text(toml)
    return load(Config, section="device", toml_path=path, environ=environ or {})


def _problems(tmp_path: Path, toml: str = "", environ: dict[str, str] | None = None) -> dict[str, str]:
    with pytest.raises(InvalidConfig) as caught:
        _load(tmp_path, toml, environ)
    return {p.path: p.code for p in caught.value.problems}


def test_without_file_and_variables_every_setting_has_its_default() -> None:
    assert load(Config, section="device", toml_path=None, environ={}) == Config()


def test_the_file_sets_keys_and_leaves_the_others_at_their_default(tmp_path: Path) -> None:
    config = _load(tmp_path, '[device]\nlevel = "debug"\n[device.api]\norigins = ["http://a", "http://b"]\n')
    assert config == Config(level="debug", api=Api(origins=("http://a", "http://b")))


def test_a_variable_wins_over_the_file(tmp_path: Path) -> None:
    config = _load(tmp_path, "[device.api]\nport = 1000\n", {"CARREL_DEVICE_API_PORT": "2000"})
    assert config.api.port == 2000


@pytest.mark.parametrize(
    ("variable", "text", "expected"),
    [
        ("CARREL_DEVICE_LEVEL", "debug", Config(level="debug")),
        ("CARREL_DEVICE_SYNC_POLL_S", "1.5", Config(sync=Sync(poll_s=1.5))),
        ("CARREL_DEVICE_SYNC_ENABLED", "FALSE", Config(sync=Sync(enabled=False))),
        ("CARREL_DEVICE_API_ORIGINS", "http://a, http://b,", Config(api=Api(origins=("http://a", "http://b")))),
        ("CARREL_DEVICE_API_ORIGINS", "", Config(api=Api(origins=()))),
    ],
)
def test_variables_are_read_as_the_type_of_their_setting(tmp_path: Path, variable: str, text: str, expected: Config) -> None:
    assert _load(tmp_path, environ={variable: text}) == expected


def test_a_whole_number_in_the_file_is_a_good_float_of_the_right_type(tmp_path: Path) -> None:
    assert repr(_load(tmp_path, "[device.sync]\npoll_s = 30\n").sync.poll_s) == "30.0"


@pytest.mark.parametrize(
    ("toml", "path", "code"),
    [
        ("[device.api]\nport = true\n", "device.api.port", "type"),
        ("[device.api]\nport = 80.0\n", "device.api.port", "type"),
        ('[device.api]\nport = "80"\n', "device.api.port", "type"),
        ("[device.api]\nport = 0\n", "device.api.port", "range"),
        ("[device.api]\nport = 65536\n", "device.api.port", "range"),
        ("[device.api]\norigins = [1]\n", "device.api.origins", "type"),
        ("[device]\napi = 5\n", "device.api", "type"),
        ("device = 5\n", "device", "type"),
        ('[device]\nlevel = "loud"\n', "device.level", "choice"),
        ("[device.sync]\npoll_s = nan\n", "device.sync.poll_s", "type"),
        ("[device.sync]\nenabled = 1\n", "device.sync.enabled", "type"),
        ("[device.sync]\npairs = 3\n", "device.sync.pairs", "invalid"),
        ("[device.sync]\npol_s = 3\n", "device.sync.pol_s", "unknown"),
        ("[device.snyc]\npoll_s = 3\n", "device.snyc", "unknown"),
        ("[devcie]\n", "devcie", "unknown"),
        ("device = \n", "file", "malformed"),
        (f"#{'x' * FILE_BYTES_MAX}", "file", "too_large"),
        (f"device = {'[' * 100_000}", "file", "malformed"),
    ],
)
def test_a_fault_in_the_file_is_named_by_its_place(tmp_path: Path, toml: str, path: str, code: str) -> None:
    assert _problems(tmp_path, toml) == {path: code}


@pytest.mark.parametrize(
    ("variable", "text", "code"),
    [
        ("CARREL_DEVICE_API_PORT", "many", "type"),
        ("CARREL_DEVICE_API_PORT", "", "type"),
        ("CARREL_DEVICE_API_PORT", "0", "range"),
        ("CARREL_DEVICE_SYNC_POLL_S", "inf", "type"),
        ("CARREL_DEVICE_SYNC_ENABLED", "1", "type"),
        ("CARREL_DEVICE_API_PROT", "80", "unknown"),
    ],
)
def test_a_fault_in_the_environment_is_named_by_its_variable(tmp_path: Path, variable: str, text: str, code: str) -> None:
    assert _problems(tmp_path, "", {variable: text}) == {variable: code}


def test_all_problems_are_reported_together(tmp_path: Path) -> None:
    problems = _problems(
        tmp_path, '[devcie]\n[device]\nlevel = "loud"\nlvl = 1\n[device.api]\nport = 0\n', {"CARREL_DEVICE_SYNC_POLL_S": "x"}
    )
    assert problems.keys() == {"devcie", "device.level", "device.lvl", "device.api.port", "CARREL_DEVICE_SYNC_POLL_S"}


def test_a_mistyped_key_is_answered_with_the_one_that_was_meant(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfig, match=r"did you mean device\.api\.port\?"):
        _load(tmp_path, "[device.api]\nprot = 80\n")


def test_messages_never_repeat_a_value(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfig) as caught:
        _load(tmp_path, '[device]\nlevel = "hunter2"\n', {"CARREL_DEVICE_API_PORT": "hunter2"})
    assert "hunter2" not in str(caught.value)


def test_the_other_sections_of_a_shared_file_and_other_variables_are_left_alone(tmp_path: Path) -> None:
    assert _load(tmp_path, "[cloud]\nanything = 1\n", {"CARREL_CLOUD_PORT": "x", "PATH": "/"}) == Config()


def test_a_file_that_is_not_there_is_a_problem_not_a_default(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfig, match="cannot be read"):
        load(Config, section="device", toml_path=tmp_path / "none.toml", environ={})


def test_a_file_that_is_not_text_is_a_problem(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(InvalidConfig, match="not UTF-8"):
        load(Config, section="device", toml_path=path, environ={})


def test_settings_are_listed_with_place_variable_default_and_rule() -> None:
    listed = {s.path: s for s in settings_of(Config, "device")}
    assert list(listed) == [
        "device.level", "device.api.port", "device.api.origins", "device.sync.poll_s", "device.sync.enabled", "device.sync.pairs",
    ]  # fmt: skip
    found = listed["device.sync.poll_s"]
    assert (found.variable, found.type, found.default, found.rule.unit) == ("CARREL_DEVICE_SYNC_POLL_S", float, 30.0, "s")


def test_values_are_listed_by_place() -> None:
    assert values_of(Config(api=Api(port=1)), "device")["device.api.port"] == 1


def test_every_value_says_where_it_comes_from(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text("[device.api]\nport = 1\n[device.sync]\npoll_s = 2\n")
    origins = origins_of(Config, section="device", toml_path=path, environ={"CARREL_DEVICE_SYNC_POLL_S": "3"})
    assert (origins["device.api.port"], origins["device.sync.poll_s"], origins["device.level"]) == (
        "file",
        "CARREL_DEVICE_SYNC_POLL_S",
        "default",
    )
