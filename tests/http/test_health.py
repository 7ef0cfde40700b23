"""Probes and metrics."""

from __future__ import annotations

import asyncio
import re
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import httpx
import pytest

from counterfoil.application import operations
from counterfoil.domain.refusals import Busy
from counterfoil.http.app import create_app
from counterfoil.settings import Settings
from counterfoil.storage.database import Pool
from tests.http.conftest import Service, create_body


def test_healthz_and_readyz(service: Service) -> None:
    assert service.client.get("/healthz").json() == {"status": "up"}
    assert service.client.get("/readyz").json() == {"status": "ready", "paused": None}


def test_not_ready_without_the_schema(service: Service) -> None:
    service.sql("DELETE FROM schema_migration WHERE version = (SELECT max(version) FROM schema_migration)")
    answer = service.client.get("/readyz")
    assert answer.status_code == 503
    assert "counterfoil migrate" in answer.json()["errors"][0]["message"]
    assert service.client.get("/healthz").status_code == 200


def counted(monkeypatch: pytest.MonkeyPatch, name: str) -> list[float]:
    """When the database was really asked."""
    asked: list[float] = []
    real = getattr(operations, name)

    async def ask(pool: Pool) -> Any:
        asked.append(asyncio.get_running_loop().time())
        await asyncio.sleep(0.2)  # long enough for the others to come
        return await real(pool)

    monkeypatch.setattr(operations, name, ask)
    return asked


@pytest.mark.parametrize(("path", "name"), [("/readyz", "why_not_ready"), ("/metrics", "oldest_pending")])
def test_the_database_is_asked_once_a_second(
    service: Service, monkeypatch: pytest.MonkeyPatch, path: str, name: str
) -> None:
    asked = counted(monkeypatch, name)
    with ThreadPoolExecutor(8) as threads:
        assert {answer.status_code for answer in threads.map(service.client.get, [path] * 40)} == {200}
    assert len(asked) < 40
    assert all(later - earlier > operations.KEPT_SECONDS / 2 for earlier, later in pairwise(asked))
    monkeypatch.setattr(operations, "KEPT_SECONDS", 0.0)
    time.sleep(1)
    before = len(asked)
    service.client.get(path)
    assert len(asked) == before + 1


def test_it_is_asked_again_after_a_failure(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(_pool: Pool) -> Any:
        raise Busy("away")

    with monkeypatch.context() as patched:
        patched.setattr(operations, "oldest_pending", fail)
        assert "oldest_pending_seconds{" not in service.client.get("/metrics").text
    assert service.create(service.token()).status_code == 200
    assert "oldest_pending_seconds{" in service.client.get("/metrics").text


@pytest.mark.anyio
async def test_metrics_can_be_off() -> None:
    for metrics, status in (("on", 503), ("off", 404)):
        app = create_app(Settings(metrics=metrics))
        client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x")
        assert (await client.get("/metrics")).status_code == status  # 503: it has not been started


def value(text: str, name: str, **labels: str) -> float:
    shown = ",".join(f'{label}="{each}"' for label, each in labels.items())
    found = re.search(rf"^{re.escape(f'{name}{{{shown}}}' if shown else name)} (\S+)$", text, re.MULTILINE)
    assert found, f"{name} {labels} is not in\n{text}"
    return float(found[1])


def test_metrics_count_what_happened(service: Service) -> None:
    assert service.create(service.token()).status_code == 200
    service.client.post("/api_gateway/v2/request-workflow/points-redemption", json=create_body())
    service.client.get("/nothing/919988776655")
    answer = service.client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    text = answer.text
    route = "POST /api_gateway/v2/request-workflow/{request_type}"
    assert value(text, "counterfoil_http_requests_total", route=route, status="200") == 1
    assert value(text, "counterfoil_http_requests_total", route=route, status="401") == 1
    assert value(text, "counterfoil_http_requests_total", route="none", status="404") == 1
    assert value(text, "counterfoil_http_request_seconds_count", route=route) == 2
    assert value(text, "counterfoil_refusals_total", code="2013") == 1
    assert value(text, "counterfoil_refusals_total", code="2906") == 1
    assert value(text, "counterfoil_group_size_count", verb="submit") == 1
    assert value(text, "counterfoil_queue_depth", verb="submit") == 0
    assert 0 <= value(text, "counterfoil_oldest_pending_seconds", org_id="51250") < 60
    assert "919988776655" not in text
