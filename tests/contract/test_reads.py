"""One request and the list: every filter, order and page (dossier §2.9, §5 no. 1, 2, 15, 16)."""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import pytest

from tests.contract.serving import fetch
from tests.contract.shop import (
    BOTH,
    CHECKER,
    CONCEPT,
    MAKER,
    OTHER_CONCEPT,
    OTHER_STORE,
    OTHER_TILL,
    OTHER_ZONE,
    STORE,
    TASK,
    TILL,
    WORKFLOW,
    ZONE,
    Shop,
    assert_refused,
    data_of,
    set_at,
)

UNKNOWN_ID = "0198f7a5-0000-7000-8000-000000000000"


class Archive:
    """An organisation whose requests are known, oldest first: ids by what they are."""

    def __init__(self, shop: Shop) -> None:
        self.shop = shop
        self.all: list[str] = []

    def ids(self, **query: object) -> list[str]:
        return [each["requestId"] for each in self.answer(**query).json()["data"]]

    def answer(self, **query: object) -> httpx.Response:
        answer = self.shop.page(**query)
        assert answer.status_code == 200, answer.text
        body = answer.json()
        assert list(body) == ["data", "pagination"]
        assert list(body["pagination"]) == ["totalElements", "totalPages", "numberOfElements", "number"]
        assert body["pagination"]["numberOfElements"] == len(body["data"])
        return answer


@pytest.fixture(scope="module")
def archive(make_shop: Callable[..., Shop]) -> Archive:
    """Twelve requests: 0-5 pending, 6-8 approved, 9 failed, 10-11 rejected; days and places as below."""
    shop = make_shop(members=13)
    shop.content["grants"] += [
        {"person": "E-1004", "right": "CanMakeRequest", "unit": OTHER_ZONE},
        {"person": "E-1002", "right": "CanCheckRequest", "unit": OTHER_ZONE},
    ]
    shop.apply()
    archive = Archive(shop)
    for number in range(12):
        far = number % 4 == 3  # 3, 7 and 11 are made in the other zone by the other maker
        body = shop.body()
        body["entityInfo"] = {"tillId": OTHER_TILL if far else TILL}
        if number == 9:
            body = set_at(body, f"{TASK}.headers.Authorization", "Basic d3Jvbmc6d3Jvbmc=")
        archive.all.append(shop.create(body, by=BOTH if far else MAKER)["requestId"])
    for number in (6, 7, 8, 9):
        shop.approve(archive.all[number])
    for number in (11, 10):  # so that the order of the ends is another one
        shop.decide(archive.all[number], "rejected")
    return archive


def test_all(archive: Archive) -> None:
    """Newest first, ten of them, by default."""
    answer = archive.answer()
    assert [each["requestId"] for each in answer.json()["data"]] == archive.all[:1:-1]
    assert answer.json()["pagination"] == {"totalElements": 12, "totalPages": 2, "numberOfElements": 10, "number": 0}


def test_a_listed_request_is_the_request(archive: Archive) -> None:
    for data in archive.answer(limit=12).json()["data"]:
        assert archive.shop.get(data["requestId"]).json()["data"] == data


