"""Executing on an external host: a decision answers with the end, and each effect is there exactly once."""

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.contract.shop import Shop, code_of, data_of
from tests.executor.conftest import a_service, a_shop, attempts_of, external, reference_of, settled
from tests.executor.hosts import IntouchHost


def test_the_decision_answers_with_the_end(make_shop: Callable[..., Shop], host: IntouchHost) -> None:
    shop = make_shop()
    body = shop.body(points="100", transaction_number="b-1")
    reference = body["payload"]["IntouchAPITask-Payload"]["body"]["root"]["redeem"]["external_reference_number"]
    created = shop.create(body)
    assert created["state"] == "AdminTask"
    assert shop.submit(shop.body()).headers.get("x-counterfoil-flags") is None
    data = shop.approve(created["requestId"])
    assert (data["state"], code_of(data)) == ("approved", 800)
    assert data["endTime"] is not None
    assert host.effects == {reference: 1}
    [sent] = host.redeemed
    assert sent.target == "/v1.1/points/redeem?skip_validation=true&format=json"
    assert sent.headers["authorization"] == shop.basic
    assert json.loads(sent.body) == {"root": body["payload"]["IntouchAPITask-Payload"]["body"]["root"]}
    [attempt] = attempts_of(shop, created["requestId"])
    assert (attempt["state"], attempt["outcome"], attempt["reference"]) == ("answered", "succeeded", reference)
    assert attempt["planned_at"] <= attempt["sent_at"] <= attempt["answered_at"]
    assert shop.get(created["requestId"]).json()["data"]["details"] == json.loads(
        json.dumps(data["details"], default=str)
    )
    assert b"secret=1" not in attempt["response"]


# Faults, what the attempts came to, the state on the wire, and the effects at the host.
MEETINGS: dict[str, tuple[tuple[str, ...], list[str], str, int]] = {
    "an answer": ((), ["succeeded"], "approved", 1),
    "try later, then an answer": (("521", "503"), ["retry", "retry", "succeeded"], "approved", 1),
    "a refusal": (("400",), ["failed"], "failed", 0),
    "a refused credential of the payload": (("401",), ["failed"], "failed", 0),
    "cut after the effect": (("cut_after",), ["unknown"], "approved", 1),
    "cut before the effect": (("cut_before",), ["unknown", "succeeded"], "approved", 1),
    "500 after the effect": (("500_after",), ["unknown"], "approved", 1),
    "500 before the effect": (("500_before",), ["unknown", "succeeded"], "approved", 1),
    "garbage after the effect": (("garbage_after",), ["unknown"], "approved", 1),
    "later than the deadline": (("slow_after",), ["unknown"], "approved", 1),
    "try later, then cut after the effect": (("521", "cut_after"), ["retry", "unknown"], "approved", 1),
    "cut before twice: people settle it": (("cut_before", "cut_before"), ["unknown", "unknown"], "AdminTask", 0),
}


def test_nobody_waits_for_a_try_that_comes_later(server: Any, host: IntouchHost) -> None:
    """The checker hears at once that it is approved and not yet executed, not when all patience is over."""
    with a_service(server, COUNTERFOIL_DECIDE_SECONDS_MAX=120) as serve, serve.client() as client:
        shop = a_shop(serve, client, host, overallSeconds=900)
        host.plan("503 for an hour")
        created = shop.create()
        assert data_of(shop.decide(created["requestId"]))["state"] == "AdminTask"
        assert [each["outcome"] for each in attempts_of(shop, created["requestId"])] == ["retry"]


@pytest.mark.parametrize("meeting", MEETINGS)
def test_each_fault(meeting: str, make_shop: Callable[..., Shop], host: IntouchHost) -> None:
    faults, outcomes, state, effects = MEETINGS[meeting]
    shop = make_shop(attemptSeconds=2 if "slow_after" in faults else 10)
    host.slow_seconds = 4
    host.plan(*faults)
    created = shop.create()
    answered = shop.approve(created["requestId"])
    assert answered["details"]["AdminTask_Output"] == "approved"
    data = settled(shop, created["requestId"])
    assert data["state"] == state, attempts_of(shop, created["requestId"])
    assert (data["endTime"] is None) == (state == "AdminTask")
    assert host.effects[reference_of(data)] == effects
    attempts = attempts_of(shop, created["requestId"])
    assert [each["outcome"] for each in attempts] == outcomes
    assert {each["reference"] for each in attempts} == {reference_of(data)}
    if state == "approved":
        assert code_of(data) == 800


