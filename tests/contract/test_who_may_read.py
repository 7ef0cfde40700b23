"""Under `readScope: units` no route tells anything of a request to somebody who may not read it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from counterfoil.http.app import ENDPOINTS
from tests.contract.shop import CHECKER, MAKER, NOBODY, OTHER_TILL, SECOND, STORE, TILL, Shop
from tests.contract.test_inbox import ids, readable
from tests.contract.test_life import SOON, good, post

READS = sorted(each.path for each in ENDPOINTS if each.method == "GET" and "{request_id}" in each.path)


@pytest.fixture(scope="module")
def made(make_shop: Callable[..., Shop]) -> tuple[Shop, list[str]]:
    """A request that was sent back and made again, both with a comment."""
    shop = make_shop()
    shop.content["organisation"]["readScope"] = "units"
    shop.content["grants"].append({"person": "E-1005", "right": "CanMakeRequest", "unit": OTHER_TILL})
    shop.apply()
    first = str(shop.create()["requestId"])
    good(post(shop, f"requests/{first}/comments", MAKER, {"message": "the customer's story"}))
    good(post(shop, f"requests/{first}/send-back", CHECKER, {"comment": "fix it"}))
    again = good(post(shop, f"requests/{first}/resubmit", MAKER, shop.body()))["request"]["requestId"]
    return shop, [first, again]


@pytest.mark.parametrize("path", READS)
def test_every_read_of_a_request_refuses_who_may_not_read_it(made: tuple[Shop, list[str]], path: str) -> None:
    shop, request_ids = made
    for request_id in request_ids:
        for by, status in ((MAKER, 200), (NOBODY, 404), (None, 404)):
            answer = shop.http.get(path.replace("{request_id}", request_id), headers=shop.headers(by))
            assert answer.status_code == status, answer.text
            if status == 404:
                assert answer.json()["errors"][0]["code"] == 2007


def test_there_are_such_routes() -> None:
    assert len(READS) >= 7


def test_who_stands_in_reads_where_the_right_is_lent_and_while_its_owner_has_it(make_shop: Callable[..., Shop]) -> None:
    shop = make_shop()
    shop.content["units"]["tills"].append({"id": 99, "name": "Next", "code": f"n.{shop.till}", "store": STORE})
    shop.change(organisation={"readScope": "units"})
    requests = {}
    for name, till in (("here", TILL), ("next", 99)):
        requests[name] = str(shop.create(shop.body() | {"entityInfo": {"tillId": str(till)}})["requestId"])
    good(post(shop, "delegations", CHECKER, {"delegate": "E-1005", "until": SOON.isoformat(), "unit": 99}))
    # Where the lender has no right there is none to lend: nothing of the lender's own zone comes with it.
    good(post(shop, "delegations", SECOND, {"delegate": "E-1005", "until": SOON.isoformat(), "unit": OTHER_TILL}))
    assert ids(shop, by=NOBODY) == [requests["next"]]
    assert readable(shop, NOBODY, requests) == {"next"}
    lender = next(each for each in shop.content["people"] if each["staffId"] == "E-1002")
    lender["active"] = False
    shop.apply()
    assert ids(shop, by=NOBODY) == []
    assert readable(shop, NOBODY, requests) == set()
