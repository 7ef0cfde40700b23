"""Rows and commands that tests are built from; every field has a plain default."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any
from uuid import UUID

import asyncpg
import msgspec

from counterfoil.application import ids
from counterfoil.domain.access import Actor, Grant, OrgUnit, Place, Right, UnitKind, resolve_place
from counterfoil.domain.comments import AddComment
from counterfoil.domain.delegations import Delegate
from counterfoil.domain.endings import Withdraw
from counterfoil.domain.freezes import LiftFreeze, PlaceFreeze, Scope
from counterfoil.domain.organisations import (
    Credential,
    Host,
    Organisation,
    Person,
    Policy,
    Programme,
    User,
)
from counterfoil.domain.payload_types import TYPES, read_stored
from counterfoil.domain.payloads import Redemption
from counterfoil.domain.redemptions import Redeem
from counterfoil.domain.requests import Decide, Submit
from counterfoil.storage import organisations

MAKER, CHECKER, OTHER_CHECKER = "E-maker", "E-checker", "E-other"
TILL, STORE, ZONE, CONCEPT = 50682289, 50682288, 50682286, 50678331
# Where it is about noon: no midnight comes between two calls that count for one day. The names' signs are reversed.
AT_NOON = f"Etc/GMT{datetime.now(UTC).hour - 12:+d}"
SECRET_MD5 = "202cb962ac59075b964b07152d234b70"  # of "123", the contract's own example


@dataclass(frozen=True)
class Lot:
    """An award to seed. Points in thousandths."""

    points: int
    expires_at: datetime | None = None
    awarded_at: datetime = datetime(2026, 1, 1, tzinfo=UTC)


def policy_document(approvals: int, life_hours: int | None) -> dict[str, Any]:
    """The stored form of the simplest policy; with a life time it needs a rule."""
    if life_hours is None:
        return {"approvals": approvals}
    rule = {"name": "approvals", "needs": [{"count": approvals}], "life_hours": life_hours}
    return {"approvals": approvals, "rules": [rule]}


async def seed_organisation(connection: Any, org_id: int = 51250, **changes: Any) -> None:
    """The contract's own organisation: four units, three people, one till, the hosts, one policy."""
    fields: dict[str, Any] = {
        "name": "Demo", "time_zone": "Asia/Kolkata", "wire_time_zone": "Asia/Kolkata", "country_code": "91",
        "profile": "contract", "control": "single", "echo_credentials": "create", "secret_hash": "not a hash",
        "approvals": 1, "hold_days": 7, "rights": [], "goodwill_expiry_days": 90, "goodwill_points_max": None,
        "life_hours": None,
    } | changes  # fmt: skip
    await connection.execute(
        "INSERT INTO organisation (org_id, name, time_zone, wire_time_zone, country_code, profile, control, "
        "echo_credentials) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        org_id, *(fields[name] for name in ("name", "time_zone", "wire_time_zone", "country_code", "profile",
                                            "control", "echo_credentials")),
    )  # fmt: skip
    for unit_id, kind, zone, concept, store in (
        (ZONE, "zone", None, None, None),
        (CONCEPT, "concept", None, None, None),
        (STORE, "store", ZONE, CONCEPT, None),
        (TILL, "till", None, None, STORE),
    ):
        await connection.execute(
            "INSERT INTO org_unit (org_id, unit_id, kind, name, zone_parent_id, concept_parent_id, store_id) "
            "VALUES ($1, $2, $3, $4, $5, $6, $7)", org_id, unit_id, kind, kind, zone, concept, store,
        )  # fmt: skip
    login = f"ind.{org_id}" if org_id != 51250 else "ind.1"
    for user_id, person_id, user_name, right in (
        (232134, MAKER, "tomswayer@tipent.com", "CanMakeRequest"),
        (232135, CHECKER, "checker@tipent.com", "CanCheckRequest"),
        (232136, OTHER_CHECKER, "other@tipent.com", "CanCheckRequest"),
    ):
        await connection.execute("INSERT INTO person VALUES ($1, $2, $2, true)", org_id, person_id)
        await connection.execute(
            "INSERT INTO app_user (org_id, user_id, user_name, person_id) VALUES ($1, $2, $3, $4)",
            org_id, user_id, user_name, person_id,
        )  # fmt: skip
        await connection.execute(
            "INSERT INTO access_grant (org_id, grant_id, person_id, unit_id, access_right) VALUES ($1, $2, $3, $4, $5)",
            org_id, ids.uuid7(), person_id, ZONE, right,
        )  # fmt: skip
    await connection.execute(
        "INSERT INTO credential (org_id, login, kind, user_id, unit_id, secret_hash, rights) "
        "VALUES ($1, $2, 'basic', 9, $3, $4, $5)", org_id, login, TILL, fields["secret_hash"], fields["rights"],
    )  # fmt: skip
    await connection.execute("INSERT INTO directory VALUES ($1, $2)", login, org_id)
    await connection.execute(
        "INSERT INTO host (org_id, host_id, scheme, pattern, port, target) "
        "VALUES ($1, 'h1', 'https', 'crm-nightly-new.cc.capillarytech.com', 443, 'ledger')", org_id,
    )  # fmt: skip
    await connection.execute(
        "INSERT INTO policy (org_id, revision, document) VALUES ($1, 1, $2)",
        org_id, json.dumps(policy_document(fields["approvals"], fields["life_hours"])),
    )  # fmt: skip
    await connection.execute(
        "INSERT INTO programme (org_id, programme_id, name, hold_days, is_default, goodwill_expiry_days, "
        "goodwill_points_max) VALUES ($1, 1, 'Demo', $2, true, $3, $4)",
        org_id, fields["hold_days"], fields["goodwill_expiry_days"], fields["goodwill_points_max"],
    )  # fmt: skip


