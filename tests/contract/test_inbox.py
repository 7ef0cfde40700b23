"""Our own lists over HTTP: what can I decide now, in which order, page by page; the search; who may read what."""

from __future__ import annotations

import base64
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from tests.contract.serving import fetch
from tests.contract.shop import (
    BOTH,
    CHECKER,
    CHECKER_ID,
    MAKER,
    MAKER_ID,
    NOBODY,
    OTHER_STORE,
    OTHER_TILL,
    OTHER_ZONE,
    SECOND,
    STORE,
    TILL,
    ZONE,
    Shop,
    set_at,
)

OWN = "/counterfoil/v1"
MakeShop = Callable[..., Shop]


def get(shop: Shop, path: str, by: str | None = CHECKER, **query: object) -> httpx.Response:
    return shop.http.get(f"{OWN}{path}", params={**query}, headers=shop.headers(by))  # type: ignore[dict-item]


def page(shop: Shop, path: str = "/inbox", by: str | None = CHECKER, **query: object) -> dict[str, Any]:
    answer = get(shop, path, by, **query)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    assert list(body) == ["data", "pagination", "errors"]
    assert body["errors"] is None
    return body


def ids(shop: Shop, path: str = "/inbox", by: str | None = CHECKER, **query: object) -> list[str]:
    """The ids of all pages."""
    found: list[str] = []
    cursor = None
    while True:
        body = page(shop, path, by, **query, **({"cursor": cursor} if cursor else {}))
        found += [each["requestId"] for each in body["data"]]
        cursor = body["pagination"]["next"]
        if cursor is None:
            return found


def refused(answer: httpx.Response, status: int, code: int, path: str | None) -> str:
    assert answer.status_code == status, answer.text
    [error] = answer.json()["errors"]
    assert (error["code"], error["path"]) == (code, path), error
    return str(error["message"])


def create(shop: Shop, by: str = MAKER, **item: Any) -> str:
    return str(shop.create(shop.body(**item), by=by)["requestId"])


def add_ending_lot(shop: Shop, number: int, ends: str) -> None:
    """Points of a member that end; they are spent before those that do not."""
    entry = shop.content["members"][number]
    lot = {"reference": f"E-{number}", "points": 1000, "awardedAt": "2024-01-15", "expiresAt": ends}
    entry["lots"] = [*entry["lots"], lot]


# ---------------------------------------------------------------- the inbox


def test_points_that_end_first_come_first_then_the_oldest(make_shop: MakeShop) -> None:
    shop = make_shop(members=5)
    add_ending_lot(shop, 2, "2091-01-01")
    add_ending_lot(shop, 3, "2090-01-01")
    shop.apply()
    made = [str(shop.create(shop.body(member))["requestId"]) for member in shop.members]
    body = page(shop)
    assert [each["requestId"] for each in body["data"]] == [made[3], made[2], made[0], made[1], made[4]]
    assert [each["urgentAt"] and each["urgentAt"][:10] for each in body["data"]] == [
        "2089-12-31", "2090-12-31", None, None, None,
    ]  # fmt: skip
    first = body["data"][0]
    assert first["canAct"] is True
    assert first["whyNot"] is None
    assert first["unit"] == {"unitId": TILL, "kind": "till", "name": "Till"}
    assert first["maker"] == {"staffId": "E-1001", "userId": MAKER_ID, "userName": MAKER}
    assert first["points"] == 100
    assert body["pagination"] == {"limit": 25, "next": None}


def test_only_what_the_person_can_decide(make_shop: MakeShop) -> None:
    shop = make_shop(policy={"approvals": 2})
    by_maker, by_both = create(shop), create(shop, by=BOTH)
    assert ids(shop, by=CHECKER) == [by_maker, by_both]
    assert ids(shop, by=BOTH) == [by_maker]  # not one's own
    assert ids(shop, by=MAKER) == []
    assert ids(shop, by=NOBODY) == []
    assert shop.decide(by_maker, by=CHECKER).status_code == 200
    assert ids(shop, by=CHECKER) == [by_both]  # one voice is one voice
    assert ids(shop, by=SECOND) == [by_maker, by_both]
    assert shop.decide(by_maker, by=SECOND).status_code == 200
    assert ids(shop, by=SECOND) == [by_both]
    assert ids(shop, by=BOTH) == []


