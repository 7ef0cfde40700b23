"""Organisation files on real PostgreSQL: applied whole or not at all, once, and taken back where they say so."""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from msgspec.structs import replace

from counterfoil.application.administration import CannotApply, PasswordSources, apply_to
from counterfoil.application.organisation_files import read
from counterfoil.application.passwords import Passwords
from counterfoil.domain import seals
from counterfoil.domain.access import Right
from counterfoil.domain.change_lines import describe
from counterfoil.domain.organisation_changes import Difference
from counterfoil.domain.organisations import Organisation
from counterfoil.storage import administration, migrations, organisations

pytestmark = pytest.mark.anyio
DEMO = Path(__file__).parents[2] / "examples" / "demo-organisation.yaml"
ORG = 51250
MD5_OF_123 = b"202cb962ac59075b964b07152d234b70"
NOBODY_TO_ASK = PasswordSources({}, Path(), None)
SMALL = """
organisation: {id: 7, name: Seven, timeZone: UTC, countryCode: 91}
programme: {id: 1, name: Points}
"""


@pytest.fixture
async def connection(database_url: str) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


async def apply(url: str, text: str, *, dry_run: bool = False) -> Difference:
    return await apply_to(url, read(text.encode()), NOBODY_TO_ASK, operator="tester", dry_run=dry_run)


async def organisation_of(connection: Any, org_id: int = ORG) -> Organisation:
    found = await organisations.find_organisation(connection, org_id)
    assert found is not None
    return found


async def everything(connection: Any) -> dict[str, list[str]]:
    """Every row of every table, as text."""
    tables = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1")
    rows: dict[str, list[str]] = {}
    for (name,) in tables:
        found = await connection.fetch(f'SELECT t::text FROM "{name}" t')  # noqa: S608 - a name from the catalogue
        rows[name] = sorted(row[0] for row in found)
    return rows


def lines_of(difference: Difference) -> list[str]:
    return [f"{line.sign} {line.text}" for line in describe(difference)]


def demo(*replacements: tuple[str, str]) -> str:
    text = DEMO.read_text(encoding="utf-8")
    for old, new in replacements:
        assert old in text
        text = text.replace(old, new)
    return text


async def test_the_demo_organisation_is_made_and_then_stays(database_url: str, connection: Any) -> None:
    made = await apply(database_url, demo())
    assert "+ policy revision 1: approvals 1" in lines_of(made)
    organisation = await organisation_of(connection)
    assert organisation.version == made.version == 1
    assert organisation.users_by_name["tomswayer@tipent.com"].user_id == 232134
    assert organisation.credentials["ind.1"].rights == ()
    assert organisation.credentials["sandbox.1"].rights == (Right.MOVE_DIRECTLY,)
    assert organisation.policy is not None
    assert await organisations.find_organisation_of_login(connection, "ind.1") == ORG
    before = await everything(connection)
    assert not await apply(database_url, demo())
    assert await everything(connection) == before


async def test_passwords_are_kept_as_argon2id_of_what_callers_send(database_url: str, connection: Any) -> None:
    await apply(database_url, demo())
    organisation = await organisation_of(connection)
    passwords = Passwords()
    secret_hash = organisation.credentials["ind.1"].secret_hash
    assert secret_hash.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert await passwords.verify(MD5_OF_123, secret_hash, 0.0)
    maker_hash = organisation.users[232134].password_hash
    assert await passwords.verify(b"maker-demo", maker_hash, 0.0)
    passwords.close()


async def test_a_new_credential_needs_a_password_an_old_one_keeps_its_own(database_url: str) -> None:
    text = SMALL + "credentials: [{login: till.1, id: 5, passwordPrompt: true}]\n"
    asked: list[str] = []

    async def answer(told: str) -> Difference:
        def ask(prompt: str) -> str:
            asked.append(prompt)
            return told

        sources = PasswordSources({}, Path(), ask)
        return await apply_to(database_url, read(text.encode()), sources, operator="tester", dry_run=False)

    with pytest.raises(CannotApply, match="needs a password"):
        await answer("")
    assert await answer("secret")
    assert not await answer("")
    assert not await answer("secret")
    assert asked == ["Password of credential till.1 (empty: leave as it is): "] * 4


