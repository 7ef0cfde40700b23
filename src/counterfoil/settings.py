"""All settings, from the environment, once.

Each field says what it is for, its unit and its variable; `docs/settings.md` lists the same. Nothing else in
the program reads the environment: `cli` loads the settings and hands them down.
"""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

LOG_LEVELS = ("debug", "info", "warning", "error")


class WrongSetting(Exception):
    """A variable has a value that cannot be used; the message names it."""


def _text(value: str) -> str:
    return value


def _optional_text(value: str) -> str | None:
    return value or None


def _path(value: str) -> Path:
    return Path(value).expanduser()


def _log_level(value: str) -> str:
    if value.lower() not in LOG_LEVELS:
        raise ValueError(f"must be one of {', '.join(LOG_LEVELS)}")
    return value.lower()


def _on_or_off(value: str) -> str:
    if value.lower() not in ("on", "off"):
        raise ValueError("must be on or off")
    return value.lower()


def _addresses(value: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in value.split(",") if part.strip())


def _database_url(value: str) -> str | None:
    if value and not value.startswith(("postgresql://", "postgres://")):
        raise ValueError("must look like postgresql://user:password@host:5432/database")
    return value or None


def _whole(at_least: int, at_most: int) -> Callable[[str], int]:
    def parse(value: str) -> int:
        # int() alone would take 1_000 and Arabic digits.
        if not (value.isascii() and value.isdigit()) or not at_least <= int(value) <= at_most:
            raise ValueError(f"must be a whole number from {at_least} to {at_most}")
        return int(value)

    return parse


def _read(variable: str, doc: str, parse: Callable[[str], Any]) -> dict[str, Any]:
    """Where a field comes from, what it means with its unit, and how it is read."""
    return {"variable": variable, "doc": doc, "parse": parse}


def default_data_dir() -> Path:
    """Where programs of this user keep their data."""
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "counterfoil"
    if hasattr(os, "geteuid") and os.geteuid() == 0 and "XDG_DATA_HOME" not in os.environ:
        return Path("/var/lib/counterfoil")  # root's home is closed to the account that PostgreSQL runs under
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "counterfoil"


def default_config_dir() -> Path:
    """Where programs of this user keep what belongs to the user, not to the machine."""
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "counterfoil"
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "counterfoil"


