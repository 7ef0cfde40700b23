"""How many people settle an incident."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from counterfoil.application import ids
from counterfoil.domain import incidents
from counterfoil.domain.access import Right
from counterfoil.domain.incidents import Incident, SettleIncident
from counterfoil.domain.requests import Request, State
from tests.builders import CHECKER, MAKER, OTHER_CHECKER, TILL, actor_of, grant, organisation

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


@pytest.mark.parametrize(("control", "quorum", "people"), [("single", 1, 1), ("single", 2, 2), ("dual", 1, 2)])
def test_under_dual_control_two_people_settle_it_at_least(control: str, quorum: int, people: int) -> None:
    found: Any = organisation(
        control=control,
        incident_quorum=quorum,
        grants=tuple(grant(each, Right.SETTLE) for each in (CHECKER, OTHER_CHECKER)),
    )
    assert found.settling_quorum == people
    payload = b'{"body":{"root":{"redeem":{}}}}'
    request = Request(
        ids.uuid7(), "POINTS-REDEMPTION", State.UNKNOWN, MAKER, 1, "m", TILL, 100, "h1", 1, payload, b"d", 1, NOW
    )
    incident = Incident(ids.uuid7(), request.request_id, "unknown", "?", NOW)
    for number, person in enumerate((CHECKER, OTHER_CHECKER)[:people], start=1):
        command = SettleIncident(
            ids.uuid7(), actor_of(found, person), incident.incident_id, incidents.EXECUTED, "r", "e", b""
        )
        settled = incidents.settle(found, incident, request, command, NOW)
        assert isinstance(settled, incidents.Settled)
        assert (settled.request is not None) is (number == people)
        incident = replace(incident, voices=(*incident.voices, settled.voice))