async def seed_member(
    connection: Any,
    lots: Sequence[Lot],
    *,
    org_id: int = 51250,
    member_id: int = 382332518,
    mobile: str = "919988776655",
) -> None:
    """A member whose points come from awards, as postings too."""
    await connection.execute(
        "INSERT INTO member (org_id, member_id, programme_id, mobile, email, external_id, available) "
        "VALUES ($1, $2, 1, $3, 'tomswayer@mail.com', 'XYPZ0063', $4)",
        org_id, member_id, mobile, sum(lot.points for lot in lots),
    )  # fmt: skip
    await connection.execute("INSERT INTO member_identifier VALUES ($1, 'mobile', $2, $3)", org_id, mobile, member_id)
    for number, lot in enumerate(lots):
        lot_id = ids.uuid7()
        await connection.execute(
            "INSERT INTO lot (org_id, member_id, lot_id, reference, awarded_at, expires_at, points, remaining) "
            "VALUES ($1, $2, $3, $4, $5, $6, $7, $7)",
            org_id, member_id, lot_id, f"award-{number}", lot.awarded_at, lot.expires_at, lot.points,
        )  # fmt: skip
        await connection.execute(
            "INSERT INTO journal (org_id, journal_id, kind, member_id, at) VALUES ($1, $2, 'award', $3, $4)",
            org_id, lot_id, member_id, lot.awarded_at,
        )  # fmt: skip
        await connection.execute(
            "INSERT INTO posting VALUES ($1, $2, 1, 'issued', 'available', $2, $3)", org_id, lot_id, lot.points
        )


async def fetch_organisation(connection: Any, org_id: int = 51250) -> Organisation:
    """The snapshot that commands are prepared with."""
    found = await organisations.find_organisation(connection, org_id)
    assert found is not None
    return found


def grant(person_id: str, right: Right, unit_id: int | None = ZONE, **changes: Any) -> Grant:
    """A right of a person, by default at the zone that everything is below."""
    return Grant(f"{person_id} {right} {unit_id}", person_id, right, unit_id, **changes)


