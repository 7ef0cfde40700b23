"""Policies that cannot work are refused with line, field and a counter-example."""
# ruff: noqa: E501, ISC004 - a row of a table is a line, however long

from __future__ import annotations

import re
from pathlib import Path

import pytest

from counterfoil.application.organisation_files import read
from counterfoil.domain import organisation_files, policy_problems
from counterfoil.domain.organisation_files import Current

TOP = """\
organisation: {id: 7, name: Small, timeZone: Europe/London, countryCode: 44}
units:
  zones: [{id: 1, name: Town}]
  concepts: [{id: 2, name: Books}]
  stores: [{id: 3, name: High Street, zone: 1, concept: 2}]
  tills: [{id: 4, name: Front, code: town.1, store: 3}]
people:
  - {staffId: A, name: Ann, users: [{id: 11, userName: a}]}
  - {staffId: B, name: Bob, users: [{id: 12, userName: b}]}
  - {staffId: C, name: Cem, active: false}
groups:
  - {id: finance, name: Finance, people: [A, B]}
  - {id: gone, name: Gone, people: [C]}
programme: {id: 1, name: Points}
policy:
"""
LINES = TOP.count("\n")


def problems(policy: str, top: str = TOP) -> list[tuple[int, str, str]]:
    draft = read((top + policy).encode())
    found = list(draft.problems)
    if draft.file is not None:
        found += organisation_files.problems(draft.file, Current())
        if not draft.problems:
            found += policy_problems.problems(draft.file, Current())
    return [(draft.document.line(each.path) - LINES, each.path, each.message) for each in found]


GOOD = """\
  lifeHours: 48
  rules:
    - name: small
      when: {points: {upTo: 100}, makerGroup: finance}
      autoApprove: {perRequest: 50, perMember: 100, perMaker: 200, perDay: 1000}
      require: [{count: 1}]
    - name: night
      when: {any: [{time: {from: "22:00", until: "06:00"}}, {time: {days: [sat, sun]}}], not: {unit: [3]}}
      require: [{count: 2, level: zone, otherStore: true}]
    - name: rest
      require: [{count: 1}, {group: finance, step: 2}]
      commentAbove: 10.5
  caps:
    - {name: maker, per: maker, points: 5000, when: {type: POINTS-REDEMPTION}}
    - {name: large, per: request, points: 1000, require: [{group: finance, count: 2}]}
  claims: [{above: 100, approvals: 2}, {above: 1000, approvals: 4}]
  examples:
    - {name: a, request: {type: POINTS-REDEMPTION, unit: 4, points: 50, maker: A}, expect: {autoApproved: true, rule: small}}
    - {name: b, request: {type: POINTS-REDEMPTION, unit: 4, points: 51, maker: C}, expect: {approvals: 2, comment: true}}
    - {name: c, request: {type: POINTS-REDEMPTION, unit: 1, points: 1, at: 2026-11-23T23:30}, expect: {rule: night}}
    - {name: d, request: {type: POINTS-REDEMPTION, unit: 4, points: 5001, maker: A}, expect: {refused: true, lifeHours: 48}}
"""


def test_a_policy_that_works() -> None:
    assert problems(GOOD) == []