async def test_only_another_password_raises_the_epoch(database_url: str, connection: Any) -> None:
    await apply(database_url, demo())
    as_plain_text = demo(("passwordMd5: 202cb962ac59075b964b07152d234b70", 'password: "123"'))
    assert not await apply(database_url, as_plain_text)
    left_out = demo((", password: maker-demo", ""))
    assert not await apply(database_url, left_out)
    changed = demo(("password: maker-demo", "password: other"), ("202cb962", "ffffffff"))
    assert lines_of(await apply(database_url, changed)) == [
        "~ user 232134 password: changed; what was issued for the old one ends",
        "~ credential ind.1 password: changed; what was issued for the old one ends",
    ]
    organisation = await organisation_of(connection)
    assert organisation.version == 2
    assert (organisation.users[232134].epoch, organisation.users[232135].epoch) == (2, 1)
    assert organisation.credentials["ind.1"].epoch == 2


async def test_what_differs_is_changed_and_shown(database_url: str, connection: Any) -> None:
    await apply(database_url, demo())
    later = demo(
        ("name: Connaught Place till 1", "name: Till one"),
        ("name: Asha Checker", "name: Asha Rao, active: false"),
        ("approvals: 1", "approvals: 2"),
        ("  - {person: E-1001, right: CanMakeRequest, unit: 50682286}\n", ""),
        ("eucrm-new.cc.capillarytech.com", "*.cc.capillarytech.com:8443"),
        ('mobile: "9988776655"', 'mobile: "+91 99887 76600"'),
        ("holdDays: 7 ", "holdDays: 3 "),
        ("goodwillExpiryDays: 365 ", "goodwillExpiryDays: 30 "),
        ("  goodwillPointsMax: 1000 ", "  # "),
    )
    later = later.replace("name: Asha Rao, active: false", "name: Asha Rao\n    active: false")
    assert lines_of(await apply(database_url, later)) == [
        "~ till 50682289 name: Connaught Place till 1 → Till one",
        "~ person E-1002 name: Asha Checker → Asha Rao",
        "~ person E-1002 active: true → false",
        "- grant E-1001 CanMakeRequest at 50682286 for all types",
        "~ host eucrm url: https://eucrm-new.cc.capillarytech.com → https://*.cc.capillarytech.com:8443",
        "~ policy revision 2 approvals: 1 → 2",
        "~ programme 2739 holdDays: 7 → 3",
        "~ programme 2739 goodwillExpiryDays: 365 → 30",
        "~ programme 2739 goodwillPointsMax: 1000 → none",
        "~ member 382332518 mobile: 919988776655 → 919988776600",
    ]
    organisation = await organisation_of(connection)
    assert organisation.version == 2
    programme = organisation.programme
    assert (programme.goodwill_expiry_days, programme.goodwill_points_max) == (30, None)
    assert not organisation.people["E-1002"].active
    assert "E-1001" not in organisation.grants_of_person
    assert organisation.policy is not None
    assert (organisation.policy.revision, organisation.policy.approvals_required) == (2, 2)
    mobiles = await connection.fetch("SELECT value, member_id FROM member_identifier WHERE kind = 'mobile'")
    assert {tuple(row) for row in mobiles} == {("919988776600", 382332518), ("919988776644", 382332519)}
    assert await connection.fetchval("SELECT mobile FROM member WHERE member_id = 382332518") == "919988776600"
    assert not await apply(database_url, later)


