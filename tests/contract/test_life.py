"""The life of a request over raw HTTP: withdrawn, sent back, resubmitted, expired, delegated, frozen."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from tests.contract.shop import BOTH, CHECKER, MAKER, NOBODY, SECOND, TASK, ZONE, Shop, assert_refused, set_at
from tests.contract.test_inbox import ids, page
from tests.contract.test_request_views import full

OWN = "/counterfoil/v1"
SOON = datetime.now(UTC) + timedelta(days=2)


def post(shop: Shop, path: str, by: str | None, body: object = None, **headers: str | None) -> httpx.Response:
    return shop.http.post(f"{OWN}/{path}", json=body or {}, headers=shop.headers(by, **headers))


def good(answer: httpx.Response) -> Any:
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert (body["errors"], body["warnings"]) == ([], [])
    return body["data"]


def refused(answer: httpx.Response, status: int, code: int, *said: str) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    [error] = answer.json()["errors"]
    assert error["code"] == code
    assert [text for text in said if text not in error["message"]] == [], error["message"]
    found: dict[str, Any] = error
    return found


def events(shop: Shop, request_id: str) -> list[dict[str, Any]]:
    answer = shop.http.get(f"{OWN}/requests/{request_id}/events", headers=shop.headers())
    found: list[dict[str, Any]] = answer.json()["data"]
    return found


# ---------------------------------------------------------------- withdrawing


def test_a_maker_withdraws(shop: Shop) -> None:
    member = shop.member()
    created = shop.create(shop.body(member, "600"))
    assert shop.points(member) == (400, 600)
    ended = good(post(shop, f"requests/{created['requestId']}/withdraw", MAKER, {"comment": "wrong till"}))
    assert (ended["state"], ended["wireState"]) == ("withdrawn", "rejected")
    assert shop.points(member) == (1000, 0)
    shown = shop.get(created["requestId"]).json()["data"]
    assert (shown["state"], shown["endTime"] is None) == ("rejected", False)
    assert "AdminTask_Output" not in shown["details"]
    assert [each["kind"] for each in events(shop, created["requestId"])] == ["submitted", "withdrawn"]
    assert_refused(shop.decide(created["requestId"]), 400, 2002, f"{MAKER} withdrew it")
    refused(post(shop, f"requests/{created['requestId']}/withdraw", MAKER), 400, 2002, "withdrew it")


def test_only_the_maker_withdraws(shop: Shop) -> None:
    request_id = shop.create()["requestId"]
    for by in (CHECKER, BOTH, None):
        refused(post(shop, f"requests/{request_id}/withdraw", by), 403, 2001, "only the maker")
    refused(post(shop, f"requests/{request_id[:-4]}0000/withdraw", MAKER), 404, 2007)
    assert shop.state(request_id) == "AdminTask"


def test_any_login_of_the_makers_person_withdraws(make_shop: Callable[..., Shop]) -> None:
    shop = make_shop()
    people = [dict(each) for each in shop.content["people"]]
    login = {"id": 99, "userName": "again@tipent.com", "password": f"{shop.password}-again@tipent.com"}
    people[0]["users"] = [*people[0]["users"], login]
    shop.change(people=people)
    request_id = shop.create()["requestId"]
    assert good(post(shop, f"requests/{request_id}/withdraw", "again@tipent.com"))["state"] == "withdrawn"


# ---------------------------------------------------------------- deciding


def test_decide_over_our_own_api(shop: Shop) -> None:
    member = shop.member()
    request_id = shop.create(shop.body(member, "100"))["requestId"]
    done = good(post(shop, f"requests/{request_id}/decisions", CHECKER, {"verdict": "approve", "comment": "seen"}))
    assert (done["state"], done["result"]["code"]) == ("succeeded", 800)
    assert done["voices"][0] | {"decidedAt": ""} == {
        "verdict": "approved", "sentBack": False, "personId": "E-1002", "userName": CHECKER, "onBehalfOf": None,
        "reasonCode": None, "comment": "seen", "decidedAt": "",
    }  # fmt: skip
    refused(post(shop, f"requests/{request_id}/decisions", SECOND, {"verdict": "reject", "comment": "x"}), 400, 2002)
    other = shop.create()["requestId"]
    stale = {"If-Match": '"00"'}
    refused(post(shop, f"requests/{other}/decisions", CHECKER, {"verdict": "approve"}, **stale), 412, 2902)
    refused(post(shop, f"requests/{other}/decisions", MAKER, {"verdict": "approve"}), 403, 2001)


def test_a_rejection_needs_a_declared_reason(make_shop: Callable[..., Shop]) -> None:
    codes = [
        {"code": "FRAUD", "name": "Looks like fraud"},
        {"code": "MEMBER", "name": "Wrong member", "type": "POINTS-REDEMPTION"},
        {"code": "BADGE", "name": "Wrong badge", "type": "EARN-BADGE"},
    ]
    shop = make_shop(reasonCodes=codes)
    request_id = shop.create()["requestId"]
    path = f"requests/{request_id}/decisions"
    error = refused(post(shop, path, CHECKER, {"verdict": "reject", "comment": "no"}), 400, 2008, "FRAUD, MEMBER")
    assert error["path"] == "reasonCode"
    refused(post(shop, path, CHECKER, {"verdict": "reject", "reasonCode": "BADGE"}), 400, 2008, "FRAUD, MEMBER")
    done = good(post(shop, path, CHECKER, {"verdict": "reject", "reasonCode": "MEMBER", "comment": "not hers"}))
    assert (done["wireState"], done["voices"][0]["reasonCode"]) == ("rejected", "MEMBER")
    assert events(shop, request_id)[-1]["facts"]["reason"] == "MEMBER"
    # The contract's call has no place for a code: its message is used as it is.
    assert shop.decide(shop.create()["requestId"], "rejected").status_code == 200
    shop.change(reasonCodes=[])
    bare = f"requests/{shop.create()['requestId']}/decisions"
    refused(post(shop, bare, CHECKER, {"verdict": "reject"}), 400, 2008, "a comment")
    assert good(post(shop, bare, CHECKER, {"verdict": "reject", "comment": "no"}))["state"] == "rejected"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({}, "verdict"),
        ({"verdict": "approved"}, "verdict"),
        ({"verdict": "approve", "comment": "x" * 2001}, "comment"),
        ({"verdict": "approve", "coment": "x"}, "coment"),
    ],
)
def test_a_decision_that_cannot_be_read(shop: Shop, body: object, said: str) -> None:
    request_id = shop.create()["requestId"]
    refused(post(shop, f"requests/{request_id}/decisions", CHECKER, body), 400, 2008, said)


# ---------------------------------------------------------------- sending back and resubmitting


def test_sent_back_and_resubmitted(shop: Shop) -> None:
    member = shop.member()
    body = shop.body(member, "600", notes="first")
    request_id = shop.create(body)["requestId"]
    refused(post(shop, f"requests/{request_id}/send-back", CHECKER, {}), 400, 2008, "comment is mandatory")
    refused(post(shop, f"requests/{request_id}/resubmit", MAKER, body), 400, 2007, "still waits")
    back = good(post(shop, f"requests/{request_id}/send-back", CHECKER, {"comment": "only 500, please"}))
    assert (back["state"], back["sentBack"], back["wireState"]) == ("rejected", True, "rejected")
    assert shop.points(member) == (1000, 0)
    assert shop.get(request_id).json()["data"]["details"]["AdminTask_Output"] == "rejected"
    assert_refused(shop.decide(request_id), 400, 2002, f"{CHECKER} sent it back")

    item = "payload.IntouchAPITask-Payload.body.root.redeem"
    again = set_at(set_at(body, f"{item}.points_redeemed", "500"), f"{item}.transaction_number", "bill-7")
    again = set_at(set_at(again, f"{item}.notes", ...), "entityInfo.storeId", "")
    again = set_at(again, f"{TASK}.headers.Authorization", shop.box)
    refused(post(shop, f"requests/{request_id}/resubmit", BOTH, again), 403, 2001, "only the maker")
    answer = post(shop, f"requests/{request_id}/resubmit", MAKER, again, Idempotency_Key=f"try {request_id}")
    made = good(answer)
    new_id = made["request"]["requestId"]
    assert (made["request"]["state"], made["request"]["resubmissionOf"]) == ("pending", request_id)
    assert "resubmission" in made["request"]["flags"]
    assert shop.points(member) == (500, 500)
    fields = {each.pop("path"): each for each in made["differences"]}
    assert fields == {
        "entityInfo.storeId": {"before": 50682288, "after": None},
        f"{item}.points_redeemed": {"before": "600", "after": "500"},
        f"{item}.notes": {"before": "first"},
        f"{item}.transaction_number": {"after": "bill-7"},
        f"{TASK}.headers.Authorization": {"before": "<withheld>", "after": "<withheld>"},
    }
    shown = shop.http.get(f"{OWN}/requests/{new_id}/differences", headers=shop.headers(CHECKER))
    assert {each.pop("path"): each for each in good(shown)["differences"]} == fields
    replay = post(shop, f"requests/{request_id}/resubmit", MAKER, again, Idempotency_Key=f"try {request_id}")
    assert replay.headers["Idempotent-Replayed"] == "true"
    assert replay.json() == answer.json() | {"data": {**made, "differences": replay.json()["data"]["differences"]}}
    refused(post(shop, f"requests/{request_id}/resubmit", MAKER, again), 400, 2002, new_id)
    # What is behind a requestId never changes.
    assert good(shop.http.get(f"{OWN}/requests/{request_id}/differences", headers=shop.headers())) == {
        "requestId": request_id, "resubmissionOf": None, "resubmittedAs": new_id, "differences": [],
    }  # fmt: skip
    assert good(post(shop, f"requests/{new_id}/decisions", CHECKER, {"verdict": "approve"}))["state"] == "succeeded"


def test_what_was_executed_is_not_resubmitted(shop: Shop) -> None:
    body = shop.body()
    request_id = shop.create(body)["requestId"]
    shop.approve(request_id)
    refused(post(shop, f"requests/{request_id}/resubmit", MAKER, body), 400, 2002, "was executed")


# ---------------------------------------------------------------- comments


def test_comments(shop: Shop) -> None:
    request_id = shop.create()["requestId"]
    path = f"requests/{request_id}/comments"
    secret = shop.basic
    made = good(post(shop, path, CHECKER, {"message": f"the till sends {secret}, is that right? password: hunter2"}))
    assert made["message"] == "the till sends Basic <withheld>, is that right? password: <withheld>"
    good(post(shop, path, MAKER, {"message": "it is"}))
    refused(post(shop, path, NOBODY, {"message": "me too"}), 403, 2001)
    refused(post(shop, path, None, {"message": "me too"}), 403, 2001, "needs a person")
    for wrong in ({"message": ""}, {"message": "x" * 2001}, {}, {"message": 1}):
        refused(post(shop, path, MAKER, wrong), 400, 2008, "message")
    first = shop.http.get(f"{OWN}/{path}?limit=1", headers=shop.headers()).json()
    assert [each["userName"] for each in first["data"]] == [CHECKER]
    rest = shop.http.get(f"{OWN}/{path}?limit=1&after={first['page']['next']}", headers=shop.headers()).json()
    assert [each["message"] for each in rest["data"]] == ["it is"]
    assert [each["kind"] for each in events(shop, request_id)] == ["submitted", "commented", "commented"] + [
        "comment_refused"
    ] * 2
    assert "it is" not in str(events(shop, request_id))


# ---------------------------------------------------------------- expiry


@pytest.mark.slow
def test_nobody_decided_in_time(make_shop: Callable[..., Shop]) -> None:
    shop = make_shop(policy={"approvals": 1, "lifeHours": 1})
    member = shop.member()
    body = shop.body(member, "600")
    request_id = shop.create(body)["requestId"]
    make_older(shop, request_id)
    # Time alone ends it, whether or not the sweep was there.
    assert shop.state(request_id) == "rejected"
    assert_refused(shop.decide(request_id), 400, 2002, "it expired at")
    refused(post(shop, f"requests/{request_id}/withdraw", MAKER), 400, 2002, "it expired at")
    assert shop.page(states="AdminTask").json()["data"] == []
    assert [each["requestId"] for each in shop.page(states="rejected").json()["data"]] == [request_id]
    again = good(post(shop, f"requests/{request_id}/resubmit", MAKER, body))["request"]
    assert again["flags"] == ["resubmission"]  # the same reference, and no duplicate
    wait_until(lambda: stored_state(shop, request_id) == "expired")
    assert shop.points(member) == (400, 600)
    assert events(shop, request_id)[-1]["kind"] == "expired"


def make_older(shop: Shop, request_id: str) -> None:
    """The database's clock cannot be set: the request's end comes nearer instead, past the guards."""
    shop.serve.rows(
        """WITH off AS MATERIALIZED (SELECT set_config('session_replication_role', 'replica', false) AS it),
           held AS (UPDATE hold SET expires_at = expires_at - interval '1 hour' FROM off
                    WHERE it = 'replica' AND org_id = $1 AND request_id = $2::text::uuid)
           UPDATE request SET expires_at = expires_at - interval '1 hour' FROM off
           WHERE it = 'replica' AND org_id = $1 AND request_id = $2::text::uuid RETURNING 1""",
        shop.org_id, request_id,
    )  # fmt: skip


def stored_state(shop: Shop, request_id: str) -> str:
    [row] = shop.serve.rows(
        "SELECT state FROM request WHERE org_id = $1 AND request_id = $2::text::uuid", shop.org_id, request_id
    )
    return str(row["state"])


def wait_until(reached: Callable[[], bool]) -> None:
    give_up_at = time.monotonic() + 30
    while not reached():
        assert time.monotonic() < give_up_at
        time.sleep(0.1)


# ---------------------------------------------------------------- delegation


def test_a_checker_delegates(make_shop: Callable[..., Shop]) -> None:
    shop = make_shop(policy={"approvals": 2})
    request_id = shop.create()["requestId"]
    decisions = f"requests/{request_id}/decisions"
    refused(post(shop, decisions, NOBODY, {"verdict": "approve"}), 403, 2001)
    lent = good(post(shop, "delegations", CHECKER, {"delegate": "E-1005", "until": SOON.isoformat(), "unit": ZONE}))
    voice = good(post(shop, decisions, NOBODY, {"verdict": "approve"}))["voices"][0]
    assert (voice["personId"], voice["onBehalfOf"]) == ("E-1005", "E-1002")
    assert events(shop, request_id)[-1]["facts"]["delegated"] is True
    refused(post(shop, decisions, NOBODY, {"verdict": "approve"}), 400, 2002, "you have already decided")
    refused(post(shop, decisions, CHECKER, {"verdict": "approve"}), 400, 2002, f"on your behalf {NOBODY} has")
    listed = shop.http.get(f"{OWN}/delegations?person=E-1005", headers=shop.headers()).json()
    assert [each["delegationId"] for each in listed["data"]] == [lent["delegationId"]]
    refused(post(shop, f"delegations/{lent['delegationId']}/end", NOBODY), 403, 2001, "only who made")
    assert good(post(shop, f"delegations/{lent['delegationId']}/end", CHECKER))["endedAt"] is not None
    refused(post(shop, f"delegations/{lent['delegationId']}/end", CHECKER), 400, 2002)
    other = shop.create()["requestId"]
    refused(post(shop, f"requests/{other}/decisions", NOBODY, {"verdict": "approve"}), 403, 2001)
    past = shop.http.get(f"{OWN}/delegations?past=true", headers=shop.headers()).json()
    assert [each["delegationId"] for each in past["data"]] == [lent["delegationId"]]


def test_a_delegate_finds_it_in_the_inbox(make_shop: Callable[..., Shop]) -> None:
    """Lists, the full view and the decision agree on what was lent, and on what is over."""
    shop = make_shop(policy={"approvals": 2})
    request_id = str(shop.create()["requestId"])
    assert ids(shop, by=NOBODY) == []
    until = {"delegate": "E-1005", "until": SOON.isoformat()}
    lent = good(post(shop, "delegations", CHECKER, {**until, "type": "POINTS-REDEMPTION"}))["delegationId"]
    [row] = page(shop, by=NOBODY)["data"]
    assert (row["requestId"], row["canAct"]) == (request_id, True)
    approvers = full(shop, request_id, NOBODY)["approvers"]
    assert "E-1005" in [each["staffId"] for each in approvers["can"]]
    decided = good(post(shop, f"requests/{request_id}/decisions", NOBODY, {"verdict": "approve"}))
    assert [(each["personId"], each["onBehalfOf"]) for each in decided["voices"]] == [("E-1005", "E-1002")]
    [kept] = shop.serve.rows("SELECT person_id, on_behalf_of FROM decision WHERE org_id = $1", shop.org_id)
    assert tuple(kept) == ("E-1005", "E-1002")
    for by in (NOBODY, CHECKER):  # the right that was lent is used up for both
        assert ids(shop, by=by) == []
    assert ids(shop, by=SECOND) == [request_id]
    found = full(shop, request_id, SECOND)
    assert (found["approvers"]["has"][0]["counts"], found["approvers"]["must"][0]["given"]) == (True, 1)
    good(post(shop, f"delegations/{lent}/end", CHECKER))
    found = full(shop, request_id, SECOND)
    assert (found["approvers"]["has"][0]["counts"], found["approvers"]["must"][0]["given"]) == (False, 0)


def test_what_cannot_be_delegated(shop: Shop) -> None:
    soon = SOON.isoformat()
    for by, body, code, said in (
        (MAKER, {"delegate": "E-1002", "until": soon}, 2001, "no right to delegate"),
        (None, {"delegate": "E-1002", "until": soon}, 2001, "needs a person"),
        (CHECKER, {"delegate": "E-1002", "until": soon}, 2008, "another person"),
        (CHECKER, {"delegate": "E-9", "until": soon}, 2008, "active person"),
        (CHECKER, {"delegate": "E-1003", "until": "2020-01-01T00:00:00Z"}, 2008, "until"),
        (CHECKER, {"delegate": "E-1003", "until": "2099-01-01T00:00:00Z"}, 2008, "366 days"),
        (CHECKER, {"delegate": "E-1003", "until": "2099-01-01T00:00:00"}, 2008, "until"),
        (CHECKER, {"delegate": "E-1003", "until": soon, "unit": 1}, 2008, "unit"),
        (CHECKER, {"delegate": "E-1003", "until": soon, "type": "X"}, 2008, "type"),
        (CHECKER, {"delegate": "E-1003", "until": soon, "pointsMax": "1.2345"}, 2008, "pointsMax"),
    ):
        refused(post(shop, "delegations", by, body), 403 if code == 2001 else 400, code, said)


# ---------------------------------------------------------------- freezing


def test_one_person_freezes_and_two_lift(make_shop: Callable[..., Shop]) -> None:
    shop = make_shop()
    grants = [
        *shop.content["grants"],
        *({"person": person, "right": "CanFreeze"} for person in ("E-1002", "E-1003")),
        {"person": "E-1005", "right": "CanFreeze", "unit": ZONE},
    ]
    shop.change(grants=grants)
    waiting = [shop.create()["requestId"] for _ in range(4)]
    refused(post(shop, "freezes", MAKER, {"scope": "organisation", "reason": "x"}), 403, 2001, "CanFreeze")
    refused(post(shop, "freezes", NOBODY, {"scope": "organisation", "reason": "x"}), 403, 2001)
    refused(post(shop, "freezes", NOBODY, {"scope": "unit", "target": "1", "reason": "x"}), 400, 2008, "target")
    frozen = good(post(shop, "freezes", NOBODY, {"scope": "unit", "target": ZONE, "reason": "till stolen"}))
    refused(post(shop, "freezes", CHECKER, {"scope": "unit", "target": str(ZONE), "reason": "me, too"}), 400, 2002)
    assert_refused(shop.submit(), 423, 2910, f"unit {ZONE}", NOBODY, "till stolen", frozen["freezeId"])
    assert_refused(shop.decide(waiting[0]), 423, 2910)
    refused(post(shop, f"requests/{waiting[0]}/decisions", CHECKER, {"verdict": "approve"}), 423, 2910)
    assert shop.decide(waiting[1], "rejected").status_code == 200
    assert good(post(shop, f"requests/{waiting[2]}/withdraw", MAKER))["state"] == "withdrawn"
    lift = f"freezes/{frozen['freezeId']}/lift"
    refused(post(shop, lift, MAKER), 403, 2001)
    assert good(post(shop, lift, NOBODY))["state"] == "liftProposed"
    refused(post(shop, lift, NOBODY), 403, 2001, "another person")
    assert_refused(shop.decide(waiting[0]), 423, 2910)
    assert good(post(shop, lift, SECOND)) | {"liftedAt": ""} == {
        **good(post_list(shop, "freezes?past=true"))[0], "state": "lifted", "liftedBy": "E-1003", "liftedAt": "",
    }  # fmt: skip
    refused(post(shop, lift, CHECKER), 400, 2002, "lifted")
    assert good(post_list(shop, "freezes")) == []
    assert shop.decide(waiting[0]).json()["data"]["state"] == "approved"


def post_list(shop: Shop, path: str) -> httpx.Response:
    return shop.http.get(f"{OWN}/{path}", headers=shop.headers())


@pytest.mark.parametrize(
    ("scope", "target"),
    [("organisation", ""), ("type", "points-redemption"), ("host", "crm"), ("maker", "E-1001"), ("member", None)],
)
def test_what_can_be_frozen(make_shop: Callable[..., Shop], scope: str, target: str | None) -> None:
    shop = make_shop(members=3)
    shop.change(grants=[*shop.content["grants"], {"person": "E-1002", "right": "CanFreeze"}])
    member, other = shop.member(), shop.member()
    request_id = shop.create(shop.body(member))["requestId"]
    body = {"scope": scope, "target": member.member_id if target is None else target, "reason": "r"}
    good(post(shop, "freezes", CHECKER, body))
    assert_refused(shop.decide(request_id), 423, 2910, "frozen by")
    assert_refused(shop.submit(shop.body(member)), 423, 2910)
    if scope == "member":
        assert shop.submit(shop.body(other)).status_code == 200
        answer = shop.redeem({"points_redeemed": "1", "customer": {"mobile": member.mobile}})
        assert (answer.status_code, answer.json()["response"]["status"]["code"]) == (423, 2910)
    if scope == "maker":
        assert shop.submit(shop.body(other), BOTH).status_code == 200
