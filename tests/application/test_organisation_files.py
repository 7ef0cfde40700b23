"""What an organisation file may say, and that every mistake in it is told with its line and field."""

from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from textwrap import dedent

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from counterfoil.application.administration import PasswordSources, resolve_passwords
from counterfoil.application.organisation_files import Draft, read
from counterfoil.domain import caller_entries, member_entries, organisation_files
from counterfoil.domain.access import Right, UnitKind
from counterfoil.domain.change_lines import describe
from counterfoil.domain.organisation_changes import difference
from counterfoil.domain.organisation_files import (
    Current,
    MemberEntry,
    OrganisationFile,
    OrganisationSettings,
    Problem,
)

DEMO = Path(__file__).parents[2] / "examples" / "demo-organisation.yaml"
NOW = datetime(2026, 11, 23, tzinfo=UTC)
HEAD = """\
organisation: {id: 7, name: Seven, timeZone: Asia/Kolkata, countryCode: 91}
programme: {id: 1, name: Points}
"""


def draft_of(text: str) -> Draft:
    return read((HEAD + dedent(text)).encode())


def file_of(text: str) -> OrganisationFile:
    draft = draft_of(text)
    assert draft.file is not None
    assert not problems_of(draft)
    return draft.file


def problems_of(draft: Draft, current: Current | None = None) -> list[tuple[int, str, str]]:
    current = current or Current()
    found: list[Problem] = list(draft.problems)
    if draft.file is not None:
        further: Iterable[Problem] = organisation_files.problems(draft.file, current)
        found += [*further, *caller_entries.problems(draft.file, current)]
        found += [*member_entries.problems(draft.file, current, NOW)]
    return [(draft.document.line(each.path), each.path, each.message) for each in found]


def only_problem(text: str, current: Current | None = None) -> tuple[int, str, str]:
    found = problems_of(draft_of(text), current)
    assert len(found) == 1, found
    line, path, message = found[0]
    return line - HEAD.count("\n"), path, message


def test_the_example_has_no_problem() -> None:
    draft = read(DEMO.read_bytes())
    assert problems_of(draft) == []
    assert draft.file is not None
    units = {unit.unit_id: unit for unit in draft.file.units.values()}
    assert units[50682288].zone_parent_id == 50682286
    assert units[50682288].concept_parent_id == 50678331
    assert units[50682289].kind is UnitKind.TILL
    [member, _] = draft.file.members.values()
    assert member.identifiers["mobile"] == "919988776655"
    assert [lot.points for lot in member.lots] == [150_000, 349_500]
    assert member.lots[0].expires_at == datetime(2098, 12, 31, 18, 30, tzinfo=UTC)
    free = [each.login for each in draft.file.credentials.values() if Right.MOVE_DIRECTLY in each.rights]
    assert free == ["sandbox.1"]


def test_values_are_taken_as_they_are_written() -> None:
    file = file_of("""\
    people:
      - {staffId: 0012, name: NO, active: false}
    members:
      - {id: 0005, mobile: 09988776655, externalId: 1_000, cardNumber: 007}
    """)
    [person] = file.people.values()
    assert (person.person_id, person.name, person.active) == ("0012", "NO", False)
    [member] = file.members.values()
    assert member == MemberEntry(5, {"mobile": "919988776655", "external_id": "1_000", "card_number": "007"}, ())


def test_what_is_not_listed_is_told_apart_from_an_empty_list() -> None:
    assert file_of("").grants is None
    assert file_of("grants: []").grants == {}


UNITS = "units: {zones: [{id: 1, name: Z}], concepts: [{id: 2, name: C}]}\n"


