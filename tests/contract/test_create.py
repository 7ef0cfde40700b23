"""What the create call accepts, keeps and answers (dossier §2.1, §2.2, §5; design.md §0, §5)."""

import json
import re
from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest

from tests.contract.shop import (
    CONCEPT,
    CREATE,
    HOST,
    ITEM,
    MAKER,
    OTHER_CONCEPT,
    OTHER_STORE,
    OTHER_TILL,
    OTHER_ZONE,
    STORE,
    TASK,
    TILL,
    ZONE,
    Shop,
    assert_refused,
    data_of,
    encoded,
    exact,
    item_of,
    set_at,
)

UNKNOWN = "99999999"


def sent(body: dict[str, Any]) -> dict[str, Any]:
    call: dict[str, Any] = body["payload"]["IntouchAPITask-Payload"]
    return call


def echo(data: dict[str, Any]) -> dict[str, Any]:
    call: dict[str, Any] = data["details"]["IntouchAPITask-Payload"]
    return call


@pytest.mark.parametrize("prefix", ["", "/v2"])
@pytest.mark.parametrize("slash", ["", "/"])
@pytest.mark.parametrize("spelling", ["POINTS-REDEMPTION", "points-redemption", "Points-Redemption"])
def test_paths(shop: Shop, prefix: str, slash: str, spelling: str) -> None:
    """Both prefixes, a trailing slash, and the type in any case, on every call of the workflow."""
    base = f"{prefix}/api_gateway/v2/request-workflow"
    data = data_of(shop.submit(path=f"{base}/{spelling}{slash}"))
    assert data["requestType"] == "points-redemption"
    read = shop.http.get(f"{base}/requests/{data['requestId']}{slash}", headers=shop.headers())
    assert data_of(read)["requestId"] == data["requestId"]
    listed = shop.http.get(
        f"{base}/requests{slash}", params={"requestType": spelling, "limit": 1}, headers=shop.headers()
    )
    assert listed.json()["data"][0]["requestId"] == data["requestId"]
    assert data_of(shop.decide(data["requestId"], path=f"{base}/{spelling}{slash}"))["state"] == "approved"


def test_the_answer(shop: Shop) -> None:
    """Pending, by the maker, made now in the organisation's zone, with an id that sorts by time."""
    before = datetime.now(ZoneInfo("Asia/Kolkata")).replace(tzinfo=None, microsecond=0)
    answer = shop.submit()
    data = data_of(answer)
    assert list(data) == [
        "requestId", "userId", "userName", "requestType", "state", "startTime", "endTime", "details",
    ]  # fmt: skip
    assert list(data["details"]) == ["IntouchAPITask-Payload", "ValidateMakerAccess_Output", "ValidatePayload_Output"]
    assert (data["state"], data["endTime"]) == ("AdminTask", None)
    assert (data["userId"], data["userName"]) == (232134, MAKER)
    request_id = UUID(data["requestId"])
    assert str(request_id) == data["requestId"]
    assert request_id.version == 7
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", data["startTime"])
    assert before <= datetime.fromisoformat(data["startTime"]) <= before + timedelta(seconds=30)
    assert answer.headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    "hostname",
    [
        HOST,
        HOST.strip("<>"),
        HOST.strip("<>") + "/",
        HOST.strip("<>").upper(),
        HOST.strip("<>") + ":443",
        HOST[1:-1].split("//")[1],
    ],
)
def test_hostname_is_echoed_as_it_was_sent(shop: Shop, hostname: str) -> None:
    """Angle brackets, case, a trailing slash and the default port are taken off for execution only."""
    body = set_at(shop.body(), f"{TASK}.hostname", hostname)
    data = shop.create(body)
    assert echo(data)["hostname"] == hostname
    assert shop.approve(data["requestId"])["state"] == "approved"


@pytest.mark.parametrize(
    ("points", "shown"),
    [
        ("100", "100"), (100, "100"), ("1", "1"), ("0.001", "0.001"), ("1.5", "1.5"), ("12.345", "12.345"),
        ("007", "7"), ("1.500", "1.5"), ("1000", "1000"),
    ],
)  # fmt: skip
def test_points_as_text_or_number(shop: Shop, points: object, shown: str) -> None:
    """All forms are accepted and echoed unchanged; the answer's points are a text (dossier §5 no. 7, 8)."""
    data = shop.create(shop.body(points=points))
    assert echo(data)["body"]["root"]["redeem"]["points_redeemed"] == points
    done = shop.approve(data["requestId"])
    assert done["state"] == "approved"
    assert item_of(done)["points_redeemed"] == shown


