"""An audit event can be proven for ever, also after the personal values are gone."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from hashlib import sha256
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from counterfoil.domain.seals import Event, canonical, commitment, field_salt, leaf_hash, make_event

SUBJECT = UUID("d9df3b65-62a7-11ee-aa6d-0aaee4e533d2")
EVENT_ID = UUID("01890a5d-ac96-774b-bcce-b302099a8057")
AT = datetime(2023, 10, 4, 11, 19, 58, tzinfo=UTC)
SALT = bytes(range(16))


def an_event() -> Event:
    return make_event(
        SUBJECT,
        EVENT_ID,
        "submitted",
        AT,
        SALT,
        {"points": "100", "state": "pending"},
        {"member": "919988776655", "maker": "E1 tomswayer@tipent.com"},
    )


def test_the_form_of_a_leaf_never_changes() -> None:
    """These bytes stand in sealed trails: a change here breaks every proof that was handed out."""
    assert an_event().facts == (
        b'{"at":"2023-10-04T11:19:58+00:00",'
        b'"event":"01890a5d-ac96-774b-bcce-b302099a8057",'
        b'"kind":"submitted",'
        b'"maker#":"' + commitment(SALT, "maker", "E1 tomswayer@tipent.com").encode() + b'",'
        b'"member#":"' + commitment(SALT, "member", "919988776655").encode() + b'",'
        b'"points":"100","state":"pending",'
        b'"subject":"d9df3b65-62a7-11ee-aa6d-0aaee4e533d2"}'
    )
    assert an_event().leaf_hash == sha256(b"\x00counterfoil event 1\x00" + an_event().facts).digest()
    assert an_event().leaf_hash.hex() == "2bff0d498cec7361c13a5c01c93e34266a458bdb26a4c9e46ff28b0b43db5c20"


def test_the_personal_values_stand_nowhere_in_the_facts() -> None:
    facts = an_event().facts
    assert b"919988776655" not in facts
    assert b"tomswayer" not in facts
    assert SALT.hex().encode() not in facts


def test_a_commitment_opens_with_its_salt_and_value_alone() -> None:
    event = an_event()
    kept = json.loads(event.personal)
    salt = bytes.fromhex(kept.pop("salt"))
    facts = json.loads(event.facts)
    assert kept == {"member": "919988776655", "maker": "E1 tomswayer@tipent.com"}
    for field, value in kept.items():
        assert facts[f"{field}#"] == sha256(field_salt(salt, field) + value.encode()).hexdigest()


def test_what_was_erased_leaves_a_leaf_that_still_verifies() -> None:
    erased = replace(an_event(), personal=b"")
    assert leaf_hash(erased.facts) == an_event().leaf_hash


def test_every_change_of_the_facts_shows() -> None:
    event = an_event()
    for position in range(len(event.facts)):
        altered = bytearray(event.facts)
        altered[position] ^= 1
        assert leaf_hash(bytes(altered)) != event.leaf_hash


FIELD = st.text(min_size=1, max_size=10)


@given(st.binary(min_size=16, max_size=16), FIELD, st.text(max_size=20), FIELD, st.text(max_size=20))
def test_one_commitment_tells_nothing_of_another(
    salt: bytes, field: str, value: str, other_field: str, other_value: str
) -> None:
    assert len(commitment(salt, field, value)) == 64
    if (field, value) != (other_field, other_value):
        assert commitment(salt, field, value) != commitment(salt, other_field, other_value)
    assert commitment(salt, field, value) != commitment(salt[::-1] + b"x", field, value)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=5), VALUES, max_size=5))
def test_one_value_has_one_form(value: dict[str, object]) -> None:
    turned = dict(reversed(value.items()))
    assert canonical(value) == canonical(turned)
    assert json.loads(canonical(value)) == value


@pytest.mark.parametrize("value", [{1, 2}, Decimal("1.10"), b"x", AT, SUBJECT])
def test_what_has_no_single_form_is_not_sealed(value: object) -> None:
    with pytest.raises(TypeError):
        canonical({"fact": value})