@pytest.mark.parametrize(
    ("text", "line", "path", "message"),
    [
        ("unit: {}", 1, "unit", "is no field here: use units"),
        ("policy: {approvals: 0}", 1, "policy.approvals", "from 1 to 100"),
        ("policy: {approvals: 1_0}", 1, "policy.approvals", "plain digits"),
        ("policy: [1]", 1, "policy", "must be a mapping"),
        ("hosts: {id: a}", 1, "hosts", "must be a list"),
        ("hosts: [{id: a, url: 'https://a.com', target: elsewhere}]", 1, "hosts[0].target", "ledger, external"),
        ("hosts: [{id: a, url: 'http://a.com', target: external}]", 1, "hosts[0].url", "plainHttp: true"),
        (
            "hosts:\n- id: a\n  url: https://a.com\n  target: external\n  baseUrl: https://u:p@b.com",
            5,
            "hosts[0].baseUrl",
            "a scheme, a host",
        ),
        (
            "hosts: [{id: a, url: 'https://a.com', target: external, baseUrl: 'https://b.com/../c'}]",
            1,
            "hosts[0].baseUrl",
            "a scheme, a host",
        ),
        (
            "hosts: [{id: a, url: 'https://a.com', target: external, caBundle: none}]",
            1,
            "hosts[0].caBundle",
            "BEGIN CERTIFICATE",
        ),
        (
            "hosts: [{id: a, url: 'https://a.com', target: external, attemptSeconds: 0}]",
            1,
            "hosts[0].attemptSeconds",
            "above 0",
        ),
        (
            "hosts: [{id: a, url: 'https://a.com', target: external, authorization: a, authorizationEnv: B}]",
            1,
            "hosts[0].authorizationEnv",
            "keep one of them",
        ),
        ("hosts: [{id: a, url: 'https://a.com', target: ledger, private: true}]", 1, "hosts[0].private", "external"),
        ("hosts: [{id: a, url: 'https://*.com', target: ledger}]", 1, "hosts[0].url", "too many hosts"),
        ("hosts: [{id: a, url: 'https://u@b.com/x', target: ledger}]", 1, "hosts[0].url", "a scheme and host"),
        ("hosts: [{id: a, url: a.example.com, target: ledger}]", 1, "hosts[0].url", "a scheme and host"),
        (
            (
                "hosts:\n- {id: a, url: 'https://A.example.com/', target: ledger}\n"
                "- {id: b, url: 'https://a.example.com:443', target: ledger}"
            ),
            3,
            "hosts[1].url",
            "is also at hosts[0]",
        ),
        ("people:\n- staffId: a\n  name: A\n  name: B", 4, "people[0].name", "is there twice"),
        ("people:\n- staffId: a", 2, "people[0].name", "is missing"),
        ("people: [{staffId: a, name: A, active: no}]", 1, "people[0].active", "true or false"),
        ('people: [{staffId: a, name: "A\\0"}]', 1, "people[0].name", "control characters"),
        ("people: [{staffId: a, name: A}, {staffId: a, name: B}]", 1, "people[1].staffId", "person a is also at"),
        (
            "people: [{staffId: a, name: A, users: [{id: 99999999999999999999, userName: x}]}]",
            1,
            "people[0].users[0].id",
            "9223372036854775807",
        ),
        (
            "people: [{staffId: a, name: A, users: [{id: 1, userName: Tom}, {id: 2, userName: tOM}]}]",
            1,
            "people[0].users[1].userName",
            "user name tom is also at",
        ),
        (
            "people: [{staffId: a, name: A, users: [{id: 1, userName: x, password: ''}]}]",
            1,
            "people[0].users[0].password",
            "leave it out",
        ),
        (
            "people: [{staffId: a, name: A, users: [{id: 1, userName: x, password: a, passwordEnv: B}]}]",
            1,
            "people[0].users[0].passwordEnv",
            "keep one of them",
        ),
        ("units: {zones: [{id: 1, name: A, parent: 9}]}", 1, "units.zones[0].parent", "there is no zone 9"),
        ("units: {zones: [{id: 0, name: A}]}", 1, "units.zones[0].id", "from 1 to"),
        ("units: {zones: [{id: -1, name: A}]}", 1, "units.zones[0].id", "from 1 to"),
        ("units: {zones: [{id: \N{ARABIC-INDIC DIGIT ONE}, name: A}]}", 1, "units.zones[0].id", "plain digits"),
        (
            "units: {zones: [{id: 1, name: A}], concepts: [{id: 1, name: B}]}",
            1,
            "units.concepts[0].id",
            "unit 1 is also at units.zones[0]",
        ),
        (
            "units:\n  zones:\n  - {id: 1, name: A, parent: 2}\n  - {id: 2, name: B, parent: 1}",
            3,
            "units.zones[0].parent",
            "1 → 2 → 1",
        ),
        ("units: {concepts: [{id: 1, name: A, parent: 1}]}", 1, "units.concepts[0].parent", "1 → 1"),
        ("units: {tills: [{id: 1, name: A, code: a}]}", 1, "units.tills[0].store", "is missing"),
        (
            UNITS.replace("]}\n", "], stores: [{id: 3, name: S, zone: 2, concept: 2}]}"),
            1,
            "units.stores[0].zone",
            "unit 2 is a concept, not a zone",
        ),
        ("credentials: [{login: 'a:b', id: 1, password: x}]", 1, "credentials[0].login", "no colon"),
        ("credentials: [{login: ab, id: 1}]", 1, "credentials[0]", "needs a password"),
        ("credentials: [{login: a, id: 1, passwordMd5: x}]", 1, "credentials[0].passwordMd5", "32 hexa"),
        ("credentials: [{login: a, id: 1, password: x, till: 5}]", 1, "credentials[0].till", "no till 5"),
        ("credentials: [{login: a, id: 1, password: x, person: p}]", 1, "credentials[0].person", "no person p"),
        (
            "credentials: [{login: a, id: 1, password: x, rights: [CanDoAll]}]",
            1,
            "credentials[0].rights[0]",
            "must be CanMovePointsDirectly",
        ),
        (
            "credentials: [{login: a, id: 1, password: x, rights: [CanMakeRequest]}]",
            1,
            "credentials[0].rights[0]",
            "put a grant",
        ),
        (
            "credentials: [{login: a, id: 1, password: x}, {login: b, id: 1, password: x}]",
            1,
            "credentials[1].id",
            "id 1 is also at",
        ),
        ("grants: [{person: p, right: CanMakeRequest}]", 1, "grants[0].person", "there is no person p"),
        (
            "people: [{staffId: p, name: P}]\ngrants: [{person: p, right: CanFly}]",
            2,
            "grants[0].right",
            "must be one of CanMakeRequest, CanCheckRequest",
        ),
        (
            "people: [{staffId: p, name: P}]\ngrants: [{person: p, right: CanMakeRequest, unit: 4}]",
            2,
            "grants[0].unit",
            "there is no unit 4",
        ),
        (
            "people: [{staffId: p, name: P}]\ngrants: [{person: p, right: CanMakeRequest, type: X}]",
            2,
            "grants[0].type",
            "POINTS-REDEMPTION",
        ),
        (
            (
                "people: [{staffId: p, name: P}]\n"
                "grants: [{person: p, right: CanMakeRequest, from: 2026-02-01, until: 2026-01-01}]"
            ),
            2,
            "grants[0].until",
            "after `from`",
        ),
        (
            (
                "people: [{staffId: p, name: P}]\n"
                "grants: [{person: p, right: CanMakeRequest}, {person: p, right: CanMakeRequest}]"
            ),
            2,
            "grants[1]",
            "the same grant as grants[0]",
        ),
        *(
            (
                (
                    "people: [{staffId: p, name: P}]\n"
                    f"grants: [{{person: p, right: CanCheckRequest, type: {kind}, pointsMax: 5}}]"
                ),
                2,
                "grants[0].pointsMax",
                "have no points",
            )
            for kind in ("EARN-BADGE", "ISSUE-BADGE", "CUSTOMER-STATUS-CHANGE", "RETRO-TRANSACTION")
        ),
        ("members: [{id: 1}]", 1, "members[0]", "a new member needs one of mobile"),
        ("members: [{id: 1, mobile: none}]", 1, "members[0].mobile", "no digit"),
        ("members: [{id: 1, email: tom}]", 1, "members[0].email", "e-mail"),
        (
            "members:\n- {id: 1, mobile: 9988776655}\n- {id: 2, mobile: '+91 99887 76655'}",
            3,
            "members[1].mobile",
            "919988776655 is also at members[0]",
        ),
        (
            "members: [{id: 1, externalId: a}, {id: 1, externalId: b}]",
            1,
            "members[1].id",
            "member 1 is also at members[0]",
        ),
        (
            "members: [{id: 1, externalId: a, lots: [{reference: r, points: 1.2345, awardedAt: 2026-01-01}]}]",
            1,
            "members[0].lots[0].points",
            "at most 3 decimals",
        ),
        (
            "members: [{id: 1, externalId: a, lots: [{reference: r, points: 0, awardedAt: 2026-01-01}]}]",
            1,
            "members[0].lots[0].points",
            "above 0",
        ),
        (
            "members: [{id: 1, externalId: a, lots: [{reference: r, points: 1, awardedAt: 2026-02-30}]}]",
            1,
            "members[0].lots[0].awardedAt",
            "must be a day or a time",
        ),
        (
            "members: [{id: 1, externalId: a, lots: [{reference: r, points: 1, awardedAt: 2030-01-01}]}]",
            1,
            "members[0].lots[0].awardedAt",
            "in the future",
        ),
        (
            (
                "members: [{id: 1, externalId: a, lots: "
                "[{reference: r, points: 1, awardedAt: 2026-01-01, expiresAt: 2026-01-01}]}]"
            ),
            1,
            "members[0].lots[0].expiresAt",
            "after awardedAt",
        ),
        (
            (
                "members: [{id: 1, externalId: a, lots: [{reference: r, points: 1, awardedAt: 2026-01-01}, "
                "{reference: r, points: 1, awardedAt: 2026-01-01}]}]"
            ),
            1,
            "members[0].lots[1].reference",
            "r is also at",
        ),
    ],
)
def test_a_mistake_is_told_with_its_line_and_field(text: str, line: int, path: str, message: str) -> None:
    told = only_problem(text)
    assert told[:2] == (line, path)
    assert message in told[2]


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("id", "x", "whole number"),
        ("timeZone", "Asia/Kolkatta", "is no time zone"),
        ("timeZone", "../../etc/passwd", "is no time zone"),
        ("wireTimeZone", "Mars", "is no time zone"),
        ("countryCode", "999", "no country calling code"),
        ("countryCode", "IN", "no country calling code"),
        ("profile", "lax", "contract, strict"),
        ("control", "triple", "single, dual"),
        ("echoCredentials", "none", "create, all"),
        ("readScope", "own", "organisation, units"),
    ],
)
def test_a_mistake_in_the_organisation(field: str, value: str, message: str) -> None:
    fields = {"id": "7", "name": "Seven", "timeZone": "Asia/Kolkata", "countryCode": "91"} | {field: value}
    lines = "".join(f"  {name}: {each}\n" for name, each in fields.items())
    draft = read(f"organisation:\n{lines}programme: {{id: 1, name: P}}\n".encode())
    [(line, path, told)] = problems_of(draft)
    assert (line, path) == (2 + list(fields).index(field), f"organisation.{field}")
    assert message in told