def test_every_row_can_be_decided(make_shop: MakeShop) -> None:
    shop = make_shop()
    for _ in range(4):
        create(shop)
    for row in page(shop)["data"]:
        answer = shop.decide(row["requestId"], by=CHECKER, If_Match=f'"{row["digest"]}"')
        assert answer.status_code == 200, answer.text
    assert page(shop)["data"] == []


def test_rights_and_limits_count_at_once(make_shop: MakeShop) -> None:
    shop = make_shop()
    small, large = create(shop, points="10"), create(shop, points="50.001")
    grants = [each for each in shop.content["grants"] if each["person"] != "E-1002"]
    for added, expected in (
        ([], []),
        ([{"person": "E-1002", "right": "CanCheckRequest", "unit": TILL, "pointsMax": 50}], [small]),
        ([{"person": "E-1002", "right": "CanCheckRequest", "unit": STORE, "pointsMax": "50.001"}], [small, large]),
        ([{"person": "E-1002", "right": "CanCheckRequest", "type": "GOODWILL-POINTS"}], []),
        ([{"person": "E-1002", "right": "CanCheckRequest", "pointsMax": 10}], [small]),
    ):
        shop.change(grants=[*grants, *added])
        assert ids(shop) == expected, added


def test_pages_stay_whole_while_requests_are_decided(make_shop: MakeShop) -> None:
    """What stays pending is seen once, whatever is decided and made in between."""
    shop = make_shop(members=40)
    made = [create(shop) for _ in range(12)]
    seen: list[str] = []
    decided: list[str] = []
    before_its_page: list[str] = []
    cursor = None
    for turn in range(20):
        body = page(shop, limit=3, **({"cursor": cursor} if cursor else {}))
        seen += [each["requestId"] for each in body["data"]]
        cursor = body["pagination"]["next"]
        if cursor is None:
            break
        # The last row of this page, by which the cursor goes on, and the second of the next.
        for request_id in (seen[-1], *[each for each in made if each not in seen and each not in decided][1:2]):
            assert shop.decide(request_id, by=SECOND).status_code == 200
            decided.append(request_id)
            before_its_page += [request_id] * (request_id not in seen)
        if turn < 2:
            made.append(create(shop))
    assert len(seen) == len(set(seen))
    assert set(made) - set(decided) <= set(seen)
    assert len(before_its_page) >= 3
    assert not set(before_its_page) & set(seen)


def test_an_inbox_is_a_persons(shop: Shop) -> None:
    assert "user token" in refused(get(shop, "/inbox", by=None), 403, 2001, None)


def test_a_cursor_fits_its_list_only(make_shop: MakeShop) -> None:
    shop, other = make_shop(), make_shop()
    for each in (shop, other):
        for _ in range(3):
            create(each)
    cursor = page(shop, limit=1)["pagination"]["next"]
    search = page(shop, "/requests", limit=1, states="pending")["pagination"]["next"]
    assert page(shop, limit=2, cursor=cursor)["data"]  # the length of a page may change
    flipped = base64.urlsafe_b64encode(bytes([1]) + base64.urlsafe_b64decode(cursor)[1:]).decode()
    for wrong in ("x", "é", flipped, cursor[:-4], cursor + "AAAA", cursor[:-1] + "!", search, "=" * 48):
        message = refused(get(shop, "/inbox", cursor=wrong), 400, 2008, "cursor")
        assert "first page" in message
    refused(get(shop, "/inbox", by=SECOND, cursor=cursor), 400, 2008, "cursor")
    refused(get(other, "/inbox", cursor=cursor), 400, 2008, "cursor")
    refused(get(shop, "/requests", cursor=search, states="failed"), 400, 2008, "cursor")
    refused(get(shop, "/requests", cursor=search), 400, 2008, "cursor")
    assert page(shop, "/requests", cursor=search, states="pending")["data"]


