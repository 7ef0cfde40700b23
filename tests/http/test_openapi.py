"""The API's description is valid, complete and true."""

from __future__ import annotations

import json
from typing import Any

import pytest
from openapi_spec_validator import validate

from counterfoil.http.app import ENDPOINTS
from counterfoil.http.openapi import describe, refusals_of
from counterfoil.http.problems import status_of
from tests.http.conftest import Service


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    read: dict[str, Any] = json.loads(json.dumps(describe(ENDPOINTS)))
    return read


def test_it_is_valid(document: dict[str, Any]) -> None:
    validate(document)


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda endpoint: endpoint.label)
def test_every_status_is_described(document: dict[str, Any], endpoint: Any) -> None:
    operation = document["paths"][endpoint.path][endpoint.method.lower()]
    expected = {"200", *(str(status_of(kind)) for kind in refusals_of(endpoint))}
    assert set(operation["responses"]) == expected
    assert ("requestBody" in operation) == (endpoint.request is not None)
    assert ("security" in operation) == (endpoint.callers != "anyone")
    for response in operation["responses"].values():
        assert response["headers"]["X-CAP-REQUEST-ID"]["required"]


def test_operations_have_names_of_their_own(document: dict[str, Any]) -> None:
    names = [each["operationId"] for path in document["paths"].values() for each in path.values()]
    assert len(names) == len(set(names)) == len(ENDPOINTS)


def test_the_path_parameters_are_those_of_the_paths() -> None:
    for endpoint in ENDPOINTS:
        described = {each.name for each in endpoint.parameters if each.where == "path"}
        assert described == {part[1:-1] for part in endpoint.path.split("/") if part.startswith("{")}


def test_it_is_served(service: Service, document: dict[str, Any]) -> None:
    assert service.client.get("/openapi.json").json() == document


def test_the_page_shows_every_endpoint_and_loads_nothing(service: Service) -> None:
    answer = service.client.get("/docs")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    for endpoint in ENDPOINTS:
        assert f"{endpoint.method} {endpoint.path}" in answer.text
    assert "<script" not in answer.text
    assert "src=" not in answer.text
    assert "http://" not in answer.text
    assert "https://" not in answer.text