async def test_a_dry_run_shows_the_same_and_changes_nothing(database_url: str, connection: Any) -> None:
    before = await everything(connection)
    shown = await apply(database_url, demo(), dry_run=True)
    assert await everything(connection) == before
    assert lines_of(await apply(database_url, demo())) == lines_of(shown)


async def test_a_file_with_a_problem_changes_nothing(database_url: str, connection: Any) -> None:
    await apply(database_url, demo())
    before = await everything(connection)
    later = demo(
        ("name: North", "name: South"),
        ("WELCOME-1, points: 150", "WELCOME-1, points: 151"),
        ("BILL-1001, points: 349.5, awardedAt: 2024-06-30", "BILL-1001, points: 349.5, awardedAt: 2024-06-29"),
        ("id: 2739", "id: 1002"),
        ("approvals: 1", "approvals: many"),
    )
    with pytest.raises(CannotApply) as refused:
        await apply(database_url, later)
    assert [problem.path for problem in refused.value.problems] == [
        "policy.approvals",
        "programme.id",
        "members[0].lots[0].points",
        "members[0].lots[1].awardedAt",
    ]
    assert await everything(connection) == before


async def test_lots_are_awarded_once_and_the_ledger_adds_up(database_url: str, connection: Any) -> None:
    await apply(database_url, demo())
    await connection.execute("UPDATE member SET version = 9 WHERE member_id = 382332518")
    more = demo(
        (
            "    lots:\n      - {reference: WELCOME-1,",
            (
                "    lots:\n      - {reference: EXTRA, points: 0.001, awardedAt: 2024-01-01}\n"
                "      - {reference: WELCOME-1,"
            ),
        )
    )
    assert lines_of(await apply(database_url, more)) == ["+ member 382332518 lot EXTRA: 0.001 points for ever"]
    assert not await apply(database_url, more)
    member = await connection.fetchrow("SELECT * FROM member WHERE member_id = 382332518")
    assert (member["available"], member["held"], member["version"]) == (499_501, 0, 10)
    rows = await connection.fetch(
        "SELECT l.member_id, l.points, l.remaining, l.held, j.kind, p.source, p.destination, p.points AS moved "
        "FROM lot l JOIN posting p USING (org_id, lot_id) JOIN journal j USING (org_id, journal_id)"
    )
    assert sorted(row["points"] for row in rows) == [1, 40_000, 150_000, 349_500]
    for row in rows:
        assert row["points"] == row["remaining"] == row["moved"]
        assert (row["held"], row["kind"], row["source"], row["destination"]) == (0, "award", "issued", "available")


async def test_a_list_that_is_not_there_takes_nothing_away(database_url: str, connection: Any) -> None:
    await apply(database_url, demo())
    bare = demo().split("# Two trees")[0]
    assert not await apply(database_url, bare)
    emptied = await apply(database_url, bare + "grants: []\nhosts: []\n")
    assert {line[0] for line in lines_of(emptied)} == {"-"}
    organisation = await organisation_of(connection)
    assert (tuple(organisation.grants), tuple(organisation.hosts)) == ((), ())
    assert len(organisation.users) == 3


async def test_a_host_never_gets_an_earlier_revision_again(database_url: str, connection: Any) -> None:
    """Requests are approved for an entry and its revision; one that comes back is another one."""
    host = "hosts: [{id: a, url: 'https://a.example.com', target: ledger}]\n"
    await apply(database_url, SMALL + host)
    [first] = (await organisation_of(connection, 7)).hosts
    await apply(database_url, SMALL + "hosts: []\n")
    await apply(database_url, SMALL + host)
    [again] = (await organisation_of(connection, 7)).hosts
    assert again.revision > first.revision


