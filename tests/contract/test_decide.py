"""Deciding, and what the last approval executes (dossier §2.8, §5; design.md §4, §6, §7)."""

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.contract.shop import (
    BOTH,
    CHECKER,
    CREATE,
    ITEM,
    MAKER,
    NOBODY,
    SECOND,
    TASK,
    Shop,
    assert_refused,
    basic,
    code_of,
    data_of,
    decision,
    item_of,
    md5,
    set_at,
)

DECISION = "payload.AdminTask-Payload"


def test_approved(shop: Shop) -> None:
    member = shop.member()
    created = shop.create(shop.body(member, "100", transaction_number="bill-7"))
    assert shop.points(member) == (900, 100)
    answer = shop.decide(created["requestId"])
    data = data_of(answer)
    assert list(data["details"]) == [
        "IntouchAPITask-Payload", "AdminTask-Payload", "ValidateMakerAccess_Output", "AdminTask_Output",
        "ValidatePayload_Output", "IntouchAPITask_Output", "ValidateCheckerAccess_Output",
    ]  # fmt: skip
    assert data["state"] == "approved"
    assert data["endTime"] >= data["startTime"] == created["startTime"]
    details = data["details"]
    assert details["AdminTask-Payload"] == {"actionDecision": "approved", "actionMessage": "approving the request"}
    assert details["AdminTask_Output"] == "approved"
    assert [value for name, value in details.items() if name.startswith("Validate")] == [True, True, True]
    output = details["IntouchAPITask_Output"]
    assert output["status"] == 200
    assert [output["headers"][name] for name in ("status_code", "success", "fail", "till")] == [
        ["200"], ["1"], ["0"], [shop.till],
    ]  # fmt: skip
    item = item_of(data)
    assert (item["mobile"], item["user_id"]) == (member.wire_mobile, str(member.member_id))
    assert (item["points_redeemed"], item["redeemed_value"], item["balance"]) == ("100", 100, 900)
    assert item["item_status"] == {"success": "true", "code": 800, "message": "Points Redeemed"}
    [effect] = item["side_effects"]["effect"]
    assert (effect["num_points"], effect["redeemed_on_bill_number"]) == (100, "bill-7")
    assert shop.points(member) == (900, 0)
    assert shop.get(created["requestId"]).content == answer.content


def test_rejected(shop: Shop) -> None:
    """The hold is released, nothing was called, and it is final (dossier §5 no. 18)."""
    member = shop.member()
    created = shop.create(shop.body(member, "100"))
    answer = shop.decide(created["requestId"], "rejected")
    data = data_of(answer)
    assert data["state"] == "rejected"
    assert data["endTime"] is not None
    assert list(data["details"]) == [
        "IntouchAPITask-Payload", "AdminTask-Payload", "ValidateMakerAccess_Output", "AdminTask_Output",
        "ValidatePayload_Output", "ValidateCheckerAccess_Output",
    ]  # fmt: skip
    assert data["details"]["AdminTask_Output"] == "rejected"
    assert data["details"]["AdminTask-Payload"]["actionDecision"] == "rejected"
    assert shop.points(member) == (1000, 0)
    assert shop.get(created["requestId"]).content == answer.content
    assert_refused(shop.decide(created["requestId"]), 400, 2002, CHECKER, "rejected")


@pytest.mark.parametrize("first", ["approved", "rejected"])
@pytest.mark.parametrize("then", ["approved", "rejected"])
@pytest.mark.parametrize("by", [CHECKER, SECOND])
def test_a_second_decision(shop: Shop, first: str, then: str, by: str) -> None:
    """The first wins; the answer names who decided what and when (dossier §5 no. 22)."""
    created = shop.create()
    before = shop.decide(created["requestId"], first)
    refused = shop.decide(created["requestId"], then, by=by)
    assert_refused(refused, 400, 2002, CHECKER, first)
    assert re.search(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", refused.json()["errors"][0]["message"])
    assert shop.get(created["requestId"]).content == before.content


def test_two_checkers_at_once(shop: Shop) -> None:
    member = shop.member()
    created = shop.create(shop.body(member, "100"))
    for name in (CHECKER, SECOND):
        shop.token(name)
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda n: shop.decide(created["requestId"], by=(CHECKER, SECOND)[n % 2]), range(8)))
    assert sorted(answer.status_code for answer in answers) == [200] + [400] * 7
    assert {answer.json()["errors"][0]["code"] for answer in answers if answer.status_code == 400} == {2002}
    assert shop.points(member) == (900, 0)


