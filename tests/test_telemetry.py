"""Logs are JSON lines that give nothing away; metrics name routes, never paths."""

from __future__ import annotations

import asyncio
import gc
import io
import json
import logging
import os
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
import uvloop

from counterfoil import telemetry


@pytest.fixture
def lines() -> Iterator[io.BytesIO]:
    stream = io.BytesIO()
    telemetry.configure_logs("info", stream)
    yield stream
    structlog.reset_defaults()
    logging.getLogger().handlers = []


def read(lines: io.BytesIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines.getvalue().splitlines()]


def test_one_line_per_request(lines: io.BytesIO) -> None:
    observer = telemetry.Telemetry()
    observer.answered("GET /x", 200, 0, "ab" * 16, 0.0123)
    observer.answered("GET /x", 400, 2008, "cd" * 16, 0.5)
    first, second = read(lines)
    assert first | {"at": ""} == {
        "event": "request", "level": "info", "at": "", "id": "ab" * 16, "route": "GET /x", "status": 200, "ms": 12.3,
    }  # fmt: skip
    assert second["code"] == 2008
    assert first["at"].endswith("Z")


def test_the_level_counts(lines: io.BytesIO) -> None:
    telemetry.configure_logs("error", lines)
    telemetry.Telemetry().answered("GET /x", 200, 0, "ab" * 16, 0.1)
    assert read(lines) == []


def test_an_error_is_described_without_its_text(lines: io.BytesIO) -> None:
    def fail() -> None:
        try:
            os.environ["919988776655"]
        except KeyError as error:
            raise ValueError("secret") from error

    try:
        fail()
    except ValueError as error:
        telemetry.Telemetry().failed("GET /x", "ab" * 16, error)
    [line] = read(lines)
    assert line["error"] == "builtins.ValueError"
    assert line["cause"]["error"] == "builtins.KeyError"
    assert any("fail" in frame for frame in line["frames"])
    assert b"secret" not in lines.getvalue()
    assert b"919988776655" not in lines.getvalue()


def test_what_libraries_log_comes_out_the_same_way(lines: io.BytesIO) -> None:
    logging.getLogger("somebody").warning("cannot reach %s", "secret")
    [line] = read(lines)
    assert (line["logger"], line["said"], line["level"]) == ("somebody", "cannot reach %s", "warning")
    assert b"secret" not in lines.getvalue()


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_what_asyncio_says_has_no_repr_of_ours(
    lines: io.BytesIO, run: Callable[[Coroutine[Any, Any, None]], None]
) -> None:
    async def fail() -> None:
        raise ValueError("919988776655")

    def fail_later(_secret: str) -> None:
        raise ValueError("919988776655")

    async def main() -> None:
        task = asyncio.create_task(fail())
        await asyncio.sleep(0)
        del task
        gc.collect()
        asyncio.get_running_loop().call_soon(fail_later, "919988776655")
        await asyncio.sleep(0.01)

    run(main())
    said = {line["said"]: line for line in read(lines)}
    assert said["Task exception was never retrieved"]["error"] == "builtins.ValueError"
    assert any(each.startswith("Exception in callback") for each in said)
    assert b"919988776655" not in lines.getvalue()


def test_metrics_as_text() -> None:
    observer = telemetry.Telemetry()
    observer.batch("submit", 3)
    observer.waiting("submit", 5)
    observer.waiting("submit", -3)
    observer.retry("submit", "lost")
    observer.pool_wait(0.2)
    text = telemetry.render_metrics(observer.registry, {7: 1.5, 51250: 0.25}).decode()
    for line in (
        'counterfoil_group_size_bucket{le="4.0",verb="submit"} 1.0',
        'counterfoil_queue_depth{verb="submit"} 2.0',
        'counterfoil_batch_retries_total{reason="lost",verb="submit"} 1.0',
        'counterfoil_pool_wait_seconds_bucket{le="0.25"} 1.0',
        'counterfoil_oldest_pending_seconds{org_id="7"} 1.5',
        'counterfoil_oldest_pending_seconds{org_id="51250"} 0.25',
    ):
        assert line in text.splitlines()


def test_an_unknown_age_is_left_out() -> None:
    text = telemetry.render_metrics(telemetry.Telemetry().registry, None).decode()
    assert "oldest_pending_seconds{" not in text


def test_a_file_that_a_worker_has_just_opened_is_left_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Between its making and its first bytes there is nothing in it, and the scrape must not fail."""
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    (tmp_path / "counter_1.db").touch()
    (tmp_path / "gauge_liveall_2.db").symlink_to(tmp_path / "gone")
    text = telemetry.render_metrics(telemetry.Telemetry().registry, {7: 1.5}).decode()
    assert 'counterfoil_oldest_pending_seconds{org_id="7"} 1.5' in text.splitlines()
