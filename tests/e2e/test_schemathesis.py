"""The running service against its own description: nothing is answered that is not described, and never a 500.

Schemathesis makes good and bad calls from /openapi.json; here each operation runs as a maker with real headers, as
a till alone, and as nobody.
"""

import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, assume, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import CHECKS
from schemathesis.core.result import Ok

from counterfoil.domain.payload_types import TYPES
from tests.administration.town import BEN, Town
from tests.contract.serving import Serve, broken_rules, fetch
from tests.contract.shop import BOTH, CHECKER, HOST, TILL, Member, Shop

ADMINISTRATION = (
    "POST /counterfoil/v1/admin-changes",
    "GET /counterfoil/v1/admin-changes",
    "GET /counterfoil/v1/admin-changes/{change_id}",
    "POST /counterfoil/v1/admin-changes/{change_id}/decisions",
)
OPERATIONS = (
    "POST /api_gateway/v2/request-workflow/{request_type}",
    "PUT /api_gateway/v2/request-workflow/{request_type}",
    "GET /api_gateway/v2/request-workflow/requests/{request_id}",
    "GET /api_gateway/v2/request-workflow/requests",
    "POST /v1.1/points/redeem",
    "GET /v2/customers/lookup/points/balance",
    "GET /v2/customers/{customer_id}/points/balance",
    "POST /v3/oauth/token/generate",
    "POST /counterfoil/v1/ui-token",
    "GET /counterfoil/v1/requests/{request_id}/events",
    "GET /counterfoil/v1/members/{member_id}/status",
    "GET /counterfoil/v1/inbox",
    "GET /counterfoil/v1/requests",
    "GET /counterfoil/v1/requests/{request_id}",
    "GET /counterfoil/v1/requests/{request_id}/timeline",
    "GET /counterfoil/v1/access",
    "GET /counterfoil/v1/access/report",
    "GET /.well-known/jwks.json",
    "GET /counterfoil/v1/requests/{request_id}/attempts",
    "GET /counterfoil/v1/incidents",
    "GET /counterfoil/v1/incidents/{incident_id}",
    "POST /counterfoil/v1/incidents/{incident_id}/settle",
    "GET /healthz",
    "GET /readyz",
    "GET /metrics",
    *ADMINISTRATION,
)
LIFE = (
    "POST /counterfoil/v1/requests/{request_id}/decisions",
    "POST /counterfoil/v1/requests/{request_id}/send-back",
    "POST /counterfoil/v1/requests/{request_id}/withdraw",
    "POST /counterfoil/v1/requests/{request_id}/resubmit",
    "GET /counterfoil/v1/requests/{request_id}/differences",
    "POST /counterfoil/v1/requests/{request_id}/comments",
    "GET /counterfoil/v1/requests/{request_id}/comments",
    "POST /counterfoil/v1/delegations",
    "POST /counterfoil/v1/delegations/{delegation_id}/end",
    "GET /counterfoil/v1/delegations",
    "POST /counterfoil/v1/freezes",
    "POST /counterfoil/v1/freezes/{freeze_id}/lift",
    "GET /counterfoil/v1/freezes",
)
NOTHING_TO_GET_WRONG = ("GET /.well-known/jwks.json", "GET /healthz", "GET /readyz", "GET /metrics")
# What is good by the schema may still name a unit, a host or a request that is not there (2007, 2008); and the check
# of ignored credentials takes the 429 of the throttle for a hole: test_callers.py tests both by hand.
NOT_FOR_US = ("positive_data_acceptance", "ignored_auth")


@pytest.fixture(scope="module")
def serve(server: Any) -> Iterator[Serve]:
    """A service that these calls have for themselves. It must not have failed once."""
    name = f"schemathesis_{uuid4().hex}"
    fetch(server.url, f'CREATE DATABASE "{name}" TEMPLATE "{server.template}"')
    folder = Path(tempfile.mkdtemp(prefix="schemathesis-"))
    running = Serve(folder, database_url=server.url_of(name))
    try:
        running.start()
        try:
            yield running
        finally:
            ended = running.stop()
        assert ended == 0
        assert running.logged_faults() == []
        assert running.logged_secrets() == []
        assert broken_rules(running) == []
    finally:
        fetch(server.url, f'DROP DATABASE "{name}" WITH (FORCE)')
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def shop(serve: Serve) -> Iterator[Shop]:
    with serve.client() as http:
        shop = Shop(serve, http, 950_000, "till.95", members=[Member(5_000_000, "9988776655", 10**9)]).open()
        shop.client("app")
        shop.apply()
        yield shop


