"""What the payloads of the six types say, for any JSON that somebody may send."""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from counterfoil.domain.payload_types import (
    LABEL_MAX,
    ON_THE_LEDGER,
    REFERENCE_MAX,
    STATUS_IDENTIFIERS,
    TYPES,
    WITH_POINTS,
    Asked,
    Badge,
    Goodwill,
    RetroTransaction,
    StatusChange,
    known_type,
    read_payload,
    read_stored,
    request_type,
)
from counterfoil.domain.payloads import TASK, Redemption
from counterfoil.domain.refusals import BadUri, InvalidPayload, Refusal, TypeNotSupported

SAMPLES = Path(__file__).parents[1] / "contract" / "samples"
BODY = f"{TASK}.body"
NAMES = {
    "POINTS-REDEMPTION": "create-points-redemption",
    "GOODWILL-POINTS": "create-goodwill-points",
    "EARN-BADGE": "create-earn-badge",
    "ISSUE-BADGE": "create-issue-badge",
    "CUSTOMER-STATUS-CHANGE": "create-customer-status-change",
    "RETRO-TRANSACTION": "create-retro-transaction",
}
ASKED: dict[str, Asked] = {
    "POINTS-REDEMPTION": Redemption(
        100_000, "mobile", "9988776655", "ACR-583523332039150121", "numbr892723330323421971280", "Redemption by SMS"
    ),
    "GOODWILL-POINTS": Goodwill(20_000, "id", "382332518", "ref_id_1299314173", "reason", 2739),
    "EARN-BADGE": Badge("id", "382477526", "0f932928-9878-441c-a78e-c1d32235534q", "658c50761c4c2b12732c3ec6"),
    "ISSUE-BADGE": Badge("id", "113460811", "e7requestd62c5ec5d115a2859228cefd9ee8cgh", "658de01c823d1b70aabcfaae"),
    "CUSTOMER-STATUS-CHANGE": StatusChange("mobile", "919780375690", "Suspended", "testing"),
    "RETRO-TRANSACTION": RetroTransaction("id", "382553857", "7648261"),
}
EVERY_TYPE = pytest.mark.parametrize("kind", NAMES)


def sample(kind: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((SAMPLES / NAMES[kind] / "request.json").read_text(encoding="utf-8"))
    return found


def changed(kind: str, change: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    """The contract's request with its call changed."""
    envelope = deepcopy(sample(kind))
    change(envelope["payload"]["IntouchAPITask-Payload"])
    return envelope


def body_with(kind: str, **fields: Any) -> dict[str, Any]:
    return changed(kind, lambda call: call["body"].update(fields))


def test_the_table_is_whole() -> None:
    assert list(TYPES) == list(NAMES)
    assert set(TYPES) > ON_THE_LEDGER | WITH_POINTS
    assert {type(each) for each in ASKED.values()} == set(get_args(Asked))


@EVERY_TYPE
def test_the_request_of_the_contract_is_read(kind: str) -> None:
    asked, content = read_payload(kind, sample(kind))
    assert asked == ASKED[kind]
    assert (asked.points is not None) == (kind in WITH_POINTS)
    assert read_stored(kind, json.dumps(content).encode()) == asked


@EVERY_TYPE
def test_names(kind: str) -> None:
    for spelling in (kind, kind.lower(), kind.title()):
        assert request_type(spelling) == known_type(spelling) == known_type(spelling.replace("-", "_")) == kind
    with pytest.raises(TypeNotSupported):
        request_type(kind.replace("-", "_"))
    for name in ("ADMIN-CHANGE", "", "POINTS", "goodwill"):
        for read in (request_type, known_type):
            with pytest.raises(TypeNotSupported, match="use one of POINTS-REDEMPTION"):
                read(name)


# ------------------------------------------------------------ any JSON

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.decimals(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=20), inner, max_size=4),
    max_leaves=10,
)


def told(kind: str, envelope: dict[str, Any]) -> Asked | Refusal:
    """A result, or a refusal that says what to do: never anything else."""
    try:
        asked, content = read_payload(kind, envelope)
    except Refusal as refused:
        found = refused
    else:
        assert read_stored(kind, json.dumps(content, default=str).encode()) is not None
        return asked
    assert found.path is not None
    assert found.message
    return found


@given(kind=st.sampled_from(list(TYPES)), envelope=st.dictionaries(st.text(max_size=20), JSON, max_size=4))
def test_any_envelope_is_read_or_refused(kind: str, envelope: dict[str, Any]) -> None:
    assert isinstance(told(kind, envelope), Refusal)


@given(kind=st.sampled_from(list(TYPES)), body=JSON)
def test_any_body_is_read_or_refused(kind: str, body: object) -> None:
    told(kind, changed(kind, lambda call: call.update(body=body)))


@given(data=st.data(), kind=st.sampled_from(list(TYPES)), value=JSON)
def test_any_value_in_any_field_is_read_or_refused(data: st.DataObject, kind: str, value: object) -> None:
    envelope = sample(kind)
    place: Any = envelope["payload"]["IntouchAPITask-Payload"]
    while True:
        name = data.draw(st.sampled_from(sorted(place)))
        if not isinstance(place[name], dict) or not place[name] or data.draw(st.booleans()):
            break
        place = place[name]
    place[name] = value
    told(kind, envelope)