@pytest.mark.parametrize(
    ("policy", "line", "path", "said"),
    [
        ("  approvals: 0\n", 1, "policy.approvals", "from 1 to 100"),
        ("  approvals: 1\n  rules: [{name: a, require: [{}]}]\n", 1, "policy.approvals", "take this away"),
        ("  rules: []\n", 1, "policy.rules", "at least one rule"),
        ("  rules:\n  - {name: a}\n", 2, "policy.rules[0].require", "missing"),
        ("  rules:\n  - {name: a, require: []}\n", 2, "policy.rules[0].require", "at least one person"),
        ("  rules:\n  - name: a\n    require: [{count: 0}]\n", 3, "policy.rules[0].require[0].count", "from 1 to 100"),
        ("  rules:\n  - {name: a, require: [{group: x}]}\n", 2, "policy.rules[0].require[0].group", "no group x"),
        ("  rules:\n  - {name: a, require: [{group: gone}]}\n", 2, "policy.rules[0].require[0].group", "no active people"),
        ("  rules:\n  - {name: a, require: [{group: finance, count: 3}]}\n", 2, "policy.rules[0].require[0].group",
         "2 active people and 3"),
        ("  rules:\n  - {name: a, require: [{step: 2}]}\n", 2, "policy.rules[0].require", "without a gap"),
        ("  rules:\n  - {name: a, require: [{}, {}]}\n", 2, "policy.rules[0].require[1]", "raise the count"),
        ("  rules:\n  - {name: a, require: [{level: moon}]}\n", 2, "policy.rules[0].require[0].level", "one of store"),
        ("  rules:\n  - {name: a, when: {unit: 99}, require: [{}]}\n", 2, "policy.rules[0].when.unit", "no unit 99"),
        ("  rules:\n  - {name: a, when: {makerGroup: [x]}, require: [{}]}\n", 2, "policy.rules[0].when.makerGroup[0]",
         "no group x"),
        ("  rules:\n  - {name: a, when: {type: CASH}, require: [{}]}\n", 2, "policy.rules[0].when.type", "one of POINTS"),
        ("  rules:\n  - {name: a, when: {points: {above: 5, upTo: 5}}, require: [{}]}\n", 2,
         "policy.rules[0].when.points.upTo", "more than `above`"),
        ("  rules:\n  - {name: a, when: {time: {from: noon}}, require: [{}]}\n", 2, "policy.rules[0].when.time.from",
         "22:00"),
        ("  rules:\n  - {name: a, when: {points: {upTo: 100}}, require: [{}]}\n"
         "  - {name: b, when: {points: {above: 101}}, require: [{}]}\n", 1, "policy.rules",
         "no rule applies to: POINTS-REDEMPTION, 100.001 points"),
        ("  rules:\n  - {name: a, require: [{}]}\n  - {name: b, when: {unit: 4}, require: [{}]}\n", 3,
         "policy.rules[1]", "unit 4 is taken by a"),
        ("  rules:\n  - {name: a, when: {points: {upTo: 100}}, require: [{}]}\n"
         "  - {name: b, when: {points: {above: 90, upTo: 200}}, require: [{}]}\n  - {name: c, require: [{}]}\n", 3,
         "policy.rules[1].when.points", "100 points are in both"),
        ("  rules:\n  - {name: a, require: [{}]}\n  claims:\n  - {above: 5, approvals: 2}\n", 4, "policy.claims[0]",
         "5.001 points"),
        ("  rules:\n  - {name: a, autoApprove: {perRequest: 5, perMember: 5, perMaker: 5}}\n", 2,
         "policy.rules[0].autoApprove.perDay", "missing"),
        ("  rules:\n  - {name: a, autoApprove: {perRequest: 9, perMember: 5, perMaker: 5, perDay: 9}}\n", 2,
         "policy.rules[0].autoApprove", "must not allow more"),
        ("  caps:\n  - {name: a, per: pair, points: 5, require: [{}]}\n", 2, "policy.caps[0].require", "only refuse"),
        ("  rules:\n  - {name: a, require: [{}]}\n  - {name: a, require: [{}]}\n", 3, "policy.rules[1].name", "another name"),
        ("  rules:\n  - {name: a, require: [{}]}\n  examples:\n"
         "  - {name: x, request: {type: POINTS-REDEMPTION, unit: 4}, expect: {approvals: 2}}\n", 4,
         "policy.examples[0].expect.approvals", "expected 2, the policy says 1"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_told_with_line_field_and_a_counter_example(
    policy: str, line: int, path: str, said: str
) -> None:
    found = problems(policy)
    assert [(each[0], each[1]) for each in found][:1] == [(line, path)], found
    assert said in found[0][2]


@pytest.mark.parametrize(
    ("old", "new", "path", "said"),
    [
        ("{id: 1, name: Town}", "{id: 1, name: Town, active: false}", "units.zones[0].active", "3 below it is open"),
        ("{id: 1, name: Town}", "{id: 1, name: Town, parent: 1}", "units.zones[0].parent", "cannot be above itself"),
        ("people: [A, B]", "people: [A, X]", "groups[0].people[1]", "no person X"),
        ("people: [A, B]", "people: [A, A]", "groups[0].people[1]", "twice"),
        ("{id: gone,", "{id: finance,", "groups[1].id", "also at groups[0]"),
        ("programme:", "grants: [{group: x, right: CanCheckRequest}]\nprogramme:", "grants[0].group", "no group x"),
        (
            "programme:",
            "grants: [{group: gone, person: A, right: CanCheckRequest}]\nprogramme:",
            "grants[0].group",
            "keep one of them",
        ),
    ],
)
def test_units_groups_and_grants_that_cannot_work(old: str, new: str, path: str, said: str) -> None:
    found = problems("  approvals: 1\n", TOP.replace(old, new))
    assert [each[1] for each in found] == [path]
    assert said in found[0][2]


def test_closing_everything_below_as_well_is_fine() -> None:
    closed = TOP
    for name in ("Town", "Books"):
        closed = closed.replace(f"name: {name}", f"name: {name}, active: false")
    closed = closed.replace("zone: 1, concept: 2", "zone: 1, concept: 2, active: false")
    closed = closed.replace("store: 3", "store: 3, active: false")
    assert problems("  approvals: 1\n", closed) == []


def test_the_examples_of_the_documentation_work() -> None:
    """As they stand there, in the demo organisation."""
    root = Path(__file__).parents[2]
    demo = (root / "examples" / "demo-organisation.yaml").read_text(encoding="utf-8")
    page = (root / "docs" / "policies.md").read_text(encoding="utf-8")
    examples = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    assert len(examples) == 2
    for example in examples:
        assert problems(example, demo.replace("policy:\n  approvals: 1\n", "")) == []
