"""The rules about answers that need no socket: reading leniently, waiting, and that nothing is guessed."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from counterfoil.domain.answers import UNREADABLE, find_code, read_body, read_code, read_flag
from counterfoil.domain.attempts import (
    DELAY_SECONDS_MAX,
    REPEATS,
    RETRY_AFTER_SECONDS_MAX,
    TRY_LATER,
    Failure,
    Judgement,
    LookUpBy,
    Reply,
    Verdict,
    judge,
    next_attempt_after,
)
from counterfoil.domain.payload_types import TYPES

SAMPLES = Path(__file__).parents[1] / "contract" / "samples"
REDEEM = "POINTS-REDEMPTION"
DONE = b'{"response":{"responses":{"points":{"item_status":{"success":"true","code":800}}}}}'


def reply(status: int = 200, body: bytes = DONE, **headers: str) -> Reply:
    return Reply(status, tuple((name.replace("_", "-"), value) for name, value in headers.items()), body)


def test_every_type_of_the_contract_has_its_row() -> None:
    assert set(REPEATS) == set(TYPES)
    for repeat in REPEATS.values():
        assert repeat.harmless or repeat.look_up is LookUpBy.NOTHING
        assert repeat.look_up is not LookUpBy.REPEAT or repeat.done_code is not None


@pytest.mark.parametrize("kind", TYPES)
def test_what_did_not_leave_may_be_tried_again_and_what_may_have_left_not(kind: str) -> None:
    for repeated in (False, True):
        told = judge(kind, Failure(sent=False, kind="connect", message="refused"), repeated=repeated)
        assert told.verdict is Verdict.RETRY
        told = judge(kind, Failure(sent=True, kind="cut", message="cut"), repeated=repeated)
        assert told.verdict is Verdict.UNKNOWN


def test_goodwill_is_never_repeated_once_it_was_sent() -> None:
    for status in (429, 503, 521):
        told = judge("GOODWILL-POINTS", reply(status), repeated=False)
        assert (told.verdict, told.needs_person) == (Verdict.UNKNOWN, True)


@pytest.mark.parametrize(
    ("kind", "status", "body", "unauthorized"),
    [
        (REDEEM, 401, b"", True),
        (REDEEM, 403, b"", True),
        (REDEEM, 200, b'{"response":{"status":{"success":"true","code":"401","message":"Unauthorized"}}}', True),
        (REDEEM, 200, b'{"response":{"status":{"success":"true","code":"498","message":"Token expired"}}}', True),
        ("EARN-BADGE", 403, b'{"errors":[{"code":4000,"message":"denied"}]}', True),
        (REDEEM, 404, b"", False),
        ("EARN-BADGE", 400, b'{"errors":[{"code":811,"message":"issue it first"}]}', False),
    ],
)
def test_a_refused_credential_is_told_apart(kind: str, status: int, body: bytes, *, unauthorized: bool) -> None:
    told = judge(kind, reply(status, body), repeated=False)
    assert (told.verdict, told.unauthorized) == (Verdict.FAILED, unauthorized)


def test_a_refusal_proves_nothing_while_an_earlier_attempt_is_open() -> None:
    too_few = reply(body=DONE.replace(b"true", b"false").replace(b"800", b"818"))
    assert judge(REDEEM, too_few, repeated=True).verdict is Verdict.FAILED
    assert judge(REDEEM, too_few, repeated=True, doubtful=True).verdict is Verdict.UNKNOWN
    assert judge("EARN-BADGE", reply(404, b""), repeated=True, doubtful=False).verdict is Verdict.FAILED


KEYS = ["response", "status", "responses", "points", "item_status", "success", "code", "message", "errors", "data"]
BODIES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=6),
    lambda each: st.lists(each, max_size=3) | st.dictionaries(st.sampled_from(KEYS), each, max_size=4),
    max_leaves=12,
).map(lambda content: json.dumps(content).encode())


@given(
    kind=st.sampled_from(sorted(TYPES)),
    status=st.integers(100, 599),
    body=st.binary(max_size=80) | st.just(DONE) | BODIES,
    repeated=st.booleans(),
)
def test_any_answer_gets_a_verdict_and_only_2xx_is_success(
    kind: str, status: int, body: bytes, *, repeated: bool
) -> None:
    told = judge(kind, reply(status, body), repeated=repeated)
    if told.verdict is Verdict.SUCCEEDED:
        assert 200 <= status < 300
    if told.verdict is Verdict.RETRY:
        assert REPEATS[kind].harmless
    if told.verdict is Verdict.ALREADY_DONE:
        assert repeated
    if status >= 500:
        assert told.verdict in (Verdict.UNKNOWN, Verdict.RETRY)
    reply(status, body).shown()


@pytest.mark.parametrize(
    "file", sorted((SAMPLES / "approve-request").glob("response-*.json")), ids=lambda file: file.stem
)
def test_the_contract_s_own_answers_are_judged_as_the_contract_did(file: Path) -> None:
    data = json.loads(file.read_text(encoding="utf-8"), parse_float=Decimal)["data"]
    came = data["details"]["IntouchAPITask_Output"]
    headers = tuple((name, value) for name, values in came["headers"].items() for value in values)
    body = json.dumps(came["body"], default=float).encode()
    answered = Reply(int(came["status"]), headers, body)
    told = judge(data["requestType"].upper(), answered, repeated=False)
    assert told.verdict == {"approved": Verdict.SUCCEEDED, "failed": Verdict.FAILED}[data["state"]]
    assert answered.shown()["headers"] == came["headers"]
    assert list(answered.shown()) == ["status", "headers", "body"]


def test_an_answer_that_is_no_json_is_shown_as_text_that_can_be_stored() -> None:
    assert reply(body=b"<html>\x00\xff").shown()["body"] == "<html>\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}"
    assert reply(body=b'{"a":1.10}').shown()["body"] == {"a": Decimal("1.10")}
    assert reply(body='\ufeff{"a":"é"}'.encode()).shown()["body"] == {"a": "é"}


@pytest.mark.parametrize(
    "body", [b"", b"nul", b'{"a":NaN}', b"[" * 100_000, b'{"a":' + b"9" * 5000 + b"}", b'"\xff"', b'{"a":"\\udc00"}']
)
def test_what_is_no_plain_json_is_unreadable(body: bytes) -> None:
    assert read_body(body) is UNREADABLE


@pytest.mark.parametrize(
    ("value", "code"),
    [(800, 800), ("800", 800), (Decimal("800.0"), 800), ("800.0", 800), (" 800 ", 800), (Decimal("800.5"), None),
     (True, None), (None, None), ("8OO", None), ("", None), ("٨٠٠", None), ([], None), (10**400, None),
     (Decimal("1e400"), None), (Decimal("NaN"), None), ("1_0", None)],
)  # fmt: skip
def test_codes_are_read_as_int_string_or_double(value: object, code: int | None) -> None:
    assert read_code(value) == code


@pytest.mark.parametrize(
    ("value", "flag"),
    [(True, True), ("true", True), ("TRUE", True), (False, False), ("false", False), (1, None), ("yes", None),
     (None, None), ("", None)],
)  # fmt: skip
def test_flags_are_read_as_boolean_or_string(value: object, flag: object) -> None:
    assert read_flag(value) is flag


def test_an_item_in_an_array_of_one_counts() -> None:
    content: dict[str, Any] = json.loads(DONE)
    content["response"]["responses"]["points"] = [content["response"]["responses"]["points"]]
    assert find_code(content, "v1.1").success is True


# ---------------------------------------------------------------- waiting


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"Retry_After": "7"}, 7.0),
        ({"retry_after": "0"}, 0.0),
        ({"Retry_After": "999999999999999"}, RETRY_AFTER_SECONDS_MAX),
        ({"Retry_After": "-1"}, None),
        ({"Retry_After": "soon"}, None),
        ({"Retry_After": "\u0667"}, None),
        ({"Retry_After": "Wed, 04 Oct 2023 11:12:35 GMT", "Date": "Wed, 04 Oct 2023 11:12:25 GMT"}, 10.0),
        ({"Retry_After": "Wed, 04 Oct 2023 11:12:15 GMT", "Date": "Wed, 04 Oct 2023 11:12:25 GMT"}, 0.0),
        ({"Retry_After": "Wed, 04 Oct 2023 11:12:35 GMT"}, None),
    ],
)
def test_retry_after_is_read_and_bounded(headers: dict[str, str], seconds: float | None) -> None:
    assert judge(REDEEM, reply(503, b"", **headers), repeated=False).retry_after_seconds == seconds


LATER = Judgement(Verdict.RETRY, 503, "later")


@given(st.integers(1, 10_000), st.floats(0, 1), st.none() | st.floats(0, RETRY_AFTER_SECONDS_MAX))
def test_waiting_grows_is_bounded_and_honours_what_was_asked_for(
    number: int, jitter: float, asked: float | None
) -> None:
    told = Judgement(Verdict.RETRY, 503, "later", retry_after_seconds=asked)
    seconds = next_attempt_after(number, told, jitter=jitter)
    assert 0.5 <= seconds <= max(DELAY_SECONDS_MAX, asked or 0)
    assert seconds >= (asked or 0)
    assert next_attempt_after(number + 1, LATER, jitter=jitter) >= next_attempt_after(number, LATER, jitter=jitter)


def test_waiting_is_spread() -> None:
    assert [next_attempt_after(3, LATER, jitter=jitter) for jitter in (0.0, 0.5, 1.0)] == [2.0, 3.0, 4.0]
    assert next_attempt_after(3, LATER, jitter=1.0, first_seconds=0.01) == 0.04


def test_the_page_tells_the_same_codes() -> None:
    page = (Path(__file__).parents[2] / "docs" / "outbound.md").read_text(encoding="utf-8")
    [later] = [line for line in page.splitlines() if "| retry, `Retry-After`" in line]
    assert {int(each) for each in re.findall(r"\b\d{3}\b", later)} == TRY_LATER
    for kind, repeat in REPEATS.items():
        [row] = [line for line in page.splitlines() if line.startswith("|") and kind in line]
        assert (str(repeat.done_code) in row) is (repeat.done_code is not None)


def test_a_message_can_be_stored_and_logged() -> None:
    body = json.dumps({"errors": [{"code": 1, "message": "no\x00\n\u202eway" + "x" * 1000}]}).encode()
    message = judge("EARN-BADGE", reply(400, body), repeated=False).message
    assert message.startswith("no   way")
    assert message.isprintable()
    assert len(message) == 500