@pytest.mark.parametrize(
    ("number", "thousandths"), [("1.10", 1100), ("1e2", 100_000), ("100.000", 100_000), ("1.0", 1000), ("5E-3", 5)]
)
def test_points_keep_their_exact_number(shop: Shop, number: str, thousandths: int) -> None:
    raw = encoded(shop.body(points=77777)).replace(b"77777", number.encode())
    answer = shop.submit(raw)
    found = echo(data_of(answer))["body"]["root"]["redeem"]["points_redeemed"]
    assert Decimal(found) == Decimal(number)
    assert str(found) == str(Decimal(number))
    [row] = shop.serve.rows(
        "SELECT points FROM request WHERE request_id = $1::uuid", answer.json()["data"]["requestId"]
    )
    assert row["points"] == thousandths


def test_redeem_as_an_array(shop: Shop) -> None:
    """An array of one is the same redemption, and stays an array in the echo."""
    body = shop.body()
    item = sent(body)["body"]["root"]["redeem"]
    body = set_at(body, ITEM, [item])
    data = shop.create(body)
    assert echo(data) == sent(body)
    done = shop.approve(data["requestId"])
    assert done["state"] == "approved"
    assert isinstance(item_of(done), dict)


def test_what_the_contract_does_not_know_is_kept(shop: Shop) -> None:
    """Unknown fields at every level, in their order, with their exact numbers and texts."""
    body = shop.body()
    call = sent(body)
    call["zLast"] = {"b": 1, "a": [None, True, {"é": "\u202e☃\U0001f600 \t"}]}
    call["aFirst"] = ""
    call["body"]["extra"] = "1"
    call["body"]["root"]["other"] = {"2": 1, "10": 2, "1": 3}
    call["body"]["root"]["redeem"] |= {
        "till_id": "", "validation_code": "NS3U05", "group_redemption": "false",
        "custom_fields": {"field": [{"name": "b", "value": 77771}, {"value": 77772, "name": 77773, "x": 77774}]},
    }  # fmt: skip
    call["headers"]["X-Other"] = "value"
    raw = encoded(body)
    for number, text in ((77771, "1.10"), (77772, "1e2"), (77773, "-0.000"), (77774, str(10**30 + 1))):
        raw = raw.replace(str(number).encode(), text.encode())
    data = shop.create(raw)
    wanted = exact(raw.decode())["payload"]["IntouchAPITask-Payload"]
    assert _listed(echo(data)) == _listed(wanted)
    fields = echo(data)["body"]["root"]["redeem"]["custom_fields"]["field"]
    assert [str(fields[0]["value"]), str(fields[1]["value"]), fields[1]["x"]] == ["1.10", "1E+2", 10**30 + 1]
    # The same form again from the store, but for the secrets.
    wanted["headers"] |= {"Authorization": "Basic <withheld>", "X-Other": "<withheld>"}
    for again in (data_of(shop.get(data["requestId"])), shop.approve(data["requestId"])):
        assert _listed(echo(again)) == _listed(wanted)


def _listed(value: object) -> object:
    """A JSON value whose comparison knows the order of keys and the digits of numbers."""
    match value:
        case dict():
            return [(key, _listed(each)) for key, each in value.items()]
        case list():
            return [_listed(each) for each in value]
        case Decimal():
            return str(value)
        case _:
            return value


@pytest.mark.parametrize("field", ["queryParams", "pathParams"])
def test_optional_parts_are_echoed_only_if_sent(shop: Shop, field: str) -> None:
    """Of the call: queryParams are optional despite the star (dossier §5 no. 12)."""
    body = set_at(shop.body(), f"{TASK}.{field}", ...)
    assert echo(shop.create(body)) == sent(body)


@pytest.mark.parametrize(
    "item",
    [
        {"points_redeemed": "1"},
        {"points_redeemed": "1", "redemption_time": None, "transaction_number": None, "notes": None},
        {"points_redeemed": "1", "redemption_time": "", "transaction_number": "", "notes": ""},
        {"points_redeemed": "1", "redemption_time": "2020-04-15 23:01:46"},
        {"points_redeemed": "1", "transaction_number": 882291, "notes": 5},
    ],
)
def test_optional_fields_of_the_redemption(shop: Shop, item: dict[str, Any]) -> None:
    """A redemption time far in the past too (dossier §3.9 no. 4)."""
    body = set_at(shop.body(), ITEM, {"customer": {"mobile": shop.member().mobile}} | item)
    data = shop.create(body)
    assert echo(data) == sent(body)
    assert shop.approve(data["requestId"])["state"] == "approved"


