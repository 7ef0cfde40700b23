"""CanMovePointsDirectly is capped per call and per day, and under dual control never without caps."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from counterfoil.domain.dual_control import direct_movers
from counterfoil.domain.organisations import Credential, Organisation
from counterfoil.domain.redemptions import day_of, may_redeem_directly
from tests import builders
from tests.administration.town import Town, error_of
from tests.contract.shop import REDEEM, basic, md5

POINTS = {"directCapPerCall": 30, "directCapPerDay": 50}


def box(town: Town, **caps: Any) -> dict[str, Any]:
    return {"login": f"box.{town.org_id}", "id": 2, "password": "box", "rights": ["CanMovePointsDirectly"], **caps}


@pytest.fixture
def capped(town: Town) -> Town:
    town.change(town.part(credentials=[box(town, **POINTS)]))
    return town


def redeem(town: Town, points: object) -> httpx.Response:
    body = {"root": {"redeem": {"points_redeemed": str(points), "customer": {"mobile": "9000000001"}}}}
    headers = {"Authorization": basic(f"box.{town.org_id}", md5("box"))}
    return town.http.post(REDEEM, json=body, headers=headers)


def refused(answer: httpx.Response, *said: str) -> None:
    status = answer.json()["response"]["status"]
    assert (answer.status_code, status["code"]) == (403, 4000)
    assert [each for each in said if each not in status["message"]] == []


def item_code(answer: httpx.Response) -> int:
    assert answer.status_code == 200, answer.text
    return int(answer.json()["response"]["responses"]["points"]["item_status"]["code"])


def test_a_call_and_a_day_have_their_caps(capped: Town) -> None:
    refused(redeem(capped, "30.001"), "at most 30 points in one call")
    assert item_code(redeem(capped, 30)) == 800
    refused(redeem(capped, 21), "at most 50 points a day", "20 are left")
    assert item_code(redeem(capped, 20)) == 800
    refused(redeem(capped, "0.001"), "0 are left")
    yesterday = "UPDATE direct_use SET day = day - 1 WHERE org_id = $1 RETURNING points"
    assert capped.rows(yesterday)[0][0] == 50_000
    assert item_code(redeem(capped, 30)) == 800
    assert capped.rows("SELECT points FROM direct_use WHERE org_id = $1")[0][0] == 30_000


def test_what_was_not_redeemed_does_not_count(capped: Town) -> None:
    capped.change(capped.part(credentials=[box(capped, directCapPerCall=5000, directCapPerDay=5000)]))
    assert item_code(redeem(capped, 2000)) == 818
    assert item_code(redeem(capped, 1000)) == 800
    assert capped.rows("SELECT points FROM direct_use WHERE org_id = $1")[0][0] == 1_000_000


def test_many_calls_at_once_never_pass_the_cap(capped: Town) -> None:
    with ThreadPoolExecutor(12) as threads:
        answers = list(threads.map(lambda _: redeem(capped, 7), range(24)))
    assert sorted(each.status_code for each in answers) == [200] * 7 + [403] * 17
    assert capped.rows("SELECT points FROM direct_use WHERE org_id = $1")[0][0] == 49_000


def test_without_caps_there_is_no_right_under_dual_control(make_town: Callable[..., Town]) -> None:
    town = make_town()
    incomplete: tuple[dict[str, int], ...] = ({}, {"directCapPerCall": 1}, {"directCapPerDay": 1})
    for caps in incomplete:
        error_of(town.propose(town.part(credentials=[box(town, **caps)])), 400, 2008, "needs directCapPerCall")
    for wrong, said in (
        ({"directCapPerCall": 2, "directCapPerDay": 1}, "must not be above directCapPerDay"),
        ({"directCapPerCall": 0, "directCapPerDay": 1}, "directCapPerCall"),
        ({"rights": [], **POINTS}, "which is not in rights"),
    ):
        error_of(town.propose(town.part(credentials=[box(town) | wrong])), 400, 2008, said)


def organisation(control: str, **caps: Any) -> Organisation:
    credential = Credential("ind.1", 9, "hash", rights=("CanMovePointsDirectly",), **caps)
    return builders.organisation(control=control, credentials={"ind.1": credential})


def test_the_rule_fails_closed() -> None:
    """Even where the database has what validation refuses."""
    for control, caps, used, allowed in (
        ("single", {}, None, True),
        ("dual", {}, None, False),
        ("dual", {"direct_cap_per_call": 10}, 0, False),
        ("dual", {"direct_cap_per_call": 10, "direct_cap_per_day": 10}, 0, True),
        ("dual", {"direct_cap_per_call": 10, "direct_cap_per_day": 10}, None, False),
        ("single", {"direct_cap_per_day": 10}, 1, False),
    ):
        asked = organisation(control, **caps)
        actor = builders.actor_of(asked, builders.MAKER)
        assert (may_redeem_directly(asked, actor, 10, used) is None) == allowed, (control, caps, used)


def test_the_day_is_that_of_the_organisation() -> None:
    asked = builders.organisation(time_zone="Asia/Kolkata")
    assert day_of(asked, datetime(2026, 3, 1, 18, 29, tzinfo=UTC)).isoformat() == "2026-03-01"
    assert day_of(asked, datetime(2026, 3, 1, 18, 30, tzinfo=UTC)).isoformat() == "2026-03-02"


def test_who_holds_the_right_is_listed() -> None:
    [mover] = direct_movers(organisation("dual", direct_cap_per_call=10, direct_cap_per_day=20))
    assert (mover.login, mover.cap_per_call, mover.cap_per_day, mover.active) == ("ind.1", 10, 20, True)
    assert direct_movers(builders.organisation()) == []