def organisation(**changes: Any) -> Organisation:
    """What `seed_organisation` stores, as a snapshot: for rules that need no database."""
    people = (MAKER, CHECKER, OTHER_CHECKER)
    fields: dict[str, Any] = {
        "org_id": 51250,
        "version": 1,
        "name": "Demo",
        "time_zone": "Asia/Kolkata",
        "wire_time_zone": "Asia/Kolkata",
        "country_code": "91",
        "profile": "contract",
        "control": "single",
        "echo_credentials": "create",
        "units": {
            ZONE: OrgUnit(ZONE, UnitKind.ZONE, "zone"),
            CONCEPT: OrgUnit(CONCEPT, UnitKind.CONCEPT, "concept"),
            STORE: OrgUnit(STORE, UnitKind.STORE, "store", None, ZONE, CONCEPT),
            TILL: OrgUnit(TILL, UnitKind.TILL, "till", store_id=STORE),
        },
        "people": {each: Person(each, each) for each in people},
        "users": {
            232134 + number: User(232134 + number, f"{each}@tipent.com", each) for number, each in enumerate(people)
        },
        "credentials": {"ind.1": Credential("ind.1", 9, "not a hash", unit_id=TILL)},
        "hosts": (Host("h1", "https", "crm-nightly-new.cc.capillarytech.com", 443, "ledger"),),
        "policy": Policy(1),
        "programme": Programme(1, "Demo", goodwill_expiry_days=90),
        "grants": (
            grant(MAKER, Right.MAKE),
            grant(CHECKER, Right.CHECK),
            grant(OTHER_CHECKER, Right.CHECK),
        ),
    }
    return Organisation(**(fields | changes))


def actor_of(organisation: Organisation, person_id: str) -> Actor:
    """A person at the till, as authentication would make them."""
    user = next(each for each in organisation.users.values() if each.person_id == person_id)
    credential = next(iter(organisation.credentials.values()))
    return Actor(
        org_id=organisation.org_id,
        organisation_version=organisation.version,
        login=credential.login,
        login_rights=frozenset(credential.rights),
        person_id=person_id,
        user_id=user.user_id,
        user_name=user.user_name,
        has_user=True,
    )


def submit_command(
    organisation: Organisation,
    *,
    points: int = 100_000,
    mobile: str = "919988776655",
    reference: str | None = None,
    person_id: str = MAKER,
    **changes: Any,
) -> Submit:
    """A create call as the edge prepares it."""
    place = resolve_place(organisation, {"tillId": TILL})
    assert isinstance(place, Place)
    body: dict[str, Any] = {"root": {"redeem": {"points_redeemed": points / 1000, "customer": {"mobile": mobile}}}}
    if reference:
        body["root"]["redeem"]["external_reference_number"] = reference
    payload = msgspec.json.encode({"hostname": "x", "body": body})
    credential = next(iter(organisation.credentials.values()))
    fields: dict[str, Any] = {
        "request_id": ids.uuid7(),
        "actor": actor_of(organisation, person_id),
        "place": place,
        "request_type": "POINTS-REDEMPTION",
        "entity_info": b"{}",
        "asked": Redemption(points, "mobile", mobile, reference, "bill-1", ""),
        "host_id": "h1",
        "host_revision": 1,
        "payload": payload,
        "sealed_headers": b"",
        "content_digest": sha256(payload).digest(),
        "salt": ids.salt(),
        "till_login": credential.login,
        "till_epoch": credential.epoch,
    }
    return Submit(**(fields | changes))


def goodwill_command(
    organisation: Organisation, *, points: int = 20_000, member_id: int = 382332518, reference: str = "", **changes: Any
) -> Submit:
    """A create call of GOODWILL-POINTS."""
    request_id = changes.setdefault("request_id", ids.uuid7())
    body = {
        "referenceId": reference or f"ref-{request_id}", "reason": "reason", "baseType": "POINTS", "programId": 1,
        "awardingTillId": TILL, "earningEntityType": "CUSTOMER", "earningEntityId": member_id,
        "points": points / 1000, "source": "API",
    }  # fmt: skip
    return typed_command(organisation, "GOODWILL-POINTS", body, **changes)


def status_command(
    organisation: Organisation, *, mobile: str = "919988776655", label: str = "Suspended", **changes: Any
) -> Submit:
    """A create call of CUSTOMER-STATUS-CHANGE."""
    query = {"source": "INSTORE", "identifierName": "mobile", "identifierValue": mobile}
    body = {"reason": "testing", "label": label}
    return typed_command(organisation, "CUSTOMER-STATUS-CHANGE", body, query=query, **changes)