@pytest.mark.parametrize(
    ("query", "chosen"),
    [
        ({"states": "AdminTask"}, range(6)),
        ({"states": "pending"}, range(6)),
        ({"states": "Pending"}, range(6)),
        ({"states": "approved"}, (6, 7, 8)),
        ({"states": "failed"}, (9,)),
        ({"states": "rejected"}, (10, 11)),
        ({"states": "AdminTask,failed,approved"}, range(10)),
        ({"states": "ADMINTASK, FAILED ,approved,,"}, range(10)),
        ({"states": "approved,rejected"}, (6, 7, 8, 10, 11)),
        ({"states": "approved,approved"}, (6, 7, 8)),
        ({"states": "AdminTask,failed,approved,rejected"}, range(12)),
        ({"states": ""}, range(12)),
        ({"userId": "232134"}, (0, 1, 2, 4, 5, 6, 8, 9, 10)),
        ({"userId": "232137"}, (3, 7, 11)),
        ({"userId": "232135"}, ()),  # a checker: the filter is the maker
        ({"userId": "99"}, ()),
        ({"tillId": TILL}, (0, 1, 2, 4, 5, 6, 8, 9, 10)),
        ({"tillId": OTHER_TILL}, (3, 7, 11)),
        ({"storeId": STORE}, (0, 1, 2, 4, 5, 6, 8, 9, 10)),
        ({"storeId": OTHER_STORE}, (3, 7, 11)),
        ({"zoneId": ZONE}, (0, 1, 2, 4, 5, 6, 8, 9, 10)),
        ({"zoneId": OTHER_ZONE}, (3, 7, 11)),
        ({"conceptId": CONCEPT}, (0, 1, 2, 4, 5, 6, 8, 9, 10)),
        ({"conceptId": OTHER_CONCEPT}, (3, 7, 11)),
        ({"zoneId": OTHER_ZONE, "tillId": TILL}, ()),
        ({"zoneId": OTHER_ZONE, "states": "approved", "userId": "232137"}, (7,)),
        ({"tillId": 1}, ()),
        ({"requestType": "POINTS-REDEMPTION"}, range(12)),
        ({"requestType": "points-redemption"}, range(12)),
        ({"requestType": "GOODWILL-POINTS"}, ()),
        ({"unknown": "x", "page": "3"}, range(12)),
        (dict.fromkeys(("userId", "sortBy", "sortOrder", "conceptId", "zoneId", "storeId", "tillId", "startDate",
                        "endDate", "states", "PageNo", "requestType"), ""), range(12)),
    ],
)  # fmt: skip
def test_filters(archive: Archive, query: dict[str, object], chosen: Any) -> None:
    """Each filter, several together, and empty values, which mean "not set"."""
    wanted = [archive.all[number] for number in chosen]
    answer = archive.answer(**{"limit": 100, "sortBy": "startDate", "sortOrder": "asc", **{
        name: value for name, value in query.items() if name not in ("sortBy", "sortOrder") or value}})  # fmt: skip
    assert [each["requestId"] for each in answer.json()["data"]] == wanted
    assert answer.json()["pagination"]["totalElements"] == len(wanted)


def test_empty_values_are_not_set(archive: Archive) -> None:
    """As the contract's example sends them: conceptId=&endDate=&PageNo=."""
    empty = dict.fromkeys(("conceptId", "zoneId", "storeId", "endDate", "PageNo", "limit", "sortBy", "sortOrder"), "")
    assert archive.answer(**empty).content == archive.answer().content


@pytest.mark.parametrize("order", ["asc", "desc", "ASC", "Desc", None])
def test_order_by_start(archive: Archive, order: str | None) -> None:
    query: dict[str, object] = {"limit": 100} | ({"sortOrder": order} if order else {})
    wanted = archive.all if order and order.lower() == "asc" else archive.all[::-1]
    assert archive.ids(**query) == archive.ids(**query, sortBy="startDate") == wanted


@pytest.mark.parametrize("order", ["asc", "desc"])
def test_order_by_end(archive: Archive, order: str) -> None:
    """What has not ended comes last, either way; the rest by the end."""
    rows = archive.answer(limit=100, sortBy="endDate", sortOrder=order).json()["data"]
    ended = [each["endTime"] for each in rows if each["endTime"] is not None]
    assert [each["endTime"] for each in rows] == ended + [None] * 6
    assert ended == sorted(ended, reverse=order == "desc")
    by_decision = [archive.all[number] for number in (6, 7, 8, 9, 11, 10)]
    assert [each["requestId"] for each in rows[:6]] == (by_decision if order == "asc" else by_decision[::-1])


