"""Reads an organisation file into records. examples/demo-organisation.yaml shows every field."""

from __future__ import annotations

import re
import zoneinfo
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, tzinfo
from decimal import Decimal
from functools import cache
from typing import Final

import phonenumbers

from counterfoil.application import caller_sections, identifiers
from counterfoil.application.host_entries import read_hosts
from counterfoil.application.passwords import SECRET_BYTES_MAX
from counterfoil.application.policy_files import read_policy
from counterfoil.application.yaml_fields import Document, Fields
from counterfoil.domain.access import Grant, OrgUnit, Right, UnitKind
from counterfoil.domain.organisation_files import (
    IDENTIFIER_FIELDS,
    Award,
    MemberEntry,
    OrganisationFile,
    OrganisationSettings,
    Password,
    Problem,
)
from counterfoil.domain.organisations import Credential, Group, Person, Programme, ReasonCode, User
from counterfoil.domain.payload_types import TYPES

SECTIONS: Final = (
    "organisation", "units", "people", "groups", "credentials", "oauthClients", "accessGroups", "uiTokenIssuers",
    "grants", "hosts", "policy", "programme", "reasonCodes", "members",
)  # fmt: skip
ORGANISATION: Final = (
    "id", "name", "timeZone", "wireTimeZone", "countryCode", "profile", "control", "echoCredentials",
    "readScope", "incidentQuorum",
)  # fmt: skip
UNITS: Final[Mapping[UnitKind, tuple[str, ...]]] = {
    UnitKind.ZONE: ("id", "name", "code", "parent", "active"),
    UnitKind.CONCEPT: ("id", "name", "code", "parent", "active"),
    UnitKind.STORE: ("id", "name", "code", "externalIds", "zone", "concept", "active"),
    UnitKind.TILL: ("id", "name", "code", "store", "active"),
}
PASSWORDS: Final = ("password", "passwordEnv", "passwordFile", "passwordPrompt")
MD5: Final = "passwordMd5"
PERSON: Final = ("staffId", "name", "active", "memberIdentifiers", "users")
GROUP: Final = ("id", "name", "people")
USER: Final = ("id", "userName", "active", *PASSWORDS)
CREDENTIAL: Final = (
    "login", "id", "till", "person", "rights", *caller_sections.CAPS, "accessGroup", "active", MD5, *PASSWORDS,
)  # fmt: skip
GRANT: Final = ("person", "group", "unit", "right", "type", "pointsMax", "from", "until")
PROGRAMME: Final = (
    "id", "name", "currencyPerPoint", "holdDays", "releaseGraceHours", "goodwillExpiryDays", "goodwillPointsMax",
)  # fmt: skip
REASON_CODE: Final = ("code", "name", "type")
MEMBER: Final = ("id", *IDENTIFIER_FIELDS.values(), "lots")
LOT: Final = ("reference", "points", "awardedAt", "expiresAt")

IDENTIFIER_LENGTH_MAX: Final = 200
_MD5_FORM = re.compile(r"[0-9a-f]{32}", re.ASCII)
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+")
_CURRENCY = re.compile(r"[0-9]{1,12}(\.[0-9]{1,6})?", re.ASCII)
_GRANTED: Final = (Right.MAKE, Right.CHECK, Right.FREEZE, Right.SETTLE, Right.ADMINISTER)


@dataclass(frozen=True, slots=True)
class Draft:
    """A file as far as it could be read. `file` is None where not even the organisation is known."""

    file: OrganisationFile | None
    document: Document = field(repr=False)

    @property
    def problems(self) -> list[Problem]:
        """What is wrong with the file, whatever the database has."""
        return self.document.problems


def read(content: bytes, resources: Collection[str] | None = None) -> Draft:
    """Read a file; nothing is raised, every problem is kept.

    `resources` are the calls that an access group may name; without them only their form is looked at.
    """
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        document = Document("{}")
        line = content.count(b"\n", 0, error.start) + 1
        document.problems.append(Problem("", f"is not UTF-8 (line {line}): save it as UTF-8"))
        return Draft(None, document)
    document = Document(text)
    if document.problems:
        return Draft(None, document)
    top = document.fields(SECTIONS)
    settings, zone = _organisation(top)
    users: dict[str, User] = {}
    passwords: dict[str, Password] = {}
    file = OrganisationFile(
        settings=settings,
        units=dict(_units(top)),
        people=dict(_people(top, users, passwords, settings.country_code)),
        users=users,
        credentials={**dict(_credentials(top, passwords)), **dict(caller_sections.clients(top, passwords))},
        passwords=passwords,
        groups=dict(_groups(top)) if "groups" in top else None,
        grants=dict(_grants(top, zone)) if "grants" in top else None,
        access_groups=dict(caller_sections.access_groups(top, resources)) if "accessGroups" in top else None,
        issuers=dict(caller_sections.issuers(top, passwords)) if "uiTokenIssuers" in top else None,
        hosts=dict(read_hosts(top, passwords)) if "hosts" in top else None,
        policy=read_policy(top, zone),
        programme=_programme(top),
        reason_codes=dict(_reason_codes(top)) if "reasonCodes" in top else None,
        members=dict(_members(top, settings.country_code, zone)),
    )
    return Draft(file if settings.org_id else None, document)


