"""The contract's own samples, replayed: same keys in the same order, same JSON types, same values.

`CANNOT_MATCH` is the one table of the values that differ, with the reason for each. A path in it still has to
have the type of the sample; `*` stands for any index.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.contract.shop import CHECKER, CREATE, MAKER, MAKER_ID, WORKFLOW, Member, Shop, exact

SAMPLES = Path(__file__).parent / "samples"
FAILED = "approve-request/response-points-redemption-failed.json"
TASK = "data.details.IntouchAPITask-Payload"
OUTPUT = "data.details.IntouchAPITask_Output"
POINTS = "response.responses.points"
MADE_BY_US = "made by the service"
TIME = "a time"
REDACTED = "the documentation changed it in the request or in the answer; the test says what it must be"
MASKED = "D2: payload credentials are shown by the create answer only"
OF_THE_ORIGINAL = "names the original's own machine; ours has our true value"
OTHER_TYPE = "the sample lists another request type: only its envelope is ours to match"

_ENVELOPE = {"data.requestId": MADE_BY_US, "data.startTime": TIME}
_OUTPUT_HEADERS = {
    f"{OUTPUT}.headers.Date.*": TIME,
    f"{OUTPUT}.headers.Content-Length.*": "the length of our body, which has no .0 and other values",
    f"{OUTPUT}.headers.X-Application-Context.*": OF_THE_ORIGINAL,
    f"{OUTPUT}.headers.Host.*": OF_THE_ORIGINAL,
    f"{OUTPUT}.headers.X-CAP-REQUEST-ID.*": MADE_BY_US,
    f"{OUTPUT}.headers.X-Cap-RequestID.*": MADE_BY_US,
    f"{OUTPUT}.headers.X-Frame-Options": "the original's gateway repeats it; ours is there once",
}
CANNOT_MATCH: Mapping[str, Mapping[str, str]] = {
    "create-points-redemption/response.json": _ENVELOPE
    | {f"{TASK}.hostname": REDACTED, f"{TASK}.body.root.redeem.customer.mobile": REDACTED},
    "get-request/response.json": _ENVELOPE
    | {f"{TASK}.headers.Authorization": MASKED, f"{TASK}.body.root.redeem.customer.mobile": REDACTED},
    FAILED: _ENVELOPE
    | {"data.endTime": TIME, f"{TASK}.headers.Authorization": MASKED}
    | _OUTPUT_HEADERS,
    "approve-request/response-customer-status-approved.json": _ENVELOPE
    | {"data.endTime": TIME, "data.requestType": OTHER_TYPE, TASK: OTHER_TYPE}
    | _OUTPUT_HEADERS
    | {
        f"{OUTPUT}.headers.Content-Type.*": OTHER_TYPE,
        f"{OUTPUT}.headers.uri_path.*": OTHER_TYPE,
        f"{OUTPUT}.headers.org_id.*": "another organisation's sample",
        f"{OUTPUT}.headers.till.*": "another organisation's sample",
        f"{OUTPUT}.body": OTHER_TYPE,
    },
    "list-requests/response.json": {
        "data.*.requestId": MADE_BY_US,
        "data.*.startTime": TIME,
        "data.*.endTime": TIME,
        "data.*.requestType": OTHER_TYPE,
        "data.*.details.IntouchAPITask-Payload": OTHER_TYPE,
        "data.*.details.IntouchAPITask_Output.headers": "compared by the two samples of a decision",
        "data.*.details.IntouchAPITask_Output.body": OTHER_TYPE,
    },
    "points-redeem/response.json": {
        f"{POINTS}.mobile": REDACTED,
        f"{POINTS}.redemption_id": MADE_BY_US,
        f"{POINTS}.side_effects.effect.*.id": MADE_BY_US,
        f"{POINTS}.side_effects.effect.*.points_redemption_summary_id": MADE_BY_US,
        f"{POINTS}.side_effects.effect.*.validation_code": "no validation codes are issued yet",
    },
    "points-redeem/response-error-744.json": {},
    "points-redeem/response-error-816.json": {f"{POINTS}.mobile": REDACTED},
    "points-balance/response.json": {},
    "auth-errors/v11-401-invalid-token.json": {},
}  # fmt: skip


def sample(name: str) -> Any:
    return exact((SAMPLES / name).read_text(encoding="utf-8"))


def json_type(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int() | Decimal():
            return "number"  # 200.0 and 200 are one value (dossier §1.7)
        case _:
            return type(value).__name__


def differences(wanted: object, found: object, free: Mapping[str, str], path: str = "") -> Iterator[str]:
    """What of a found value is not as the sample has it."""
    if json_type(wanted) != json_type(found):
        yield f"{path}: {json_type(found)} instead of {json_type(wanted)}"
    elif re.sub(r"(^|\.)\d+(?=\.|$)", r"\1*", path) in free:
        return
    elif isinstance(wanted, dict) and isinstance(found, dict):
        if list(wanted) != list(found):
            yield f"{path}: the keys {list(found)} instead of {list(wanted)}"
        for key in wanted.keys() & found.keys():
            yield from differences(wanted[key], found[key], free, f"{path}.{key}".lstrip("."))
    elif isinstance(wanted, list) and isinstance(found, list):
        if len(wanted) != len(found):
            yield f"{path}: {len(found)} items instead of {len(wanted)}"
        for number, (one, other) in enumerate(zip(wanted, found, strict=False)):
            yield from differences(one, other, free, f"{path}.{number}".lstrip("."))
    elif wanted != found:
        yield f"{path}: {found!r} instead of {wanted!r}"


def assert_matches(name: str, answer: httpx.Response) -> Any:
    """The answer is the sample but for the table; returns it."""
    found = exact(answer.text)
    assert list(differences(sample(name), found, CANNOT_MATCH[name])) == []
    return found


def test_create(original: Shop) -> None:
    request = sample("create-points-redemption/request.json")
    answer = original.submit((SAMPLES / "create-points-redemption/request.json").read_bytes())
    found = assert_matches("create-points-redemption/response.json", answer)
    assert found["data"]["details"]["IntouchAPITask-Payload"] == request["payload"]["IntouchAPITask-Payload"]


def test_get_one(original: Shop) -> None:
    created = original.create(sample("create-points-redemption/request.json"))
    request = sample("get-request/request.json")
    assert request["path"].startswith(f"{WORKFLOW}/requests/")
    found = assert_matches("get-request/response.json", original.get(created["requestId"]))
    assert found["data"]["requestId"] == created["requestId"]
    assert found["data"]["startTime"] == created["startTime"]
    stored = found["data"]["details"]["IntouchAPITask-Payload"]
    assert stored["headers"]["Authorization"] == "Basic <withheld>"
    assert stored["body"] == created["details"]["IntouchAPITask-Payload"]["body"]


def test_approve_a_reference_that_was_used(original: Shop) -> None:
    """The sample that the contract's `failed` is known from: HTTP 200, item 744 (dossier §1.3)."""
    wanted = sample(FAILED)["data"]["details"]
    body = original.body(original.members[0], "5", **_used(wanted, "notes", "transaction_number"))
    reference = wanted["IntouchAPITask-Payload"]["body"]["root"]["redeem"]["external_reference_number"]
    used = original.redeem(body["payload"]["IntouchAPITask-Payload"]["body"]["root"]["redeem"] | {
        "external_reference_number": reference})  # fmt: skip
    assert used.json()["response"]["responses"]["points"]["item_status"]["code"] in (800, 744)
    created = original.create(
        {
            "entityInfo": sample("create-points-redemption/request.json")["entityInfo"],
            "payload": {
                "IntouchAPITask-Payload": wanted["IntouchAPITask-Payload"]
                | {"headers": wanted["IntouchAPITask-Payload"]["headers"] | {"Authorization": original.basic}}
            },
        }
    )
    decision = sample("approve-request/request.json") | {"requestId": created["requestId"]}
    # The samples' request and answer have another message.
    decision["payload"]["AdminTask-Payload"] = wanted["AdminTask-Payload"]
    answer = original.http.put(CREATE, json=decision, headers=original.headers(CHECKER))
    data = assert_matches(FAILED, answer)["data"]
    assert data["requestId"] == created["requestId"]
    output = data["details"]["IntouchAPITask_Output"]
    assert_output_is_true(output, answer)
    again = original.get(created["requestId"])
    assert again.content == answer.content


