"""The five request types beside redemptions, over HTTP (dossier §2.3-2.8, §5; design.md §0, §1)."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from counterfoil.domain.seals import make_event
from tests.contract import calls
from tests.contract.calls import OTHERS
from tests.contract.shop import (
    CHECKER,
    SECOND,
    TASK,
    ZONE,
    Member,
    Shop,
    assert_refused,
    code_of,
    data_of,
    encoded,
    exact,
    set_at,
)

BODY = f"{TASK}.body"


@pytest.fixture(scope="module")
def giver(make_shop: Callable[..., Shop]) -> Shop:
    """An organisation that may give goodwill, with members of its own."""
    return make_shop(400, programme={"goodwillExpiryDays": 30, "goodwillPointsMax": 5000})


def make(shop: Shop, kind: str, body: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    return data_of(shop.submit(body or calls.body(shop, kind, **changes), path=calls.url(kind)))


def approve(shop: Shop, kind: str, request_id: str) -> dict[str, Any]:
    return data_of(shop.decide(request_id, path=calls.url(kind)))


def output(data: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = data["details"]["IntouchAPITask_Output"]
    return found


def failed_with(data: dict[str, Any], status: int, code: int) -> None:
    """The call was executed and refused: state, status, header and body say so."""
    found = output(data)
    assert data["state"] == "failed"
    assert found["status"] == status
    assert list(found["body"]) == ["warnings", "errors"]
    [error] = found["body"]["errors"]
    assert (error["status"], error["code"]) == (False, code)
    assert error["message"]
    headers = found["headers"]
    assert (headers["status_code"], headers["success"], headers["fail"]) == ([str(code)], ["0"], ["1"])


def status_of(shop: Shop, member: Member) -> dict[str, Any]:
    answer = shop.http.get(f"/counterfoil/v1/members/{member.member_id}/status", headers=shop.headers())
    return data_of_own(answer)


def data_of_own(answer: Any) -> dict[str, Any]:
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    assert list(body) == ["data", "errors", "warnings"]
    found: dict[str, Any] = body["data"]
    return found


# ------------------------------------------------------------ goodwill


def test_goodwill_from_request_to_points(giver: Shop) -> None:
    """Given in the deciding transaction: lot, journal, posting, balance, audit event."""
    member = giver.member()
    before = giver.points(member)
    created = make(giver, "GOODWILL-POINTS", member=member, points=20.5)
    assert (created["requestType"], created["state"]) == ("goodwill-points", "AdminTask")
    assert giver.points(member) == before
    done = approve(giver, "GOODWILL-POINTS", created["requestId"])
    assert done["state"] == "approved"
    assert output(done)["status"] == 201
    assert list(output(done)["body"]) == ["createdId", "warnings"]
    assert 0 < output(done)["body"]["createdId"] < 2**53
    assert float(giver.points(member)[0]) == float(before[0]) + 20.5
    [lot] = giver.serve.rows("SELECT * FROM lot WHERE lot_id = $1::uuid", created["requestId"])
    assert (lot["member_id"], lot["points"], lot["remaining"]) == (member.member_id, 20_500, 20_500)
    assert lot["expires_at"] - lot["awarded_at"] == timedelta(days=30)
    postings = giver.serve.rows(
        "SELECT j.kind, p.source, p.destination, p.points FROM journal j JOIN posting p USING (org_id, journal_id) "
        "WHERE j.request_id = $1::uuid", created["requestId"],
    )  # fmt: skip
    assert [tuple(row) for row in postings] == [("award", "issued", "available", 20_500)]
    events = giver.http.get(f"/counterfoil/v1/requests/{created['requestId']}/events", headers=giver.headers()).json()
    assert [each["kind"] for each in events["data"]] == ["submitted", "succeeded"]
    assert events["data"][1]["facts"]["created"] == output(done)["body"]["createdId"]


def test_goodwill_can_be_spent(giver: Shop) -> None:
    member = giver.member()
    approve(giver, "GOODWILL-POINTS", make(giver, "GOODWILL-POINTS", member=member, points=20)["requestId"])
    data = giver.create(giver.body(member, "1020"))
    assert giver.approve(data["requestId"])["state"] == "approved"
    assert giver.points(member) == (0, 0)


def test_goodwill_rejected_gives_nothing(giver: Shop) -> None:
    member = giver.member()
    created = make(giver, "GOODWILL-POINTS", member=member)
    done = data_of(giver.decide(created["requestId"], "rejected", path=calls.url("GOODWILL-POINTS")))
    assert done["state"] == "rejected"
    assert "IntouchAPITask_Output" not in done["details"]
    assert giver.points(member) == (1000, 0)


@pytest.mark.parametrize("points", [20, "20", 0.001, "4999.999", 5000])
def test_goodwill_points(giver: Shop, points: object) -> None:
    created = make(giver, "GOODWILL-POINTS", points=points)
    assert created["details"]["IntouchAPITask-Payload"]["body"]["points"] == exact(encoded(points).decode())


@pytest.mark.parametrize("points", [0, -1, "x", "", None, ..., True, 0.0001, [], {"a": 1}, 1e15, 5000.001, "5001"])
def test_goodwill_points_refused(giver: Shop, points: object) -> None:
    """Malformed, or above the cap of the organisation: 2015 at create (dossier §5 no. 33)."""
    body = set_at(calls.body(giver, "GOODWILL-POINTS"), f"{BODY}.points", points)
    answer = giver.submit(body, path=calls.url("GOODWILL-POINTS"))
    assert_refused(answer, 400, 2015, f"{BODY}.points")


def test_a_cap_lowered_later_stops_the_approval(make_shop: Callable[..., Shop]) -> None:
    """Checked when it is asked for and again when it is approved; until then it stays pending."""
    shop = make_shop(programme={"goodwillExpiryDays": 30})
    created = make(shop, "GOODWILL-POINTS", points=10**11)
    shop.change(programme={"goodwillPointsMax": 100})
    answer = shop.decide(created["requestId"], path=calls.url("GOODWILL-POINTS"))
    assert_refused(answer, 400, 2015, "at most 100 points", "goodwillPointsMax")
    assert shop.state(created["requestId"]) == "AdminTask"
    shop.change(programme={"goodwillPointsMax": 10**11})
    assert approve(shop, "GOODWILL-POINTS", created["requestId"])["state"] == "approved"


@pytest.mark.parametrize("entity", [0, -1, "x", "", None, ..., True, 1.5, [], 2**63, "9" * 20])
def test_the_earning_entity_refused(giver: Shop, entity: object) -> None:
    body = set_at(calls.body(giver, "GOODWILL-POINTS"), f"{BODY}.earningEntityId", entity)
    answer = giver.submit(body, path=calls.url("GOODWILL-POINTS"))
    assert_refused(answer, 400, 2014, f"{BODY}.earningEntityId")


def test_the_earning_entity_as_text(giver: Shop) -> None:
    member = giver.member()
    created = make(giver, "GOODWILL-POINTS", member=member, earningEntityId=str(member.member_id))
    assert approve(giver, "GOODWILL-POINTS", created["requestId"])["state"] == "approved"


def test_goodwill_without_an_expiry_stays_pending(make_shop: Callable[..., Shop]) -> None:
    """3002: told when it is made, refused when it is approved, possible as soon as somebody has set it."""
    shop = make_shop()
    answer = shop.submit(calls.body(shop, "GOODWILL-POINTS"), path=calls.url("GOODWILL-POINTS"))
    request_id = data_of(answer)["requestId"]
    assert answer.headers["X-Counterfoil-Flags"] == "goodwill_expiry"
    refused = shop.decide(request_id, path=calls.url("GOODWILL-POINTS"))
    assert_refused(refused, 400, 3002, "programme.goodwillExpiryDays")
    assert shop.state(request_id) == "AdminTask"
    assert list(data_of(shop.get(request_id))["details"]) == [
        "IntouchAPITask-Payload", "ValidateMakerAccess_Output", "ValidatePayload_Output",
    ]  # fmt: skip
    shop.change(programme={"goodwillExpiryDays": 1})
    assert approve(shop, "GOODWILL-POINTS", request_id)["state"] == "approved"
    rejected = make(shop, "GOODWILL-POINTS")["requestId"]
    shop.content["programme"].pop("goodwillExpiryDays")
    shop.apply()
    assert data_of(shop.decide(rejected, "rejected", path=calls.url("GOODWILL-POINTS")))["state"] == "rejected"


def test_a_goodwill_reference_gives_once(giver: Shop) -> None:
    member = giver.member()
    first, second = (
        giver.submit(
            calls.body(giver, "GOODWILL-POINTS", member=member, referenceId="the same"),
            path=calls.url("GOODWILL-POINTS"),
        )
        for _ in range(2)
    )
    assert "X-Counterfoil-Flags" not in first.headers
    assert second.headers["X-Counterfoil-Flags"] == "duplicate"
    assert approve(giver, "GOODWILL-POINTS", data_of(second)["requestId"])["state"] == "approved"
    failed_with(approve(giver, "GOODWILL-POINTS", data_of(first)["requestId"]), 400, 744)
    assert giver.points(member) == (1020, 0)


def test_a_reference_is_one_of_its_type(giver: Shop) -> None:
    """Goodwill and redemption count their references apart."""
    member = giver.member()
    redemption = giver.submit(giver.body(member, "1", external_reference_number="shared"))
    goodwill = giver.submit(
        calls.body(giver, "GOODWILL-POINTS", member=member, referenceId="shared"), path=calls.url("GOODWILL-POINTS")
    )
    assert "X-Counterfoil-Flags" not in {**redemption.headers, **goodwill.headers}
    assert giver.approve(data_of(redemption)["requestId"])["state"] == "approved"
    assert approve(giver, "GOODWILL-POINTS", data_of(goodwill)["requestId"])["state"] == "approved"


def test_goodwill_of_another_programme(giver: Shop) -> None:
    answer = giver.submit(calls.body(giver, "GOODWILL-POINTS", programId=77), path=calls.url("GOODWILL-POINTS"))
    assert answer.headers["X-Counterfoil-Flags"] == "programme_unknown"
    failed_with(approve(giver, "GOODWILL-POINTS", data_of(answer)["requestId"]), 400, 1101)


def test_an_unknown_member(make_shop: Callable[..., Shop]) -> None:
    """Told when it is made; refused at the approval, unless somebody has enrolled them meanwhile."""
    shop = make_shop(programme={"goodwillExpiryDays": 30})
    stranger = Member(7_654_321, "9876500001")
    waiting = []
    for kind in ("GOODWILL-POINTS", "CUSTOMER-STATUS-CHANGE"):
        flagged = [shop.submit(calls.body(shop, kind, member=stranger), path=calls.url(kind)) for _ in range(2)]
        assert {each.headers["X-Counterfoil-Flags"] for each in flagged} == {"member_unknown"}
        failed_with(approve(shop, kind, data_of(flagged[0])["requestId"]), 400, 8015)
        waiting.append((kind, data_of(flagged[1])["requestId"]))
    shop.content["members"].append({"id": stranger.member_id, "mobile": stranger.mobile})
    shop.apply()
    assert [approve(shop, kind, request_id)["state"] for kind, request_id in waiting] == ["approved"] * 2


@pytest.mark.parametrize("kind", ["GOODWILL-POINTS", "CUSTOMER-STATUS-CHANGE"])
def test_wrong_payload_credentials(giver: Shop, kind: str) -> None:
    body = set_at(calls.body(giver, kind), f"{TASK}.headers.Authorization", "Basic bm9ib2R5Ong=")
    answer = giver.submit(body, path=calls.url(kind))
    assert answer.headers["X-Counterfoil-Flags"] == "till_credential"
    failed_with(approve(giver, kind, data_of(answer)["requestId"]), 401, 401)


# ------------------------------------------------------------ status labels


def test_a_status_change_can_be_read(giver: Shop) -> None:
    member = giver.member()
    assert status_of(giver, member) == {
        "memberId": str(member.member_id), "label": None, "requestId": None, "changedAt": None,
    }  # fmt: skip
    for label in ("Suspended", "Active"):
        created = make(giver, "CUSTOMER-STATUS-CHANGE", member=member, label=label)
        assert status_of(giver, member)["label"] != label
        done = approve(giver, "CUSTOMER-STATUS-CHANGE", created["requestId"])
        assert (done["state"], output(done)["status"], output(done)["body"]) == ("approved", 200, {"warnings": []})
        found = status_of(giver, member)
        assert (found["label"], found["requestId"]) == (label, created["requestId"])
    rejected = make(giver, "CUSTOMER-STATUS-CHANGE", member=member, label="Gone")
    giver.decide(rejected["requestId"], "rejected", path=calls.url("CUSTOMER-STATUS-CHANGE"))
    assert status_of(giver, member)["label"] == "Active"
    assert giver.points(member) == (1000, 0)


def test_the_status_of_an_unknown_member(giver: Shop) -> None:
    for number in ("1", "x", "9" * 30):
        answer = giver.http.get(f"/counterfoil/v1/members/{number}/status", headers=giver.headers())
        assert (answer.status_code, answer.json()["errors"][0]["code"]) == (404, 8015)


def test_every_identifier_of_a_status_change(make_shop: Callable[..., Shop]) -> None:
    shop = make_shop()
    member = shop.members[0]
    shop.content["members"][0] |= {"email": "a@b.example", "externalId": "X-1", "cardNumber": "4000 1"}
    shop.apply()
    query = f"{TASK}.queryParams"
    for name, value in (
        ("mobile", member.mobile), ("mobile", f"+91 {member.mobile}"), ("email", "A@b.example "),
        ("externalId", "X-1"), ("EXTERNALID", "X-1"), ("cardnumber", "4000 1"),
    ):  # fmt: skip
        body = set_at(calls.body(shop, "CUSTOMER-STATUS-CHANGE", member=member), f"{query}.identifierName", name)
        answer = shop.submit(set_at(body, f"{query}.identifierValue", value), path=calls.url("CUSTOMER-STATUS-CHANGE"))
        assert "X-Counterfoil-Flags" not in answer.headers, (name, value)
        assert approve(shop, "CUSTOMER-STATUS-CHANGE", data_of(answer)["requestId"])["state"] == "approved"
    for name in ("wechat", "fbid", "martjackId", "cardExternalId"):  # known to the contract, not to this ledger
        body = set_at(calls.body(shop, "CUSTOMER-STATUS-CHANGE", member=member), f"{query}.identifierName", name)
        answer = shop.submit(body, path=calls.url("CUSTOMER-STATUS-CHANGE"))
        assert answer.headers["X-Counterfoil-Flags"] == "member_unknown"


@pytest.mark.parametrize("method", ["POST", "PUT", "post", "Put"])
def test_a_status_change_shows_put(giver: Shop, method: str) -> None:
    """Both methods are taken (dossier §5 no. 10)."""
    body = set_at(calls.body(giver, "CUSTOMER-STATUS-CHANGE"), f"{TASK}.method", method)
    created = make(giver, "CUSTOMER-STATUS-CHANGE", body)
    assert created["details"]["IntouchAPITask-Payload"]["method"] == "PUT"
    stored = data_of(giver.get(created["requestId"]))["details"]["IntouchAPITask-Payload"]
    assert stored["method"] == "PUT"


# ------------------------------------------------------------ badges and retro


@pytest.mark.parametrize("kind", ["EARN-BADGE", "ISSUE-BADGE", "RETRO-TRANSACTION"])
def test_what_the_ledger_cannot_do_is_told(giver: Shop, kind: str) -> None:
    """Accepted and flagged; an approval fails with a code of our own; a rejection is possible."""
    answers = [giver.submit(calls.body(giver, kind), path=calls.url(kind)) for _ in range(2)]
    assert {each.headers["X-Counterfoil-Flags"] for each in answers} == {"not_served"}
    failed_with(approve(giver, kind, data_of(answers[0])["requestId"]), 404, 2906)
    rejected = giver.decide(data_of(answers[1])["requestId"], "rejected", path=calls.url(kind))
    assert data_of(rejected)["state"] == "rejected"


def test_strict_refuses_what_the_ledger_cannot_do(make_shop: Callable[..., Shop]) -> None:
    shop = make_shop(organisation={"profile": "strict"})
    for kind in ("EARN-BADGE", "ISSUE-BADGE", "RETRO-TRANSACTION"):
        answer = shop.submit(calls.body(shop, kind), path=calls.url(kind))
        assert_refused(answer, 400, 2008, f"{TASK}.hostname", "external")


@pytest.mark.parametrize("kind", ["EARN-BADGE", "ISSUE-BADGE"])
def test_the_request_id_of_a_badge(giver: Shop, kind: str) -> None:
    """A number is taken and shown as text (dossier §5 no. 36); a second one is flagged."""
    body = calls.body(giver, kind, requestId=123456)
    first, second = (giver.submit(body, path=calls.url(kind)) for _ in range(2))
    assert data_of(first)["details"]["IntouchAPITask-Payload"]["body"]["requestId"] == "123456"
    assert second.headers["X-Counterfoil-Flags"] == "duplicate, not_served"


def test_customers_of_a_badge(giver: Shop) -> None:
    for sent, shown in ((5, [5]), ("5", ["5"]), ([5], [5]), ([5, "6", 7], [5, "6", 7])):
        created = make(giver, "ISSUE-BADGE", customers=sent)
        assert created["details"]["IntouchAPITask-Payload"]["body"]["customers"] == shown


# ------------------------------------------------------------ every type


@pytest.mark.parametrize("kind", OTHERS)
def test_the_call_of_another_type_is_refused(giver: Shop, kind: str) -> None:
    for other, path in calls.PATHS.items():
        if other != kind:
            answer = giver.submit(set_at(calls.body(giver, kind), f"{TASK}.path", path), path=calls.url(kind))
            assert_refused(answer, 400, 2008, f"{TASK}.path must be {calls.PATHS[kind]} for {kind}")
    for method in ("GET", "DELETE", "PATCH", ""):
        answer = giver.submit(set_at(calls.body(giver, kind), f"{TASK}.method", method), path=calls.url(kind))
        assert_refused(answer, 400, 2008, f"{TASK}.method")


NOT_NEEDED_TEXTS = {
    "CUSTOMER-STATUS-CHANGE": {"reason", "accountId", "use_async"},
    "RETRO-TRANSACTION": {"notes"},
}
NOT_NEEDED_OBJECTS = {"RETRO-TRANSACTION": {"extendedFields", "customFields"}}


@pytest.mark.parametrize("kind", OTHERS)
def test_every_field_of_every_type(giver: Shop, kind: str) -> None:
    """What is mandatory is refused when it is missing, null, empty or of a wrong type, with its path."""
    good = calls.body(giver, kind)
    call = good["payload"]["IntouchAPITask-Payload"]
    places = {BODY: call["body"], f"{TASK}.queryParams": call.get("queryParams", {})}
    places[f"{BODY}.triggeredBy"] = call["body"].get("triggeredBy", {})
    for path in (f"{where}.{name}" for where, fields in places.items() for name in fields):
        name = path.rpartition(".")[2]
        fine: tuple[object, ...] = ()
        wrong: tuple[object, ...] = (..., None, "", [], True)
        if name in NOT_NEEDED_TEXTS.get(kind, ()):
            fine, wrong = (..., None, ""), ([], {"a": 1}, True)
        elif name in NOT_NEEDED_OBJECTS.get(kind, ()):
            fine, wrong = (..., None, {}), ([], "x", True)
        for value in fine:
            data_of(giver.submit(set_at(good, path, value), path=calls.url(kind)))
        for value in wrong:
            answer = giver.submit(set_at(good, path, value), path=calls.url(kind))
            assert_refused(answer, 400, {"earningEntityId": 2014, "points": 2015}.get(name, 2008), path)


@pytest.mark.parametrize("kind", OTHERS)
def test_values_that_are_fixed(giver: Shop, kind: str) -> None:
    fixed = {
        "GOODWILL-POINTS": ("baseType", "earningEntityType"), "RETRO-TRANSACTION": ("oldType", "newType"),
    }.get(kind, ())  # fmt: skip
    for name in fixed:
        answer = giver.submit(set_at(calls.body(giver, kind), f"{BODY}.{name}", "OTHER"), path=calls.url(kind))
        assert_refused(answer, 400, 2008, f"{BODY}.{name} must be")


@pytest.mark.parametrize("kind", OTHERS)
@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e400"])
def test_numbers_that_are_none(giver: Shop, kind: str, number: str) -> None:
    raw = encoded(calls.body(giver, kind, extra=77777)).replace(b"77777", number.encode())
    assert_refused(giver.submit(raw, path=calls.url(kind)), 400, 2008)


@pytest.mark.parametrize("kind", OTHERS)
def test_what_the_contract_does_not_know_is_kept(giver: Shop, kind: str) -> None:
    """Unknown fields at every level, the order of queryParams, exact numbers."""
    body = calls.body(giver, kind, zLast={"b": 1, "a": [None]}, aFirst=77777)
    call = body["payload"]["IntouchAPITask-Payload"]
    call["queryParams"] = {"z": "1", **call.get("queryParams", {}), "a": "2"}
    raw = encoded(body).replace(b"77777", b"1.10")
    created = data_of(giver.submit(raw, path=calls.url(kind)))
    echo = created["details"]["IntouchAPITask-Payload"]
    assert echo == exact(raw.decode())["payload"]["IntouchAPITask-Payload"]
    assert list(echo) == list(call)
    assert list(echo["queryParams"]) == list(call["queryParams"])
    assert list(echo["body"]) == list(call["body"])
    assert str(echo["body"]["aFirst"]) == "1.10"


@pytest.mark.parametrize("kind", calls.PATHS)
def test_path_params_fill_placeholders(giver: Shop, kind: str) -> None:
    """The filled path is the type's; the echo is as it was sent; what nothing fills is 2022."""
    first, last = calls.PATHS[kind].strip("/").split("/")[0], calls.PATHS[kind].strip("/").split("/")[-1]
    templated = calls.PATHS[kind].replace(first, "{version}", 1)
    good = set_at(calls.body(giver, kind), f"{TASK}.path", templated)
    good = set_at(good, f"{TASK}.pathParams", {"version": first, "unused": 5})
    created = make(giver, kind, good)
    echo = created["details"]["IntouchAPITask-Payload"]
    assert (echo["path"], echo["pathParams"]) == (templated, {"version": first, "unused": 5})
    decided = approve(giver, kind, created["requestId"])
    assert decided["state"] == ("approved" if kind in ("POINTS-REDEMPTION", "GOODWILL-POINTS", "CUSTOMER-STATUS-CHANGE")
                                else "failed")  # fmt: skip
    for params in ({}, {"version": ""}, {"version": None}, {"other": first}):
        answer = giver.submit(set_at(good, f"{TASK}.pathParams", params), path=calls.url(kind))
        assert_refused(answer, 400, 2022, f"{TASK}.path", f"{TASK}.pathParams.version")
    for params in ({"version": "v9"}, {"version": f"{first}/"}, {"version": f"../{first}"}, {"version": last + "?"}):
        answer = giver.submit(set_at(good, f"{TASK}.pathParams", params), path=calls.url(kind))
        assert_refused(answer, 400, 2008, f"{TASK}.path must be")


