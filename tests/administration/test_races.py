"""Administrators who decide at the same moment, and decisions whose connection was lost."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any
from uuid import UUID

import anyio
import pytest

from counterfoil.application import admin_changes, ids
from counterfoil.application.requests import Stale
from counterfoil.domain.access import Actor
from counterfoil.domain.admin_changes import AdminChange, DecideChange, Propose
from counterfoil.domain.organisations import Organisation
from counterfoil.domain.requests import State
from counterfoil.storage import database
from tests import builders
from tests.administration.town import ADA, BEN, CAL, CLEO, ZONE, Town, grant
from tests.contract.shop import apply_document
from tests.storage.test_privileges import role_url  # noqa: F401 - a fixture


def at_once(*calls: Any) -> list[Any]:
    """The answers of calls that start together."""
    barrier = Barrier(len(calls))

    def run(call: Any) -> Any:
        barrier.wait()
        return call()

    with ThreadPoolExecutor(len(calls)) as threads:
        return list(threads.map(run, calls))


def codes(answers: list[Any]) -> list[int]:
    return sorted(0 if each.status_code == 200 else each.json()["errors"][0]["code"] for each in answers)


def test_two_administrators_decide_the_same_change_once(town: Town) -> None:
    for name in (ADA, BEN, CLEO):
        town.token(name)
    for number in range(4):
        change_id = town.proposed(town.part(policy={"approvals": 2 + number}))["id"]
        verdict = "rejected" if number % 2 else "approved"
        before = town.version()
        answers = at_once(
            lambda change_id=change_id: town.decide(change_id, by=BEN),
            lambda change_id=change_id, verdict=verdict: town.decide(change_id, verdict, by=CLEO),
        )
        assert codes(answers) == [0, 2002]
        state = town.get(change_id).json()["data"]["state"]
        assert town.version() == before + (state == "succeeded")


def test_of_two_changes_of_one_record_one_is_applied(town: Town) -> None:
    for name in (ADA, BEN, CLEO):
        town.token(name)
    for number in range(4):
        names = [f"East {number}", f"West {number}"]
        ids_ = [town.proposed(town.part(units={"zones": [{"id": ZONE, "name": each}]}))["id"] for each in names]
        answers = at_once(
            *(lambda each=each, by=by: town.decide(each, by=by) for each, by in zip(ids_, (BEN, CLEO), strict=True))
        )
        assert codes(answers) == [0, 2902]
        applied = names[[each.status_code for each in answers].index(200)]
        assert town.rows("SELECT name FROM org_unit WHERE org_id = $1 AND kind = 'zone'")[0][0] == applied


def test_two_changes_at_once_never_leave_one_administrator(town: Town) -> None:
    """Each alone is sound: the two together would leave Cleo alone."""
    town.change(town.with_grants(grant(CAL, "CanMakeRequest")))
    content = {who: town.with_grants(grant(CAL, "CanMakeRequest"), without=[who]) for who in (ADA, BEN)}
    first, second = town.proposed(content[ADA], ADA)["id"], town.proposed(content[BEN], BEN)["id"]
    answers = at_once(lambda: town.decide(first, by=CLEO), lambda: town.decide(second, by=CLEO))
    assert codes(answers) == [0, 2902]
    left = town.rows("SELECT count(*) FROM access_grant WHERE org_id = $1 AND access_right = 'CanAdminister'")
    assert left[0][0] == 2


def test_a_proposer_who_loses_the_right_meanwhile(town: Town) -> None:
    """Whichever comes first, no change of Cleo's is applied after Cleo was revoked."""
    for _ in range(3):
        change_id = town.proposed(town.part(policy={"approvals": 2}), CLEO)["id"]
        revoked = town.proposed(town.with_grants(without=[CLEO]), ADA)["id"]
        answers = at_once(lambda i=change_id: town.decide(i, by=ADA), lambda i=revoked: town.decide(i, by=BEN))
        assert codes(answers) in ([0, 0], [0, 2902])
        applied = [answers[each].status_code == 200 for each in (0, 1)]
        assert applied[1]
        if applied[0]:
            ended = [town.get(each).json()["data"]["endedAt"] for each in (change_id, revoked)]
            assert ended[0] < ended[1]
        town.change(town.part(grants=town.content["grants"], policy={"approvals": 1}))


