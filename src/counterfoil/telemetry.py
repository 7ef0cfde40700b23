"""Structured logs and metrics. Neither ever gets a secret, a raw path, a query string or a body.

The settings of the log are made by the entry points (`cli`, the tests); everybody else calls `log()`.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import traceback
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO, Final

import msgspec
import structlog
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
    multiprocess,
    start_http_server,
)
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

SECONDS: Final = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
SIZES: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}
_FRAMES_MAX: Final = 20
_REPR: Final = re.compile(r"[<(\[{'\"]")

disable_created_metrics()  # type: ignore[no-untyped-call]
_encode: Final = msgspec.json.Encoder(enc_hook=str).encode


def configure_logs(level: str, stream: BinaryIO | None = None) -> None:
    """JSON lines to stderr, from us and from the libraries."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
            _render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=structlog.BytesLoggerFactory(stream or sys.stderr.buffer),
        cache_logger_on_first_use=False,
    )
    library = logging.getLogger()
    library.handlers = [_ToStructlog()]
    library.setLevel(max(_LEVELS[level], logging.WARNING))


def log() -> structlog.typing.FilteringBoundLogger:
    """The log of this process."""
    logger: structlog.typing.FilteringBoundLogger = structlog.get_logger()
    return logger


def keys_not_read(reason: str) -> None:
    """The keys file has changed and cannot be used: the process goes on with what it has."""
    log().error("keys not read again", reason=reason)


def describe(error: BaseException) -> dict[str, Any]:
    """What of an error may be logged: its class, place and SQL state; its text may quote personal data."""
    frames = traceback.extract_tb(error.__traceback__)[-_FRAMES_MAX:]
    described: dict[str, Any] = {
        "error": f"{type(error).__module__}.{type(error).__qualname__}",
        "frames": [f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames],
    }
    for name in ("sqlstate", "constraint_name", "table_name"):
        if value := getattr(error, name, None):
            described[name] = value
    if error.__cause__ is not None:
        described["cause"] = describe(error.__cause__)
    return described


def _render(_logger: object, _name: str, event: structlog.typing.EventDict) -> bytes:
    return _encode(event)


class _ToStructlog(logging.Handler):
    """Brings what libraries log into the same lines."""

    def emit(self, record: logging.LogRecord) -> None:
        fields = describe(record.exc_info[1]) if record.exc_info and record.exc_info[1] else {}
        write = log().error if record.levelno >= logging.ERROR else log().warning
        write("library", logger=record.name, said=_template(record), **fields)


def _template(record: logging.LogRecord) -> str:
    """What was said, without what would be filled in."""
    said = str(record.msg)
    if record.args:
        return said
    # Filled in already, maybe. asyncio puts reprs of callbacks, tasks and their exceptions after its words.
    words = said.partition("\n")[0]
    return _REPR.split(words, maxsplit=1)[0].rstrip() if record.name == "asyncio" else words


