"""The request workflow of the contract: create, decide, get one, list."""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from decimal import Decimal
from hashlib import sha256
from typing import Any, Final
from uuid import UUID

import msgspec
from msgspec.structs import replace

from counterfoil.application import identifiers, ids, reads
from counterfoil.application.callers import parse_basic
from counterfoil.application.requests import KeyConflict, Replayed, Stale
from counterfoil.domain import payload_types, payloads
from counterfoil.domain.access import Actor, resolve_place
from counterfoil.domain.organisations import Organisation
from counterfoil.domain.payload_types import Asked
from counterfoil.domain.payloads import TASK
from counterfoil.domain.refusals import (
    IdempotencyConflict,
    InvalidPayload,
    Refusal,
    RequestNotFound,
    WrongRequest,
)
from counterfoil.domain.request_pages import StoredRequest
from counterfoil.domain.requests import Decide, NeedsTillCheck, Request, Submit
from counterfoil.http import wire
from counterfoil.http.authentication import read_clock, verify_till
from counterfoil.http.execution import executed
from counterfoil.http.freshness import answer_fresh
from counterfoil.http.routing import Answer, Call, Context

_MESSAGE_MAX: Final = 2000
_pack, _unpack = msgspec.msgpack.encode, msgspec.msgpack.Decoder(dict[str, bytes]).decode
SERVED_BY: Final = socket.gethostname()


async def create(context: Context, call: Call) -> Answer:
    """Submit a request as maker (contract page "Points redemption request")."""
    kind = payload_types.request_type(call.path_params["request_type"])
    request_id = ids.uuid7()

    async def attempt(organisation: Organisation, actor: Actor) -> Answer | Stale:
        command, content = await prepare(context, call, organisation, actor, kind, request_id)
        outcome = await context.submissions.submit(organisation.org_id, command)
        match outcome:
            case Request():
                return _created(organisation, outcome, wire.encode(content))
            case Replayed():
                return _replayed(context, organisation, await fetch(context, organisation, outcome.request_id))
            case KeyConflict():
                stored = await fetch(context, organisation, outcome.request_id)
                raise conflict(context, organisation, command, stored)
            case Refusal():
                raise outcome
            case Stale():
                return outcome

    return await answer_fresh(context, call, attempt)


async def prepare(
    context: Context,
    call: Call,
    organisation: Organisation,
    actor: Actor,
    kind: str,
    request_id: UUID,
    *,
    resubmission_of: UUID | None = None,
) -> tuple[Submit, Mapping[str, Any]]:
    """All that needs no transaction: read, resolve, take the secrets out, encode the stored form."""
    envelope = wire.json_object(call.body)
    sent = payloads.read_entity_info(envelope.get("entityInfo"))
    asked, content = payload_types.read_payload(kind, envelope)
    host = payloads.find_host(organisation.hosts, content["hostname"])
    if isinstance(host, Refusal):
        raise host
    place = resolve_place(organisation, sent)
    if isinstance(place, Refusal):
        raise place
    headers: dict[str, str] = content["headers"]
    secret = {name: value for name, value in headers.items() if name.lower() not in payloads.PLAIN_HEADERS}
    authorization = next((value for name, value in secret.items() if name.lower() == "authorization"), "")
    masked = {name: payloads.mask(name, value) if name in secret else value for name, value in headers.items()}
    shown = {**content, "headers": masked}
    payload = wire.encode(shown)
    keyring, now = context.keyring, read_clock().now
    macs = {name: keyring.mac(value) for name, value in secret.items()}
    content_digest = sha256(payload + b"".join(name.encode() + mac for name, mac in macs.items())).digest()
    entity_info = wire.encode(sent)
    till = None if host.is_external else await verify_till(context, organisation, actor, authorization)
    key = _idempotency_key(call)
    command = Submit(
        request_id=request_id,
        actor=actor,
        place=place,
        request_type=kind,
        entity_info=entity_info,
        asked=_normalised(asked, organisation),
        host_id=host.host_id,
        host_revision=host.revision,
        payload=payload,
        sealed_headers=_pack({
            name: keyring.seal(organisation.org_id, request_id, name, value, now=now) for name, value in secret.items()
        }),
        content_digest=content_digest,
        salt=ids.salt(),
        till_login=till[0] if till else None,
        till_epoch=till[1] if till else None,
        correlation_id=call.correlation_id,
        served_by=SERVED_BY,
        redemption_ids=(ids.redemption_id(), ids.redemption_id()) if organisation.approves_by_itself else None,
        idempotency_key=key,
        idempotency_digest=_idempotency_digest(kind, actor, entity_info, shown, macs, resubmission_of) if key else b"",
        resubmission_of=resubmission_of,
    )  # fmt: skip
    return command, content