async def test_how_a_host_is_called_is_no_other_host(database_url: str, connection: Any) -> None:
    """What only changes the pace may change while requests wait for the host; anything else makes it another one."""
    host = "hosts: [{{id: a, url: 'https://a.example.com', target: external, {}}}]\n"
    await apply(database_url, SMALL + host.format("attemptSeconds: 20"))
    [first] = (await organisation_of(connection, 7)).hosts
    changed = await apply(database_url, SMALL + host.format("attemptSeconds: 30, overallSeconds: 60, concurrency: 2"))
    assert [line[0] for line in lines_of(changed)] == ["~"] * 3
    [slower] = (await organisation_of(connection, 7)).hosts
    assert slower == replace(first, attempt_seconds=30.0, overall_seconds=60.0, concurrency=2)
    await apply(database_url, SMALL + host.format("attemptSeconds: 30, absentAfterSeconds: 60"))
    [another] = (await organisation_of(connection, 7)).hosts
    assert another.revision > first.revision
    await apply(database_url, SMALL + host.format("attemptSeconds: 29, absentAfterSeconds: 60"))
    [quicker] = (await organisation_of(connection, 7)).hosts
    assert quicker.revision > another.revision, "a call that is out would be taken for ended too early"


async def test_two_may_swap_names_addresses_and_identifiers(database_url: str, connection: Any) -> None:
    text = (
        SMALL
        + """
people: [{staffId: p, name: P, users: [{id: 1, userName: ann}, {id: 2, userName: bob}]}]
hosts:
  - {id: a, url: "https://ann.example.com", target: ledger}
  - {id: b, url: "https://bob.example.com", target: ledger}
members: [{id: 1, externalId: ann}, {id: 2, externalId: bob}]
"""
    )
    await apply(database_url, text)
    swapped = text.replace("ann", "eve").replace("bob", "ann").replace("eve", "bob")
    await apply(database_url, swapped)
    organisation = await organisation_of(connection, 7)
    assert (organisation.users[1].user_name, organisation.users[2].user_name) == ("bob", "ann")
    assert {host.host_id: host.pattern for host in organisation.hosts} == {
        "a": "bob.example.com",
        "b": "ann.example.com",
    }
    owners = await connection.fetch("SELECT value, member_id FROM member_identifier WHERE org_id = 7")
    assert dict(map(tuple, owners)) == {"bob": 1, "ann": 2}
    assert not await apply(database_url, swapped)


async def test_a_login_has_one_organisation(database_url: str, connection: Any) -> None:
    login = "credentials: [{login: till.1, id: 5, password: x}]\n"
    await apply(database_url, SMALL + login)
    other = SMALL.replace("id: 7", "id: 8") + login
    with pytest.raises(CannotApply, match="belongs to another organisation"):
        await apply(database_url, other)
    assert await connection.fetchval("SELECT count(*) FROM organisation") == 1


async def test_two_organisations_race_for_a_login(database_url: str, connection: Any) -> None:
    login = "credentials: [{login: till.1, id: 5, password: x}]\n"
    results = await asyncio.gather(
        *(apply(database_url, SMALL.replace("id: 7", f"id: {org_id}") + login) for org_id in range(7, 13)),
        return_exceptions=True,
    )
    assert sum(isinstance(result, CannotApply) for result in results) == 5
    assert await connection.fetchval("SELECT count(*) FROM organisation") == 1


async def test_the_same_file_at_the_same_time_is_applied_once(database_url: str, connection: Any) -> None:
    results = await asyncio.gather(*(apply(database_url, demo()) for _ in range(4)))
    assert sum(bool(result) for result in results) == 1
    assert (await organisation_of(connection)).version == 1
    later = demo(("approvals: 1", "approvals: 2"), ("name: North", "name: South"))
    results = await asyncio.gather(*(apply(database_url, later) for _ in range(4)))
    assert sum(bool(result) for result in results) == 1
    assert (await organisation_of(connection)).version == 2