@pytest.mark.parametrize("verdict", ["approved", "rejected"])
def test_the_maker_decides_his_own(shop: Shop, verdict: str) -> None:
    """Never, though he holds the right to check (D3; dossier §5 no. 20)."""
    created = shop.create(by=BOTH)
    assert_refused(shop.decide(created["requestId"], verdict, by=BOTH), 403, 2001, "maker")
    assert shop.state(created["requestId"]) == "AdminTask"
    assert shop.approve(created["requestId"])["state"] == "approved"


def test_who_may_decide(shop: Shop) -> None:
    """A person, with the right, there."""
    created = shop.create()
    for name in (MAKER, NOBODY):
        assert_refused(shop.decide(created["requestId"], by=name), 403, 2001)
    assert_refused(shop.decide(created["requestId"], by=None), 403, 2001, "X-CAP-UI-AUTH-TOKEN")
    assert shop.state(created["requestId"]) == "AdminTask"


def test_who_may_make(shop: Shop) -> None:
    for name in (CHECKER, NOBODY):
        assert_refused(shop.submit(by=name), 403, 2001, "CanMakeRequest")
    assert_refused(shop.submit(by=None), 403, 2001, "X-CAP-UI-AUTH-TOKEN")


@pytest.mark.parametrize("spelling", ["AdminTask", "adminTask", "ADMINTASK"])
def test_action_name_in_any_case(shop: Shop, spelling: str) -> None:
    """Dossier §5 no. 4."""
    created = shop.create()
    body = decision(created["requestId"]) | {"actionName": spelling}
    assert data_of(shop.http.put(CREATE, json=body, headers=shop.headers(CHECKER)))["state"] == "approved"


def test_unknown_keys_of_a_decision(shop: Shop) -> None:
    created = shop.create()
    body = decision(created["requestId"]) | {"other": [1]}
    body["payload"]["AdminTask-Payload"]["more"] = "x"
    data = data_of(shop.http.put(CREATE, json=body, headers=shop.headers(CHECKER)))
    assert list(data["details"]["AdminTask-Payload"]) == ["actionDecision", "actionMessage"]


@pytest.mark.parametrize("message", ["", "ok", '\u00e9 \u202e \U0001f600 " \\ </script>', "m" * 2000])
def test_action_message_is_kept(shop: Shop, message: str) -> None:
    created = shop.create()
    body = decision(created["requestId"], message=message)
    data = data_of(shop.http.put(CREATE, json=body, headers=shop.headers(CHECKER)))
    assert data["details"]["AdminTask-Payload"]["actionMessage"] == message
    assert data_of(shop.get(created["requestId"])) == data


@pytest.mark.parametrize(
    ("path", "value", "code", "said"),
    [
        ("requestId", ..., 2007, "requestId"),
        ("requestId", None, 2007, "requestId"),
        ("requestId", 5, 2007, "requestId"),
        ("requestId", "5", 2007, "requestId"),
        ("requestId", "x" * 36, 2007, "requestId"),
        ("requestId", "d9df3b65-62a7-11ee-aa6d-0aaee4e533d2", 2007, "requestId"),
        ("actionName", ..., 2007, "actionName"),
        ("actionName", "", 2007, "actionName"),
        ("actionName", "UserTask", 2007, "actionName"),
        ("actionName", ["AdminTask"], 2007, "actionName"),
        ("payload", ..., 2008, DECISION),
        ("payload", "x", 2008, DECISION),
        (DECISION, ..., 2008, DECISION),
        (DECISION, None, 2008, DECISION),
        (f"{DECISION}.actionDecision", ..., 2008, f"{DECISION}.actionDecision"),
        (f"{DECISION}.actionDecision", "maybe", 2008, "approved or rejected"),
        (f"{DECISION}.actionDecision", True, 2008, f"{DECISION}.actionDecision"),
        (f"{DECISION}.actionDecision", None, 2008, f"{DECISION}.actionDecision"),
        (f"{DECISION}.actionMessage", ..., 2008, f"{DECISION}.actionMessage"),
        (f"{DECISION}.actionMessage", None, 2008, f"{DECISION}.actionMessage"),
        (f"{DECISION}.actionMessage", 5, 2008, f"{DECISION}.actionMessage"),
        (f"{DECISION}.actionMessage", "m" * 2001, 2008, f"{DECISION}.actionMessage"),
    ],
)
def test_a_decision_refused(shop: Shop, path: str, value: object, code: int, said: str) -> None:
    created = shop.create()
    body = set_at(decision(created["requestId"]), path, value)
    assert_refused(shop.http.put(CREATE, json=body, headers=shop.headers(CHECKER)), 400, code, said)
    assert shop.state(created["requestId"]) == "AdminTask"