@pytest.mark.parametrize(
    ("path", "query", "field"),
    [
        ("/inbox", {"limit": "0"}, "limit"),
        ("/inbox", {"limit": "101"}, "limit"),
        ("/inbox", {"limit": "1_0"}, "limit"),
        ("/inbox", {"state": "pending"}, "state"),
        ("/requests", {"makers": "me"}, "makers"),
        ("/requests", {"states": "pending,AdminTask"}, "states"),
        ("/requests", {"memberId": "x"}, "memberId"),
        ("/requests", {"identifierName": "mobile"}, "identifierValue"),
        ("/requests", {"identifierName": "phone", "identifierValue": "1"}, "identifierName"),
        ("/requests", {"identifierName": "mobile", "identifierValue": "1", "memberId": "1"}, "memberId"),
        ("/requests", {"maker": "who?"}, "maker"),
        ("/requests", {"checker": "99999999999999999999"}, "checker"),
        ("/requests", {"unit": "77"}, "unit"),
        ("/requests", {"startDate": "yesterday"}, "startDate"),
    ],
)
def test_a_wrong_query(shop: Shop, path: str, query: dict[str, str], field: str) -> None:
    refused(get(shop, path, **query), 400, 2008, field)


# ---------------------------------------------------------------- the search


class Archive:
    """Requests of three makers at two tills, in different states; names in the order of their making."""

    def __init__(self, shop: Shop) -> None:
        self.shop = shop
        shop.content["grants"] += [
            {"person": "E-1004", "right": right, "unit": OTHER_ZONE} for right in ("CanMakeRequest", "CanCheckRequest")
        ]
        shop.content["grants"].append({"person": "E-1002", "right": "CanCheckRequest", "unit": OTHER_ZONE})
        shop.change(policy={"approvals": 1})
        there = {"tillId": OTHER_TILL}
        self.members = shop.members
        body = shop.body
        self.pending = self.make(body(self.members[0]))
        self.second = self.make(body(self.members[0], external_reference_number="SAME"))
        self.twin = self.make(body(self.members[1], external_reference_number="SAME"))
        self.elsewhere = self.make(set_at(body(self.members[1]), "entityInfo", there), by=BOTH)
        self.approved = self.make(body(self.members[2]))
        self.rejected = self.make(body(self.members[2]))
        stranger = body(self.members[3])
        item = stranger["payload"]["IntouchAPITask-Payload"]["body"]["root"]["redeem"]
        item["customer"] = {"mobile": "9111122222"}
        self.stranger = self.make(stranger)
        shop.approve(self.approved, by=SECOND)
        assert shop.decide(self.rejected, "rejected", by=CHECKER).status_code == 200

    def make(self, body: dict[str, Any], by: str = MAKER) -> str:
        return str(self.shop.create(body, by=by)["requestId"])

    def find(self, **query: Any) -> list[str]:
        named = {value: name for name, value in vars(self).items() if isinstance(value, str)}
        return [named[each] for each in ids(self.shop, "/requests", **query)]


@pytest.fixture(scope="module")
def archive(make_shop: MakeShop) -> Archive:
    return Archive(make_shop(members=4))


