"""The deviations that design.md §0 allows, D1 to D5, and what `profile: strict` refuses. No other is allowed."""

from collections.abc import Callable

import pytest

from tests.contract.serving import Serve
from tests.contract.shop import (
    BOTH,
    CHECKER,
    MAKER,
    OTHER_STORE,
    TASK,
    Shop,
    assert_refused,
    data_of,
    decision,
    set_at,
)

MASKED = "Basic <withheld>"


def test_d1_a_hold_lowers_what_can_be_redeemed_directly(shop: Shop) -> None:
    member = shop.member()
    created = shop.create(shop.body(member, "600"))
    item = {"points_redeemed": "401", "customer": {"mobile": member.mobile}}
    refused = shop.redeem(item).json()["response"]["responses"]["points"]
    assert refused["item_status"]["code"] == 818
    shop.decide(created["requestId"], "rejected")
    redeemed = shop.redeem(item).json()["response"]["responses"]["points"]
    assert (redeemed["item_status"]["code"], redeemed["balance"]) == (800, 599)


def test_d2_credentials_are_shown_once(shop: Shop) -> None:
    """In the create answer and its replay; nowhere else, whatever becomes of the request."""
    body = set_at(shop.body(), f"{TASK}.headers.X-Secret", "hidden value")
    body = set_at(body, f"{TASK}.headers.accept", "application/json")
    for verdict in ("approved", "rejected"):
        body["payload"]["IntouchAPITask-Payload"]["body"]["root"]["redeem"]["external_reference_number"] = verdict
        answer = shop.submit(body, idempotency_key=f"d2-{verdict}")
        replay = shop.submit(body, idempotency_key=f"d2-{verdict}")
        created = data_of(answer)
        for shown in (created, data_of(replay)):
            assert (
                shown["details"]["IntouchAPITask-Payload"]["headers"]
                == (body["payload"]["IntouchAPITask-Payload"]["headers"])
            )
        request_id = created["requestId"]
        listed = [shop.page(limit=1), shop.page(limit=1, states="AdminTask")]
        others = [
            *listed,
            shop.get(request_id),
            shop.decide(request_id, verdict),
            shop.get(request_id),
            shop.page(limit=1),
        ]
        events = shop.http.get(f"/counterfoil/v1/requests/{request_id}/events", headers=shop.headers())
        for other in (*others, events):
            assert other.status_code == 200
            assert shop.basic.split()[1] not in other.text
            assert "hidden value" not in other.text
        masked = data_of(shop.get(request_id))["details"]["IntouchAPITask-Payload"]["headers"]
        assert masked == {
            "Authorization": MASKED, "content-type": "application/json", "X-CAP-CLIENT-SIGNATURE": "jatin",
            "X-Secret": "<withheld>", "accept": "application/json",
        }  # fmt: skip
        assert list(masked) == list(body["payload"]["IntouchAPITask-Payload"]["headers"])


def test_d2_no_credentials_at_rest(shop: Shop, service: Serve) -> None:
    """Nor in any column of any table."""
    body = set_at(shop.body(), f"{TASK}.headers.X-Secret", "hidden at rest")
    shop.approve(shop.create(body)["requestId"])
    wanted = [shop.basic, shop.basic.split()[1], "hidden at rest"]
    for (table,) in service.rows("SELECT tablename FROM pg_tables WHERE schemaname = 'public'"):
        for text in wanted:
            hexed = text.encode().hex()
            found = service.rows(
                f'SELECT count(*) FROM "{table}" t WHERE t::text LIKE $1 OR t::text LIKE $2',  # noqa: S608 - names of tables
                f"%{text}%", f"%{hexed}%",
            )  # fmt: skip
            assert found[0][0] == 0, table


def test_d2_can_be_switched_off(make_shop: Callable[..., Shop]) -> None:
    shop = make_shop(organisation={"echoCredentials": "all"})
    created = shop.create()
    wanted = created["details"]["IntouchAPITask-Payload"]
    assert wanted["headers"]["Authorization"] == shop.basic
    answers = [shop.get(created["requestId"]), shop.decide(created["requestId"]), shop.get(created["requestId"])]
    for answer in answers:
        assert data_of(answer)["details"]["IntouchAPITask-Payload"] == wanted
    assert shop.page().json()["data"][0]["details"]["IntouchAPITask-Payload"] == wanted


@pytest.mark.parametrize("value", [MASKED, "<withheld>", "Bearer <withheld>"])
@pytest.mark.parametrize("name", ["Authorization", "X-Other"])
def test_d2_the_mask_cannot_be_submitted(shop: Shop, name: str, value: str) -> None:
    """A copy of what a read shows lacks the credentials: told at once (2023)."""
    path = f"{TASK}.headers.{name}"
    assert_refused(shop.submit(set_at(shop.body(), path, value)), 400, 2023, path)


def test_d3_maker_and_checker_are_two_people(make_shop: Callable[..., Shop]) -> None:
    """By person: not through a second login of his either."""
    shop = make_shop()
    shop.content["people"][3]["users"].append({"id": 7, "userName": "alias@tipent.com", "password": "alias password"})
    shop.apply()
    token = shop.sign_in("alias@tipent.com", "alias password").json()["data"]["token"]
    created = shop.create(by=BOTH)
    for headers in (shop.headers(BOTH), shop.headers(X_CAP_UI_AUTH_TOKEN=token)):
        answer = shop.http.put(
            "/api_gateway/v2/request-workflow/POINTS-REDEMPTION", json=decision(created["requestId"]), headers=headers
        )
        assert_refused(answer, 403, 2001, "maker")
    assert shop.state(created["requestId"]) == "AdminTask"