def _used(details: Mapping[str, Any], *names: str) -> dict[str, Any]:
    item = details["IntouchAPITask-Payload"]["body"]["root"]["redeem"]
    return {name: item[name] for name in names}


def assert_output_is_true(output: Mapping[str, Any], answer: httpx.Response) -> None:
    """The header values that the samples cannot tell are those of this execution."""
    headers = output["headers"]
    assert headers["X-CAP-REQUEST-ID"] == headers["X-Cap-RequestID"] == [answer.headers["X-CAP-REQUEST-ID"]]
    assert re.fullmatch(r"(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", headers["Date"][0])
    text = answer.text[answer.text.index('"IntouchAPITask_Output":') :]
    body = text[text.index('"body":') + len('"body":') :]
    assert headers["Content-Length"] == [str(_object_length(body))]
    assert headers.get("X-Frame-Options", ["SAMEORIGIN"]) == ["SAMEORIGIN"]  # goodwill has none


def _object_length(text: str) -> int:
    _, end = json.JSONDecoder().raw_decode(text)
    return len(text[:end].encode())


def test_approve_and_succeed(original: Shop, make_shop: Callable[..., Shop]) -> None:
    """No sample has an approved redemption: the envelope is that of a status change, the body that of a redeem."""
    shop = make_shop()
    created = shop.create()
    request = sample("approve-request/request.json") | {"requestId": created["requestId"]}
    answer = shop.http.put(CREATE, json=request, headers=shop.headers(CHECKER))
    found = assert_matches("approve-request/response-customer-status-approved.json", answer)
    output = found["data"]["details"]["IntouchAPITask_Output"]
    assert_output_is_true(output, answer)
    assert output["headers"]["uri_path"] == ["/v1.1/points/redeem"]
    assert output["headers"]["org_id"] == [str(shop.org_id)]
    assert output["headers"]["till"] == [shop.till]
    wanted = sample("points-redeem/response.json")
    any_value = {f"{POINTS}.{key}": "another member" for key in ("mobile", "email", "external_id", "user_id")}
    any_value |= {f"{POINTS}.{key}": "other points" for key in wanted["response"]["responses"]["points"]}
    any_value |= {f"{POINTS}.side_effects.effect.*": "compared below"}
    del any_value[f"{POINTS}.item_status"], any_value[f"{POINTS}.side_effects"]
    assert list(differences(wanted, output["body"], any_value)) == []
    [effect], [wanted_effect] = (
        each["response"]["responses"]["points"]["side_effects"]["effect"] for each in (output["body"], wanted)
    )
    assert list(effect) == list(wanted_effect)
    assert [json_type(value) for value in effect.values()] == [json_type(value) for value in wanted_effect.values()]