def _normalised(asked: Asked, organisation: Organisation) -> Asked:
    value = identifiers.normalise(asked.identifier_kind, asked.identifier_value, organisation.country_code)
    return replace(asked, identifier_value=value)


def _idempotency_digest(
    kind: str,
    actor: Actor,
    entity_info: bytes,
    content: Mapping[str, Any],
    macs: Mapping[str, bytes],
    resubmission_of: UUID | None,
) -> bytes:
    """What must be the same for a key to be answered again: who makes it, where, and what, in any order of keys."""
    hidden = {name: mac.hex() for name, mac in macs.items()}
    tried = () if resubmission_of is None else (str(resubmission_of),)
    return sha256(
        wire.encode_sorted([kind, actor.user_id, actor.user_name, entity_info.decode(), content, hidden, *tried])
    ).digest()


def _idempotency_key(call: Call) -> str | None:
    key = call.header("idempotency-key")
    if not key:
        return None
    if not 1 <= len(key) <= 255 or not key.isascii() or not key.isprintable():
        raise InvalidPayload("Idempotency-Key must be 1 to 255 printable ASCII characters", "Idempotency-Key")
    return key


def _created(organisation: Organisation, request: Request, payload: bytes) -> Answer:
    answer = wire.RequestAnswer(wire.request_data(organisation, request, payload))
    return Answer(200, wire.encode(answer), told(request))


def told(request: Request) -> dict[str, str]:
    """What the contract's body has no key for: the digest to decide on, and what will probably fail."""
    headers = {"ETag": f'"{request.digest.hex()}"'}
    if request.flags:
        headers["X-Counterfoil-Flags"] = ", ".join(request.flags)
    return headers


async def fetch(context: Context, organisation: Organisation, request_id: UUID) -> StoredRequest:
    stored = await reads.find_request(context.pool, organisation.org_id, request_id)
    if stored is None or stored.request is None:
        raise RequestNotFound("no request of this organisation has that requestId", "requestId")
    return stored


def opened(context: Context, organisation: Organisation, stored: StoredRequest, request: Request) -> bytes:
    """The stored call with its header values put back."""
    return wire.encode(with_headers(context, organisation, request.request_id, request.payload, stored.sealed_headers))


def sealed_names(stored: StoredRequest) -> list[str]:
    """The headers whose values are kept encrypted."""
    return list(_unpack(stored.sealed_headers))


def with_headers(
    context: Context, organisation: Organisation, request_id: UUID, payload: bytes, sealed_headers: bytes
) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(payload, parse_float=Decimal)
    for name, sealed in _unpack(sealed_headers).items():
        content["headers"][name] = context.keyring.open(organisation.org_id, request_id, name, sealed)
    return content


def _replayed(context: Context, organisation: Organisation, stored: StoredRequest) -> Answer:
    """The first answer again: the request as it was when it was submitted."""
    request = stored.request
    if request is None:
        raise AssertionError("a replayed request exists (this is a bug)")
    first = wire.request_data(organisation, request, opened(context, organisation, stored, request))
    if request.auto_rule is not None:
        return Answer(200, wire.encode(wire.RequestAnswer(first)), {**told(request), "Idempotent-Replayed": "true"})
    first = msgspec.structs.replace(
        first,
        state="AdminTask",
        endTime=None,
        details=wire.Details(payload=first.details.payload, maker_access=True, payload_valid=True),
    )
    return Answer(200, wire.encode(wire.RequestAnswer(first)), {**told(request), "Idempotent-Replayed": "true"})


def conflict(
    context: Context, organisation: Organisation, command: Submit, stored: StoredRequest
) -> IdempotencyConflict:
    before: dict[str, Any] = {"entityInfo": json.loads(stored.entity_info)}
    after: dict[str, Any] = {"entityInfo": json.loads(command.entity_info)}
    fields = list(wire.differences(before, after))
    request = stored.request
    if request is not None:
        old, new = (
            with_headers(context, organisation, *each)
            for each in (
                (request.request_id, request.payload, stored.sealed_headers),
                (command.request_id, command.payload, command.sealed_headers),
            )
        )
        fields += [f"{TASK}.{path}" for path in wire.differences(old, new)]
        if (request.maker_user_id, request.maker_user_name) != (command.actor.user_id, command.actor.user_name):
            fields.append("the person of X-CAP-UI-AUTH-TOKEN")
        if request.resubmission_of != command.resubmission_of:
            fields.append("the request that it is another try of")
    named = ", ".join(fields[:10]) or "the type"
    return IdempotencyConflict(
        f"the Idempotency-Key was used for other content; different are: {named}. Send a new key for a new request",
        "Idempotency-Key",
    )


