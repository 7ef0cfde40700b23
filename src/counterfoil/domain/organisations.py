"""One organisation as the rules see it: a snapshot of everything that administration controls."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from uuid import UUID
from zoneinfo import ZoneInfo

from msgspec import Struct
from msgspec.structs import replace

from counterfoil.domain.access import Grant, OrgUnit, Right, units_above, units_below
from counterfoil.domain.callers import BASIC, OAUTH, AccessGroup, TrustedIssuer
from counterfoil.domain.conditions import Test, asks_for_time, compiled
from counterfoil.domain.policies import Need, Rule
from counterfoil.domain.policies import Policy as Policy  # noqa: PLC0414 - part of a snapshot


@dataclass(frozen=True, slots=True)
class Person:
    """A human being behind logins; `person_id` is the stable staff id.

    `member_identifiers` are the (kind, value) by which this person is a member, too; `member_ids` whose they are.
    """

    person_id: str
    name: str
    active: bool = True
    member_identifiers: tuple[tuple[str, str], ...] = ()
    member_ids: tuple[int, ...] = field(default=(), compare=False)
    # Not a part of what an organisation file says: it follows from what happened to the person's sign-in.
    suspended_until: datetime | None = field(default=None, compare=False)


class Group(Struct, frozen=True):
    """People who are named together, in grants and in policies."""

    group_id: str
    name: str
    people: tuple[str, ...] = ()


class User(Struct, frozen=True):
    """A sign-in of a person. `epoch` rises when the password changes, which ends older tokens."""

    user_id: int
    user_name: str
    person_id: str
    password_hash: str | None = None
    epoch: int = 1
    active: bool = True


class Credential(Struct, frozen=True):
    """A calling system: a till's code and argon2id hash of the md5 form of its password, or an OAuth client.

    `unit_id` is the till that it calls for; an OAuth client may call for that unit and those below it only.
    """

    login: str
    user_id: int
    secret_hash: str
    person_id: str | None = None
    unit_id: int | None = None
    rights: tuple[str, ...] = ()
    epoch: int = 1
    active: bool = True
    direct_cap_per_call: int | None = None
    direct_cap_per_day: int | None = None
    kind: str = BASIC
    token_seconds: int | None = None
    access_group: str | None = None

    @property
    def is_client(self) -> bool:
        """Whether it is an OAuth client."""
        return self.kind == OAUTH


class Host(Struct, frozen=True):
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


class Programme(Struct, frozen=True):
    """The loyalty programme: worth of a point, life of a hold, grace of a lot released after its expiry.

    `goodwill_expiry_days` None: goodwill cannot be given. `goodwill_points_max` None: no cap; in thousandths.
    """

    programme_id: int
    name: str
    currency_per_point: Decimal = Decimal(1)
    hold_days: int = 7
    release_grace_hours: int = 24
    goodwill_expiry_days: int | None = None
    goodwill_points_max: int | None = None


class Delegation(Struct, frozen=True):
    """The deciding right of one person, lent to another; `valid_until` is exclusive."""

    delegation_id: UUID
    delegator_id: str
    delegate_id: str
    valid_from: datetime
    valid_until: datetime
    unit_id: int | None = None
    request_type: str | None = None
    points_max: int | None = None
    made_at: datetime | None = None
    ended_at: datetime | None = None

    def covers(self, request_type: str, points: int | None, now: datetime) -> bool:
        """Whether it counts for this type and amount at this time."""
        return (
            self.ended_at is None
            and self.valid_from <= now < self.valid_until
            and self.request_type in (None, request_type)
            and (self.points_max is None or (points is not None and points <= self.points_max))
        )


class Freeze(Struct, frozen=True):
    """What is stopped, by whom and since when, and who has had a part in lifting it."""

    freeze_id: UUID
    scope: str
    target: str
    reason: str
    placed_by: str
    placed_name: str
    placed_at: datetime
    lift_proposed_by: str | None = None
    lift_proposed_name: str | None = None
    lift_proposed_at: datetime | None = None
    lifted_by: str | None = None
    lifted_name: str | None = None
    lifted_at: datetime | None = None


class ReasonCode(Struct, frozen=True):
    """Why requests are rejected; `request_type` None stands for all types."""

    code: str
    name: str
    request_type: str | None = None


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
    grants: Sequence[Grant]  # as they were given: those to a group name the group alone
    groups: Mapping[str, Group] = field(default_factory=dict)
    delegations: Sequence[Delegation] = ()
    freezes: Sequence[Freeze] = ()
    reason_codes: Sequence[ReasonCode] = ()
    read_scope: str = "organisation"
    ever_capped: bool = False
    access_groups: Sequence[AccessGroup] = ()
    issuers: Sequence[TrustedIssuer] = ()
    incident_quorum: int = 1
    users_by_name: Mapping[str, User] = field(init=False)
    grants_of_person: Mapping[str, Sequence[Grant]] = field(init=False)
    check_grants_of: Mapping[str, Sequence[Grant]] = field(init=False)
    check_grants_at: Mapping[int | None, Sequence[Grant]] = field(init=False)
    administrator_grants: Mapping[str, Sequence[Grant]] = field(init=False)
    delegations_to: Mapping[str, Sequence[Delegation]] = field(init=False)
    groups_of: Mapping[str, frozenset[str]] = field(init=False)
    rules: Sequence[tuple[Test, Rule]] = field(init=False, compare=False)
    cap_tests: Mapping[str, Test] = field(init=False, compare=False)
    asks_for_time: bool = field(init=False)
    approves_by_itself: bool = field(init=False)
    zone: ZoneInfo = field(init=False)
    people_of_member: Mapping[object, frozenset[str]] = field(init=False)
    indispensable: dict[tuple[int, str, tuple[Need, ...], frozenset[int]], frozenset[str] | None] = field(
        init=False, repr=False, compare=False, default_factory=dict
    )
    people_with_user: frozenset[str] = field(init=False)
    _above: dict[int, frozenset[int]] = field(init=False, repr=False, compare=False, default_factory=dict)
    _below: dict[int, frozenset[int]] = field(init=False, repr=False, compare=False, default_factory=dict)
    _children: Mapping[int, Sequence[int]] = field(init=False, repr=False, compare=False)

    def is_administrator(self, person_id: str, now: datetime) -> bool:
        """Whether the person holds CanAdminister at this time."""
        return any(grant.is_valid(now) for grant in self.administrator_grants.get(person_id, ()))

    def may_have_a_voice(self, person_id: str, now: datetime) -> bool:
        """Whether the person may decide requests at all: can sign in, is not suspended, no administrator under dual."""
        if person_id not in self.people_with_user or (self.control == "dual" and self.is_administrator(person_id, now)):
            return False
        until = self.people[person_id].suspended_until
        return until is None or now >= until

    @property
    def settling_quorum(self) -> int:
        """How many people must say the same of an incident: under dual control nobody settles one alone."""
        return max(2, self.incident_quorum) if self.control == "dual" else self.incident_quorum

    def host(self, host_id: str) -> Host | None:
        """The entry of the host table with this id."""
        return next((each for each in self.hosts if each.host_id == host_id), None)

    def is_external(self, host_id: str) -> bool:
        """Whether requests with this entry are executed by calling another host."""
        host = self.host(host_id)
        return host is not None and host.is_external

    def above(self, unit_id: int) -> frozenset[int]:
        """The unit and every unit above it, worked out once per snapshot."""
        found = self._above.get(unit_id)
        if found is None:
            found = self._above[unit_id] = units_above(self.units, unit_id)
        return found

    def below(self, unit_id: int) -> frozenset[int]:
        """The unit and every unit below it, worked out once per snapshot."""
        found = self._below.get(unit_id)
        if found is None:
            found = self._below[unit_id] = units_below(self._children, unit_id)
        return found

    def __post_init__(self) -> None:
        """Index what the rules look up on each request, once per snapshot."""
        of_person: dict[str, list[Grant]] = defaultdict(list)
        check_of: dict[str, list[Grant]] = defaultdict(list)
        check_at: dict[int | None, list[Grant]] = defaultdict(list)
        administer: dict[str, list[Grant]] = defaultdict(list)
        for grant in self.personal_grants():
            of_person[grant.person_id].append(grant)
            if grant.access_right is Right.CHECK:
                check_of[grant.person_id].append(grant)
                check_at[grant.unit_id].append(grant)
            elif grant.access_right is Right.ADMINISTER:
                administer[grant.person_id].append(grant)
        lent_to: dict[str, list[Delegation]] = defaultdict(list)
        for each in self.delegations:
            lent_to[each.delegate_id].append(each)
        children: dict[int, list[int]] = defaultdict(list)
        for unit in self.units.values():
            for parent in (unit.store_id, unit.zone_parent_id, unit.concept_parent_id):
                if parent is not None:
                    children[parent].append(unit.unit_id)
        active = {person.person_id for person in self.people.values() if person.active}
        for name, value in (
            ("users_by_name", {user.user_name.lower(): user for user in self.users.values()}),
            ("grants_of_person", of_person),
            ("check_grants_of", check_of),
            ("check_grants_at", check_at),
            ("administrator_grants", administer),
            ("delegations_to", lent_to),
            ("_children", children),
            ("groups_of", self._groups_of()),
            ("people_of_member", self._people_of_member()),
            ("zone", ZoneInfo(self.time_zone)),
            *self._policy_indexes(),
            ("people_with_user", frozenset(u.person_id for u in self.users.values() if u.active) & active),
        ):
            object.__setattr__(self, name, value)

    def personal_grants(self) -> Iterator[Grant]:
        """Each grant with the person who has it; one to a group once for each of its people."""
        for grant in self.grants:
            if grant.group_id is None:
                yield grant
            elif grant.group_id in self.groups:
                for person_id in self.groups[grant.group_id].people:
                    yield replace(grant, person_id=person_id)

    def is_active(self, person_id: str) -> bool:
        """Whether the person is there and may act."""
        person = self.people.get(person_id)
        return person is not None and person.active

    def _groups_of(self) -> dict[str, frozenset[str]]:
        found: dict[str, set[str]] = defaultdict(set)
        for group in self.groups.values():
            for person_id in group.people:
                found[person_id].add(group.group_id)
        return {person_id: frozenset(groups) for person_id, groups in found.items()}

    def _people_of_member(self) -> dict[object, frozenset[str]]:
        """Who is concerned, by a member's number and by each identifier."""
        found: dict[object, set[str]] = defaultdict(set)
        for person in self.people.values():
            for key in (*person.member_identifiers, *person.member_ids):
                found[key].add(person.person_id)
        return {key: frozenset(people) for key, people in found.items()}

    def _policy_indexes(self) -> Iterator[tuple[str, object]]:
        """The policy as calls, compiled once."""
        policy = self.policy
        ladder, caps = (policy.ladder, policy.caps) if policy else ((), ())
        yield "rules", tuple((compiled(rule.when), rule) for rule in ladder)
        yield "cap_tests", {cap.name: compiled(cap.when) for cap in caps}
        yield "approves_by_itself", any(rule.auto is not None for rule in ladder)
        yield "asks_for_time", any(asks_for_time(when) for when in (*(r.when for r in ladder), *(c.when for c in caps)))