class Telemetry:
    """The metrics and the request log of a process: watches the edge, the queues and the pool."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry()
        given: dict[str, Any] = {"namespace": "counterfoil", "registry": self.registry}
        self._requests = Counter("http_requests", "Answered requests", ["route", "status"], **given)
        self._seconds = Histogram(
            "http_request_seconds", "Time from head to answer", ["route"], buckets=SECONDS, **given
        )
        self._refusals = Counter("refusals", "Refusals by code", ["code"], **given)
        self._batch = Histogram("group_size", "Commands per transaction", ["verb"], buckets=SIZES, **given)
        self._waiting = Gauge("queue_depth", "Commands that wait", ["verb"], multiprocess_mode="livesum", **given)
        self._retries = Counter("batch_retries", "Batches run again", ["verb", "reason"], **given)
        self._faults = Counter("faults", "Failures that are ours", ["place"], **given)
        self._pool_wait = Histogram(
            "pool_wait_seconds",
            "Time until a database connection was free, tried once a second",
            buckets=SECONDS,
            **given,
        )
        self._attempts = Histogram(
            "attempt_seconds", "Calls and look-ups at external hosts, by what they came to", ["host", "outcome"],
            buckets=(*SECONDS, 30.0), **given,
        )  # fmt: skip
        self._breakers = Gauge(
            "breaker_open", "1 while a host is left alone", ["host"], multiprocess_mode="livemax", **given
        )
        self._pause_told = False
        # The children of a metric, looked up once: `labels` costs as much as all the rest.
        self._refused_with = cache(lambda code: self._refusals.labels(str(code)).inc)
        self._of_route = cache(
            lambda route, status: (
                self._requests.labels(route, str(status)).inc,
                self._seconds.labels(route).observe,
            )
        )
        self._batch_of = cache(lambda verb: self._batch.labels(verb).observe)
        self._waiting_of = cache(lambda verb: self._waiting.labels(verb).inc)

        self._log = log().bind()

    def answered(self, route: str, status: int, code: int, correlation_id: str, seconds: float) -> None:
        """A request was answered. `route` is one of ours, never a path that was sent."""
        count, observe = self._of_route(route, status)
        count()
        observe(seconds)
        told = {"id": correlation_id, "route": route, "status": status, "ms": round(seconds * 1000, 2)}
        if code:
            self._refused_with(code)()
            told["code"] = code
        self._log.info("request", **told)

    def failed(self, route: str, correlation_id: str, error: BaseException) -> None:
        """A request met an error that nobody expected."""
        self._faults.labels(route).inc()
        self._log.error("fault", id=correlation_id, route=route, **describe(error))

    def batch(self, verb: str, size: int) -> None:
        """A batch goes to the database."""
        self._batch_of(verb)(size)

    def waiting(self, verb: str, change: int) -> None:
        """Commands entered or left a queue."""
        self._waiting_of(verb)(change)

    def retry(self, verb: str, reason: str) -> None:
        """A batch is run again."""
        self._retries.labels(verb, reason).inc()

    def fault(self, verb: str, error: BaseException) -> None:
        """A command failed for a reason that is ours."""
        self._faults.labels(verb).inc()
        log().error("fault", place=verb, **describe(error))

    def pool_wait(self, seconds: float) -> None:
        """A database connection was free after this time."""
        self._pool_wait.observe(seconds)

    def attempted(self, host_id: str, outcome: str, seconds: float) -> None:
        """A call or a look-up at an external host has ended."""
        self._attempts.labels(host_id, outcome).observe(seconds)
        self._log.info("attempt", host=host_id, outcome=outcome, ms=round(seconds * 1000, 2))

    def breaker(self, host_id: str, *, is_open: bool) -> None:
        """A host is left alone for a while, or is called again."""
        self._breakers.labels(host_id).set(int(is_open))
        log().warning("host is left alone" if is_open else "host answers again", host=host_id)

    def paused(self, reason: str | None) -> None:
        """Nothing is executed, for this reason; None: it is."""
        if (reason is not None) != self._pause_told:
            log().error("executions are paused" if reason else "executions go on", reason=reason)
        self._pause_told = reason is not None


def _is_filled(file: os.DirEntry[str]) -> bool:
    try:
        return file.stat().st_size > 0
    except FileNotFoundError:  # its process has just ended
        return False


class _AllWorkers(Collector):
    """What the processes have counted, each in files of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def collect(self) -> Iterable[Metric]:
        """Every file but those that a process has opened and not filled yet, which the library cannot read."""
        files = [each.path for each in os.scandir(self._folder) if each.name.endswith(".db") and _is_filled(each)]
        merged: Iterable[Metric] = multiprocess.MultiProcessCollector.merge(files)  # type: ignore[no-untyped-call]
        return merged


def render_metrics(registry: CollectorRegistry, oldest_pending: Mapping[int, float] | None) -> bytes:
    """The metrics of all workers in Prometheus' text form, and the ages that were just read."""
    merged = registry
    if folder := os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        merged = CollectorRegistry()
        merged.register(_AllWorkers(Path(folder)))
    # Built by hand: a gauge made here would be shared as a file, and added up.
    lines = ["# HELP counterfoil_oldest_pending_seconds Age of the oldest undecided request",
             "# TYPE counterfoil_oldest_pending_seconds gauge"]  # fmt: skip
    lines += [
        f'counterfoil_oldest_pending_seconds{{org_id="{org_id}"}} {age}'
        for org_id, age in sorted((oldest_pending or {}).items())
    ]
    return generate_latest(merged) + "\n".join(lines).encode() + b"\n"


@contextmanager
def serve_metrics(registry: CollectorRegistry, host: str, port: int) -> Iterator[None]:
    """Serve the metrics of this process alone, on a thread of its own; with port 0 not at all."""
    if not port:
        yield
        return
    server, thread = start_http_server(port, host, registry)
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def worker_died(pid: int) -> None:
    """Drop the live gauges of a worker that is gone; what it counted stays counted."""
    if os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        multiprocess.mark_process_dead(pid)  # type: ignore[no-untyped-call]
