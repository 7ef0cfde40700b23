"""Executing on an external host: a decision answers with the end, and each effect is there exactly once."""

import json
from collections.abc import Callable
from typing import Any

from tests.contract.shop import Shop, code_of
from tests.executor.hosts import IntouchHost


def attempts_of(shop: Shop, request_id: str) -> list[Any]:
    return shop.serve.rows(
        "SELECT * FROM attempt WHERE org_id = $1 AND request_id = $2::text::uuid ORDER BY number",
        shop.org_id,
        request_id,
    )


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