def test_every_identifier_of_a_member(make_shop: Callable[..., Shop]) -> None:
    shop = make_shop()
    member = shop.members[0]
    shop.content["members"][0] |= {"email": "a@b.example", "externalId": "X-1", "cardNumber": "4000 1"}
    shop.apply()
    for customer in (
        {"mobile": member.mobile}, {"mobile": f"91{member.mobile}"}, {"mobile": f"+91 {member.mobile}"},
        {"email": "A@b.example "}, {"external_id": "X-1"}, {"mobile": "", "email": None, "external_id": "X-1"},
        {"mobile": int(member.mobile)}, {"card_number": "4000 1"},
    ):  # fmt: skip
        body = set_at(shop.body(member, "1"), f"{ITEM}.customer", customer)
        answer = shop.submit(body)
        data = data_of(answer)
        assert echo(data)["body"]["root"]["redeem"]["customer"] == customer
        assert "x-counterfoil-flags" not in answer.headers, customer
        assert item_of(shop.approve(data["requestId"]))["user_id"] == str(member.member_id)


FULL = {"tillId": TILL, "storeId": STORE, "zoneId": ZONE, "conceptId": CONCEPT}


@pytest.mark.parametrize(
    ("entity_info", "flags"),
    [
        ({name: str(value) for name, value in FULL.items()}, None),
        (FULL, None),
        ({"tillId": str(TILL)}, None),
        ({"storeId": str(STORE)}, None),
        ({"zoneId": str(ZONE)}, None),
        ({"tillId": str(TILL), "storeId": None, "zoneId": "", "conceptId": ""}, None),
        ({"tillId": "", "storeId": STORE, "zoneId": None}, None),
        ({"tillId": None, "storeId": str(STORE)}, None),
        ({"tillId": str(TILL), "somethingElse": {"a": 1}}, None),
        # What disagrees with our own units is told to the checker, not refused.
        ({"tillId": str(TILL), "storeId": str(OTHER_STORE)}, "unit_mismatch:storeId"),
        ({"tillId": str(TILL), "zoneId": str(OTHER_ZONE), "conceptId": str(OTHER_CONCEPT)},
         "unit_mismatch:zoneId, unit_mismatch:conceptId"),
        ({"tillId": str(TILL), "storeId": UNKNOWN, "zoneId": UNKNOWN, "conceptId": UNKNOWN},
         "unit_mismatch:storeId, unit_mismatch:zoneId, unit_mismatch:conceptId"),
        ({"tillId": UNKNOWN, "storeId": str(STORE)}, "unit_mismatch:tillId"),
    ],
)  # fmt: skip
def test_entity_info(shop: Shop, entity_info: dict[str, object], flags: str | None) -> None:
    """It is resolved to our own units from the till, else the store … (dossier §5 no. 13); it is never echoed."""
    answer = shop.submit(shop.body() | {"entityInfo": entity_info})
    data = data_of(answer)
    assert "entityInfo" not in answer.text
    assert answer.headers.get("x-counterfoil-flags") == flags
    assert shop.get(data["requestId"]).headers.get("x-counterfoil-flags") == flags


@pytest.mark.parametrize(
    ("entity_info", "path"),
    [
        (..., "entityInfo"),
        (None, "entityInfo"),
        ([], "entityInfo"),
        ("50682289", "entityInfo"),
        ({}, "entityInfo"),
        ({"tillId": "", "storeId": None}, "entityInfo"),
        ({"tillId": UNKNOWN}, "entityInfo.tillId"),
        ({"tillId": UNKNOWN, "storeId": UNKNOWN, "zoneId": str(ZONE)}, "entityInfo.tillId"),
        ({"storeId": UNKNOWN, "zoneId": str(ZONE)}, "entityInfo.storeId"),
        ({"zoneId": UNKNOWN}, "entityInfo"),
        ({"tillId": str(STORE)}, "entityInfo.tillId"),
        ({"tillId": "5068228a"}, "entityInfo.tillId"),
        ({"tillId": "-1"}, "entityInfo.tillId"),
        ({"tillId": " 50682289"}, "entityInfo.tillId"),
        ({"tillId": "5_0"}, "entityInfo.tillId"),
        ({"tillId": "\u0665\u0660"}, "entityInfo.tillId"),
        ({"tillId": "9" * 20}, "entityInfo.tillId"),
        ({"tillId": 2**63}, "entityInfo.tillId"),
        ({"tillId": -5}, "entityInfo.tillId"),
        ({"tillId": True}, "entityInfo.tillId"),
        ({"tillId": 1.5}, "entityInfo.tillId"),
        ({"tillId": [TILL]}, "entityInfo.tillId"),
        ({"tillId": str(TILL), "conceptId": {}}, "entityInfo.conceptId"),
    ],
)
def test_entity_info_refused(shop: Shop, entity_info: object, path: str) -> None:
    assert_refused(shop.submit(set_at(shop.body(), "entityInfo", entity_info)), 400, 2008, path)