ALL = ["stranger", "rejected", "approved", "elsewhere", "twin", "second", "pending"]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({}, ALL),
        ({"limit": 2}, ALL),
        ({"states": "pending"}, ["stranger", "elsewhere", "twin", "second", "pending"]),
        ({"states": "Succeeded, rejected"}, ["rejected", "approved"]),
        ({"memberId": 2000000}, ["second", "pending"]),
        ({"memberId": 2000002, "states": "rejected"}, ["rejected"]),
        ({"identifierName": "mobile", "identifierValue": "9776500000"}, ["second", "pending"]),
        ({"identifierName": "mobile", "identifierValue": "+91 9111122222"}, ["stranger"]),
        ({"identifierName": "externalId", "identifierValue": "nobody"}, []),
        ({"reference": "SAME"}, ["twin", "second"]),
        ({"reference": "SAME", "memberId": 2000001}, ["twin"]),
        ({"maker": "me"}, []),
        ({"maker": "E-1004"}, ["elsewhere"]),
        ({"maker": BOTH.upper()}, ["elsewhere"]),
        ({"maker": MAKER_ID}, ["stranger", "rejected", "approved", "twin", "second", "pending"]),
        ({"checker": "me"}, ["rejected"]),
        ({"checker": CHECKER_ID, "states": "succeeded"}, []),
        ({"checker": SECOND}, ["approved"]),
        ({"checker": SECOND, "memberId": 2000002, "maker": MAKER}, ["approved"]),
        ({"requestType": "points-redemption"}, ALL),
        ({"requestType": "GOODWILL-POINTS"}, []),
        ({"unit": OTHER_TILL}, ["elsewhere"]),
        ({"unit": OTHER_STORE}, ["elsewhere"]),
        ({"unit": OTHER_ZONE, "maker": MAKER}, []),
        ({"unit": ZONE, "states": "rejected"}, ["rejected"]),
        ({"startDate": "2020-01-01", "endDate": "2089-01-01"}, ALL),
        ({"startDate": "2089-01-01"}, []),
        ({"endDate": "2020-01-01"}, []),
        ({"reference": "", "maker": ""}, ALL),
    ],
)
def test_filters(archive: Archive, query: dict[str, object], expected: list[str]) -> None:
    if "identifierValue" in query and query["identifierValue"] == "9776500000":
        query = query | {"identifierValue": archive.members[0].mobile}
    assert archive.find(**query) == expected


def test_days_of_a_search(make_shop: MakeShop) -> None:
    shop = make_shop(members=2)
    early, late = create(shop), create(shop)
    sql = "UPDATE request SET started_at = $2 WHERE org_id = $1 AND request_id = $3"
    for request_id, at in (
        (early, datetime(2025, 3, 9, 18, 29, 59, tzinfo=UTC)),
        (late, datetime(2025, 3, 9, 18, 30, tzinfo=UTC)),
    ):
        fetch(str(shop.serve.database_url), sql, shop.org_id, at, request_id)
    assert ids(shop, "/requests", endDate="2025-03-09") == [early]
    assert ids(shop, "/requests", startDate="2025-03-10", endDate="2025-03-10") == [late]
    assert ids(shop, "/requests", startDate="2025-03-09", checker="me") == []


def test_why_i_cannot_decide(make_shop: MakeShop) -> None:
    shop = make_shop(policy={"approvals": 2})
    grants = [each for each in shop.content["grants"] if each["person"] != "E-1003"]
    shop.change(
        grants=[*grants, {"person": "E-1003", "right": "CanCheckRequest", "unit": ZONE, "pointsMax": 50},
                {"person": "E-1005", "right": "CanCheckRequest", "unit": OTHER_ZONE},
                {"person": "E-1001", "right": "CanCheckRequest", "unit": ZONE}]
    )  # fmt: skip
    request_id = create(shop, by=BOTH)
    rejected = create(shop)
    assert shop.decide(rejected, "rejected", by=CHECKER).status_code == 200

    def told(by: str | None, which: str = request_id) -> tuple[bool, int | None, str | None]:
        [row] = [each for each in page(shop, "/requests", by)["data"] if each["requestId"] == which]
        why = row["whyNot"] or {"code": None, "reason": None}
        return row["canAct"], why["code"], why["reason"]

    assert told(CHECKER) == (True, None, None)
    assert told(BOTH) == (False, 2001, "selfApproval")
    assert told(SECOND) == (False, 2001, "overLimit")
    assert told(NOBODY) == (False, 2001, "notPermitted")
    assert told(None) == (False, 2001, "notPermitted")
    assert told(CHECKER, rejected) == (False, 2002, "alreadyCompleted")
    assert shop.decide(request_id, by=CHECKER).status_code == 200
    assert told(CHECKER) == (False, 2002, "alreadyVoted")
    # The same words as the refusal of a decision.
    for by in (CHECKER, BOTH, SECOND, NOBODY):
        [row] = [each for each in page(shop, "/requests", by)["data"] if each["requestId"] == request_id]
        [error] = shop.decide(request_id, by=by).json()["errors"]
        assert error["code"] == row["whyNot"]["code"]
        assert row["whyNot"]["message"] in error["message"]