def test_d4_nobody_could_ever_check(make_shop: Callable[..., Shop]) -> None:
    """Refused at submission (2021), instead of waiting for ever: the maker himself does not count."""
    shop = make_shop()
    makers_only = [grant for grant in shop.content["grants"] if grant["right"] == "CanMakeRequest"]
    shop.change(grants=[*makers_only, {"person": "E-1004", "right": "CanCheckRequest", "unit": 50682286}])
    assert_refused(shop.submit(by=BOTH), 400, 2021, "CanCheckRequest")
    data_of(shop.submit(by=MAKER))
    shop.change(grants=makers_only)
    assert_refused(shop.submit(by=MAKER), 400, 2021)
    shop.change(
        policy={"approvals": 2},
        grants=[*makers_only, {"person": "E-1002", "right": "CanCheckRequest", "unit": 50682286}],
    )
    assert_refused(shop.submit(by=MAKER), 400, 2021, "2")


def test_d4_a_checker_for_smaller_requests_only(make_shop: Callable[..., Shop]) -> None:
    shop = make_shop()
    grants = [grant for grant in shop.content["grants"] if grant["right"] == "CanMakeRequest"]
    small = {"person": "E-1002", "right": "CanCheckRequest", "unit": 50682286, "pointsMax": 50}
    shop.change(grants=[*grants, small])
    data_of(shop.submit(shop.body(points="50")))
    assert_refused(shop.submit(shop.body(points="50.001")), 400, 2021)


def test_d5_the_token_is_ours(shop: Shop) -> None:
    """A token in the original's form from an issuer that nobody named here is no token."""
    # {"typ":"JWT","alg":"HS256"}.{"id":["232134"],"orgID":600000,"iss":"capillarytech.com",…}, signed with "secret"
    foreign = (
        "eyJ0eXAiOiJKV1QiLCJhbGciOiJIUzI1NiJ9."
        "eyJpZCI6WyIyMzIxMzQiXSwib3JnSUQiOjYwMDAwMCwiaXNzIjoiY2FwaWxsYXJ5dGVjaC5jb20iLCJleHAiOjQxMDI0NDQ4MDB9."
        "c2lnbmF0dXJl"
    )
    assert_refused(shop.submit(by=None, X_CAP_UI_AUTH_TOKEN=foreign), 401, 2013, "/counterfoil/v1/ui-token")
    data_of(shop.submit(by=MAKER))


# What is told under `profile: contract` is refused under `strict`.


@pytest.fixture(scope="module")
def strict(make_shop: Callable[..., Shop]) -> Shop:
    return make_shop(members=20, organisation={"profile": "strict"})


def test_strict_takes_what_is_right(strict: Shop) -> None:
    assert strict.approve(strict.create()["requestId"])["state"] == "approved"


def test_strict_refuses_too_few_points(strict: Shop) -> None:
    member = strict.member()
    assert_refused(
        strict.submit(strict.body(member, "1000.5")),
        400,
        2008,
        "1000 points",
        f"{TASK}.body.root.redeem.points_redeemed",
    )
    assert strict.points(member) == (1000, 0)
    strict.create(strict.body(member, "600"))
    assert_refused(strict.submit(strict.body(member, "600")), 400, 2008, "400 points")


def test_strict_refuses_units_that_disagree(strict: Shop) -> None:
    body = set_at(strict.body(), "entityInfo.storeId", str(OTHER_STORE))
    assert_refused(strict.submit(body), 400, 2008, "entityInfo.storeId")


def test_strict_refuses_an_unknown_member(strict: Shop) -> None:
    body = set_at(strict.body(), f"{TASK}.body.root.redeem.customer.mobile", "9000000001")
    assert_refused(strict.submit(body), 400, 2008)


def test_the_checker_sees_what_is_told(shop: Shop) -> None:
    """Every flag of a submission is in the header of each later answer too."""
    body = set_at(shop.body(points="5000"), "entityInfo.storeId", str(OTHER_STORE))
    body = set_at(body, f"{TASK}.headers.Authorization", "Basic d3Jvbmc6d3Jvbmc=")
    answer = shop.submit(body)
    flags = "unit_mismatch:storeId, unfunded, till_credential"
    request_id = data_of(answer)["requestId"]
    for each in (answer, shop.get(request_id), shop.decide(request_id, by=CHECKER)):
        assert each.headers["x-counterfoil-flags"] == flags


def test_a_call_without_credentials_is_told_and_fails(shop: Shop) -> None:
    """The page does not star Authorization: what will fail is told, not refused."""
    headers = {
        "X-CAP-CLIENT-SIGNATURE": "José",
        "X-CAP-API-AUTH-ORG-ID": shop.org_id,
        "content-type": "application/json",
    }
    answer = shop.submit(set_at(shop.body(), f"{TASK}.headers", headers))
    created = data_of(answer)
    assert created["details"]["IntouchAPITask-Payload"]["headers"] == headers
    assert answer.headers["X-Counterfoil-Flags"] == "till_credential"
    decided = shop.approve(created["requestId"])
    assert (decided["state"], decided["details"]["IntouchAPITask_Output"]["status"]) == ("failed", 401)
