"""The points API served directly: redeem for those who may, the balance for every till (dossier §3)."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.contract.shop import REDEEM, Shop, basic, exact, md5


def item_at(answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 200, answer.text
    item: dict[str, Any] = exact(answer.text)["response"]["responses"]["points"]
    return item


def v1_refused(answer: httpx.Response, status: int, code: int, *said: str) -> None:
    assert answer.status_code == status, answer.text
    [(name, body)] = answer.json()["response"].items()
    assert name == "status"
    assert list(body) == ["success", "code", "message"]
    assert (body["success"], body["code"]) == ("false", code)
    assert [text for text in said if text not in body["message"]] == []


@pytest.mark.parametrize("wrap", [lambda item: item, lambda item: [item]], ids=["object", "array"])
@pytest.mark.parametrize("points", ["1.5", 1.5, "1.500"])
def test_redeem(shop: Shop, wrap: Callable[[Any], Any], points: object) -> None:
    member = shop.member()
    answer = shop.redeem(wrap({"points_redeemed": points, "customer": {"mobile": member.mobile}}))
    item = item_at(answer)
    assert (item["points_redeemed"], item["balance"]) == ("1.5", Decimal("998.5"))
    assert item["item_status"] == {"success": "true", "code": 800, "message": "Points Redeemed"}
    assert answer.headers["x-cap-requestid"] == answer.headers["x-cap-request-id"]
    assert shop.points(member) == (Decimal("998.5"), 0)


def test_only_with_the_right(shop: Shop) -> None:
    """CanMovePointsDirectly, which the till of the samples does not have; a person's right is no substitute."""
    member = shop.member()
    item = {"points_redeemed": "1", "customer": {"mobile": member.mobile}}
    v1_refused(shop.redeem(item, shop.basic), 403, 4000, "Not authorized. Access is denied!", "CanMovePointsDirectly")
    assert shop.points(member) == (1000, 0)


def test_the_right_can_be_taken_away(make_shop: Callable[..., Shop]) -> None:
    shop = make_shop()
    item = {"points_redeemed": "1", "customer": {"mobile": shop.member().mobile}}
    assert item_at(shop.redeem(item))["balance"] == 999
    shop.content["credentials"][1]["rights"] = []
    shop.apply()
    v1_refused(shop.redeem(item), 403, 4000)


@pytest.mark.parametrize("authorization", ["", "Basic x", basic("nobody.9", md5("x"))])
def test_wrong_credentials(shop: Shop, authorization: str) -> None:
    answer = shop.http.post(REDEEM, json={}, headers={"Authorization": authorization})
    assert answer.status_code == 401
    assert answer.json()["response"]["status"] == {"success": "true", "code": "401", "message": "Unauthorized"}


@pytest.mark.parametrize(
    ("item", "path"),
    [
        ({"customer": {"mobile": "9"}}, "root.redeem.points_redeemed"),
        ({"points_redeemed": "0", "customer": {"mobile": "9"}}, "root.redeem.points_redeemed"),
        ({"points_redeemed": "1.0001", "customer": {"mobile": "9"}}, "root.redeem.points_redeemed"),
        ({"points_redeemed": -5, "customer": {"mobile": "9"}}, "root.redeem.points_redeemed"),
        ({"points_redeemed": 5}, "root.redeem.customer"),
        ([], "root.redeem"),
        ([{}, {}], "root.redeem"),
        (None, "root.redeem"),
    ],
)
def test_malformed(shop: Shop, item: object, path: str) -> None:
    v1_refused(shop.redeem(item), 400, 2008, path)


def test_no_json(shop: Shop) -> None:
    for raw in (b"", b"{", b"[]", b'{"root": 5}'):
        v1_refused(shop.http.post(REDEEM, content=raw, headers={"Authorization": shop.box}), 400, 2008)
    xml = {"Authorization": shop.box, "Content-Type": "application/xml"}
    v1_refused(shop.http.post(REDEEM, content=b"<root/>", headers=xml), 415, 2905)


