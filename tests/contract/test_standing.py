"""What the inbox, the search and the full view show of a request is what a decision is answered with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.contract.shop import CHECKER, CREATE, MAKER, NOBODY, SECOND, Shop, assert_refused, decision
from tests.contract.test_inbox import ids, page
from tests.contract.test_life import good, post
from tests.contract.test_policies import GROUPS
from tests.contract.test_request_views import full

MakeShop = Callable[..., Shop]


def with_policy(make_shop: MakeShop, **policy: Any) -> Shop:
    shop = make_shop()
    shop.content["policy"] = {"rules": [{"name": "all", "require": [{"count": 1}], **policy.pop("rule", {})}], **policy}
    shop.content["groups"] = GROUPS
    shop.apply()
    return shop


def row_of(shop: Shop, request_id: str, by: str | None) -> dict[str, Any]:
    [row] = [each for each in page(shop, "/requests", by)["data"] if each["requestId"] == request_id]
    found: dict[str, Any] = row
    return found


@pytest.mark.parametrize(
    "freeze", [{"scope": "organisation"}, {"scope": "maker", "target": "E-1001"}, {"scope": "member"}]
)
def test_a_freeze_shows_where_it_stops_an_approval(make_shop: MakeShop, freeze: dict[str, Any]) -> None:
    shop = make_shop()
    shop.content["grants"].append({"person": "E-1005", "right": "CanFreeze"})
    shop.apply()
    member = shop.member()
    request_id = str(shop.create(shop.body(member))["requestId"])
    if freeze["scope"] == "member":
        freeze |= {"target": str(member.member_id)}
    good(post(shop, "freezes", NOBODY, freeze | {"reason": "fraud"}))
    [error] = shop.decide(request_id).json()["errors"]
    shown = full(shop, request_id)
    for row in (row_of(shop, request_id, CHECKER), shown["request"]):
        assert row["canAct"] is False
        assert (row["whyNot"]["code"], row["whyNot"]["reason"]) == (error["code"], "frozen")
        assert row["whyNot"]["message"] in error["message"]
        assert "rejecting it stays possible" in row["whyNot"]["message"]
    assert (shown["approvers"]["can"], shown["approval"]) == ([], None)
    assert ids(shop) == []
    assert shop.decide(request_id, "rejected").status_code == 200


def test_a_cap_of_maker_and_checker_shows_where_it_stops_that_checker(make_shop: MakeShop) -> None:
    shop = with_policy(make_shop, caps=[{"name": "pair", "per": "pair", "points": 100}])
    first, second = (str(shop.create(shop.body(points=each))["requestId"]) for each in ("100", "50"))
    for by in (CHECKER, MAKER, None):
        shown = full(shop, second, by)
        assert (shown["approval"]["by"], shown["approval"]["refused"]) == ("E-1002", None)
    assert ids(shop) == [first, second]
    assert shop.decide(first).status_code == 200
    [error] = shop.decide(second).json()["errors"]
    shown = full(shop, second)
    for row in (row_of(shop, second, CHECKER), shown["request"]):
        assert (row["canAct"], row["whyNot"]["reason"]) == (False, "capReached")
        assert row["whyNot"]["message"] in error["message"]
    assert [each["staffId"] for each in shown["approvers"]["can"]] == ["E-1003", "E-1004"]
    assert shown["approval"]["by"] == "E-1003"
    assert (ids(shop), ids(shop, by=SECOND)) == ([], [second])
    assert shop.decide(second, by=SECOND).status_code == 200


def test_the_dry_run_tells_apart_that_a_comment_is_needed(make_shop: MakeShop) -> None:
    shop = with_policy(make_shop, rule={"commentAbove": 10})
    for points, is_needed in (("10", False), ("10.5", True)):
        request_id = str(shop.create(shop.body(points=points))["requestId"])
        approval = full(shop, request_id)["approval"]
        assert (approval["needsComment"], approval["refused"], approval["code"]) == (is_needed, None, 800)
        silent = shop.http.put(CREATE, json=decision(request_id, message=" "), headers=shop.headers(CHECKER))
        assert (silent.status_code == 400) is is_needed
    assert_refused(silent, 400, 2008, "must say why")


def test_a_voice_counts_only_for_a_need_that_it_meets(make_shop: MakeShop) -> None:
    shop = make_shop()
    shop.content["groups"] = [GROUPS[0] | {"people": ["E-1002", "E-1003"]}]
    shop.content["policy"] = {"rules": [{"name": "all", "require": [{"group": "finance"}, {"step": 2}]}]}
    shop.apply()
    first = str(shop.create()["requestId"])
    assert shop.decide(first).status_code == 200
    shop.content["policy"] = {"rules": [{"name": "all", "require": [{"group": "finance", "count": 2}]}]}
    shop.apply()
    second = str(shop.create()["requestId"])
    assert shop.decide(second).status_code == 200
    counts = {first: [(True, [1, 0]), (True, [0, 1])], second: [(True, [1]), (False, [0])]}
    for people in (["E-1002", "E-1003"], ["E-1003", "E-1004"]):
        shop.change(groups=[GROUPS[0] | {"people": people}])
        for request_id, expected in counts.items():
            shown = full(shop, request_id, SECOND)["approvers"]
            [voice] = shown["has"]
            assert (voice["counts"], [each["given"] for each in shown["must"]]) == expected.pop(0)
