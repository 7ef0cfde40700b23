"""Every request type at an external host: ours to record and to control, the host's to judge."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.contract import calls
from tests.contract.shop import Member, Shop, data_of, exact
from tests.contract.test_samples import MADE_BY_US, MASKED, OUTPUT, SAMPLES, TIME, differences, sample
from tests.contract.test_samples import TASK as SHOWN
from tests.contract.test_type_samples import APPROVED, APPROVED_BY_NOBODY
from tests.executor.conftest import external
from tests.executor.hosts import IntouchHost, Recorded

# A good answer to each type, as the contract's samples have it.
ANSWERS: dict[str, tuple[int, object]] = {
    "GOODWILL-POINTS": (201, {"createdId": 7, "warnings": []}),
    "EARN-BADGE": (200, {"data": {"earnedBadgeId": "b"}, "errors": [], "warnings": []}),
    "ISSUE-BADGE": (200, {"data": {"issuedBadges": []}, "errors": [], "warnings": []}),
    "CUSTOMER-STATUS-CHANGE": (200, {"createdId": 7, "warnings": []}),
    "RETRO-TRANSACTION": (201, {"createdId": 7, "warnings": [], "errors": []}),
}
REFUSAL = {"data": None, "errors": [{"status": False, "code": 8015, "message": "Customer not found"}], "warnings": []}


def submitted(shop: Shop, kind: str, **changes: Any) -> Any:
    return shop.submit(calls.body(shop, kind, Member(1, "911111111111"), **changes), path=calls.url(kind))


@pytest.mark.parametrize("kind", ANSWERS)
def test_what_the_ledger_would_judge_is_not_judged(
    make_shop: Callable[..., Shop], recorded: Recorded, kind: str
) -> None:
    """An unknown member, an unknown programme, no expiry of goodwill, more than the cap, a type that it cannot do."""
    shop = make_shop(baseUrl=recorded.url)
    shop.change(programme={"goodwillPointsMax": 1}, organisation={"profile": "strict"})
    changes = {"programId": 999, "points": 5000} if kind == "GOODWILL-POINTS" else {}
    answer = submitted(shop, kind, **changes)
    assert answer.headers.get("x-counterfoil-flags") is None
    created = data_of(answer)
    recorded.tell(*ANSWERS[kind])
    data = data_of(shop.decide(created["requestId"], path=calls.url(kind)))
    assert data["state"] == "approved"
    output = data["details"]["IntouchAPITask_Output"]
    assert (output["status"], output["body"]) == ANSWERS[kind]
    [sent] = recorded.received
    assert (sent.method, sent.target.partition("?")[0]) == (
        created["details"]["IntouchAPITask-Payload"]["method"], calls.PATHS[kind],
    )  # fmt: skip
    for table in ("goodwill", "member_status", "hold", "journal", "redemption"):
        assert shop.serve.rows(f"SELECT 1 FROM {table} WHERE org_id = $1", shop.org_id) == []  # noqa: S608


@pytest.mark.parametrize("kind", ANSWERS)
def test_what_the_host_refuses_has_failed(make_shop: Callable[..., Shop], recorded: Recorded, kind: str) -> None:
    shop = make_shop(baseUrl=recorded.url)
    created = data_of(submitted(shop, kind))
    recorded.tell(400, REFUSAL)
    data = data_of(shop.decide(created["requestId"], path=calls.url(kind)))
    assert data["state"] == "failed"
    assert data["details"]["IntouchAPITask_Output"]["body"] == REFUSAL


def test_a_frozen_member_is_one_by_number_too(make_shop: Callable[..., Shop], recorded: Recorded) -> None:
    """Only the host knows the member: the number of the payload is the member's."""
    shop = make_shop(baseUrl=recorded.url)
    shop.change(grants=[*shop.content["grants"], {"person": "E-1002", "right": "CanFreeze"}])
    created = data_of(submitted(shop, "EARN-BADGE"))
    body = {"scope": "member", "target": "1", "reason": "r"}
    assert shop.http.post("/counterfoil/v1/freezes", json=body, headers=shop.headers("checker@tipent.com")).is_success
    assert submitted(shop, "EARN-BADGE").status_code == 423
    assert shop.decide(created["requestId"], path=calls.url("EARN-BADGE")).status_code == 423


