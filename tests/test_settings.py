"""Settings: read once, judged at the start, the same in every worker."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from counterfoil.settings import Settings, WrongSetting, as_environment, load_settings


def test_nothing_set_is_the_default() -> None:
    settings = load_settings({})
    assert (settings.host, settings.port) == ("127.0.0.1", 8640)
    assert settings.database_url is None
    assert settings.keys_path == settings.data_dir / "keys.json"
    assert settings == load_settings({"COUNTERFOIL_PORT": "", "DATABASE_URL": " "}) == Settings()


@pytest.mark.parametrize(
    ("variable", "text", "name", "value"),
    [
        ("COUNTERFOIL_PORT", "0", "port", 0),
        ("COUNTERFOIL_WORKERS", "3", "workers", 3),
        ("COUNTERFOIL_DATA_DIR", "/srv/x", "data_dir", Path("/srv/x")),
        ("COUNTERFOIL_KEYS_FILE", "/srv/k", "keys_path", Path("/srv/k")),
        ("DATABASE_URL", "postgresql://a@b/c", "database_url", "postgresql://a@b/c"),
        ("COUNTERFOIL_LOG_LEVEL", "Debug", "log_level", "debug"),
        ("COUNTERFOIL_METRICS", "Off", "metrics", "off"),
        ("COUNTERFOIL_TRUSTED_PROXIES", "10.0.0.1, 10.1.0.0/16", "trusted_proxies", ("10.0.0.1", "10.1.0.0/16")),
    ],
)
def test_a_variable_is_read(variable: str, text: str, name: str, value: Any) -> None:
    assert getattr(load_settings({variable: text}), name) == value


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("COUNTERFOIL_PORT", "65536"),
        ("COUNTERFOIL_PORT", "-1"),
        ("COUNTERFOIL_PORT", "8_640"),
        ("COUNTERFOIL_WORKERS", "0"),
        ("COUNTERFOIL_WORKERS", "٢"),
        ("COUNTERFOIL_LOG_LEVEL", "loud"),
        ("COUNTERFOIL_METRICS", "0"),
        ("COUNTERFOIL_BODY_BYTES_MAX", "1MiB"),
    ],
)
def test_a_wrong_value_is_named(variable: str, text: str) -> None:
    with pytest.raises(WrongSetting) as caught:
        load_settings({variable: text})
    assert variable in str(caught.value)
    assert text in str(caught.value)


def test_the_databases_password_is_not_shown() -> None:
    with pytest.raises(WrongSetting) as caught:
        load_settings({"DATABASE_URL": "mysql://a:secret@b/c"})
    assert "secret" not in str(caught.value)
    assert "secret" not in repr(load_settings({"DATABASE_URL": "postgresql://a:secret@b/c"}))


def test_the_workers_get_the_same() -> None:
    settings = Settings(
        port=1, workers=2, data_dir=Path("/x y"), database_url="postgresql://a:b@c/d", keys_file=Path("/k"),
        trusted_proxies=("10.0.0.1", "::1"), metrics_dir="/m",
    )  # fmt: skip
    assert load_settings(as_environment(settings)) == settings
    assert load_settings(as_environment(Settings())) == Settings()


def test_every_setting_says_what_it_is() -> None:
    for each in dataclasses.fields(Settings):
        assert each.metadata["doc"]
        assert each.metadata["variable"].isupper()