def test_a_maker_outside_his_units(shop: Shop) -> None:
    """Access goes by the resolved unit, never by the ids that were sent along with it."""
    inside_by_name_only = {"tillId": str(OTHER_TILL), "storeId": str(STORE), "zoneId": str(ZONE)}
    assert_refused(shop.submit(shop.body() | {"entityInfo": inside_by_name_only}), 403, 2001, str(OTHER_TILL))


@pytest.mark.parametrize(
    ("path", "value", "code", "said"),
    [
        ("payload", ..., 2008, "payload"),
        ("payload", None, 2008, "payload"),
        ("payload", [], 2008, "payload"),
        (TASK, ..., 2008, TASK),
        (TASK, "x", 2008, TASK),
        (f"{TASK}.hostname", ..., 2008, f"{TASK}.hostname"),
        (f"{TASK}.hostname", "", 2008, f"{TASK}.hostname"),
        (f"{TASK}.hostname", 5, 2008, f"{TASK}.hostname"),
        (f"{TASK}.hostname", "https://169.254.169.254", 2008, "169.254.169.254"),
        (f"{TASK}.hostname", "https://localhost:8640", 2008, "localhost"),
        (f"{TASK}.hostname", "https://evil.example/crm-nightly-new.cc.capillarytech.com", 2008, f"{TASK}.hostname"),
        (f"{TASK}.hostname", "https://user@crm-nightly-new.cc.capillarytech.com", 2008, f"{TASK}.hostname"),
        (f"{TASK}.hostname", "https://crm-nightly-new.cc.capillarytech.com.evil.example", 2008, "org apply"),
        (f"{TASK}.hostname", "http://crm-nightly-new.cc.capillarytech.com", 2008, "org apply"),
        (f"{TASK}.hostname", "https://crm-nightly-new.cc.capillarytech.com:8443", 2008, "8443"),
        (f"{TASK}.hostname", "file:///etc/passwd", 2008, f"{TASK}.hostname"),
        (f"{TASK}.path", ..., 2008, f"{TASK}.path"),
        (f"{TASK}.path", "/v1.1/points/isredeemable", 2008, f"{TASK}.path"),
        (f"{TASK}.path", "/v1.1/points/redeem?x=1", 2008, f"{TASK}.path"),
        (f"{TASK}.path", None, 2008, f"{TASK}.path"),
        (f"{TASK}.method", ..., 2008, f"{TASK}.method"),
        (f"{TASK}.method", "PUT", 2008, f"{TASK}.method"),
        (f"{TASK}.method", "", 2008, f"{TASK}.method"),
        (f"{TASK}.pathParams", "x", 2008, f"{TASK}.pathParams"),
        (f"{TASK}.queryParams", ["x"], 2008, f"{TASK}.queryParams"),
        (f"{TASK}.queryParams.nested", {"a": 1}, 2008, f"{TASK}.queryParams.nested"),
        (f"{TASK}.body", ..., 2008, f"{TASK}.body"),
        (f"{TASK}.body", [], 2008, f"{TASK}.body"),
        (f"{TASK}.body.root", ..., 2008, f"{TASK}.body.root"),
        (ITEM, ..., 2008, ITEM),
        (ITEM, None, 2008, ITEM),
        (ITEM, [], 2008, ITEM),
        (ITEM, ["x"], 2008, f"{ITEM}[0]"),
        (ITEM, [{}, {}], 2008, ITEM),
        (f"{ITEM}.points_redeemed", ..., 2008, f"{ITEM}.points_redeemed"),
        (f"{ITEM}.customer", ..., 2008, f"{ITEM}.customer"),
        (f"{ITEM}.customer", {}, 2008, f"{ITEM}.customer"),
        (f"{ITEM}.customer", {"mobile": "  "}, 2008, f"{ITEM}.customer"),
        (f"{ITEM}.customer", {"name": "Tom"}, 2008, f"{ITEM}.customer"),
        (f"{ITEM}.customer", "9988776655", 2008, f"{ITEM}.customer"),
        (f"{ITEM}.customer.email", ["a@b.example"], 2008, f"{ITEM}.customer.email"),  # beside a good mobile
        (f"{ITEM}.customer.card_number", True, 2008, f"{ITEM}.customer.card_number"),
        (f"{ITEM}.customer.external_id", "x" * 201, 2008, f"{ITEM}.customer.external_id"),
        (f"{ITEM}.customer.mobile", ["9988776655"], 2008, f"{ITEM}.customer.mobile"),
        (f"{ITEM}.customer.mobile", True, 2008, f"{ITEM}.customer.mobile"),
        (f"{ITEM}.customer.mobile", "9" * 201, 2008, f"{ITEM}.customer.mobile"),
        (f"{ITEM}.redemption_time", {}, 2008, f"{ITEM}.redemption_time"),
        (f"{ITEM}.transaction_number", [], 2008, f"{ITEM}.transaction_number"),
        (f"{ITEM}.notes", "n" * 1001, 2008, f"{ITEM}.notes"),
        (f"{ITEM}.external_reference_number", "r" * 256, 2008, f"{ITEM}.external_reference_number"),
        (f"{ITEM}.external_reference_number", False, 2008, f"{ITEM}.external_reference_number"),
        (f"{TASK}.headers", ..., 2008, f"{TASK}.headers"),
        (f"{TASK}.headers", [], 2008, f"{TASK}.headers"),
        (f"{TASK}.headers.Authorization", 5, 2023, f"{TASK}.headers.Authorization"),
        (f"{TASK}.headers.X-Other", None, 2023, f"{TASK}.headers.X-Other"),
        (f"{TASK}.headers.X-Other", "a\r\nInjected: 1", 2023, f"{TASK}.headers.X-Other"),
        (f"{TASK}.headers.a b", "c", 2023, f"{TASK}.headers"),
        (f"{TASK}.headers.authorization", "Basic eDp5", 2023, f"{TASK}.headers"),
        (f"{TASK}.headers.", "c", 2023, f"{TASK}.headers"),
        (f"{TASK}.headers.Authorization", "Basic <withheld>", 2023, f"{TASK}.headers.Authorization"),
    ],
)  # fmt: skip
def test_payload_refused(shop: Shop, path: str, value: object, code: int, said: str) -> None:
    """Each with its code and the field's path."""
    assert_refused(shop.submit(set_at(shop.body(), path, value)), 400, code, said)