def typed_command(
    organisation: Organisation, kind: str, body: Any, *, query: Any = None, headers: Any = None, **changes: Any
) -> Submit:
    """A create call of any type, read from its payload as the edge does."""
    wanted = TYPES[kind]
    call = {
        "hostname": "x", "path": wanted.path, "method": wanted.methods[0], "pathParams": {}, "queryParams": query or {},
        "body": body, "headers": headers or {},
    }  # fmt: skip
    payload = msgspec.json.encode(call)
    asked = read_stored(kind, payload)
    digest = sha256(payload).digest()
    return submit_command(
        organisation, request_type=kind, asked=asked, payload=payload, content_digest=digest, **changes
    )


def decide_command(
    organisation: Organisation, request_id: UUID, *, verdict: str = "approved", person_id: str = CHECKER, **changes: Any
) -> Decide:
    """A decide call as the edge prepares it."""
    fields: dict[str, Any] = {
        "decision_id": ids.uuid7(),
        "actor": actor_of(organisation, person_id),
        "request_id": request_id,
        "request_type": "POINTS-REDEMPTION",
        "verdict": verdict,
        "message": "seen",
        "correlation_id": "0" * 32,
        "served_by": "test",
        "redemption_ids": (ids.redemption_id(), ids.redemption_id()),
        "salt": ids.salt(),
    }
    return Decide(**(fields | changes))


def withdraw_command(
    organisation: Organisation, request_id: UUID, *, person_id: str = MAKER, **changes: Any
) -> Withdraw:
    """A withdrawal as the edge prepares it."""
    fields: dict[str, Any] = {
        "withdrawal_id": ids.uuid7(),
        "actor": actor_of(organisation, person_id),
        "request_id": request_id,
        "message": "a mistake",
        "salt": ids.salt(),
    }
    return Withdraw(**(fields | changes))


def comment_command(
    organisation: Organisation, request_id: UUID, *, person_id: str = MAKER, **changes: Any
) -> AddComment:
    """A comment as the edge prepares it."""
    fields: dict[str, Any] = {
        "comment_id": ids.uuid7(),
        "actor": actor_of(organisation, person_id),
        "request_id": request_id,
        "message": "hello",
        "salt": ids.salt(),
    }
    return AddComment(**(fields | changes))


def delegate_command(
    organisation: Organisation, delegate_id: str, *, person_id: str = CHECKER, **changes: Any
) -> Delegate:
    """A delegation as the edge prepares it."""
    fields: dict[str, Any] = {
        "delegation_id": ids.uuid7(),
        "actor": actor_of(organisation, person_id),
        "delegate_id": delegate_id,
        "valid_until": datetime.now(UTC) + timedelta(days=10),
        "salt": ids.salt(),
    }
    return Delegate(**(fields | changes))


def freeze_command(organisation: Organisation, *, person_id: str = CHECKER, **changes: Any) -> PlaceFreeze:
    """A freeze as the edge prepares it."""
    fields: dict[str, Any] = {
        "freeze_id": ids.uuid7(),
        "actor": actor_of(organisation, person_id),
        "scope": Scope.ORGANISATION,
        "target": "",
        "reason": "stop",
        "salt": ids.salt(),
    }
    return PlaceFreeze(**(fields | changes))


def lift_command(
    organisation: Organisation, freeze_id: UUID, *, person_id: str = CHECKER, **changes: Any
) -> LiftFreeze:
    """The lifting of a freeze as the edge prepares it."""
    fields: dict[str, Any] = {
        "lift_id": ids.uuid7(),
        "actor": actor_of(organisation, person_id),
        "freeze_id": freeze_id,
        "salt": ids.salt(),
    }
    return LiftFreeze(**(fields | changes))


def redeem_command(
    organisation: Organisation,
    *,
    points: int = 100_000,
    mobile: str = "919988776655",
    reference: str | None = None,
    **changes: Any,
) -> Redeem:
    """A direct call of /v1.1/points/redeem as the edge prepares it."""
    fields: dict[str, Any] = {
        "redeem_id": ids.uuid7(),
        "actor": actor_of(organisation, MAKER),
        "asked": Redemption(points, "mobile", mobile, reference, "bill-1", ""),
        "correlation_id": "0" * 32,
        "served_by": "test",
        "redemption_ids": (ids.redemption_id(), ids.redemption_id()),
        "salt": ids.salt(),
    }
    return Redeem(**(fields | changes))


async def connect(url: str) -> asyncpg.Connection[asyncpg.Record]:
    """One connection of the test's own."""
    return await asyncpg.connect(url)