def headers_of(shop: Shop, caller: str) -> dict[str, str]:
    """A maker at the till, a till that may redeem directly, or nobody."""
    return {"maker": shop.headers(BOTH), "till": shop.headers(Authorization=shop.box), "nobody": {}}[caller]


@cache
def operations(url: str) -> dict[str, Any]:
    """What a service describes, by method and path."""
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
    schema.config.update(base_url=url)
    schema.config.generation.with_security_parameters = False  # who calls is settled here
    return {each.ok().label: each.ok() for each in schema.get_all_operations() if isinstance(each, Ok)}


def test_every_operation_is_called(serve: Serve) -> None:
    assert sorted(operations(serve.url)) == sorted((*OPERATIONS, *LIFE))


@pytest.mark.parametrize("caller", ["maker", "till", "nobody"])
@pytest.mark.parametrize("label", OPERATIONS)
def test_as_described(serve: Serve, shop: Shop, label: str, caller: str) -> None:
    """Good and bad data, as it comes."""
    run(serve, label, headers_of(shop, caller), examples=8)


@pytest.mark.parametrize("label", LIFE)
def test_the_life_of_a_request_is_as_described(serve: Serve, shop: Shop, label: str) -> None:
    """As a maker who checks, too; with the id of a request that is there."""
    run(serve, label, headers_of(shop, "maker"), examples=5)
    pending = shop.create(shop.body(shop.members[0]))["requestId"]

    def fill(case: Any) -> None:
        if "request_id" in (case.path_parameters or {}):
            case.path_parameters["request_id"] = pending

    run(serve, label, headers_of(shop, "maker"), examples=5, fill=fill)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("label", [*OPERATIONS[:15], *LIFE])
def test_as_described_at_length(serve: Serve, shop: Shop, label: str) -> None:
    run(serve, label, headers_of(shop, "maker"), examples=100)


@pytest.mark.parametrize("label", OPERATIONS[:15])
def test_good_answers_are_as_described(serve: Serve, shop: Shop, label: str) -> None:
    """The same with the names of what is really there put in, so that the calls succeed."""
    pending = shop.create(shop.body(shop.members[0]))["requestId"]

    def fill(case: Any) -> None:
        if "request_id" in (case.path_parameters or {}):
            case.path_parameters["request_id"] = pending
        for name in ("customer_id", "member_id"):
            if name in (case.path_parameters or {}):
                case.path_parameters[name] = "5000000"
        if "lookup" in label:
            case.query = (case.query or {}) | {"identifierName": "mobile", "identifierValue": "9988776655"}
        if isinstance(case.body, dict):
            _fill_body(shop, case.body)
            path = case.body.get("payload", {}).get("IntouchAPITask-Payload", {}).get("path")
            if path is not None:
                case.path_parameters["request_type"] = next(kind for kind, each in TYPES.items() if each.path == path)
            elif "request_type" in (case.path_parameters or {}):
                case.path_parameters["request_type"] = "POINTS-REDEMPTION"
        if label in ("GET /counterfoil/v1/inbox", "GET /counterfoil/v1/requests"):
            kept = {"limit", "reference", "memberId", "startDate"}
            case.query = {name: value for name, value in (case.query or {}).items() if name in kept}

    caller = "till" if label.startswith("POST /v1.1") else "maker"
    headers = headers_of(shop, caller) if not label.startswith("PUT") else shop.headers(CHECKER)
    statuses = run(serve, label, headers, examples=12, fill=fill)
    assert 200 in statuses, statuses