def test_list(make_shop: Callable[..., Shop]) -> None:
    """One pending and two approved requests of the maker, oldest first, with the sample's own query."""
    shop = make_shop()
    created = [shop.create()["requestId"] for _ in range(3)]
    for request_id in created[1:]:
        shop.approve(request_id)
    request = sample("list-requests/request.json")
    query = request["query"] | {"requestType": "POINTS-REDEMPTION"}
    assert query["userId"] == str(MAKER_ID)
    answer = shop.http.get(request["path"], params=query, headers=shop.headers())
    assert answer.status_code == 200, answer.text
    wanted = sample("list-requests/response.json")
    found = exact(answer.text)
    free = CANNOT_MATCH["list-requests/response.json"]
    assert list(differences(wanted, found, free)) == []
    assert [each["requestId"] for each in found["data"]] == created
    assert {each["requestType"] for each in found["data"]} == {"points-redemption"}


@pytest.fixture(scope="module")
def ledger(make_shop: Callable[..., Shop]) -> Shop:
    """The members of the points API's samples."""
    shop = make_shop()
    members = (
        Member(564670755, "919988776655", 1991, "tomswayer@gmail.com", "123456"),
        Member(382332518, "919887766554", 500, "tomswayer@mail.com", "XYPZ0063"),
        Member(565039505, "9777785302", 8500),
    )
    for member in members:
        entry = {
            "id": member.member_id,
            "mobile": member.mobile,
            "email": member.email,
            "externalId": member.external_id,
        }
        lot = {"reference": f"L-{member.member_id}", "points": member.points, "awardedAt": "2024-01-15"}
        shop.content["members"].append({key: value for key, value in entry.items() if value} | {"lots": [lot]})
    shop.apply()
    return shop


