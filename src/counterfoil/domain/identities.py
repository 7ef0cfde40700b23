"""Who stands behind what a caller has shown: the credential, the user, and the actor made of both."""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct

from counterfoil.domain.access import Actor
from counterfoil.domain.callers import BASIC
from counterfoil.domain.organisations import Credential, Organisation, User


class Identity(Struct, frozen=True):
    """Whom a valid token of another issuer names, by the user's number, the user's name, or both.

    Nothing is decided with it before `decides_from`.
    """

    user_id: int | None
    user_name: str | None
    expires_at: float
    decides_from: datetime | None = None


def credential_of(organisation: Organisation | None, login: str, kind: str) -> Credential | None:
    """The credential, if it may call: active, and of an active person where it is an OAuth client."""
    credential = organisation.credentials.get(login) if organisation else None
    if organisation is None or credential is None or not credential.active or credential.kind != kind:
        return None
    person = organisation.people.get(credential.person_id or "")
    return credential if kind == BASIC or (person is not None and person.active) else None


def user_of(organisation: Organisation, user_id: int, epoch: int) -> User | None:
    """The user, if it may act: active, of an active person, and of the same epoch."""
    user = organisation.users.get(user_id)
    if user is None or not user.active or user.epoch != epoch:
        return None
    person = organisation.people.get(user.person_id)
    return user if person is not None and person.active else None


def named_user(organisation: Organisation, identity: Identity) -> User | None:
    """The user whom another issuer names; its number and its name must be of the same one."""
    named = None if identity.user_name is None else organisation.users_by_name.get(identity.user_name.lower())
    numbered = None if identity.user_id is None else organisation.users.get(identity.user_id)
    if None not in (identity.user_id, identity.user_name) and named is not numbered:
        return None
    user = named or numbered
    return user_of(organisation, user.user_id, user.epoch) if user else None


def actor_of(
    organisation: Organisation, credential: Credential, user: User | None, decides_from: datetime | None = None
) -> Actor:
    return Actor(
        org_id=organisation.org_id,
        organisation_version=organisation.version,
        login=credential.login,
        login_rights=frozenset(credential.rights),
        person_id=user.person_id if user else credential.person_id,
        user_id=user.user_id if user else credential.user_id,
        user_name=user.user_name if user else credential.login,
        has_user=user is not None,
        decides_from=decides_from,
    )
