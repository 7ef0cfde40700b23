"""The five request types beside redemptions, over HTTP (dossier §2.3-2.8, §5; design.md §0, §1)."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from tests.contract import calls
from tests.contract.shop import TASK, Member, Shop, data_of

BODY = f"{TASK}.body"


@pytest.fixture(scope="module")
def giver(make_shop: Callable[..., Shop]) -> Shop:
    """An organisation that may give goodwill, with members of its own."""
    return make_shop(400, programme={"goodwillExpiryDays": 30, "goodwillPointsMax": 5000})


def make(shop: Shop, kind: str, body: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    return data_of(shop.submit(body or calls.body(shop, kind, **changes), path=calls.url(kind)))


def approve(shop: Shop, kind: str, request_id: str) -> dict[str, Any]:
    return data_of(shop.decide(request_id, path=calls.url(kind)))


def output(data: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = data["details"]["IntouchAPITask_Output"]
    return found


def code_of(data: dict[str, Any]) -> int:
    [error] = output(data)["body"]["errors"]
    return int(error["code"])


def status_of(shop: Shop, member: Member) -> dict[str, Any]:
    answer = shop.http.get(f"/counterfoil/v1/members/{member.member_id}/status", headers=shop.headers())
    return data_of_own(answer)


def data_of_own(answer: Any) -> dict[str, Any]:
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    assert list(body) == ["data", "errors", "warnings"]
    found: dict[str, Any] = body["data"]
    return found


# ------------------------------------------------------------ goodwill


def test_goodwill_from_request_to_points(giver: Shop) -> None:
    """Given in the deciding transaction: lot, journal, posting, balance, audit event."""
    member = giver.member()
    before = giver.points(member)
    created = make(giver, "GOODWILL-POINTS", member=member, points=20.5)
    assert (created["requestType"], created["state"]) == ("goodwill-points", "AdminTask")
    assert giver.points(member) == before
    done = approve(giver, "GOODWILL-POINTS", created["requestId"])
    assert done["state"] == "approved"
    assert output(done)["status"] == 201
    assert list(output(done)["body"]) == ["createdId", "warnings"]
    assert 0 < output(done)["body"]["createdId"] < 2**53
    assert float(giver.points(member)[0]) == float(before[0]) + 20.5
    [lot] = giver.serve.rows("SELECT * FROM lot WHERE lot_id = $1::uuid", created["requestId"])
    assert (lot["member_id"], lot["points"], lot["remaining"]) == (member.member_id, 20_500, 20_500)
    assert lot["expires_at"] - lot["awarded_at"] == timedelta(days=30)
    postings = giver.serve.rows(
        "SELECT j.kind, p.source, p.destination, p.points FROM journal j JOIN posting p USING (org_id, journal_id) "
        "WHERE j.request_id = $1::uuid", created["requestId"],
    )  # fmt: skip
    assert [tuple(row) for row in postings] == [("award", "issued", "available", 20_500)]
    events = giver.http.get(f"/counterfoil/v1/requests/{created['requestId']}/events", headers=giver.headers()).json()
    assert [each["kind"] for each in events["data"]] == ["submitted", "succeeded"]
    assert events["data"][1]["facts"]["created"] == output(done)["body"]["createdId"]


def test_goodwill_can_be_spent(giver: Shop) -> None:
    member = giver.member()
    approve(giver, "GOODWILL-POINTS", make(giver, "GOODWILL-POINTS", member=member, points=20)["requestId"])
    data = giver.create(giver.body(member, "1020"))
    assert giver.approve(data["requestId"])["state"] == "approved"
    assert giver.points(member) == (0, 0)
