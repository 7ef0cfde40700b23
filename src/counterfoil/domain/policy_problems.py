"""What is wrong with a policy, or with an organisation file for the policy that stays: each with a counter-example."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal

from msgspec import Struct

from counterfoil.domain import proofs, rulings
from counterfoil.domain.access import OrgUnit
from counterfoil.domain.conditions import Facts
from counterfoil.domain.organisation_files import Current, OrganisationFile, Problem
from counterfoil.domain.organisations import Group, Organisation, Programme
from counterfoil.domain.payload_types import WITH_POINTS
from counterfoil.domain.payloads import points_text
from counterfoil.domain.policies import CapSubject, Policy, describe_needs
from counterfoil.domain.policy_files import Example, PolicyFile
from counterfoil.domain.policy_texts import describe_rule

MONDAY_NOON = 12 * 60


def problems(file: OrganisationFile, current: Current) -> Iterator[Problem]:
    """Everything about the policy that cannot be applied."""
    after = prospect(file, current)
    section = file.policy
    if section is None:
        if file.groups is not None or file.people or file.users:
            yield from groups_in_need(after, "people" if file.groups is None else "groups")
        return
    found = [*_mentions(section, after), *_sections(section)]
    yield from found
    if not found:
        yield from _proof(section, after.units)
        yield from failed_examples(section, after)


def prospect(file: OrganisationFile, current: Current) -> Organisation:
    """The organisation as the file would leave it, as far as policies ask."""
    known = file.policy.policy if file.policy else current.policy
    groups = current.groups if file.groups is None else {group.group_id: group for group in file.groups.values()}
    settings = file.settings
    return Organisation(
        org_id=settings.org_id,
        version=current.version,
        name=settings.name,
        time_zone=settings.time_zone or "UTC",
        wire_time_zone=settings.wire_time_zone or "UTC",
        country_code=settings.country_code,
        profile=settings.profile,
        control=settings.control,
        echo_credentials=settings.echo_credentials,
        units={**current.units, **{unit.unit_id: unit for unit in file.units.values()}},
        people={**current.people, **{person.person_id: person for person in file.people.values()}},
        users={**current.users, **{user.user_id: user for user in file.users.values()}},
        credentials={},
        hosts=(),
        policy=known or Policy(1),
        programme=Programme(0, "", Decimal(1)),
        grants=current.grants if file.grants is None else tuple(file.grants.values()),
        groups=groups,
    )


def _members(organisation: Organisation, group: Group) -> int:
    """How many of the group can sign in to decide."""
    return len(organisation.people_with_user.intersection(group.people))


def _mentions(section: PolicyFile, after: Organisation) -> Iterator[Problem]:
    for mention in section.mentions:
        if mention.unit_id is not None and mention.unit_id not in after.units:
            yield Problem(mention.path, f"there is no unit {mention.unit_id}: list it under units")
        if mention.group_id is None:
            continue
        group = after.groups.get(mention.group_id)
        if group is None:
            yield Problem(mention.path, f"there is no group {mention.group_id}: list it under groups")
        elif mention.count and _members(after, group) < mention.count:
            has = _members(after, group) or "no"
            yield Problem(
                mention.path,
                f"the group {mention.group_id} has {has} active people who can sign in, and {mention.count} must "
                "approve: add some",
            )


def groups_in_need(after: Organisation, path: str) -> Iterator[Problem]:
    """Each group that the policy asks for more people of than could decide."""
    policy = after.policy
    rows = [*((r.name, r.needs) for r in policy.rules), *((c.name, c.needs) for c in policy.caps)] if policy else []
    for name, needs in rows:
        for need in needs:
            group = after.groups.get(need.group or "")
            if need.group is not None and (group is None or _members(after, group) < need.count):
                told = f"the policy asks for {need.count} of the group {need.group} ({name})"
                yield Problem(
                    path, f"{told}, which has fewer who can sign in: keep them, or change the policy in the same file"
                )


def _sections(section: PolicyFile) -> Iterator[Problem]:
    """What a rule or cap gets wrong by itself."""
    for number, rule in enumerate(section.policy.rules):
        for index, need in enumerate(rule.needs):
            if need in rule.needs[:index]:
                first = rule.needs.index(need)
                where = f"policy.rules[{number}].require"
                yield Problem(f"{where}[{index}]", f"is the same as {where}[{first}]: raise the count of that one")
        auto = rule.auto
        if auto and not auto.per_request <= min(auto.per_member, auto.per_maker) <= auto.per_day:
            yield Problem(
                f"policy.rules[{number}].autoApprove",
                "must not allow more for a request than for a member or a maker, nor more for these than for a day",
            )
    for first, second, points in proofs.overlapping(section.policy):
        yield Problem(
            f"policy.rules[{second}].when.points",
            f"overlaps with policy.rules[{first}]: {points_text(points)} points are in both. Let one begin where the "
            "other ends",
        )


def _proof(section: PolicyFile, units: Mapping[int, OrgUnit]) -> Iterator[Problem]:
    try:
        found = proofs.examine(section.policy, units)
    except proofs.TooManyRegions:
        yield Problem("policy.rules", "too many kinds of requests are told apart to look at each: simplify them")
        return
    for region in found.gaps[:1]:
        told = proofs.describe_example(region, units)
        yield Problem("policy.rules", f"no rule applies to: {told}. Add a rule, at best a last one without `when`")
    for number, rule in enumerate(section.policy.rules):
        if rule.name not in found.reached:
            taken = _taken_by(section.policy, number, units)
            yield Problem(f"policy.rules[{number}]", f"never applies, because earlier rules take everything: {taken}")
    for number, rule in enumerate(section.policy.rules):
        types = frozenset[str]().union(*(leaf.region.types for leaf in found.executed if leaf.rule == rule))
        if rule.auto is not None and types and not types & WITH_POINTS:
            yield Problem(
                f"policy.rules[{number}].autoApprove",
                f"approves nothing: the rule is about {', '.join(sorted(types))}, and nothing without points is ever "
                "approved automatically. Take it away, and say in `require` who must approve",
            )
    for claim in section.claims:
        broken = proofs.breach(found, claim.above, claim.approvals)
        if broken is not None:
            region, rule = broken
            yield Problem(claim.path, f"is not true of: {proofs.describe_example(region, units)} ({rule.name})")


def _taken_by(policy: Policy, number: int, units: Mapping[int, OrgUnit]) -> str:
    """An input that the rule names and an earlier rule takes."""
    whole = proofs.apart(proofs.everything(policy, units))
    for region, applies in (part for each in whole for part in proofs.split(policy.rules[number].when, each)):
        if applies:
            _, facts = proofs.example(region, units)
            for rule in policy.rules[:number]:
                if any(truth for _, truth in proofs.split(rule.when, proofs.point(region, facts))):
                    return f"{proofs.describe_example(region, units)} is taken by {rule.name}"
    return "nothing is in its band"


class Outcome(Struct, frozen=True):
    """What the policy says about an example."""

    rule: str | None
    approvals: int
    is_automatic: bool
    needs_comment: bool
    life_hours: int | None
    is_refused: bool
    text: str


def outcome_of(organisation: Organisation, case: Example) -> Outcome:
    """Apply the policy to an example; counters stand at 0."""
    facts = rulings.facts_of(
        organisation, case.maker, case.login, case.unit_id, case.request_type, case.points, case.at
    )
    if case.at is None:
        facts = Facts(facts.request_type, facts.places, facts.points, facts.maker_groups, facts.login, MONDAY_NOON)
    rule = rulings.rule_for(organisation, facts)
    if rule is None:
        return Outcome(
            None, 0, is_automatic=False, needs_comment=False, life_hours=None, is_refused=True, text="no rule"
        )
    policy = organisation.policy or Policy(1)
    needs, is_refused = rule.needs, False
    for cap in policy.caps:
        if cap.per is not CapSubject.PAIR and case.points > cap.points and organisation.cap_tests[cap.name](facts):
            needs += cap.needs
            is_refused = is_refused or not cap.needs
    is_automatic = (
        not is_refused
        and needs == rule.needs
        and rule.auto is not None
        and case.request_type in WITH_POINTS
        and case.points <= rule.auto.per_request
    )
    return Outcome(
        rule.name,
        0 if is_automatic else sum(need.count for need in needs),
        is_automatic,
        rule.comment_above is not None and case.points > rule.comment_above,
        rule.life_hours,
        is_refused,
        "refused by a cap" if is_refused else "automatic" if is_automatic else describe_needs(needs),
    )


def failed_examples(section: PolicyFile, organisation: Organisation) -> Iterator[Problem]:
    """Examples with another outcome than the one that is expected."""
    for case in section.examples:
        if case.unit_id not in organisation.units:
            yield Problem(f"{case.path}.request.unit", f"there is no unit {case.unit_id}: list it under units")
            continue
        if case.maker and case.maker not in organisation.people:
            yield Problem(f"{case.path}.request.maker", f"there is no person {case.maker}: list them under people")
            continue
        found = outcome_of(organisation, case)
        for field, expected, got in (
            ("rule", case.rule, found.rule),
            ("approvals", case.approvals, found.approvals),
            ("autoApproved", case.is_automatic, found.is_automatic),
            ("comment", case.needs_comment, found.needs_comment),
            ("lifeHours", case.life_hours, found.life_hours),
            ("refused", case.is_refused, found.is_refused),
        ):
            if expected is not None and expected != got:
                yield Problem(
                    f"{case.path}.expect.{field}",
                    f"{case.name}: expected {_said(expected)}, the policy says {_said(got)}",
                )


def _said(value: object) -> str:
    return "true" if value is True else "false" if value is False else str(value)


def matrix(policy: Policy) -> list[str]:
    """The rules in order, one line each."""
    return [describe_rule(rule) for rule in policy.ladder]
