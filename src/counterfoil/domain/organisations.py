"""One organisation as the rules see it: a snapshot of everything that administration controls."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from counterfoil.domain.access import Grant, OrgUnit, Right, units_above


@dataclass(frozen=True, slots=True)
class Person:
    """A human being behind logins; `person_id` is the stable staff id."""

    person_id: str
    name: str
    active: bool = True


@dataclass(frozen=True, slots=True)
class User:
    """A sign-in of a person. `epoch` rises when the password changes, which ends older tokens."""

    user_id: int
    user_name: str
    person_id: str
    password_hash: str | None = None
    epoch: int = 1
    active: bool = True


@dataclass(frozen=True, slots=True)
class Credential:
    """A calling system: till code and argon2id hash of the md5 form of its password."""

    login: str
    user_id: int
    secret_hash: str
    person_id: str | None = None
    unit_id: int | None = None
    rights: tuple[str, ...] = ()
    epoch: int = 1
    active: bool = True


@dataclass(frozen=True, slots=True)
class Host:
    """One entry of the host table: where payloads with such a hostname are executed.

    `private` allows addresses of private networks and loopback, `link_local` those of the link (among them
    the metadata services of clouds). `ca_pem`: the certificates to trust instead of the public ones.
    `credential_sealed` replaces the Authorization of the payload. `absent_after_seconds`: after this quiet time a
    look-up that finds nothing proves that a lost call had no effect; None: it never does.
    """

    host_id: str
    scheme: str
    pattern: str
    port: int
    target: str
    revision: int = 1
    base_url: str | None = None
    plain_http: bool = False
    private: bool = False
    link_local: bool = False
    ca_pem: str | None = None
    credential_sealed: str | None = None
    credential_mac: str | None = None
    attempt_seconds: float = 20.0
    overall_seconds: float = 900.0
    absent_after_seconds: float | None = None
    look_up: bool = True
    concurrency: int = 16

    @property
    def is_external(self) -> bool:
        """Whether requests are executed by calling it, not on the built-in ledger."""
        return self.target == "external"


@dataclass(frozen=True, slots=True)
class Policy:
    """What must be agreed before a request is executed. `approvals_required` is at least 1."""

    revision: int
    approvals_required: int = 1


@dataclass(frozen=True, slots=True)
class Programme:
    """The loyalty programme: worth of a point, life of a hold, grace of a lot released after its expiry."""

    programme_id: int
    name: str
    currency_per_point: Decimal = Decimal(1)
    hold_days: int = 7
    release_grace_hours: int = 24


@dataclass(frozen=True, slots=True)
class Organisation:
    """The snapshot at one `version`; any administrative write raises the version."""

    org_id: int
    version: int
    name: str
    time_zone: str
    wire_time_zone: str
    country_code: str
    profile: str
    control: str
    echo_credentials: str
    units: Mapping[int, OrgUnit]
    people: Mapping[str, Person]
    users: Mapping[int, User]
    credentials: Mapping[str, Credential]
    hosts: Sequence[Host]
    policy: Policy | None
    programme: Programme
    grants: Sequence[Grant]
    incident_quorum: int = 1
    users_by_name: Mapping[str, User] = field(init=False)
    grants_of_person: Mapping[str, Sequence[Grant]] = field(init=False)
    check_grants_at: Mapping[int | None, Sequence[Grant]] = field(init=False)
    people_with_user: frozenset[str] = field(init=False)
    _above: dict[int, frozenset[int]] = field(init=False, repr=False, compare=False, default_factory=dict)

    def host(self, host_id: str) -> Host | None:
        """The entry of the host table with this id."""
        return next((each for each in self.hosts if each.host_id == host_id), None)

    def above(self, unit_id: int) -> frozenset[int]:
        """The unit and every unit above it, worked out once per snapshot."""
        found = self._above.get(unit_id)
        if found is None:
            found = self._above[unit_id] = units_above(self.units, unit_id)
        return found

    def __post_init__(self) -> None:
        """Index what the rules look up on each request, once per snapshot."""
        of_person: dict[str, list[Grant]] = defaultdict(list)
        check_at: dict[int | None, list[Grant]] = defaultdict(list)
        for grant in self.grants:
            of_person[grant.person_id].append(grant)
            if grant.access_right is Right.CHECK:
                check_at[grant.unit_id].append(grant)
        active = {person.person_id for person in self.people.values() if person.active}
        for name, value in (
            ("users_by_name", {user.user_name.lower(): user for user in self.users.values()}),
            ("grants_of_person", of_person),
            ("check_grants_at", check_at),
            ("people_with_user", frozenset(u.person_id for u in self.users.values() if u.active) & active),
        ):
            object.__setattr__(self, name, value)
