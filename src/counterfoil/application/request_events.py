"""The audit events of a request's life, and the redemption that an execution leaves behind."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from counterfoil.domain.intouch_answers import Outcome
from counterfoil.domain.organisations import Organisation
from counterfoil.domain.payload_types import Goodwill, StatusChange
from counterfoil.domain.payloads import Redemption, points_text
from counterfoil.domain.policies import describe_needs
from counterfoil.domain.requests import Decided, Request, State, Submit
from counterfoil.domain.seals import Event, make_event
from counterfoil.storage.changes import Changes


def submitted(organisation: Organisation, command: Submit, request: Request) -> Event:
    """The event of a submission."""
    return make_event(
        request.request_id,
        request.request_id,
        "submitted",
        request.started_at,
        command.salt,
        {
            "digest": request.digest.hex(),
            "flags": list(request.flags),
            "host": f"{request.host_id}@{request.host_revision}",
            **command.actor.origin,
            "org": organisation.org_id,
            "points": None if request.points is None else points_text(request.points),
            "policy": request.policy_revision,
            "requirement": describe_needs(request.requirement.needs),
            "rule": request.requirement.rule,
            "state": State.PENDING,
            "type": request.request_type,
            "unit": request.unit_id,
            **({} if request.expires_at is None else {"expires": request.expires_at.isoformat()}),
            **({} if request.resubmission_of is None else {"resubmission_of": str(request.resubmission_of)}),
        },
        {
            "maker": f"{request.maker_person_id} {request.maker_user_name}",
            "member": request.identifier_value,
        },
    )


def add_done(
    organisation: Organisation,
    origin: Mapping[str, str | int],
    result: Decided,
    changes: Changes,
    event_id: UUID,
    salt: bytes,
    now: datetime,
) -> None:
    """The audit event of a voice or of the policy's own approval, and the redemption that came of it."""
    request, decision, outcome = result.request, result.decision, result.request.outcome
    facts: dict[str, Any] = {
        "digest": request.digest.hex(),
        "org": organisation.org_id,
        "state": request.state,
        "voices": len(request.decisions),
        **origin,
    }
    personal: dict[str, str] = {}
    if decision is None:
        facts |= {"verdict": "approved", "by": "policy", "rule": request.auto_rule, "policy": request.policy_revision}
    else:
        facts["verdict"] = decision.verdict
        personal = {"checker": f"{decision.person_id} {decision.user_name}", "message": decision.message}
        if decision.on_behalf_of is not None:
            facts["delegated"] = True
            personal["on_behalf_of"] = decision.on_behalf_of
        if decision.reason_code is not None:
            facts["reason"] = decision.reason_code
        if decision.sent_back:
            facts["sent_back"] = True
    if result.is_repeated:
        facts["by"] = "an earlier voice"
    if outcome is not None:
        facts["code"] = outcome.code
        _add_effect(result, outcome, changes, facts, personal)
    kind = "voice" if request.state is State.PENDING else request.state
    changes.add_event(make_event(request.request_id, event_id, kind, now, salt, facts, personal))


def _add_effect(
    result: Decided, outcome: Outcome, changes: Changes, facts: dict[str, Any], personal: dict[str, str]
) -> None:
    """What an execution brought about, as a row of its own and in the audit event."""
    request, asked, account = result.request, result.asked, result.account
    if asked is None or account is None:
        return
    match asked:
        case Redemption():
            facts["redemption"] = outcome.redemption_id
            changes.redemptions.append((
                outcome.redemption_id, account.member_id, request.request_id, asked.points,
                request.external_reference, asked.transaction_number, asked.notes, outcome.till, request.ended_at,
            ))  # fmt: skip
        case Goodwill():
            facts["created"] = outcome.created_id
            changes.add_goodwill(request, asked, account.member_id)
        case StatusChange():
            personal["label"] = asked.label
            changes.set_status(request, asked.label, account.member_id)
        case _:
            raise AssertionError("the ledger executes nothing else (this is a bug)")
