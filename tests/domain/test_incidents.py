"""Who may say what became of a request: nobody whom dual control or their own interest keeps from deciding."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from msgspec.structs import replace

from counterfoil.application import ids
from counterfoil.domain.access import Actor, Right
from counterfoil.domain.incidents import EXECUTED, Incident, Settled, SettleIncident, settle
from counterfoil.domain.organisations import Organisation
from counterfoil.domain.refusals import Refusal, SelfInterest
from counterfoil.domain.requests import Request, State
from tests import builders

NOW = datetime(2026, 3, 1, tzinfo=UTC)
PERSON, OTHER = builders.CHECKER, builders.OTHER_CHECKER
REQUEST = Request(
    request_id=ids.uuid7(), request_type="POINTS-REDEMPTION", state=State.UNKNOWN, maker_person_id=builders.MAKER,
    maker_user_id=1, maker_user_name="m", unit_id=builders.TILL, points=1000, host_id="h", host_revision=1,
    payload=b'{"body":{"root":{"redeem":{}}}}', digest=b"d", approvals_required=1, started_at=NOW, decided_at=NOW,
    identifier_kind="mobile", identifier_value="919988776655",
)  # fmt: skip
INCIDENT = Incident(ids.uuid7(), REQUEST.request_id, "no_look_up", "lost", NOW)


def settlers(**changes: object) -> Organisation:
    grants = [builders.grant(each, Right.SETTLE) for each in (PERSON, OTHER)]
    start = builders.organisation()
    return dataclasses.replace(start, grants=(*start.grants, *grants), incident_quorum=2, **changes)  # type: ignore[arg-type]


def said(organisation: Organisation, incident: Incident, actor: Actor) -> Settled | Refusal:
    command = SettleIncident(ids.uuid7(), actor, incident.incident_id, EXECUTED, "seen", "T-1", ids.salt())
    return settle(organisation, incident, REQUEST, command, NOW)


def test_two_people_settle_it() -> None:
    organisation = settlers()
    first = said(organisation, INCIDENT, builders.actor_of(organisation, PERSON))
    assert isinstance(first, Settled)
    assert first.request is None
    second = said(organisation, replace(INCIDENT, voices=(first.voice,)), builders.actor_of(organisation, OTHER))
    assert isinstance(second, Settled)
    assert second.request is not None
    assert second.request.state is State.SUCCEEDED


def suspended(organisation: Organisation) -> Organisation:
    person = dataclasses.replace(organisation.people[PERSON], suspended_until=NOW + timedelta(hours=1))
    return dataclasses.replace(organisation, people={**organisation.people, PERSON: person})


def administrator(organisation: Organisation) -> Organisation:
    grant = builders.grant(PERSON, Right.ADMINISTER, None)
    return dataclasses.replace(organisation, control="dual", grants=(*organisation.grants, grant))


def concerned(organisation: Organisation) -> Organisation:
    person = dataclasses.replace(organisation.people[PERSON], member_identifiers=(("mobile", "919988776655"),))
    return dataclasses.replace(organisation, people={**organisation.people, PERSON: person})


@pytest.mark.parametrize("changed", [suspended, administrator, concerned])
def test_who_has_no_voice_settles_nothing(changed: Callable[[Organisation], Organisation]) -> None:
    """Neither now nor with what they have said before."""
    before = settlers()
    first = said(before, INCIDENT, builders.actor_of(before, PERSON))
    assert isinstance(first, Settled)
    after = changed(before)
    refused = said(after, INCIDENT, builders.actor_of(after, PERSON))
    assert isinstance(refused, Refusal)
    assert isinstance(refused, SelfInterest) == (changed is concerned)
    second = said(after, replace(INCIDENT, voices=(first.voice,)), builders.actor_of(after, OTHER))
    assert isinstance(second, Settled)
    assert second.request is None


def test_a_token_of_an_issuer_that_was_changed_lately_settles_nothing() -> None:
    organisation = settlers()
    actor = replace(builders.actor_of(organisation, PERSON), decides_from=NOW + timedelta(hours=1))
    assert isinstance(said(organisation, INCIDENT, actor), Refusal)


@pytest.mark.parametrize(("control", "quorum", "people"), [("single", 1, 1), ("single", 2, 2), ("dual", 1, 2)])
def test_under_dual_control_two_people_settle_it_at_least(control: str, quorum: int, people: int) -> None:
    organisation = dataclasses.replace(settlers(), control=control, incident_quorum=quorum)
    assert organisation.settling_quorum == people
    first = said(organisation, INCIDENT, builders.actor_of(organisation, PERSON))
    assert isinstance(first, Settled)
    assert (first.request is not None) == (people == 1)