def default_workers() -> int:
    """One process per core up to four: more of them only make the groups of a group commit smaller."""
    return max(1, min(4, os.cpu_count() or 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What an operator can choose. Immutable: a change takes a restart."""

    host: str = field(default="127.0.0.1", metadata=_read("COUNTERFOIL_HOST", "address to listen on", _text))
    port: int = field(
        default=8640, metadata=_read("COUNTERFOIL_PORT", "TCP port to listen on; 0 takes a free one", _whole(0, 65535))
    )
    workers: int = field(
        default_factory=default_workers, metadata=_read("COUNTERFOIL_WORKERS", "server processes", _whole(1, 64))
    )
    data_dir: Path = field(
        default_factory=default_data_dir,
        metadata=_read("COUNTERFOIL_DATA_DIR", "folder of the embedded database and the keys", _path),
    )
    database_url: str | None = field(
        default=None,
        metadata=_read(
            "DATABASE_URL", "PostgreSQL 15 or newer, postgresql://…; empty: the embedded one", _database_url
        ),
    )
    pool_size: int = field(
        default=4, metadata=_read("COUNTERFOIL_POOL_SIZE", "database connections of one worker", _whole(1, 100))
    )
    statement_cache: int = field(
        default=100,
        metadata=_read(
            "COUNTERFOIL_STATEMENT_CACHE",
            "prepared statements kept per connection; 0 behind a transaction pooler",
            _whole(0, 10_000),
        ),
    )
    keys_file: Path | None = field(
        default=None,
        metadata=_read(
            "COUNTERFOIL_KEYS_FILE",
            "file of the keys; empty: keys.json in the data folder",
            lambda value: _path(value) if value else None,
        ),
    )
    session_file: Path | None = field(
        default=None,
        metadata=_read(
            "COUNTERFOIL_SESSION_FILE",
            "file of the session that `login` makes; empty: session.json in the user's configuration folder",
            lambda value: _path(value) if value else None,
        ),
    )
    oauth_seconds_max: int = field(
        default=3600,
        metadata=_read(
            "COUNTERFOIL_OAUTH_SECONDS_MAX",
            "longest life of an OAuth access token, seconds",
            _whole(60, 30 * 24 * 3600),
        ),
    )
    log_level: str = field(
        default="info", metadata=_read("COUNTERFOIL_LOG_LEVEL", "debug, info, warning or error", _log_level)
    )
    body_bytes_max: int = field(
        default=2**20,
        metadata=_read("COUNTERFOIL_BODY_BYTES_MAX", "longest request body, bytes", _whole(1024, 64 * 2**20)),
    )
    header_bytes_max: int = field(
        default=32 * 2**10,
        metadata=_read("COUNTERFOIL_HEADER_BYTES_MAX", "longest request head, bytes", _whole(1024, 2**20)),
    )
    queue_max: int = field(
        default=2000,
        metadata=_read(
            "COUNTERFOIL_QUEUE_MAX",
            "commands of one verb and organisation that may wait in a worker; more are answered 503",
            _whole(1, 1_000_000),
        ),
    )
    batch_max: int = field(
        default=32,
        metadata=_read("COUNTERFOIL_BATCH_MAX", "commands that share one transaction at most", _whole(1, 10_000)),
    )
    lock_timeout_ms: int = field(
        default=2000,
        metadata=_read(
            "COUNTERFOIL_LOCK_TIMEOUT_MS", "longest wait for a locked row, milliseconds", _whole(10, 60_000)
        ),
    )
    request_seconds_max: int = field(
        default=30,
        metadata=_read(
            "COUNTERFOIL_REQUEST_SECONDS_MAX", "time a client has to send its whole request, seconds", _whole(1, 3600)
        ),
    )
    keep_alive_seconds: int = field(
        default=75,
        metadata=_read("COUNTERFOIL_KEEP_ALIVE_SECONDS", "life of an idle connection, seconds", _whole(1, 3600)),
    )
    expiry_seconds: int = field(
        default=5,
        metadata=_read(
            "COUNTERFOIL_EXPIRY_SECONDS",
            "how often each worker writes down which requests have expired, seconds; they count as expired before",
            _whole(1, 3600),
        ),
    )
    drain_seconds: int = field(
        default=30,
        metadata=_read(
            "COUNTERFOIL_DRAIN_SECONDS",
            "time that requests in flight get when the service stops, seconds",
            _whole(0, 3600),
        ),
    )
    trusted_proxies: tuple[str, ...] = field(
        default=(),
        metadata=_read(
            "COUNTERFOIL_TRUSTED_PROXIES",
            "addresses or networks whose X-Forwarded-For is believed, with commas",
            _addresses,
        ),
    )
    metrics: str = field(
        default="on",
        metadata=_read(
            "COUNTERFOIL_METRICS",
            "on or off: whether /metrics is served; it has no authentication, whoever reaches the port can read it",
            _on_or_off,
        ),
    )
    metrics_dir: str | None = field(
        default=None,
        metadata=_read(
            "PROMETHEUS_MULTIPROC_DIR",
            "folder in which the workers share their metrics; `serve` makes one when this is empty",
            _optional_text,
        ),
    )

    execute: str = field(
        default="on",
        metadata=_read(
            "COUNTERFOIL_EXECUTE",
            "on or off: whether `serve` calls external hosts itself; off where `counterfoil execute` does",
            _on_or_off,
        ),
    )
    execute_metrics_port: int = field(
        default=0,
        metadata=_read(
            "COUNTERFOIL_EXECUTE_METRICS_PORT",
            "port at which `counterfoil execute` serves its metrics on COUNTERFOIL_HOST; 0: not at all",
            _whole(0, 65_535),
        ),
    )
    calls_max: int = field(
        default=64,
        metadata=_read("COUNTERFOIL_CALLS_MAX", "calls to external hosts of one process at once", _whole(1, 10_000)),
    )
    lease_seconds: int = field(
        default=30,
        metadata=_read(
            "COUNTERFOIL_LEASE_SECONDS",
            "time after which another process takes over what a dead one was executing, seconds",
            _whole(1, 3600),
        ),
    )
    decide_seconds_max: int = field(
        default=30,
        metadata=_read(
            "COUNTERFOIL_DECIDE_SECONDS_MAX",
            "time that a decide call waits for an external host before it answers AdminTask, seconds",
            _whole(0, 600),
        ),
    )
    pace_percent: int = field(
        default=100,
        metadata=_read(
            "COUNTERFOIL_PACE_PERCENT",
            "waits between attempts, look-ups and polls, per cent of the usual; below 100 is for tests",
            _whole(1, 1000),
        ),
    )

    @property
    def keys_path(self) -> Path:
        """The file of the keys."""
        return self.keys_file or self.data_dir / "keys.json"

    @property
    def session_path(self) -> Path:
        """The file of the session."""
        return self.session_file or default_config_dir() / "session.json"

    def __repr__(self) -> str:
        """Everything but the database's address, which may hold a password."""
        values = {each.name: getattr(self, each.name) for each in dataclasses.fields(self)}
        if self.database_url:
            values["database_url"] = "…"
        return f"Settings({', '.join(f'{name}={value!r}' for name, value in values.items())})"


def load_settings(environ: Mapping[str, str]) -> Settings:
    """Read the settings; raises WrongSetting with the variable's name. An empty value means the default."""
    values: dict[str, Any] = {}
    for each in dataclasses.fields(Settings):
        variable = each.metadata["variable"]
        text = environ.get(variable, "").strip()
        if text:
            try:
                values[each.name] = each.metadata["parse"](text)
            except ValueError as error:
                # The address of the database may hold a password, so it is not repeated.
                said = "" if variable == "DATABASE_URL" else f" {text!r}"
                raise WrongSetting(f"{variable}{said}: {error}") from None
    return Settings(**values)


def as_environment(settings: Settings) -> dict[str, str]:
    """The variables that make `load_settings` return the same settings: how they reach the workers."""
    variables: dict[str, str] = {}
    for each in dataclasses.fields(settings):
        value = getattr(settings, each.name)
        if isinstance(value, tuple):
            value = ",".join(value)
        variables[each.metadata["variable"]] = "" if value is None else str(value)
    return variables