def test_too_few_points(shop: Shop) -> None:
    member = shop.member()
    answer = shop.redeem({"points_redeemed": "1000.001", "customer": {"mobile": member.mobile}})
    item = item_at(answer)
    assert item["item_status"] == {
        "success": "false", "code": 818, "message": "Current points are less than points requested for redemption",
    }  # fmt: skip
    assert shop.points(member) == (1000, 0)


def test_a_reference_is_used_once_by_both_ways(shop: Shop) -> None:
    """A request and a direct call share the references."""
    member, reference = shop.member(), uuid4().hex
    created = shop.create(shop.body(member, "10", external_reference_number=reference))
    direct = {"points_redeemed": "1", "customer": {"mobile": member.mobile}, "external_reference_number": reference}
    assert item_at(shop.redeem(direct))["item_status"]["code"] == 800
    assert item_at(shop.redeem(direct))["item_status"]["code"] == 744
    data = shop.approve(created["requestId"])
    assert data["state"] == "failed"
    assert shop.points(member) == (999, 0)


def test_format_and_other_query_parameters_do_no_harm(shop: Shop) -> None:
    member = shop.member()
    answer = shop.http.post(
        f"{REDEEM}/?format=json&skip_validation=true&program_id=973",
        json={"root": {"redeem": {"points_redeemed": "1", "customer": {"mobile": member.mobile}}}},
        headers={"Authorization": shop.box},
    )
    assert item_at(answer)["balance"] == 999


def test_balance(shop: Shop) -> None:
    """By the member's number and by an identifier; main is what can be redeemed now, total adds what is held."""
    member = shop.member()
    shop.create(shop.body(member, "100.5"))
    by_id = shop.http.get(f"/v2/customers/{member.member_id}/points/balance", headers={"Authorization": shop.basic})
    query = {"source": "INSTORE", "identifierName": "mobile", "identifierValue": member.mobile}
    by_mobile = shop.http.get(
        "/v2/customers/lookup/points/balance", params=query, headers={"Authorization": shop.basic}
    )
    assert by_id.content == by_mobile.content
    found = exact(by_id.text)
    assert (found["entityId"], found["mainPoints"], found["totalPoints"]) == (member.member_id, Decimal("899.5"), 1000)


@pytest.mark.parametrize(
    ("path", "status", "code", "said"),
    [
        ("/v2/customers/99/points/balance", 404, 8015, ""),
        ("/v2/customers/x/points/balance", 400, 2008, "id"),
        ("/v2/customers/99999999999999999999/points/balance", 400, 2008, "id"),
        ("/v2/customers/%D9%A1/points/balance", 400, 2008, "id"),
        ("/v2/customers/lookup/points/balance", 400, 2008, "identifierName"),
        ("/v2/customers/lookup/points/balance?identifierName=name&identifierValue=x", 400, 2008, "identifierName"),
        ("/v2/customers/lookup/points/balance?identifierName=mobile", 400, 2008, "identifierValue"),
        ("/v2/customers/lookup/points/balance?identifierName=mobile&identifierValue=9000000001", 404, 8015, ""),
        ("/v2/customers/lookup/points/balance?identifierName=id&identifierValue=x", 400, 2008, "id"),
    ],
)
def test_balance_refused(shop: Shop, path: str, status: int, code: int, said: str) -> None:
    answer = shop.http.get(path, headers={"Authorization": shop.basic})
    assert answer.status_code == status
    body = answer.json()
    assert list(body) == ["warnings", "errors"]
    [error] = body["errors"]
    assert (error["status"], error["code"]) == (False, code)
    assert said in error["message"]


def test_balance_needs_a_till(shop: Shop) -> None:
    answer = shop.http.get("/v2/customers/1000000/points/balance")
    assert answer.status_code == 401
    assert answer.json()["errors"][0]["code"] == 2013


def test_balances_of_others(shop: Shop, make_shop: Callable[..., Shop]) -> None:
    other = make_shop()
    answer = other.http.get(
        f"/v2/customers/{shop.member().member_id}/points/balance", headers={"Authorization": other.basic}
    )
    assert answer.status_code == 404
