"""One request in full, over HTTP: what it says an approval would do is what the approval does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.contract.shop import (
    BOTH,
    CHECKER,
    MAKER,
    NOBODY,
    OTHER_TILL,
    SECOND,
    Member,
    Shop,
    basic,
    code_of,
    data_of,
    md5,
    set_at,
)
from tests.contract.test_inbox import get

MakeShop = Callable[..., Shop]
SUBMITTED = "payload.IntouchAPITask-Payload"


def full(shop: Shop, request_id: str, by: str | None = CHECKER) -> dict[str, Any]:
    answer = get(shop, f"/requests/{request_id}", by)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()["data"]
    assert answer.headers["etag"] == f'"{found["request"]["digest"]}"'
    return found


def test_everything_that_a_decision_needs(make_shop: MakeShop) -> None:
    shop = make_shop(members=1)
    shop.content["members"][0]["lots"].append(
        {"reference": "E", "points": 150, "awardedAt": "2024-01-15", "expiresAt": "2090-01-01"}
    )
    shop.apply()
    request_id = str(shop.create(shop.body(points="200.5"))["requestId"])
    found = full(shop, request_id)
    assert found["request"]["state"] == "pending"
    assert found["wireState"] == "AdminTask"
    assert found["call"]["headers"]["Authorization"] == "Basic <withheld>"
    assert found["call"]["body"]["root"]["redeem"]["points_redeemed"] == "200.5"
    position = found["position"]
    assert (position["available"], position["held"]) == (949.5, 200.5)
    assert [(each["points"], each["held"]) for each in position["expiring"]] == [(0, 150)]
    assert (position["hold"]["points"], position["hold"]["state"]) == (200.5, "open")
    approval = found["approval"]
    assert (approval["by"], approval["isLast"], approval["refused"]) == ("E-1002", True, None)
    assert (approval["code"], approval["message"]) == (800, "Points Redeemed")
    assert (approval["availableAfter"], approval["heldAfter"]) == (949.5, 0)
    assert found["approvers"]["must"] == [
        {"right": "CanCheckRequest", "count": 1, "given": 0, "who": "1 x checker", "step": 1}
    ]
    assert found["approvers"]["has"] == []
    assert [each["staffId"] for each in found["approvers"]["can"]] == ["E-1002", "E-1003", "E-1004"]
    assert found["approvers"]["moreCan"] is False
    assert found["flags"] == found["links"] == []


@pytest.mark.parametrize("case", ["good", "unfunded", "duplicate", "stranger", "wrong till", "two must"])
def test_the_dry_run_is_what_happens(make_shop: MakeShop, case: str) -> None:
    shop = make_shop(members=2, policy={"approvals": 2 if case == "two must" else 1})
    member = shop.member()
    body = shop.body(member, points="400", external_reference_number=f"R-{case}")
    if case == "unfunded":
        body = shop.body(member, points="1001")
    if case == "duplicate":
        shop.approve(str(shop.create(body)["requestId"]))
    if case == "stranger":
        body = shop.body(Member(1, "9111122222"))
    if case == "wrong till":
        body = set_at(body, f"{SUBMITTED}.headers.Authorization", basic(shop.till, md5("wrong")))
    request_id = str(shop.create(body)["requestId"])
    told = full(shop, request_id)["approval"]
    assert told["isLast"] is (case != "two must")
    assert told["needsTillCheck"] is (case == "wrong till")
    if case == "two must":
        shop.decide(request_id, by=SECOND)
        assert full(shop, request_id)["approval"] == told | {"isLast": True}
    done = shop.approve(request_id)
    if case == "wrong till":  # only the approval verifies it
        assert (told["code"], done["details"]["IntouchAPITask_Output"]["status"]) == (800, 401)
        return
    assert told["code"] == code_of(done)
    assert told["succeeded"] is (done["state"] == "approved")
    after = full(shop, request_id)
    assert after["approval"] is None
    if after["position"] is not None:
        assert told["availableAfter"] == after["position"]["available"]
        assert told["heldAfter"] == after["position"]["held"]
    else:
        assert case == "stranger"


def test_who_cannot_decide_sees_what_others_could(make_shop: MakeShop) -> None:
    shop = make_shop()
    request_id = str(shop.create(shop.body(), by=BOTH)["requestId"])
    for by, reason in ((BOTH, "selfApproval"), (NOBODY, "notPermitted"), (None, "notPermitted"), (CHECKER, None)):
        found = full(shop, request_id, by)
        assert (found["request"]["whyNot"] or {"reason": None})["reason"] == reason
        assert found["approval"]["by"] == "E-1002"
        assert [each["staffId"] for each in found["approvers"]["can"]] == ["E-1002", "E-1003"]
    shop.change(grants=[each for each in shop.content["grants"] if each["right"] == "CanMakeRequest"])
    found = full(shop, request_id)
    assert found["approval"] is None
    assert found["approvers"]["can"] == []


def test_voices_that_no_longer_count(make_shop: MakeShop) -> None:
    shop = make_shop(policy={"approvals": 2})
    request_id = str(shop.create(shop.body())["requestId"])
    shop.decide(request_id, by=SECOND)
    [voice] = full(shop, request_id)["approvers"]["has"]
    assert (voice["person"]["staffId"], voice["verdict"], voice["counts"]) == ("E-1003", "approved", True)
    shop.change(grants=[each for each in shop.content["grants"] if each["person"] != "E-1003"])
    found = full(shop, request_id)
    assert [each["counts"] for each in found["approvers"]["has"]] == [False]
    assert found["approvers"]["must"][0]["given"] == 0
    assert found["approval"]["isLast"] is False


def test_flags_and_links_are_explained(make_shop: MakeShop) -> None:
    shop = make_shop()
    first = str(shop.create(shop.body(external_reference_number="SAME"))["requestId"])
    body = set_at(shop.body(external_reference_number="SAME"), "entityInfo.storeId", str(OTHER_TILL))
    second = str(shop.create(body)["requestId"])
    found = full(shop, second)
    assert [each["flag"] for each in found["flags"]] == ["unit_mismatch:storeId", "duplicate"]
    assert all(each["meaning"] for each in found["flags"])
    assert found["links"] == [{"rel": "duplicateOf", "requestId": first}]
    assert full(shop, first)["links"] == [{"rel": "sameReference", "requestId": second}]


def test_a_host_that_changed_is_told(make_shop: MakeShop) -> None:
    shop = make_shop()
    request_id = str(shop.create(shop.body())["requestId"])
    shop.change(hosts=[{**shop.content["hosts"][0], "url": "https://*.cc.capillarytech.com"}])
    told = full(shop, request_id)["approval"]
    assert (told["refused"]["code"], told["code"]) == (2902, None)
    assert shop.decide(request_id).status_code == 412


def test_reading_changes_nothing(make_shop: MakeShop) -> None:
    shop = make_shop()
    member = shop.member()
    request_id = str(shop.create(shop.body(member))["requestId"])
    before = shop.points(member), full(shop, request_id), shop.state(request_id)
    for path in ("", "/timeline", "/events"):
        assert get(shop, f"/requests/{request_id}{path}").status_code == 200
    assert (shop.points(member), full(shop, request_id), shop.state(request_id)) == before
    assert len(get(shop, f"/requests/{request_id}/events").json()["data"]) == 1


def test_the_timeline(make_shop: MakeShop) -> None:
    shop = make_shop(policy={"approvals": 2})
    request_id = str(shop.create(shop.body())["requestId"])
    assert shop.decide(request_id, by=NOBODY).status_code == 403
    shop.decide(request_id, by=SECOND)
    data_of(shop.decide(request_id, "rejected", by=CHECKER))
    lines = get(shop, f"/requests/{request_id}/timeline", by=None).json()["data"]
    assert [(each["kind"], each["who"], each["message"]) for each in lines] == [
        ("submitted", f"E-1001 {MAKER}", None),
        ("decision_refused", f"E-1005 {NOBODY}", None),
        ("voice", f"E-1003 {SECOND}", "approving the request"),
        ("rejected", f"E-1002 {CHECKER}", "approving the request"),
    ]
    assert [each["facts"].get("state") for each in lines] == ["pending", None, "pending", "rejected"]
    assert lines[1]["facts"]["code"] == 2001
    assert not [name for each in lines for name in each["facts"] if name.endswith("#")]
    assert [each["at"] for each in lines] == sorted(each["at"] for each in lines)
