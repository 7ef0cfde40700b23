"""Probes and metrics."""

from __future__ import annotations

import re

from tests.http.conftest import Service, create_body


def test_healthz_and_readyz(service: Service) -> None:
    assert service.client.get("/healthz").json() == {"status": "up"}
    assert service.client.get("/readyz").json() == {"status": "ready"}


def test_not_ready_without_the_schema(service: Service) -> None:
    service.sql("DELETE FROM schema_migration WHERE version = (SELECT max(version) FROM schema_migration)")
    answer = service.client.get("/readyz")
    assert answer.status_code == 503
    assert "counterfoil migrate" in answer.json()["errors"][0]["message"]
    assert service.client.get("/healthz").status_code == 200


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