@pytest.mark.parametrize("kind", calls.PATHS)
def test_a_decision_names_the_type(giver: Shop, kind: str) -> None:
    created = make(giver, kind)
    for other in calls.PATHS:
        if other != kind:
            answer = giver.decide(created["requestId"], path=calls.url(other))
            assert_refused(answer, 400, 2007, f"of type {kind}")
    assert data_of(giver.decide(created["requestId"], "rejected", path=calls.url(kind)))["state"] == "rejected"


def test_the_list_by_type(make_shop: Callable[..., Shop]) -> None:
    """By each of the six, in any case and as webhooks spell it; administrative changes are never in it."""
    shop = make_shop()
    made = {kind: make(shop, kind)["requestId"] for kind in calls.PATHS}
    for kind, request_id in made.items():
        for spelling in (kind, kind.lower(), kind.replace("-", "_"), kind.title().replace("-", "_")):
            found = shop.page(requestType=spelling).json()
            assert [each["requestId"] for each in found["data"]] == [request_id], spelling
            assert found["pagination"]["totalElements"] == 1
    admin_id = "01890000-0000-7000-8000-000000000001"
    shop.serve.rows(
        "INSERT INTO request SELECT (jsonb_populate_record(r, jsonb_build_object("
        "'request_id', $1::text, 'request_type', 'ADMIN-CHANGE', 'unit_id', null, "
        "'host_id', null, 'host_revision', null))).* FROM request r WHERE r.request_id = $2::uuid",
        admin_id, made["RETRO-TRANSACTION"],
    )  # fmt: skip
    made_at = shop.serve.rows("SELECT started_at FROM request WHERE request_id = $1::uuid", admin_id)[0][0]
    event = make_event(UUID(admin_id), UUID(admin_id), "submitted", made_at, bytes(16), {}, {})
    shop.serve.rows(
        "INSERT INTO event VALUES ($1, $2, $3, $4, $5, $6, $7, $8)", shop.org_id, event.subject_id, event.event_id,
        event.kind, event.at, event.facts, event.personal, event.leaf_hash,
    )  # fmt: skip
    everything = shop.page(limit=100).json()
    assert sorted(each["requestId"] for each in everything["data"]) == sorted(made.values())
    assert everything["pagination"]["totalElements"] == len(made)
    assert shop.page(states="AdminTask", limit=100).json()["pagination"]["totalElements"] == len(made)
    assert_refused(shop.page(requestType="ADMIN-CHANGE"), 400, 2009)
    assert_refused(shop.get(admin_id), 404, 2007)
    assert_refused(shop.decide(admin_id, path=calls.url("RETRO-TRANSACTION")), 400, 2007)
    assert_refused(shop.decide(admin_id, path=calls.url("ADMIN-CHANGE")), 400, 2009)