# A connection that is lost after COMMIT: the batch is run again with the same ids.

ORG = 51250


async def prepared(url: str) -> tuple[Any, Organisation]:
    town = Town(None, None, ORG)  # type: ignore[arg-type] # only its file is wanted
    await anyio.to_thread.run_sync(apply_document, url, town.document())
    connection = await builders.connect(url)
    organisation = await builders.fetch_organisation(connection, ORG)
    await connection.close()
    return await database.open_pool(url, size=2), organisation


def actor(organisation: Organisation, person: str) -> Actor:
    return builders.actor_of(organisation, person)


async def run(pool: Any, organisation: Organisation, command: Propose | DecideChange) -> Any:
    async with database.transaction(pool, lock_timeout_ms=2000) as tx:
        [outcome] = await admin_changes.administer(tx, organisation, [command])
    return outcome


async def proposal(pool: Any, organisation: Organisation) -> Propose:
    gift = {"reference": "gift", "points": 5, "awardedAt": "2024-01-01"}
    content = {
        "organisation": {"id": ORG, "name": "Town", "timeZone": "UTC", "countryCode": 91, "control": "dual"},
        "members": [{"id": 1, "lots": [gift]}],
        "credentials": [{"login": "box", "id": 2, "password": "box", "rights": ["CanMovePointsDirectly"],
                         "directCapPerCall": 1, "directCapPerDay": 1}],
    }  # fmt: skip
    difference = await admin_changes.difference_from(pool, organisation, content)
    assert not isinstance(difference, Stale)
    return Propose(ids.uuid7(), actor(organisation, ADA), difference, organisation.version, "", ids.salt())


@pytest.mark.anyio
async def test_what_was_committed_is_found_again(database_url: str, role_url: str) -> None:  # noqa: F811 - the fixture
    """As the application's own role, which may do all that this needs."""
    pool, organisation = await prepared(database_url)
    await pool.close()
    pool = await database.open_pool(role_url, size=2)
    command = await proposal(pool, organisation)
    first = await run(pool, organisation, command)
    assert isinstance(first, AdminChange)
    assert await run(pool, organisation, command) == first
    voice = DecideChange(ids.uuid7(), actor(organisation, BEN), command.request_id, "approved", "", ids.salt())
    decided = await run(pool, organisation, voice)
    assert (decided.state, decided.decisions[0].person_id) == (State.SUCCEEDED, BEN)
    again = await run(pool, organisation, voice)
    assert (again.state, again.decisions, again.digest) == (decided.state, decided.decisions, decided.digest)
    rows = "SELECT o.version, m.available FROM organisation o JOIN member m USING (org_id)"
    async with database.acquire(pool) as connection:
        assert [tuple(row) for row in await connection.fetch(rows)] == [(2, 1_005_000)]
        events = "SELECT count(*) FROM event WHERE subject_id = $1"
        assert await connection.fetchval(events, command.request_id) == 2
    await pool.close()


@pytest.mark.anyio
async def test_a_stale_snapshot_decides_nothing(database_url: str) -> None:
    pool, organisation = await prepared(database_url)
    command = await proposal(pool, organisation)
    await run(pool, organisation, command)
    async with database.acquire(pool) as connection:
        await connection.execute("UPDATE organisation SET version = version + 1")
    for each in (
        await proposal_again(command),
        DecideChange(ids.uuid7(), actor(organisation, BEN), command.request_id, "approved", "", ids.salt()),
    ):
        assert await run(pool, organisation, each) == Stale(2)
    await pool.close()


async def proposal_again(command: Propose) -> Propose:
    return Propose(UUID(int=command.request_id.int + 1), command.actor, command.difference, 1, "", ids.salt())