def test_the_request_of_another_organisation(shop: Shop, make_shop: Callable[..., Shop]) -> None:
    """It does not exist for anybody else (design.md §10 no. 10)."""
    other = make_shop()
    created = shop.create()
    assert_refused(other.decide(created["requestId"]), 400, 2007, "requestId")
    assert_refused(other.get(created["requestId"]), 404, 2007, "requestId")
    events = f"/counterfoil/v1/requests/{created['requestId']}/events"
    assert other.http.get(events, headers=other.headers()).status_code == 404
    assert shop.http.get(events, headers=shop.headers()).status_code == 200
    assert other.page().json()["data"] == []
    assert shop.state(created["requestId"]) == "AdminTask"


def test_two_approvals(make_shop: Callable[..., Shop]) -> None:
    """The first voice leaves the request as it is on the wire; no person speaks twice."""
    shop = make_shop(policy={"approvals": 2})
    created = shop.create(shop.body(points="100"))
    first = data_of(shop.decide(created["requestId"]))
    assert (first["state"], first["endTime"]) == ("AdminTask", None)
    assert list(first["details"]) == list(created["details"])
    assert_refused(shop.decide(created["requestId"]), 400, 2002, "another checker")
    assert shop.approve(created["requestId"], by=SECOND)["state"] == "approved"


def test_one_rejection_is_enough(make_shop: Callable[..., Shop]) -> None:
    shop = make_shop(policy={"approvals": 2})
    member = shop.member()
    created = shop.create(shop.body(member))
    shop.approve(created["requestId"])
    assert data_of(shop.decide(created["requestId"], "rejected", by=SECOND))["state"] == "rejected"
    assert shop.points(member) == (1000, 0)


# What the points API says no to: HTTP 200, state failed, and the facts in IntouchAPITask_Output.


def assert_failed(data: dict[str, Any], code: int, message: str) -> dict[str, Any]:
    """Failed with this item code in the body and the headers; returns the item."""
    assert data["state"] == "failed"
    assert data["endTime"] is not None
    assert data["details"]["AdminTask_Output"] == "approved"
    output = data["details"]["IntouchAPITask_Output"]
    assert output["status"] == 200
    assert [output["headers"][name] for name in ("status_code", "success", "fail")] == [[str(code)], ["0"], ["1"]]
    status = {"success": "false", "code": 500, "message": "All requests have failed due to errors"}
    assert output["body"]["response"]["status"] == status
    item = item_of(data)
    assert item["item_status"] == {"success": "false", "code": code, "message": message}
    assert (item["redeemed_value"], item["side_effects"]) == (0, {"effect": []})
    assert not {"redemption_id", "balance", "redeemed_local_value"} & item.keys()
    return item


def test_an_unknown_member(shop: Shop) -> None:
    """Accepted and told; refused by the points API (816)."""
    body = set_at(shop.body(), f"{ITEM}.customer", {"mobile": "9000000001"})
    answer = shop.submit(body)
    assert answer.headers["x-counterfoil-flags"] == "member_unknown, unfunded"
    item = assert_failed(shop.approve(data_of(answer)["requestId"]), 816, "Customer not found for organization")
    assert (item["user_id"], item["email"], item["external_id"]) == (None, "", "")
    assert "redemption_purpose" not in item


def test_too_few_points(shop: Shop) -> None:
    """Accepted and told; refused by the points API (818)."""
    member = shop.member()
    answer = shop.submit(shop.body(member, "1000.001"))
    assert answer.headers["x-counterfoil-flags"] == "unfunded"
    assert shop.points(member) == (1000, 0)
    data = shop.approve(data_of(answer)["requestId"])
    item = assert_failed(data, 818, "Current points are less than points requested for redemption")
    assert item["points_redeemed"] == "1000.001"
    assert shop.points(member) == (1000, 0)