def send(shop: Shop, request: Mapping[str, Any], authorization: str) -> httpx.Response:
    """A request of a sample."""
    headers = {"Authorization": authorization}
    return shop.http.request(
        request["method"], request["path"], params=request.get("query"), json=request.get("body"), headers=headers
    )


def test_redeem(ledger: Shop) -> None:
    answer = send(ledger, sample("points-redeem/request.json"), ledger.box)
    assert answer.status_code == 200
    found = assert_matches("points-redeem/response.json", answer)["response"]["responses"]["points"]
    assert found["mobile"] == "919988776655"
    assert re.fullmatch("[0-9A-Za-z]{6}", found["redemption_id"])
    [effect] = found["side_effects"]["effect"]
    assert effect["points_redemption_summary_id"] == str(effect["id"])
    assert effect["validation_code"] == ""


def test_redeem_with_a_used_reference(ledger: Shop) -> None:
    item = {"points_redeemed": "100", "customer": {"mobile": "919887766554"}, "external_reference_number": "used"}
    assert ledger.redeem([item]).json()["response"]["status"]["success"] == "true"
    answer = ledger.redeem([item])
    assert answer.status_code == 200  # the real capture; the body decides (dossier §5 no. 9)
    assert_matches("points-redeem/response-error-744.json", answer)


def test_redeem_for_an_unknown_member(ledger: Shop) -> None:
    answer = send(ledger, sample("points-redeem/request-legacy.json"), ledger.box)
    assert answer.status_code == 200
    found = assert_matches("points-redeem/response-error-816.json", answer)
    assert found["response"]["responses"]["points"]["mobile"] == "44700900999"


def test_balance(ledger: Shop) -> None:
    answer = send(ledger, sample("points-balance/request.json"), ledger.basic)
    assert answer.status_code == 200
    assert_matches("points-balance/response.json", answer)
    assert '"totalPoints":8500.0,' in answer.text  # with its fraction, as in the sample


def test_wrong_credentials_at_the_points_api(ledger: Shop) -> None:
    answer = ledger.redeem({}, authorization="Basic bm9ib2R5OndJb25n")
    assert answer.status_code == 401
    wanted = sample("auth-errors/v11-401-invalid-token.json")
    # The sample is that of the customers API; each API has a null of its own name there.
    wanted["response"]["responses"] = wanted["response"].pop("customers")
    assert list(differences(wanted, exact(answer.text), {})) == []


def test_a_caller_without_the_right_at_the_points_api(ledger: Shop) -> None:
    """Code and words of the v2 sample, in the v1.1 form."""
    answer = ledger.redeem({"points_redeemed": 1, "customer": {"mobile": "919887766554"}}, authorization=ledger.basic)
    assert answer.status_code == 403
    [wanted] = sample("auth-errors/v2-403-access-group.json")["errors"]
    status = answer.json()["response"]["status"]
    assert list(status) == ["success", "code", "message"]
    assert status["success"] == "false"
    assert status["code"] == wanted["code"]
    assert status["message"].startswith(wanted["message"])


@pytest.mark.parametrize("path", [CREATE, f"{WORKFLOW}/requests"])
def test_the_maker_of_the_samples(original: Shop, path: str) -> None:
    """The envelope's user is the maker, whoever calls."""
    created = original.create(sample("create-points-redemption/request.json"), by=MAKER)
    rejected = original.decide(created["requestId"], "rejected").json()["data"]
    for data in (created, rejected, original.get(created["requestId"]).json()["data"]):
        assert (data["userId"], data["userName"]) == (MAKER_ID, MAKER)