# ------------------------------------------------------------ what is put in one form


def test_what_is_kept_is_in_one_form() -> None:
    def kept(kind: str, **fields: Any) -> Any:
        return read_payload(kind, body_with(kind, **fields))[1]["body"]

    assert kept("ISSUE-BADGE", customers=7)["customers"] == [7]
    assert kept("ISSUE-BADGE", customers="7")["customers"] == ["7"]
    assert kept("ISSUE-BADGE", requestId=5)["requestId"] == kept("EARN-BADGE", requestId=5)["requestId"] == "5"
    for method in ("POST", "put"):
        envelope = sample("CUSTOMER-STATUS-CHANGE")
        envelope["payload"]["IntouchAPITask-Payload"]["method"] = method
        assert read_payload("CUSTOMER-STATUS-CHANGE", envelope)[1]["method"] == "PUT"


@EVERY_TYPE
def test_reading_changes_nothing_that_was_sent(kind: str) -> None:
    envelope = body_with(kind, requestId=5, customers=7) if "BADGE" in kind else sample(kind)
    before = deepcopy(envelope)
    read_payload(kind, envelope)
    assert envelope == before


def test_several_customers_are_no_one_member() -> None:
    asked, _ = read_payload("ISSUE-BADGE", body_with("ISSUE-BADGE", customers=[1, "2"]))
    assert (asked.identifier_kind, asked.identifier_value) == ("", "")
    twice, _ = read_payload("ISSUE-BADGE", body_with("ISSUE-BADGE", customers=[1, "1"]))
    assert (twice.identifier_kind, twice.identifier_value) == ("id", "1")
    with pytest.raises(InvalidPayload, match=r"customers\[1\]"):
        read_payload("ISSUE-BADGE", body_with("ISSUE-BADGE", customers=[1, "x"]))


@pytest.mark.parametrize(
    ("kind", "field", "longest", "code"),
    [
        ("GOODWILL-POINTS", "referenceId", REFERENCE_MAX, 2008),
        ("EARN-BADGE", "requestId", REFERENCE_MAX, 2008),
        ("CUSTOMER-STATUS-CHANGE", "label", LABEL_MAX, 2008),
        ("CUSTOMER-STATUS-CHANGE", "reason", 1000, 2008),
        ("GOODWILL-POINTS", "earningEntityId", 19, 2014),
        ("RETRO-TRANSACTION", "transactionId", 19, 2008),
    ],
)
def test_lengths(kind: str, field: str, longest: int, code: int) -> None:
    read_payload(kind, body_with(kind, **{field: "1" * longest}))
    with pytest.raises(Refusal) as refused:
        read_payload(kind, body_with(kind, **{field: "1" * (longest + 1)}))
    assert (refused.value.code, refused.value.path) == (code, f"{BODY}.{field}")


@pytest.mark.parametrize("digits", ["٣", "1_000", " 1", "1.0", "-1", "+1", "0", "0x1", "1e3"])
def test_ids_are_plain_digits(digits: str) -> None:
    for kind, field in (("GOODWILL-POINTS", "programId"), ("RETRO-TRANSACTION", "customerId")):
        with pytest.raises(InvalidPayload, match=field):
            read_payload(kind, body_with(kind, **{field: digits}))


def test_every_identifier_of_the_status_call() -> None:
    for name, wanted in STATUS_IDENTIFIERS.items():
        envelope = sample("CUSTOMER-STATUS-CHANGE")
        envelope["payload"]["IntouchAPITask-Payload"]["queryParams"]["identifierName"] = name
        asked, _ = read_payload("CUSTOMER-STATUS-CHANGE", envelope)
        assert asked.identifier_kind == wanted


# ------------------------------------------------------------ placeholders


@EVERY_TYPE
@given(params=st.dictionaries(st.sampled_from(["a", "b", "{a}"]), JSON, max_size=3), path=st.text(max_size=20))
def test_any_path_is_the_types_or_refused(kind: str, params: dict[str, Any], path: str) -> None:
    call = {"path": path + "{a}", "pathParams": params}
    result = told(kind, changed(kind, lambda found: found.update(call)))
    assert isinstance(result, Refusal) or path + str(params.get("a")) == TYPES[kind].path


@EVERY_TYPE
def test_placeholders(kind: str) -> None:
    path = TYPES[kind].path
    head, tail = path[: path.index("/", 1)], path[path.index("/", 1) :]
    call = {"path": f"/{{first}}{tail}", "pathParams": {"first": head[1:]}}
    assert read_payload(kind, changed(kind, lambda found: found.update(call)))[0] == ASKED[kind]
    for name in ("x/../../internal/goodwill/?", "a b", "#", "", "a" * 101):  # a name can lead nowhere either
        tricky = {"path": f"/{{{name}}}{tail}", "pathParams": {name: head[1:]}}
        with pytest.raises(InvalidPayload):
            read_payload(kind, changed(kind, partial(dict.update, **tricky)))
    with pytest.raises(BadUri, match=r"pathParams\.first"):
        read_payload(kind, changed(kind, lambda found: found.update(call | {"pathParams": {}})))