def _organisation(top: Fields) -> tuple[OrganisationSettings, tzinfo]:
    if "organisation" not in top:
        top.tell("organisation", "is missing: add it with id, name, timeZone and countryCode")
        return OrganisationSettings(0, "", "", "", "", "", "", ""), UTC
    fields = top.section("organisation", ORGANISATION)
    time_zone = fields.text("timeZone")
    wire_time_zone = fields.text("wireTimeZone", required=False) or time_zone
    zone = _zone(fields, "timeZone", time_zone)
    _zone(fields, "wireTimeZone", wire_time_zone if "wireTimeZone" in fields else "")
    country_code = fields.text("countryCode", maximum=3)
    if country_code and not (
        country_code.isascii()
        and country_code.isdecimal()
        and not country_code.startswith("0")
        and int(country_code) in phonenumbers.COUNTRY_CODE_TO_REGION_CODE
    ):
        fields.tell("countryCode", "is no country calling code: write its digits, such as 91 for India")
        country_code = ""
    settings = OrganisationSettings(
        org_id=fields.number("id"),
        name=fields.text("name"),
        time_zone=time_zone,
        wire_time_zone=wire_time_zone,
        country_code=country_code,
        profile=fields.choice("profile", ("contract", "strict"), "contract") or "",
        control=fields.choice("control", ("single", "dual"), "single") or "single",
        echo_credentials=fields.choice("echoCredentials", ("create", "all"), "create") or "",
        read_scope=fields.choice("readScope", ("organisation", "units"), "organisation") or "",
        incident_quorum=fields.number("incidentQuorum", default=1, high=2) or 1,
    )
    return settings, zone


def _zone(fields: Fields, name: str, key: str) -> tzinfo:
    if key in _zones():
        return zoneinfo.ZoneInfo(key)
    if key:
        fields.tell(name, f"{key} is no time zone: use a name such as Asia/Kolkata")
    return UTC


@cache
def _zones() -> Collection[str]:
    """The names of all time zones; looking for them reads hundreds of files."""
    return zoneinfo.available_timezones()


def _units(top: Fields) -> Iterator[tuple[str, OrgUnit]]:
    lists = top.section("units", [f"{kind}s" for kind in UnitKind])
    for kind, known in UNITS.items():
        for fields in lists.entries(f"{kind}s", known):
            is_store = kind is UnitKind.STORE
            parent = fields.reference("parent") if "parent" in known else None
            yield (
                fields.path,
                OrgUnit(
                    unit_id=fields.number("id"),
                    kind=kind,
                    name=fields.text("name"),
                    code=fields.text("code", required=kind is UnitKind.TILL) or None,
                    zone_parent_id=fields.reference("zone", required=True)
                    if is_store
                    else parent
                    if kind is UnitKind.ZONE
                    else None,
                    concept_parent_id=fields.reference("concept", required=True)
                    if is_store
                    else parent
                    if kind is UnitKind.CONCEPT
                    else None,
                    store_id=fields.reference("store", required=True) if kind is UnitKind.TILL else None,
                    active=fields.flag("active", default=True),
                    external_ids=caller_sections.external_ids(fields) if is_store else (),
                ),
            )


def _people(
    top: Fields, users: dict[str, User], passwords: dict[str, Password], country_code: str
) -> Iterator[tuple[str, Person]]:
    for fields in top.entries("people", PERSON):
        staff_id = fields.text("staffId", maximum=100)
        own = fields.section("memberIdentifiers", tuple(IDENTIFIER_FIELDS.values()))
        identifiers = tuple(sorted(pair for pair in _identifiers(own, country_code) if pair[1]))
        yield fields.path, Person(staff_id, fields.text("name"), fields.flag("active", default=True), identifiers)
        for user in fields.entries("users", USER):
            users[user.path] = User(
                user.number("id"), user.text("userName"), staff_id, active=user.flag("active", default=True)
            )
            _password(user, passwords)


def _password(fields: Fields, passwords: dict[str, Password]) -> None:
    """Keep where the password comes from; no message may ever repeat a value."""
    given = [name for name in (MD5, *PASSWORDS) if name in fields]
    if len(given) > 1:
        fields.tell(given[1], f"the password is also given as {given[0]}: keep one of them")
    for name in given[:1]:
        if name == "passwordPrompt":
            if fields.flag(name, default=False):
                passwords[fields.path] = Password("prompt", "")
            continue
        value = fields.secret(name)
        if not value or len(value.encode("utf-8", "surrogatepass")) > SECRET_BYTES_MAX:
            fields.tell(name, f"must have 1 to {SECRET_BYTES_MAX} bytes: leave it out to keep the password")
        elif name == MD5 and not _MD5_FORM.fullmatch(value.lower()):
            fields.tell(name, "must be the 32 hexadecimal digits of the password's md5")
        source = {"passwordEnv": "env", "passwordFile": "file"}.get(name, "value")
        passwords[fields.path] = Password(source, value.lower() if name == MD5 else value, is_md5=name == MD5)