def test_all_points(shop: Shop) -> None:
    """Equal to what is available is enough (dossier §5 no. 8)."""
    member = shop.member()
    data = shop.approve(shop.create(shop.body(member, "1000"))["requestId"])
    assert (data["state"], item_of(data)["balance"]) == ("approved", 0)
    assert shop.points(member) == (0, 0)


def test_unfunded_at_first(make_shop: Callable[..., Shop]) -> None:
    """Points that arrive before the approval count."""
    shop = make_shop()
    member = shop.member()
    answer = shop.submit(shop.body(member, "1500"))
    assert answer.headers["x-counterfoil-flags"] == "unfunded"
    entry = next(each for each in shop.content["members"] if each["id"] == member.member_id)
    entry["lots"].append({"reference": "more", "points": 501, "awardedAt": "2024-02-01"})
    shop.apply()
    data = shop.approve(data_of(answer)["requestId"])
    assert (code_of(data), item_of(data)["balance"]) == (800, 1)


def test_holds_set_points_aside(shop: Shop) -> None:
    """The second request finds what the first one left; its own approval finds it too."""
    member = shop.member()
    first, second = shop.submit(shop.body(member, "700")), shop.submit(shop.body(member, "700"))
    assert "x-counterfoil-flags" not in first.headers
    assert second.headers["x-counterfoil-flags"] == "unfunded"
    assert code_of(shop.approve(data_of(second)["requestId"])) == 818
    assert code_of(shop.approve(data_of(first)["requestId"])) == 800
    assert shop.points(member) == (300, 0)


def test_a_duplicate_reference(shop: Shop) -> None:
    """Accepted without a hold, told, and refused by the points API once the first one is through (744)."""
    member = shop.member()
    reference = uuid4().hex
    first = shop.submit(shop.body(member, external_reference_number=reference))
    second = shop.submit(shop.body(member, external_reference_number=reference))
    assert second.headers["x-counterfoil-flags"] == "duplicate"
    assert shop.points(member) == (900, 100)
    assert code_of(shop.approve(data_of(first)["requestId"])) == 800
    assert_failed(shop.approve(data_of(second)["requestId"]), 744, "Reference number already exists")
    assert shop.points(member) == (900, 0)


def test_a_reference_is_free_after_a_rejection(shop: Shop) -> None:
    """What never landed does not use a reference up (dossier §5 no. 23)."""
    member = shop.member()
    reference = uuid4().hex
    first = shop.create(shop.body(member, external_reference_number=reference))
    shop.decide(first["requestId"], "rejected")
    again = shop.submit(shop.body(member, external_reference_number=reference))
    assert "x-counterfoil-flags" not in again.headers
    assert code_of(shop.approve(data_of(again)["requestId"])) == 800


@pytest.mark.parametrize("reference", ["", None, ...])
def test_no_reference_is_no_duplicate(shop: Shop, reference: object) -> None:
    member = shop.member()
    body = set_at(shop.body(member), f"{ITEM}.external_reference_number", reference)
    answers = [shop.submit(body) for _ in range(2)]
    assert [answer.headers.get("x-counterfoil-flags") for answer in answers] == [None, None]
    assert [code_of(shop.approve(data_of(answer)["requestId"])) for answer in answers] == [800, 800]


# The credentials inside the payload are those that the points API would be called with.


def assert_unauthorized(data: dict[str, Any]) -> None:
    assert data["state"] == "failed"
    output = data["details"]["IntouchAPITask_Output"]
    assert output["status"] == 401
    assert output["headers"]["status_code"] == ["401"]
    assert output["body"] == {
        "response": {
            "status": {"success": "true", "code": "401", "message": "Unauthorized"},  # the original's own quirk
            "responses": None,
        }
    }


@pytest.mark.parametrize(
    "authorization",
    [
        basic("nobody.1", md5("wrong")), basic("shared.1", md5("wrong")), "Basic !!!", "Basic", "Bearer abc", "x",
        basic("shared.1", "long password of a till"),
    ],
)  # fmt: skip
def test_wrong_payload_credentials(shop: Shop, authorization: str) -> None:
    """Told to the checker; then a 401 of the points API: failed, and the hold goes back."""
    member = shop.member()
    answer = shop.submit(set_at(shop.body(member), f"{TASK}.headers.Authorization", authorization))
    assert answer.headers["x-counterfoil-flags"] == "till_credential"
    assert_unauthorized(shop.approve(data_of(answer)["requestId"]))
    assert shop.points(member) == (1000, 0)


