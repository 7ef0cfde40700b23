"""Who is the member neither makes nor decides, whenever it turns out, and however many members a request is for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.contract import calls
from tests.contract.shop import BOTH, CHECKER, MAKER, NOBODY, SECOND, Member, Shop, assert_refused, data_of
from tests.contract.test_inbox import ids
from tests.contract.test_life import good, post

BADGE = calls.url("ISSUE-BADGE")


def belongs(shop: Shop, member: Member, staff_id: str) -> None:
    """The member turns out to be this person."""
    [person] = [each for each in shop.content["people"] if each["staffId"] == staff_id]
    person["memberIdentifiers"] = {"email": "me@x.example"}
    [entry] = [each for each in shop.content["members"] if each["id"] == member.member_id]
    entry["email"] = "me@x.example"
    shop.apply()


def badge(shop: Shop, *members: Member, by: str = MAKER) -> Any:
    customers = [each.member_id for each in members]
    return shop.submit(calls.body(shop, "ISSUE-BADGE", members[0], customers=customers), by, BADGE)


def test_a_maker_who_turns_out_to_be_the_member(make_shop: Callable[..., Shop]) -> None:
    """The last voice is refused too; rejecting stays possible."""
    shop = make_shop(policy={"approvals": 2})
    member = shop.member()
    first, second = (shop.create(shop.body(member))["requestId"] for _ in range(2))
    assert shop.decide(first).status_code == 200
    belongs(shop, member, "E-1001")
    assert_refused(shop.submit(shop.body(member)), 403, 2001, "is the member concerned")
    for request_id, by in ((first, SECOND), (second, CHECKER)):
        assert_refused(shop.decide(request_id, by=by), 403, 2001, "the maker is the member concerned", "reject it")
    for request_id in (first, second):
        assert data_of(shop.decide(request_id, "rejected", by=SECOND))["state"] == "rejected"


def test_one_of_many_customers_is_the_maker_or_the_checker(make_shop: Callable[..., Shop]) -> None:
    shop = make_shop()
    own, other, third = shop.member(), shop.member(), shop.member()
    waiting = data_of(badge(shop, other, third))["requestId"]
    theirs = data_of(badge(shop, own, other))["requestId"]
    belongs(shop, own, "E-1001")
    assert_refused(badge(shop, other, own), 403, 2001, "is the member concerned")
    assert_refused(shop.decide(theirs, path=BADGE), 403, 2001, "the maker is the member concerned")
    shop.content["people"][1]["memberIdentifiers"] = {"mobile": third.mobile}
    shop.apply()
    assert_refused(shop.decide(waiting, path=BADGE), 403, 2001, "is the member concerned")
    assert waiting not in ids(shop, by=CHECKER)
    assert waiting in ids(shop, by=SECOND)


@pytest.mark.parametrize("frozen", [0, 1])
def test_one_of_many_customers_is_frozen(make_shop: Callable[..., Shop], frozen: int) -> None:
    shop = make_shop()
    shop.change(grants=[*shop.content["grants"], {"person": "E-1005", "right": "CanFreeze"}])
    members = [shop.member(), shop.member()]
    waiting = data_of(badge(shop, *members))["requestId"]
    stop = {"scope": "member", "target": str(members[frozen].member_id), "reason": "fraud"}
    good(post(shop, "freezes", NOBODY, stop))
    assert_refused(badge(shop, *members, by=BOTH), 423, 2910, "is frozen by")
    assert_refused(shop.decide(waiting, path=BADGE), 423, 2910, "is frozen by")
    assert badge(shop, members[1 - frozen]).status_code == 200