def _credentials(top: Fields, passwords: dict[str, Password]) -> Iterator[tuple[str, Credential]]:
    for fields in top.entries("credentials", CREDENTIAL):
        login = caller_sections.login(fields, "login")
        yield (
            fields.path,
            Credential(
                login=login,
                user_id=fields.number("id"),
                secret_hash="",
                person_id=fields.text("person", required=False, maximum=100) or None,
                unit_id=fields.reference("till"),
                rights=caller_sections.rights(fields),
                active=fields.flag("active", default=True),
                direct_cap_per_call=fields.points(caller_sections.CAPS[0], required=False),
                direct_cap_per_day=fields.points(caller_sections.CAPS[1], required=False),
                access_group=fields.text("accessGroup", required=False) or None,
            ),
        )
        _password(fields, passwords)


def _groups(top: Fields) -> Iterator[tuple[str, Group]]:
    for fields in top.entries("groups", GROUP):
        people = tuple(text for _, text in fields.one_or_many("people", or_none=True))
        for number, person_id in enumerate(people):
            if person_id in people[:number]:
                fields.tell(f"people[{number}]", f"{person_id} is there twice: keep one of them")
        if not people and "people" not in fields:
            fields.tell("people", "is missing: list the staffId of each person")
        yield fields.path, Group(fields.text("id", maximum=100), fields.text("name"), tuple(sorted(set(people))))


def _grants(top: Fields, zone: tzinfo) -> Iterator[tuple[str, Grant]]:
    for fields in top.entries("grants", GRANT):
        right = fields.choice("right", _GRANTED)
        group = fields.text("group", maximum=100, required=False) or None
        if group and "person" in fields:
            fields.tell("group", "a grant is given to a person or to a group: keep one of them")
        yield (
            fields.path,
            Grant(
                grant_id="",
                person_id="" if group else fields.text("person", maximum=100),
                group_id=group,
                access_right=right or Right.MAKE,
                unit_id=fields.reference("unit"),
                request_type=fields.choice("type", tuple(TYPES)) if "type" in fields else None,
                points_max=fields.points("pointsMax", required=False),
                valid_from=fields.moment("from", zone),
                valid_until=fields.moment("until", zone),
            ),
        )


def _programme(top: Fields) -> Programme | None:
    if "programme" not in top:
        return None
    fields = top.section("programme", PROGRAMME)
    currency = fields.text("currencyPerPoint", required=False) or "1"
    if not _CURRENCY.fullmatch(currency) or Decimal(currency) <= 0:
        fields.tell("currencyPerPoint", "must be above 0, with at most 6 decimals")
        currency = "1"
    return Programme(
        fields.number("id"),
        fields.text("name"),
        Decimal(currency),
        fields.number("holdDays", default=7, high=3650),
        fields.number("releaseGraceHours", default=24, low=0, high=87_600),
        fields.number("goodwillExpiryDays", high=36_500) if "goodwillExpiryDays" in fields else None,
        fields.points("goodwillPointsMax", required=False),
    )


def _reason_codes(top: Fields) -> Iterator[tuple[str, ReasonCode]]:
    for fields in top.entries("reasonCodes", REASON_CODE):
        yield (
            fields.path,
            ReasonCode(
                fields.text("code", maximum=100),
                fields.text("name"),
                fields.choice("type", tuple(TYPES)) if "type" in fields else None,
            ),
        )


def _members(top: Fields, country_code: str, zone: tzinfo) -> Iterator[tuple[str, MemberEntry]]:
    for fields in top.entries("members", MEMBER):
        yield (
            fields.path,
            MemberEntry(
                fields.number("id"),
                dict(_identifiers(fields, country_code)),
                tuple(
                    Award(
                        lot.text("reference"),
                        lot.points("points") or 0,
                        lot.moment("awardedAt", zone, required=True),
                        lot.moment("expiresAt", zone),
                    )
                    for lot in fields.entries("lots", LOT)
                ),
            ),
        )


def _identifiers(fields: Fields, country_code: str) -> Iterator[tuple[str, str]]:
    for kind, name in IDENTIFIER_FIELDS.items():
        typed = fields.text(name, required=False, maximum=IDENTIFIER_LENGTH_MAX)
        if not typed:
            continue
        value = identifiers.normalise(kind, typed, country_code)
        if not value:
            fields.tell(name, "has no digit in it: write the number as the member gives it")
        elif kind == identifiers.EMAIL and not _EMAIL.fullmatch(value):
            fields.tell(name, "must be an e-mail address")
            value = ""
        yield kind, value