def test_every_mistake_is_told_at_once() -> None:
    draft = draft_of("""\
    policy: {approvals: none}
    people:
      - {staffId: a, name: A, users: [{id: b, userName: x}]}
      - {staffId: c, nme: C}
    grants:
      - {person: nobody, right: CanMakeRequest, until: soon}
    members:
      - {id: 1, lots: [{reference: r, points: -1, awardedAt: today}]}
    """)
    assert sorted(path for _, path, _ in problems_of(draft)) == [
        "grants[0].person",
        "grants[0].until",
        "members[0]",
        "members[0].lots[0].awardedAt",
        "members[0].lots[0].points",
        "people[0].users[0].id",
        "people[1].name",
        "people[1].nme",
        "policy.approvals",
    ]


@pytest.mark.parametrize(
    ("content", "line", "message"),
    [
        (b"", 1, "is empty"),
        (b"a: b\n\xff", 1, "is not UTF-8 (line 2)"),
        (b"organisation:\n  id: [1\n", 3, "is not YAML"),
        (b"organisation: {id: 1}\n---\na: b\n", 2, "is not YAML"),
        (b"organisation: {id: 1, name: \x07}\n", 1, "does not allow"),
        (b"- 1\n", 1, "must be a mapping"),
        (b"[" * 5000 + b"\n", None, "YAML"),
    ],
)
def test_what_is_no_file_of_ours(content: bytes, line: int | None, message: str) -> None:
    draft = read(content)
    assert draft.file is None
    assert any((line is None or told[0] == line) and message in told[2] for told in problems_of(draft))