@pytest.mark.parametrize(
    "points",
    [
        '"0"', "0", "0.000", '"-1"', "-100", "1.0001", '"1.0001"', "1e-4", "NaN",
        '"NaN"', '"Infinity"', '"1e2"', '"1_000"',
        '"+1"', '" 1"', '"1,5"', '"0x10"', '"\\u0661"', '""', '"."', '".5"', '"5."', "null", "true", "[]", "{}",
        "1e400", "-1e400", "1e30", "1" + 30 * "0", '"1' + 30 * "0" + '"', str(10**12), "9" * 5000,
    ],
)  # fmt: skip
def test_points_refused(shop: Shop, points: str) -> None:
    """NaN, 0, negative, four decimals, what only Python takes for a number, what no ledger could hold."""
    raw = encoded(shop.body(points=77777)).replace(b"77777", points.encode())
    answer = shop.submit(raw)
    path = () if points in ("NaN", "1e400", "-1e400", "9" * 5000) else (f"{ITEM}.points_redeemed",)
    assert_refused(answer, 400, 2008, *path)


def test_the_method_in_any_case(shop: Shop) -> None:
    body = set_at(shop.body(), f"{TASK}.method", "post")
    assert echo(shop.create(body))["method"] == "post"


def test_a_type_that_does_not_exist(shop: Shop) -> None:
    assert_refused(shop.submit(path=CREATE.replace("POINTS", "MILES")), 400, 2009, "POINTS-REDEMPTION")


def test_keys_of_the_envelope_that_nobody_knows(shop: Shop) -> None:
    """Beside entityInfo and payload, and beside the call: ignored, and no part of the answer."""
    body = shop.body() | {"comment": "x", "requestId": 5}
    body["payload"]["Other-Payload"] = {"a": 1}
    data = shop.create(body)
    assert list(data["details"]) == ["IntouchAPITask-Payload", "ValidateMakerAccess_Output", "ValidatePayload_Output"]
    assert echo(data) == sent(body)


def test_the_echo_is_compact(shop: Shop) -> None:
    """The stored form is the content re-encoded: blanks between tokens are not content."""
    body = shop.body()
    answer = shop.submit(json.dumps(body, indent=8).encode())
    assert json.dumps(sent(body), separators=(",", ":")) in answer.text