def test_a_limit_of_points_and_the_types(make_shop: Callable[..., Shop]) -> None:
    """A grant with pointsMax says nothing about what has no points, so it does not cover it."""
    shop = make_shop(programme={"goodwillExpiryDays": 30})
    limited = [
        {**each, "pointsMax": 5000} if each["right"] == "CanCheckRequest" and each["person"] != "E-1003" else each
        for each in shop.content["grants"]
    ]
    shop.change(grants=limited)
    for kind in OTHERS:
        answer = shop.decide(make(shop, kind)["requestId"], by=CHECKER, path=calls.url(kind))
        if kind == "GOODWILL-POINTS":
            assert data_of(answer)["state"] == "approved"
        else:
            assert_refused(answer, 403, 2001)
        data_of(shop.decide(make(shop, kind)["requestId"], "rejected", by=SECOND, path=calls.url(kind)))
    unlimited = {"person": "E-1002", "right": "CanCheckRequest", "unit": ZONE}
    shop.change(grants=[*limited, *({**unlimited, "type": kind} for kind in OTHERS)])
    for kind in OTHERS:
        data_of(shop.decide(make(shop, kind)["requestId"], by=CHECKER, path=calls.url(kind)))


@pytest.mark.parametrize("kind", OTHERS)
def test_an_idempotency_key(giver: Shop, kind: str) -> None:
    body = calls.body(giver, kind)
    first, again = (giver.submit(body, path=calls.url(kind), idempotency_key=f"key of {kind}") for _ in range(2))
    assert again.headers["Idempotent-Replayed"] == "true"
    assert first.json() == again.json()
    other = calls.body(giver, kind)
    assert_refused(giver.submit(other, path=calls.url(kind), idempotency_key=f"key of {kind}"), 409, 2901, TASK)


def test_the_same_key_for_another_type(giver: Shop) -> None:
    redemption = giver.create(giver.body(), idempotency_key="one key")
    answer = giver.submit(
        calls.body(giver, "GOODWILL-POINTS"), path=calls.url("GOODWILL-POINTS"), idempotency_key="one key"
    )
    assert_refused(answer, 409, 2901)
    assert code_of(giver.approve(redemption["requestId"])) == 800