def test_a_password_is_never_shown(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("from-file\n", encoding="utf-8")
    draft = draft_of("""\
    people:
      - staffId: a
        name: A
        users:
          - {id: 1, userName: u1, password: in-the-file}
          - {id: 2, userName: u2, passwordEnv: SECRET}
          - {id: 3, userName: u3, passwordFile: secret}
          - {id: 4, userName: u4, passwordPrompt: true}
          - {id: 5, userName: u5, passwordPrompt: false}
    credentials:
      - {login: c1, id: 11, password: "123"}
      - {login: c2, id: 12, passwordMd5: 202CB962AC59075B964B07152D234B70}
    """)
    file = draft.file
    assert file is not None
    assert "in-the-file" not in repr(file)
    sources = PasswordSources({"SECRET": "from-env"}, tmp_path, lambda _: "typed")
    assert resolve_passwords(draft, file, sources) == {
        "people[0].users[0]": "in-the-file",
        "people[0].users[1]": "from-env",
        "people[0].users[2]": "from-file",
        "people[0].users[3]": "typed",
        "credentials[0]": "202cb962ac59075b964b07152d234b70",
        "credentials[1]": "202cb962ac59075b964b07152d234b70",
    }
    assert not draft.problems
    hashes = dict.fromkeys(file.passwords, "argon2id-hash")
    told = "\n".join(line.text for line in describe(difference(file, Current(), hashes)))
    assert "password set" in told
    for secret in ("in-the-file", "from-env", "from-file", "typed", "202cb", "argon2id-hash"):
        assert secret not in told


def test_a_password_that_cannot_be_had_is_a_problem(tmp_path: Path) -> None:
    draft = draft_of("""\
    credentials:
      - {login: c1, id: 11, passwordEnv: MISSING}
      - {login: c2, id: 12, passwordFile: nowhere}
      - {login: c3, id: 13, passwordPrompt: true}
    """)
    assert draft.file is not None
    assert resolve_passwords(draft, draft.file, PasswordSources({}, tmp_path, None)) == {}
    assert [problem.path for problem in draft.problems] == [
        "credentials[0].passwordEnv",
        "credentials[1].passwordFile",
        "credentials[2].passwordPrompt",
    ]


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ("goodwillExpiryDays: 1, goodwillPointsMax: 0.001", None),
        ("goodwillExpiryDays: 36500, goodwillPointsMax: 999999999999", None),
        ("goodwillExpiryDays: 0", "goodwillExpiryDays"),
        ("goodwillExpiryDays: 36501", "goodwillExpiryDays"),
        ("goodwillExpiryDays: never", "goodwillExpiryDays"),
        ("goodwillPointsMax: 0", "goodwillPointsMax"),
        ("goodwillPointsMax: -5", "goodwillPointsMax"),
        ("goodwillPointsMax: 1.0001", "goodwillPointsMax"),
        ("goodwillPointsMax: all", "goodwillPointsMax"),
    ],
)
def test_the_settings_of_goodwill(fields: str, wrong: str | None) -> None:
    """What 2018 would be about is refused with its field."""
    text = HEAD.replace("name: Points", f"name: Points, {fields}")
    found = [path for _, path, _ in problems_of(read(text.encode()))]
    assert found == ([] if wrong is None else [f"programme.{wrong}"])


