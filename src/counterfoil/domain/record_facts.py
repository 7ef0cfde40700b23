"""What a record of an organisation says, under the names that the organisation file uses."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from hashlib import sha256
from operator import attrgetter
from typing import Any, Final

from counterfoil.domain.access import OrgUnit
from counterfoil.domain.callers import OAUTH, AccessGroup, TrustedIssuer
from counterfoil.domain.organisation_files import OrganisationSettings
from counterfoil.domain.organisations import Credential, Group, Host, Person, Programme, ReasonCode, User
from counterfoil.domain.payloads import points_text
from counterfoil.domain.policies import Policy
from counterfoil.domain.policy_texts import describe_cap, describe_rule

PASSWORD: Final = "password"  # noqa: S105 - the name of a field


def text_of(value: object) -> str:
    match value:
        case None | ():
            return "none"
        case bool():
            return "true" if value else "false"
        case tuple():
            return " ".join(str(each) for each in value)
        case datetime():
            return value.isoformat()
        case Decimal():
            return format(value.normalize(), "f")
        case _:
            return str(value)


def facts(record: object) -> list[tuple[str, object]]:
    """What a record says, under the names that the file uses."""
    kind: type | str = OAUTH if isinstance(record, Credential) and record.is_client else type(record)
    return [(label, read(record)) for label, read in _FACTS.get(kind, ())]


def _points(thousandths: int | None) -> str | None:
    return None if thousandths is None else points_text(thousandths)


def _address(host: Host) -> str:
    is_default = host.port == (443 if host.scheme == "https" else 80)
    return f"{host.scheme}://{host.pattern}" + ("" if is_default else f":{host.port}")


def _fingerprint(text: str | None) -> str | None:
    """Enough to see that it is another one, and not what it is."""
    return None if text is None else f"set ({sha256(text.encode()).hexdigest()[:8]})"


_CAPS: Final[Sequence[tuple[str, Callable[[Any], object]]]] = (
    ("directCapPerCall", lambda each: _points(each.direct_cap_per_call)),
    ("directCapPerDay", lambda each: _points(each.direct_cap_per_day)),
)
_FACTS: Final[Mapping[type | str, Sequence[tuple[str, Callable[[Any], object]]]]] = {
    OrganisationSettings: (
        ("name", attrgetter("name")),
        ("timeZone", attrgetter("time_zone")),
        ("wireTimeZone", attrgetter("wire_time_zone")),
        ("countryCode", attrgetter("country_code")),
        ("profile", attrgetter("profile")),
        ("control", attrgetter("control")),
        ("echoCredentials", attrgetter("echo_credentials")),
        ("readScope", attrgetter("read_scope")),
        ("incidentQuorum", attrgetter("incident_quorum")),
    ),
    OrgUnit: (
        ("name", attrgetter("name")),
        ("code", attrgetter("code")),
        ("parent zone", attrgetter("zone_parent_id")),
        ("parent concept", attrgetter("concept_parent_id")),
        ("store", attrgetter("store_id")),
        ("externalIds", attrgetter("external_ids")),
        ("active", attrgetter("active")),
    ),
    Person: (
        ("name", attrgetter("name")),
        ("memberIdentifiers", lambda person: tuple(f"{kind} {value}" for kind, value in person.member_identifiers)),
        ("active", attrgetter("active")),
    ),
    Group: (("name", attrgetter("name")), ("people", attrgetter("people"))),
    User: (
        ("userName", attrgetter("user_name")),
        ("person", attrgetter("person_id")),
        (PASSWORD, attrgetter("password_hash")),
        ("active", attrgetter("active")),
    ),
    Credential: (
        ("id", attrgetter("user_id")),
        ("person", attrgetter("person_id")),
        ("till", attrgetter("unit_id")),
        ("rights", attrgetter("rights")),
        *_CAPS,
        ("accessGroup", attrgetter("access_group")),
        (PASSWORD, attrgetter("secret_hash")),
        ("active", attrgetter("active")),
    ),
    OAUTH: (
        ("id", attrgetter("user_id")),
        ("person", attrgetter("person_id")),
        ("unit", attrgetter("unit_id")),
        ("rights", attrgetter("rights")),
        *_CAPS,
        ("accessGroup", attrgetter("access_group")),
        ("ttlSeconds", attrgetter("token_seconds")),
        ("secret", attrgetter("secret_hash")),
        ("active", attrgetter("active")),
    ),
    AccessGroup: (("resources", attrgetter("resources")),),
    TrustedIssuer: (
        ("algorithm", attrgetter("algorithm")),
        ("audience", attrgetter("audience")),
        ("userIdClaim", attrgetter("user_id_claim")),
        ("userNameClaim", attrgetter("user_name_claim")),
        ("organisationClaim", attrgetter("organisation_claim")),
        ("keys", attrgetter("keys")),
    ),
    Host: (
        ("url", _address),
        ("target", attrgetter("target")),
        ("baseUrl", attrgetter("base_url")),
        ("plainHttp", lambda host: host.plain_http or None),
        ("private", lambda host: host.private or None),
        ("linkLocal", lambda host: host.link_local or None),
        ("caBundle", lambda host: _fingerprint(host.ca_pem)),
        ("authorization", lambda host: _fingerprint(host.credential_mac)),
        ("attemptSeconds", lambda host: host.attempt_seconds if host.is_external else None),
        ("overallSeconds", lambda host: host.overall_seconds if host.is_external else None),
        ("absentAfterSeconds", attrgetter("absent_after_seconds")),
        ("lookUp", lambda host: host.look_up if host.is_external else None),
        ("concurrency", lambda host: host.concurrency if host.is_external else None),
    ),
    Policy: (
        ("approvals", lambda policy: None if policy.rules else policy.approvals_required),
        ("rules", lambda policy: tuple(describe_rule(rule) + ";" for rule in policy.rules)),
        ("caps", lambda policy: tuple(describe_cap(cap) + ";" for cap in policy.caps)),
    ),
    ReasonCode: (("name", attrgetter("name")),),
    Programme: (
        ("name", attrgetter("name")),
        ("currencyPerPoint", attrgetter("currency_per_point")),
        ("holdDays", attrgetter("hold_days")),
        ("releaseGraceHours", attrgetter("release_grace_hours")),
        ("goodwillExpiryDays", attrgetter("goodwill_expiry_days")),
        ("goodwillPointsMax", lambda programme: _points(programme.goodwill_points_max)),
    ),
}