async def decide(context: Context, call: Call) -> Answer:
    """Approve or reject a request as checker; the last approval executes it (dossier §2.8)."""
    kind = payload_types.request_type(call.path_params["request_type"])
    decision_id = ids.uuid7()
    redemption_ids = (ids.redemption_id(), ids.redemption_id())

    async def attempt(organisation: Organisation, actor: Actor) -> Answer | Stale:
        # Who calls is settled before anything of the body is read.
        request_id, verdict, message = _read_decision(wire.json_object(call.body))
        command = Decide(
            decision_id=decision_id,
            actor=actor,
            request_id=request_id,
            request_type=kind,
            verdict=verdict,
            message=message,
            correlation_id=call.correlation_id,
            served_by=SERVED_BY,
            redemption_ids=redemption_ids,
            salt=ids.salt(),
            digest_seen=digest_seen(call),
        )
        outcome = await give_voice(context, organisation, command)
        return outcome if isinstance(outcome, Stale) else await _shown(context, organisation, outcome)

    return await answer_fresh(context, call, attempt)


async def give_voice(context: Context, organisation: Organisation, command: Decide) -> Request | Stale:
    """Decide, with the stored till credential verified again where that is needed; raises the refusal.

    What is to be executed outside is executed by this process, and waited for as long as a call may take.
    """
    if context.executions is not None:
        command = replace(command, lease_owner=context.executions.owner, lease_seconds=context.executions.lease_seconds)
    outcome = await context.decisions.submit(organisation.org_id, command)
    if isinstance(outcome, NeedsTillCheck):
        login, verified = await _check_till(context, organisation, command.actor, command.request_id)
        command = replace(command, till_login=login, till_verified=verified)
        outcome = await context.decisions.submit(organisation.org_id, command)
    match outcome:
        case Refusal():
            raise outcome
        case NeedsTillCheck():
            raise AssertionError("a verified till credential is never asked for again (this is a bug)")
        case Request():
            return await executed(context, organisation.org_id, outcome)
        case Stale():
            return outcome


def _read_decision(body: Mapping[str, Any]) -> tuple[UUID, str, str]:
    found = wire.read_uuid(body.get("requestId"))
    if found is None:
        raise WrongRequest("requestId must be the id that the create call answered", "requestId")
    action = body.get("actionName")
    if not isinstance(action, str) or action.lower() != "admintask":
        raise WrongRequest("actionName must be AdminTask", "actionName")
    payload = body.get("payload")
    task = payload.get("AdminTask-Payload") if isinstance(payload, dict) else None
    path = "payload.AdminTask-Payload"
    if not isinstance(task, dict):
        raise InvalidPayload(f"{path} must be a JSON object", path)
    verdict, message = task.get("actionDecision"), task.get("actionMessage")
    if not isinstance(verdict, str) or verdict.lower() not in ("approved", "rejected"):
        raise InvalidPayload(f"{path}.actionDecision must be approved or rejected", f"{path}.actionDecision")
    if not isinstance(message, str) or len(message) > _MESSAGE_MAX:
        raise InvalidPayload(
            f"{path}.actionMessage is mandatory: a text of at most {_MESSAGE_MAX} characters",
            f"{path}.actionMessage",
        )
    return found, verdict.lower(), message


def digest_seen(call: Call) -> str | None:
    """The digest of If-Match; `*` and absence match anything."""
    header = call.header("if-match")
    if header is None or header in ("", "*"):
        return None
    return header.removeprefix("W/").strip('"')


async def _check_till(context: Context, organisation: Organisation, actor: Actor, request_id: UUID) -> tuple[str, bool]:
    """Verify the stored till credential as it stands now (it was wrong, or changed since submission)."""
    stored = await fetch(context, organisation, request_id)
    opened = {
        name.lower(): context.keyring.open(organisation.org_id, request_id, name, sealed)
        for name, sealed in _unpack(stored.sealed_headers).items()
    }
    till = await verify_till(context, organisation, actor, opened.get("authorization", ""), final=True)
    claimed = parse_basic(opened.get("authorization", "").encode())
    return (claimed[0] if claimed else "", False) if till is None else (till[0], True)


async def _shown(context: Context, organisation: Organisation, request: Request) -> Answer:
    """A decided request: masked unless the organisation echoes credentials (D2)."""
    payload = request.payload
    if organisation.echo_credentials == "all":
        stored = await fetch(context, organisation, request.request_id)
        payload = opened(context, organisation, stored, request)
    answer = wire.RequestAnswer(wire.request_data(organisation, request, payload))
    return Answer(200, wire.encode(answer), told(request))