@pytest.mark.parametrize("limit", [1, 5, 7, 12, 13, 1000])
@pytest.mark.parametrize("sort_by", ["startDate", "endDate"])
def test_pages(archive: Archive, limit: int, sort_by: str) -> None:
    """Zero-based; every request on exactly one page; exact totals on each, past the end too."""
    pages = -(-12 // limit)
    seen: list[str] = []
    for number in range(pages + 2):
        answer = archive.answer(limit=limit, PageNo=number, sortBy=sort_by, sortOrder="asc").json()
        assert answer["pagination"] == {
            "totalElements": 12, "totalPages": pages, "numberOfElements": len(answer["data"]), "number": number,
        }  # fmt: skip
        seen += [each["requestId"] for each in answer["data"]]
        assert len(answer["data"]) == max(0, min(limit, 12 - number * limit))
    assert sorted(seen) == sorted(archive.all)
    if sort_by == "startDate":
        assert seen == archive.all


def test_an_empty_list(archive: Archive) -> None:
    answer = archive.answer(userId=99).json()
    assert answer == {
        "data": [], "pagination": {"totalElements": 0, "totalPages": 0, "numberOfElements": 0, "number": 0},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("query", "code", "said"),
    [
        ({"sortBy": "startTime"}, 2011, "sortBy"),
        ({"sortBy": "userId"}, 2011, "startDate"),
        ({"sortBy": "startDate;DROP TABLE request"}, 2011, "sortBy"),
        ({"sortOrder": "up"}, 2012, "sortOrder"),
        ({"sortOrder": "asc,desc"}, 2012, "sortOrder"),
        ({"requestType": "NO-SUCH"}, 2009, "requestType"),
        ({"states": "done"}, 2008, "states"),
        ({"states": "AdminTask,done"}, 2008, "states"),
        ({"userId": "x"}, 2008, "userId"),
        ({"userId": "-1"}, 2008, "userId"),
        ({"userId": "9" * 20}, 2008, "userId"),
        ({"userId": str(2**63)}, 2008, "userId"),
        ({"userId": "1_0"}, 2008, "userId"),
        ({"userId": "\u0661"}, 2008, "userId"),
        ({"tillId": "x"}, 2008, "tillId"),
        ({"storeId": "1.5"}, 2008, "storeId"),
        ({"zoneId": "' OR 1=1 --"}, 2008, "zoneId"),
        ({"conceptId": "0x1"}, 2008, "conceptId"),
        ({"limit": "0"}, 2008, "limit"),
        ({"limit": "-1"}, 2008, "limit"),
        ({"limit": "ten"}, 2008, "limit"),
        ({"limit": "1001"}, 2008, "limit"),
        ({"limit": "9" * 19}, 2008, "limit"),
        ({"PageNo": "-1"}, 2008, "PageNo"),
        ({"PageNo": "first"}, 2008, "PageNo"),
        ({"PageNo": "9" * 19}, 2008, "PageNo"),
        ({"startDate": "03-10-2023"}, 2008, "startDate"),
        ({"startDate": "2023-10-32"}, 2008, "startDate"),
        ({"startDate": "2023-10-03T00:00:00"}, 2008, "startDate"),
        ({"startDate": "2023-W40-2"}, 2008, "startDate"),
        ({"endDate": "2023-02-29"}, 2008, "endDate"),
        ({"endDate": "today"}, 2008, "endDate"),
        ({"endDate": "9999-12-31"}, 2008, "Date"),
        ({"startDate": "0001-01-01"}, 2008, "Date"),
        ({"userId": ["1", "2"]}, 2008, "userId"),
        ({"states": ["failed", "approved"]}, 2008, "states"),
    ],
)
def test_a_wrong_query(shop: Shop, query: dict[str, object], code: int, said: str) -> None:
    assert_refused(shop.page(**query), 400, code, said)


def test_a_page_far_beyond(archive: Archive) -> None:
    answer = archive.answer(PageNo=10**12, limit=1000).json()
    assert answer["pagination"] == {"totalElements": 12, "totalPages": 1, "numberOfElements": 0, "number": 10**12}


DAYS = [date(2023, 10, 1) + timedelta(days=number) for number in range(4)]


@pytest.mark.parametrize("zone", ["Asia/Kolkata", "America/New_York", "Pacific/Kiritimati", "UTC"])
def test_days_bound_the_start(make_shop: Callable[..., Shop], zone: str) -> None:
    """Both startDate and endDate are days of startTime as it is shown, inclusive to the second."""
    shop = make_shop(members=8, organisation={"wireTimeZone": zone})
    moments: dict[str, datetime] = {}
    for day in DAYS:
        for clock in (datetime.min.time(), datetime.max.time().replace(microsecond=0)):
            moments[shop.create()["requestId"]] = datetime.combine(day, clock)
    assert shop.serve.database_url is not None
    for request_id, at in moments.items():
        fetch(
            shop.serve.database_url,
            "UPDATE request SET started_at = $2 WHERE request_id = $1::uuid",
            request_id, at.replace(tzinfo=ZoneInfo(zone)).astimezone(UTC),
        )  # fmt: skip
    shown = {each["requestId"]: each["startTime"] for each in shop.page(limit=100).json()["data"]}
    assert shown == {request_id: at.isoformat(timespec="seconds") for request_id, at in moments.items()}
    pairs = [(first, last) for first in (None, *DAYS) for last in (None, *DAYS)]
    for first, last in pairs[::2]:
        wanted = {
            request_id
            for request_id, at in moments.items()
            if (first is None or first <= at.date()) and (last is None or at.date() <= last)
        }
        page = shop.page(limit=100, startDate=first or "", endDate=last or "").json()
        assert {each["requestId"] for each in page["data"]} == wanted, (first, last)
        assert page["pagination"]["totalElements"] == len(wanted)


def test_times_are_of_the_wire_zone(make_shop: Callable[..., Shop]) -> None:
    shop = make_shop(organisation={"wireTimeZone": "America/New_York"})
    data = shop.approve(shop.create()["requestId"])
    now = datetime.now(ZoneInfo("America/New_York")).replace(tzinfo=None)
    for name in ("startTime", "endTime"):
        assert timedelta(0) <= now - datetime.fromisoformat(data[name]) < timedelta(seconds=30)


@pytest.mark.parametrize(
    "request_id",
    [
        UNKNOWN_ID,
        "1",
        "x",
        UNKNOWN_ID.upper(),
        UNKNOWN_ID[:-1],
        "x" * 36,
        "%00" * 12,
        "\u0661" * 36,
        f"{{{UNKNOWN_ID[:34]}}}",
    ],
)
def test_no_such_request(shop: Shop, request_id: str) -> None:
    assert_refused(shop.get(request_id), 404, 2007, "requestId")


def test_a_request_id_in_capitals(shop: Shop) -> None:
    created = shop.create()
    assert data_of(shop.get(created["requestId"].upper()))["requestId"] == created["requestId"]


def test_reads_need_no_person_and_no_organisation_header(shop: Shop) -> None:
    """Any caller of the organisation reads (dossier §1.1)."""
    created = shop.create()
    wanted = shop.get(created["requestId"]).content
    for headers in (
        shop.headers(), shop.headers(CHECKER), shop.headers(X_CAP_API_AUTH_ORG_ID=None),
        shop.headers(X_CAP_UI_AUTH_TOKEN=""),
    ):  # fmt: skip
        assert shop.http.get(f"{WORKFLOW}/requests/{created['requestId']}", headers=headers).content == wanted
        assert shop.http.get(f"{WORKFLOW}/requests", headers=headers).status_code == 200


def test_a_read_decides_nothing(shop: Shop) -> None:
    created = shop.create()
    before = shop.serve.rows("SELECT * FROM request WHERE request_id = $1::uuid", created["requestId"])
    for _ in range(3):
        shop.get(created["requestId"])
        shop.page(states="AdminTask")
    assert shop.serve.rows("SELECT * FROM request WHERE request_id = $1::uuid", created["requestId"]) == before