def test_a_voice_over_our_own_api_executes_as_well(make_shop: Callable[..., Shop], host: IntouchHost) -> None:
    shop = make_shop()
    created = shop.create()
    answer = shop.http.post(
        f"/counterfoil/v1/requests/{created['requestId']}/decisions",
        json={"verdict": "approve"}, headers=shop.headers("checker@tipent.com"),
    )  # fmt: skip
    assert answer.status_code == 200, answer.text
    assert answer.json()["data"]["state"] == "succeeded"
    assert answer.json()["data"]["result"] == {"code": 800, "redemptionId": None}
    assert len(host.redeemed) == 1


def test_what_failed_outside_is_given_back_to_the_caps(make_shop: Callable[..., Shop], host: IntouchHost) -> None:
    shop = make_shop()
    shop.content["policy"] = {
        "rules": [{"name": "all", "require": [{"count": 1}]}],
        "caps": [{"name": "daily", "per": "maker", "points": 150}],
    }
    shop.apply()
    host.plan("400")
    failed = shop.create(shop.body(points="100"))
    assert shop.submit(shop.body(points="100")).status_code != 200
    assert shop.approve(failed["requestId"])["state"] == "failed"
    good = shop.create(shop.body(points="100"))
    assert shop.approve(good["requestId"])["state"] == "approved"
    assert shop.submit(shop.body(points="100")).status_code != 200


_FREE = {
    "data.requestId": MADE_BY_US, "data.startTime": TIME, "data.endTime": TIME, "data.userId": "the maker's number",
    f"{SHOWN}.headers.Authorization": MASKED,
    f"{OUTPUT}.headers.Content-Length.*": "the length of the body as the test writes it",
}  # fmt: skip


@pytest.mark.parametrize("name", APPROVED)
def test_the_samples_of_a_decision(make_shop: Callable[..., Shop], recorded: Recorded, name: str) -> None:
    """The host answers what the sample's did: the decision answers the sample."""
    shop = make_shop()
    internal = {"id": "internal", "url": "http://internal-intouch-api.default:1900"}
    shop.change(hosts=[external(recorded), external(recorded, **internal)])
    wanted = sample(name)
    details, kind = wanted["data"]["details"], APPROVED[name]
    payload = {"IntouchAPITask-Payload": details["IntouchAPITask-Payload"]}
    entity_info = exact((SAMPLES / "create-points-redemption/request.json").read_text())["entityInfo"]
    output = details["IntouchAPITask_Output"]
    recorded.tell(int(output["status"]), output["body"], output["headers"])
    created = data_of(shop.submit({"entityInfo": entity_info, "payload": payload}, path=calls.url(kind)))
    decision = sample("approve-request/request.json") | {"requestId": created["requestId"]}
    if name == APPROVED_BY_NOBODY:
        details.clear()
        details |= payload | {"AdminTask-Payload": decision["payload"]["AdminTask-Payload"]}
        details |= {"ValidateMakerAccess_Output": True, "AdminTask_Output": "approved", "ValidatePayload_Output": True}
        details |= {"IntouchAPITask_Output": output, "ValidateCheckerAccess_Output": True}
    decision["payload"]["AdminTask-Payload"] = details["AdminTask-Payload"]
    answer = shop.http.put(calls.url(kind), json=decision, headers=shop.headers("checker@tipent.com"))
    assert answer.status_code == 200, answer.text
    found = exact(answer.text)
    shown = found["data"]["details"]["IntouchAPITask_Output"]
    shown["headers"] = {name: shown["headers"][name] for name in output["headers"]} | shown["headers"]  # in any order
    assert list(differences(wanted, found, _FREE)) == []