def test_references_may_be_to_what_the_database_has() -> None:
    known = file_of(UNITS)
    current = Current(
        settings=known.settings,
        version=1,
        units={unit.unit_id: unit for unit in known.units.values()},
        programme=known.programme,
    )
    assert problems_of(draft_of("units: {stores: [{id: 3, name: S, zone: 1, concept: 2}]}"), current) == []
    kind = only_problem("units: {concepts: [{id: 1, name: Z}]}", current)
    assert kind[1:] == ("units.concepts[0].id", "unit 1 is a zone, which it stays: use another id")
    loop = only_problem("units: {zones: [{id: 1, name: Z, parent: 9}, {id: 9, name: N, parent: 1}]}", current)
    assert "cannot be above itself" in loop[2]


def test_members_do_not_take_each_others_identifiers() -> None:
    settings_ = OrganisationSettings(7, "Seven", "Asia/Kolkata", "Asia/Kolkata", "91", "contract", "single", "create")
    members = {1: MemberEntry(1, {"external_id": "a"}), 2: MemberEntry(2, {"external_id": "b"})}
    owners = {("external_id", "a"): 1, ("external_id", "b"): 2}
    current = Current(settings_, 1, programme=file_of("").programme, has_members=True, members=members, owners=owners)
    assert "belongs to member 1" in only_problem("members: [{id: 2, externalId: a}]", current)[2]
    assert not problems_of(draft_of("members: [{id: 2, externalId: a}, {id: 1, externalId: b}]"), current)


WORDS = st.one_of(
    st.text(max_size=12),
    st.sampled_from(["1", "-1", "a", "true", "null", "~", "2026-01-01", "9" * 25, "[]", "{}", "[[1]]", "&a b", "*a"]),
)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_no_file_makes_it_stumble(data: st.DataObject) -> None:
    """The example with some words replaced: problems at most, each on a line of the file."""
    lines = DEMO.read_text(encoding="utf-8").splitlines()
    for _ in range(data.draw(st.integers(1, 4))):
        index = data.draw(st.integers(0, len(lines) - 1))
        words = lines[index].split(" ")
        words[data.draw(st.integers(0, len(words) - 1))] = data.draw(WORDS)
        lines[index] = " ".join(words)
    draft = read("\n".join(lines).encode("utf-8", "surrogatepass"))
    for line, _, message in problems_of(draft):
        assert 1 <= line <= len("\n".join(lines).splitlines()) + 1
        assert message