# ---------------------------------------------------------------- who may read


def test_one_organisation_never_sees_anothers(make_shop: MakeShop) -> None:
    shop, other = make_shop(members=2), make_shop(members=2)
    request_id = create(shop, external_reference_number="MINE")
    assert ids(other) == []
    assert ids(other, "/requests") == []
    assert ids(other, "/requests", reference="MINE") == []
    for path in ("", "/timeline", "/events"):
        assert get(shop, f"/requests/{request_id}{path}").status_code == 200
        refused(get(other, f"/requests/{request_id}{path}"), 404, 2007, "requestId")


READS = (
    "/counterfoil/v1/requests/{}",
    "/counterfoil/v1/requests/{}/timeline",
    "/counterfoil/v1/requests/{}/events",
    "/api_gateway/v2/request-workflow/requests/{}",
)
LISTS = ("/counterfoil/v1/requests", "/api_gateway/v2/request-workflow/requests")


def readable(shop: Shop, by: str | None, request_ids: dict[str, str]) -> set[str]:
    """The names of the requests that a caller can read; every read agrees on that."""
    found = []
    for name, request_id in request_ids.items():
        answers = [shop.http.get(path.format(request_id), headers=shop.headers(by)) for path in READS]
        assert len({answer.status_code for answer in answers}) == 1, [each.text for each in answers]
        assert answers[0].status_code in (200, 404)
        found.append((name, answers[0].status_code == 200))
    for path in LISTS:
        answer = shop.http.get(path, headers=shop.headers(by))
        listed = {each["requestId"] for each in answer.json()["data"]}
        assert {(name, request_id in listed) for name, request_id in request_ids.items()} == set(found), path
        if path.startswith("/api"):
            assert answer.json()["pagination"]["totalElements"] == len(listed)
    return {name for name, is_read in found if is_read}


def test_read_scope(make_shop: MakeShop) -> None:
    shop = make_shop()
    shop.content["grants"] += [
        {"person": "E-1004", "right": "CanMakeRequest", "unit": OTHER_ZONE},
        {"person": "E-1002", "right": "CanCheckRequest", "unit": OTHER_ZONE},
        {"person": "E-1003", "right": "CanCheckRequest", "unit": OTHER_STORE, "until": "2020-01-01"},
    ]
    shop.apply()
    there = set_at(shop.body(), "entityInfo", {"tillId": OTHER_TILL})
    made = {
        "here": create(shop),
        "there": str(shop.create(there, by=BOTH)["requestId"]),
    }
    callers = (MAKER, CHECKER, SECOND, BOTH, NOBODY, None)
    assert [readable(shop, by, made) for by in callers] == [set(made)] * 6
    shop.change(organisation={"readScope": "units"})
    here, there_too, nothing = {"here"}, {"here", "there"}, set[str]()
    assert [readable(shop, by, made) for by in callers] == [here, there_too, here, there_too, nothing, nothing]
    shop.content["grants"].append({"person": "E-1005", "right": "CanMakeRequest"})
    shop.content["grants"].append({"person": "E-1001", "right": "CanMakeRequest", "unit": OTHER_TILL})
    shop.apply()
    assert readable(shop, NOBODY, made) == there_too
    assert readable(shop, MAKER, made) == there_too
    assert ids(shop, "/requests", by=MAKER, unit=OTHER_STORE) == [made["there"]]
    shop.change(organisation={"readScope": "organisation"})
    assert readable(shop, None, made) == there_too