async def test_the_trail_has_commitments_and_no_secret(database_url: str, connection: Any) -> None:
    await apply(database_url, demo())
    events = await connection.fetch("SELECT * FROM event ORDER BY event_id")
    assert len(events) == 2
    assert len({event["subject_id"] for event in events}) == 1
    for event in events:
        assert event["kind"] == "organisation_applied"
        assert event["leaf_hash"] == seals.leaf_hash(event["facts"])
        personal = json.loads(event["personal"])
        salt = bytes.fromhex(personal.pop("salt"))
        facts = json.loads(event["facts"])
        for name, value in personal.items():
            assert facts[f"{name}#"] == seals.commitment(salt, name, value)
        stored = event["facts"] + event["personal"]
        for secret in (b"maker-demo", b"checker-demo", b"sandbox-demo", MD5_OF_123, b"argon2"):
            assert secret not in stored
        for personal_value in (b"tomswayer", b"Asha", b"9988776655", b"XYPZ0063", b"tester"):
            assert personal_value not in event["facts"]
    [changed] = [facts["changes"] for event in events if "changes" in (facts := json.loads(event["facts"]))]
    assert {"sign": "+", "what": "zone", "lines": "+ zone 50682286: name North"} in changed


@pytest.mark.slow
async def test_an_import_is_written_in_sets(database_url: str, connection: Any) -> None:
    """Several statements' worth of members; nothing about them grows with the number of rows but the chunks."""
    rows = "\n".join(
        f"  - {{id: {number}, mobile: '{9_000_000_000 + number}', externalId: X{number}, "
        f"lots: [{{reference: A, points: 1.5, awardedAt: 2024-01-01}}]}}"
        for number in range(1, 2 * administration.ROWS_PER_STATEMENT + 2)
    )
    text = f"{SMALL}members:\n{rows}\n"
    assert lines_of(await apply(database_url, text))[-2:] == ["+ 10,001 members", "+ 10,001 lots with 15001.5 points"]
    assert await connection.fetchval("SELECT sum(available) FROM member") == 15_001_500
    assert await connection.fetchval("SELECT sum(points) FROM posting") == 15_001_500
    assert await connection.fetchval("SELECT count(*) FROM member_identifier") == 20_002
    assert await connection.fetchval("SELECT reltuples FROM pg_class WHERE relname = 'lot'") > 0
    assert not await apply(database_url, text)


async def test_a_database_without_its_schema_is_told(empty_database_url: str) -> None:
    with pytest.raises(migrations.MigrationError, match="counterfoil migrate"):
        await apply(empty_database_url, SMALL)


async def test_the_command_line(database_url: str, tmp_path: Path) -> None:
    program = "import sys; from counterfoil.cli.org import org; sys.exit(org())"

    async def org_apply(*arguments: str) -> tuple[int, str, str]:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", program, "apply", *arguments,
            env={"DATABASE_URL": database_url, "PATH": "/usr/bin:/bin"},
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        out, err = await process.communicate()
        return process.returncode or 0, out.decode(), err.decode()

    code, out, err = await org_apply(str(DEMO), "--dry-run")
    assert (code, err) == (0, "")
    assert out.endswith("27 new; 539.5 points awarded; dry run, nothing was changed\n")
    code, out, _ = await org_apply(str(DEMO))
    assert code == 0
    assert out.startswith("+ organisation 51250: name Demo,")
    assert out.endswith("the organisation is at version 1\n")
    assert "\x1b" not in out
    assert await org_apply(str(DEMO)) == (0, "nothing to change\n", "")

    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(demo(("approvals: 1", "approvals: 0"), ("unit: 50682286}", "unit: 1}")), encoding="utf-8")
    code, out, err = await org_apply(str(wrong))
    assert (code, out) == (1, "")
    lines = err.splitlines()
    assert lines[0].startswith(f"{wrong}:")
    assert ": grants[0].unit: there is no unit 1" in lines[0]
    assert ": policy.approvals: must be" in lines[2]
    assert lines[-1] == f"3 problems in {wrong}: nothing has changed"
    assert (await org_apply(str(tmp_path / "none.yaml")))[0] == 1
