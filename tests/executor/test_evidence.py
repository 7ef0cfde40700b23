"""What people see of executions outside: every call in the timeline, no credential, nothing beyond their units."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import httpx
import pytest

from tests.contract import calls
from tests.contract.shop import CHECKER, NOBODY, Shop, data_of
from tests.executor.conftest import a_service, a_shop, attempts_of, settled
from tests.executor.hosts import IntouchHost, Recorded, _item, a_host
from tests.executor.test_crashes import an_executor, wait_until
from tests.executor.test_types import submitted

OWN = "Basic b3duOnNlY3JldC1vZi1ob3N0"
PATH = "/counterfoil/v1"


def test_an_echoed_credential_is_withheld(make_shop: Callable[..., Shop], recorded: Recorded) -> None:
    """The answer of a careless host is kept as evidence and shown to many."""
    shop = make_shop(baseUrl=recorded.url, authorization=OWN)
    message = f"bad header {OWN}, password secret-of-host"
    refusal = {"response": {"status": {"success": "false", "code": 400, "message": message}}}
    recorded.tell(400, refusal, {"Server": [OWN]})
    request_id = shop.create()["requestId"]
    shop.approve(request_id)
    shown = [
        shop.get(request_id).text,
        *(
            shop.http.get(f"{PATH}/requests/{request_id}{part}", headers=shop.headers(CHECKER)).text
            for part in ("", "/attempts", "/timeline", "/events")
        ),
    ]
    assert "withheld" in shown[2]
    for text in (*shown, str(attempts_of(shop, request_id))):
        assert "b3duOnNlY3JldC1vZi1ob3N0" not in text
        assert "secret-of-host" not in text


def test_every_call_is_in_the_timeline(make_shop: Callable[..., Shop], host: IntouchHost) -> None:
    shop = make_shop(lookUp=True)
    host.plan("521", "503", "cut_after")
    request_id = shop.create()["requestId"]
    shop.approve(request_id)
    assert settled(shop, request_id)["state"] == "approved"
    lines = shop.http.get(f"{PATH}/requests/{request_id}/timeline", headers=shop.headers()).json()["data"]
    tried = [each for each in lines if each["eventId"] is None]
    assert [(each["kind"], each["facts"].get("outcome") or each["facts"].get("verdict")) for each in tried] == [
        ("attempt", "retry"), ("attempt", "retry"), ("attempt", "unknown"), ("look_up", "found"),
    ]  # fmt: skip
    assert all(each["facts"]["milliseconds"] >= 0 for each in tried)
    kinds = [each["kind"] for each in lines]
    assert kinds.index("approved") < kinds.index("attempt") < kinds.index("look_up") < kinds.index("succeeded")


def test_who_may_not_read_the_request_reads_nothing_of_it(make_shop: Callable[..., Shop], host: IntouchHost) -> None:
    shop = make_shop(lookUp=False)
    host.plan("cut_after")
    request_id = shop.create()["requestId"]
    shop.approve(request_id)
    [line] = shop.http.get(f"{PATH}/incidents", headers=shop.headers()).json()["data"]
    shop.change(organisation={"readScope": "units"})
    for by, status, count in ((NOBODY, 404, 0), (CHECKER, 200, 1)):
        for path in (f"requests/{request_id}/attempts", f"incidents/{line['incidentId']}"):
            assert shop.http.get(f"{PATH}/{path}", headers=shop.headers(by)).status_code == status, (by, path)
        assert len(shop.http.get(f"{PATH}/incidents", headers=shop.headers(by)).json()["data"]) == count


def test_types_do_not_share_references(make_shop: Callable[..., Shop], recorded: Recorded) -> None:
    shop = make_shop(baseUrl=recorded.url)

    def carried_out(kind: str, answer: object, **changes: Any) -> str:
        recorded.tell(200, answer)
        if kind == "POINTS-REDEMPTION":
            return str(shop.approve(shop.create(shop.body(**changes))["requestId"])["state"])
        made = data_of(submitted(shop, kind, **changes))
        return str(data_of(shop.decide(made["requestId"], path=calls.url(kind)))["state"])

    good: dict[str, Any] = {"data": {}, "errors": [], "warnings": []}
    redeemed = _item(800, "Points Redeemed")
    assert carried_out("EARN-BADGE", good, requestId="20260301-1") == "approved"
    assert carried_out("ISSUE-BADGE", good, requestId="20260301-1") == "approved"
    assert carried_out("POINTS-REDEMPTION", redeemed, external_reference_number="20260301-1") == "approved"
    assert carried_out("POINTS-REDEMPTION", redeemed, external_reference_number="20260301-1") == "failed"
    assert len(recorded.received) == 3


def test_names_in_a_path_lead_nowhere(make_shop: Callable[..., Shop], host: IntouchHost) -> None:
    shop = make_shop()
    body = shop.body()
    task = body["payload"]["IntouchAPITask-Payload"]
    task["path"] = "/{x/../../internal/goodwill/?}/points/redeem"
    task["pathParams"] = {"x/../../internal/goodwill/?": "v1.1"}
    assert shop.submit(body).status_code == 400
    task |= {"path": "/{version}/points/redeem", "pathParams": {"version": "v1.1"}}
    assert shop.approve(data_of(shop.submit(body))["requestId"])["state"] == "approved"
    assert [each.target.partition("?")[0] for each in host.received] == ["/v1.1/points/redeem"]


@pytest.mark.slow
def test_killed_after_sending_and_then_the_host_is_away(server: Any, kept_port: int) -> None:
    """Nobody has heard the answer, and nobody can ask: that is for people to find out, never "not executed"."""
    settings = {"COUNTERFOIL_EXECUTE": "off", "COUNTERFOIL_DECIDE_SECONDS_MAX": 0, "COUNTERFOIL_LEASE_SECONDS": 2}
    with a_service(server, **settings) as idle, ExitStack() as stack:
        with a_host(kept_port) as host:
            host.slow_seconds = 60
            host.plan("slow_after")
            shop = a_shop(idle, stack.enter_context(idle.client()), host, attemptSeconds=120, overallSeconds=3)
            others = [shop.create()["requestId"] for _ in range(6)]
            request_id = shop.create()["requestId"]
            with an_executor(idle) as process:
                shop.approve(request_id)
                wait_until(lambda: host.effects)
                process.kill()
        for each in others:
            shop.approve(each)
        with an_executor(idle):
            data = settled(shop, request_id, 30)
            states = {settled(shop, each, 30)["state"] for each in others}
        assert (data["state"], states) == ("AdminTask", {"failed"})
        assert [(each["state"], each["outcome"]) for each in attempts_of(shop, request_id)] == [("planned", "unknown")]


@pytest.mark.slow
def test_an_executor_of_its_own_tells_its_metrics(server: Any, host: IntouchHost, kept_port: int) -> None:
    settings = {"COUNTERFOIL_EXECUTE": "off", "COUNTERFOIL_DECIDE_SECONDS_MAX": 0}
    with a_service(server, **settings) as idle, idle.client() as client:
        shop = a_shop(idle, client, host)
        with an_executor(idle, COUNTERFOIL_EXECUTE_METRICS_PORT=kept_port):
            request_id = shop.create()["requestId"]
            shop.approve(request_id)
            assert settled(shop, request_id)["state"] == "approved"
            told = httpx.get(f"http://127.0.0.1:{kept_port}/metrics").text
    assert "counterfoil_attempt_seconds_count{" in told