@pytest.mark.parametrize("label", ADMINISTRATION)
def test_as_described_to_an_administrator(serve: Serve, label: str) -> None:
    """Good and bad data for an organisation under dual control, and calls that succeed."""
    with serve.client() as http:
        town = Town(serve, http, 960_000 + ADMINISTRATION.index(label)).open()
        pending = town.proposed(town.part(policy={"approvals": 2}))["id"]

        def fill(case: Any) -> None:
            if "change_id" in (case.path_parameters or {}):
                case.path_parameters["change_id"] = pending
            if isinstance(case.body, dict) and "file" in case.body:
                case.body["file"] = town.part(programme={"id": 1, "name": "Stars"})
            case.query = {}

        run(serve, label, town.headers(BEN), examples=8)
        assert 200 in run(serve, label, town.headers(BEN), examples=4, fill=fill)


def _fill_body(shop: Shop, body: dict[str, Any]) -> None:
    if "entityInfo" in body:
        body["entityInfo"] = {"tillId": TILL}
        call = body["payload"]["IntouchAPITask-Payload"]
        call["hostname"] = HOST
        call["headers"] = {"Authorization": shop.basic}
        _fill_body(shop, call["body"])
    elif "root" in body:
        redeem = body["root"]["redeem"]
        (redeem[0] if isinstance(redeem, list) else redeem)["customer"] = {"mobile": "9988776655"}
    elif "requestId" in body:
        body["requestId"] = shop.create(shop.body(shop.members[0]))["requestId"]
    elif "secret" in body:
        body |= {"key": f"app.{shop.org_id}", "secret": shop.secret(f"app.{shop.org_id}")}
    elif "userName" in body:
        body |= {"orgId": shop.org_id, "userName": CHECKER, "password": f"{shop.password}-{CHECKER}"}


def run(
    serve: Serve, label: str, headers: dict[str, str], *, examples: int, fill: Callable[[Any], None] | None = None
) -> set[int]:
    """Call one operation with good and with bad data, and hold each answer to the description."""
    operation = operations(serve.url)[label]
    checks: list[Any] = [check for check in CHECKS.get_all() if check.__name__ not in NOT_FOR_US]
    assert {"not_a_server_error", "response_schema_conformance", "status_code_conformance"} <= {
        check.__name__ for check in checks
    }
    statuses = _run(operation.as_strategy(generation_mode=GenerationMode.POSITIVE), headers, checks, examples, fill)
    if fill is None and label not in NOTHING_TO_GET_WRONG:
        _run(operation.as_strategy(generation_mode=GenerationMode.NEGATIVE), headers, checks, examples)
    return statuses


def _run(
    strategy: Any,
    headers: dict[str, str],
    checks: list[Any],
    examples: int,
    fill: Callable[[Any], None] | None = None,
) -> set[int]:
    statuses: set[int] = set()

    @settings(
        max_examples=examples, deadline=None, database=None, derandomize=True, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(case=strategy)
    def call(case: Any) -> None:
        sent = dict(headers)
        if case.meta is not None and case.meta.generation.mode == GenerationMode.NEGATIVE:
            # What was made wrong must stay wrong: ours would put it right.
            made = {name.lower(): value for name, value in (case.headers or {}).items()}
            number = made.get("x-cap-api-auth-org-id")
            assume(number is None or str(number).strip())  # an empty header is like none: nothing is wrong with it
            if number is None or not re.fullmatch("[0-9]{1,19}", str(number)):
                sent.pop("X-CAP-API-AUTH-ORG-ID", None)
        if fill is not None:
            fill(case)
            # A key or an ETag that was drawn belongs to nothing.
            case.headers = {
                name: value
                for name, value in (case.headers or {}).items()
                if name not in ("If-Match", "Idempotency-Key")
            }
        answer = case.call(headers=sent, timeout=30)
        # What is too long may be told so before it is looked at.
        too_long = answer.status_code == 413
        judged = [each for each in checks if not (too_long and each.__name__ == "negative_data_rejection")]
        case.validate_response(answer, checks=judged)
        statuses.add(answer.status_code)

    call()
    return statuses
