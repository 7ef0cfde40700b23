"""Calling systems beyond the till: what they may call, and who else may say who a person is."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from msgspec import Struct

from counterfoil.domain.refusals import AccessDenied, ClientOutOfScope, Refusal

BASIC: Final = "basic"
OAUTH: Final = "oauth"
# Longer ones make a stolen token worth stealing; the contract's own limit is what an operator may raise it to.
TOKEN_SECONDS_DEFAULT: Final = 300
TOKEN_SECONDS_MIN: Final = 60
TOKEN_SECONDS_MAX: Final = 30 * 24 * 3600

SECRET_ALGORITHM: Final = "HS256"  # noqa: S105 - no secret but a name
# The one kind of key that each algorithm can be used with.
ALGORITHMS: Final = {SECRET_ALGORITHM: "oct", "RS256": "RSA", "PS256": "RSA", "ES256": "EC"}
OWN_ISSUER: Final = "counterfoil"


class AccessGroup(Struct, frozen=True):
    """The calls that a credential may make: labels such as `GET /v2/…`, or families of them."""

    name: str
    resources: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TrustedIssuer:
    """Somebody else whose user tokens count. `keys`: a JWKS of public keys, or a sealed secret."""

    issuer: str
    algorithm: str
    organisation_claim: str
    user_id_claim: str | None = None
    user_name_claim: str | None = None
    audience: str | None = None
    keys: str = field(default="", repr=False)
    # Not a part of what an organisation file says: until then nobody decides anything with its tokens.
    decides_from: datetime | None = field(default=None, compare=False)


def may_call(
    name: str | None, groups: Collection[AccessGroup], label: str, family: str, *, is_client: bool
) -> Refusal | None:
    """Return None when a credential of this access group may make this call, else the refusal.

    Without a group it may make every call; with one that is not there, none.
    """
    if name is None:
        return None
    if any(label in group.resources or family in group.resources for group in groups if group.name == name):
        return None
    kind = ClientOutOfScope if is_client else AccessDenied
    return kind(f"the access group {name} of these credentials does not hold {label}: ask the access team for it")