def test_without_a_reference_of_the_maker_ours_is_sent(make_shop: Callable[..., Shop], host: IntouchHost) -> None:
    shop = make_shop()
    body = shop.body()
    del body["payload"]["IntouchAPITask-Payload"]["body"]["root"]["redeem"]["external_reference_number"]
    created = shop.create(body)
    data = shop.approve(created["requestId"])
    assert data["state"] == "approved"
    assert host.effects == {f"CF-{created['requestId']}": 1}
    assert "external_reference_number" not in json.dumps(data["details"]["IntouchAPITask-Payload"], default=str)


def test_a_second_request_of_a_reference_is_refused_without_a_call(
    make_shop: Callable[..., Shop], host: IntouchHost
) -> None:
    shop = make_shop()
    member = shop.member()
    first, second = (
        shop.create(shop.body(member, external_reference_number="ONE")),
        shop.create(shop.body(member, external_reference_number="ONE")),
    )
    assert shop.approve(first["requestId"])["state"] == "approved"
    data = shop.approve(second["requestId"])
    assert (data["state"], code_of(data)) == ("failed", 744)
    assert len(host.redeemed) == 1


def test_the_own_credential_of_the_host_is_sent_and_never_shown(
    make_shop: Callable[..., Shop], host: IntouchHost
) -> None:
    shop = make_shop(authorization="Basic b3duOnNlY3JldC1vZi1ob3N0")
    shop.serve.secrets.add("b3duOnNlY3JldC1vZi1ob3N0")
    assert shop.approve(shop.create()["requestId"])["state"] == "approved"
    [sent] = host.redeemed
    assert sent.headers["authorization"] == "Basic b3duOnNlY3JldC1vZi1ob3N0"
    host.plan("401")
    created = shop.create()
    assert shop.approve(created["requestId"])["state"] == "AdminTask"
    [incident] = shop.http.get("/counterfoil/v1/incidents", headers=shop.headers()).json()["data"]
    assert (incident["requestId"], incident["kind"]) == (created["requestId"], "credential")
    shown = shop.serve.rows("SELECT row_to_json(h)::text AS t FROM host h WHERE org_id = $1", shop.org_id)
    assert "b3duOnNlY3JldC1vZi1ob3N0" not in shown[0]["t"]


def test_a_host_entry_that_changed_after_the_approval_is_not_called(
    make_shop: Callable[..., Shop], host: IntouchHost
) -> None:
    shop = make_shop()
    host.plan(*["503"] * 100)
    created = shop.create()
    with ThreadPoolExecutor(1) as thread:
        waiting = thread.submit(shop.approve, created["requestId"])
        while not host.redeemed:
            time.sleep(0.02)
        shop.change(hosts=[external(host, absentAfterSeconds=5)])
        waiting.result()
    sent = len(host.redeemed)
    data = settled(shop, created["requestId"])
    assert data["state"] == "AdminTask"
    time.sleep(0.5)
    assert len(host.redeemed) <= sent + 1
    [incident] = shop.http.get("/counterfoil/v1/incidents", headers=shop.headers()).json()["data"]
    assert incident["kind"] == "host_changed"


@pytest.mark.slow
def test_a_dead_host_is_left_alone_and_its_requests_fail_in_time(
    make_shop: Callable[..., Shop], kept_port: int
) -> None:
    shop = make_shop(baseUrl=f"http://127.0.0.1:{kept_port}", overallSeconds=1.5)
    requests = [shop.create()["requestId"] for _ in range(8)]
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(shop.approve, requests))
    assert {each["state"] for each in answers} <= {"failed", "AdminTask"}
    ended = [settled(shop, each) for each in requests]
    assert {each["state"] for each in ended} == {"failed"}
    assert {code_of(each) for each in ended} == {889}
    told = f'counterfoil_attempt_seconds_count{{host="crm",org_id="{shop.org_id}",outcome="retry"'
    assert told in shop.http.get("/metrics").text