def test_payload_credentials_of_another_till(make_shop: Callable[..., Shop]) -> None:
    """Any till of the organisation; none of another organisation."""
    shop, other = make_shop(), make_shop()
    good = set_at(shop.body(), f"{TASK}.headers.Authorization", shop.box)
    done = shop.approve(shop.create(good)["requestId"])
    assert done["details"]["IntouchAPITask_Output"]["headers"]["till"] == [f"box.{shop.till}"]
    foreign = set_at(shop.body(), f"{TASK}.headers.Authorization", other.basic)
    assert_unauthorized(shop.approve(shop.create(foreign)["requestId"]))


def test_credentials_changed_before_the_approval(make_shop: Callable[..., Shop]) -> None:
    """Both ways: right then and wrong now fails, wrong then and right now succeeds."""
    shop = make_shop()
    new = md5("the new password of the box")
    new_box = basic(f"box.{shop.till}", new)
    shop.serve.secrets |= {new, new_box}
    with_old = shop.create(set_at(shop.body(), f"{TASK}.headers.Authorization", shop.box))
    with_new = shop.submit(set_at(shop.body(), f"{TASK}.headers.Authorization", new_box))
    assert with_new.headers["x-counterfoil-flags"] == "till_credential"
    shop.content["credentials"][1]["passwordMd5"] = new
    shop.apply()
    assert_unauthorized(shop.approve(with_old["requestId"]))
    assert code_of(shop.approve(data_of(with_new)["requestId"])) == 800


def test_credentials_ended_before_the_approval(make_shop: Callable[..., Shop]) -> None:
    shop = make_shop()
    created = shop.create(set_at(shop.body(), f"{TASK}.headers.Authorization", shop.box))
    shop.content["credentials"][1]["active"] = False
    shop.apply()
    assert_unauthorized(shop.approve(created["requestId"]))


# What moved between the two pairs of eyes.


def test_if_match(shop: Shop) -> None:
    """A decision may carry the ETag of what the checker saw; another one changes nothing."""
    answer = shop.submit()
    created = data_of(answer)
    etag = shop.get(created["requestId"]).headers["etag"]
    assert etag == answer.headers["etag"]
    assert re.fullmatch('"[0-9a-f]{64}"', etag)
    for wrong in ('"0"', f'"{"0" * 64}"', "nonsense"):
        assert_refused(shop.decide(created["requestId"], if_match=wrong), 412, 2902)
        assert shop.state(created["requestId"]) == "AdminTask"
    assert data_of(shop.decide(created["requestId"], if_match=etag))["state"] == "approved"
    for harmless in ("*", "", f"W/{shop.get(shop.create()['requestId']).headers['etag']}"):
        request = shop.submit()
        if harmless.startswith("W/"):
            harmless = f"W/{request.headers['etag']}"  # noqa: PLW2901
        assert data_of(shop.decide(data_of(request)["requestId"], if_match=harmless))["state"] == "approved"


def test_a_host_that_changed(make_shop: Callable[..., Shop]) -> None:
    """The entry's revision is part of what is approved; rejecting is still possible."""
    shop = make_shop()
    member = shop.member()
    created = shop.create(shop.body(member))
    host = shop.content["hosts"][0]
    shop.change(hosts=[host | {"id": "crm2"}])
    assert_refused(shop.decide(created["requestId"]), 412, 2902, "reject")
    assert shop.state(created["requestId"]) == "AdminTask"
    assert data_of(shop.decide(created["requestId"], "rejected"))["state"] == "rejected"
    assert shop.points(member) == (1000, 0)


def test_fractions_stay_exact(shop: Shop) -> None:
    member = shop.member()
    for points in ("0.001", "0.1", "0.2", "33.333"):
        data = shop.approve(shop.create(shop.body(member, points))["requestId"])
        assert item_of(data)["points_redeemed"] == points
        assert item_of(data)["side_effects"]["effect"][0]["num_points"] == Decimal(points)
    assert item_of(data)["balance"] == Decimal("966.366")
    assert shop.points(member) == (Decimal("966.366"), 0)


def test_redemption_ids_differ(shop: Shop) -> None:
    member = shop.member()
    done = [shop.approve(shop.create(shop.body(member, "1"))["requestId"]) for _ in range(5)]
    assert len({item_of(data)["redemption_id"] for data in done}) == 5
    assert len({UUID(data["requestId"]) for data in done}) == 5
