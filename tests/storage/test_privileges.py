"""The application's role can do its work and cannot touch evidence."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import msgspec
import pytest
from msgspec.structs import replace

from counterfoil.application import executing, keys, requests, resealing
from counterfoil.domain.requests import Request, State
from counterfoil.storage import database, privileges
from tests import builders


@pytest.fixture
async def role_url(database_url: str) -> AsyncIterator[str]:
    """The test's database, as a role of the test's own with the application's privileges."""
    role = f"app_{uuid.uuid4().hex[:12]}"
    owner = await builders.connect(database_url)
    await owner.execute(f'CREATE ROLE "{role}" LOGIN')
    await privileges.grant(database_url, role)
    parts = urlsplit(database_url)
    host = parts.netloc.rpartition("@")[2]
    yield urlunsplit(parts._replace(netloc=f"{role}@{host}"))
    await owner.execute(f'DROP OWNED BY "{role}"')
    await owner.execute(f'DROP ROLE "{role}"')
    await owner.close()


async def test_the_application_role_runs_a_whole_lifecycle(database_url: str, role_url: str) -> None:
    owner = await builders.connect(database_url)
    await builders.seed_organisation(owner)
    await builders.seed_member(owner, [builders.Lot(200_000)])
    organisation = await builders.fetch_organisation(owner)
    await owner.close()
    pool = await database.open_pool(role_url, size=1)
    async with database.transaction(pool, lock_timeout_ms=1000) as tx:
        command = builders.submit_command(organisation)
        [submitted] = await requests.submit_requests(tx, organisation, [command])
        assert isinstance(submitted, Request)
    async with database.transaction(pool, lock_timeout_ms=1000) as tx:
        [decided] = await requests.decide_requests(
            tx, organisation, [builders.decide_command(organisation, command.request_id)]
        )
        assert isinstance(decided, Request)
        assert decided.state is State.SUCCEEDED
    await pool.close()


async def test_the_application_role_seals_anew(database_url: str, role_url: str, tmp_path: Path) -> None:
    keys.create_keys(tmp_path / "keys.json")
    ring = keys.load_keys(tmp_path / "keys.json")
    owner = await builders.connect(database_url)
    await builders.seed_organisation(owner)
    await builders.seed_member(owner, [builders.Lot(200_000)])
    organisation = await builders.fetch_organisation(owner)
    sealed, mac = executing.seal_credential(ring, organisation.org_id, "h1", "Basic b3du", now=1.0)
    await owner.execute("UPDATE host SET credential_sealed = $1, credential_mac = $2", sealed, mac)
    await owner.close()
    pool = await database.open_pool(role_url, size=1)
    command = builders.submit_command(organisation)
    value = ring.seal(organisation.org_id, command.request_id, "x", "secret", now=1.0)
    async with database.transaction(pool, lock_timeout_ms=1000) as tx:
        command = replace(command, sealed_headers=msgspec.msgpack.encode({"x": value}))
        assert isinstance((await requests.submit_requests(tx, organisation, [command]))[0], Request)
    keys.add_sealing_key(tmp_path / "keys.json", seals_from=0)
    found = await resealing.seal_anew(
        pool, keys.load_keys(tmp_path / "keys.json"), now=1.0, operator="olga", tell=lambda _: None
    )
    assert (found.values_sealed, found.remaining) == (2, {})
    await pool.close()


@pytest.mark.parametrize("table", ["event", "decision", "journal", "posting", "redemption", "request_comment"])
@pytest.mark.parametrize("statement", ["UPDATE {} SET org_id = org_id", "DELETE FROM {}", "TRUNCATE {}"])
async def test_evidence_is_append_only_for_the_application_role(role_url: str, table: str, statement: str) -> None:
    connection = await asyncpg.connect(role_url)
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await connection.execute(statement.format(table))
    await connection.close()


async def test_an_unknown_role_is_explained(database_url: str) -> None:
    with pytest.raises(privileges.UnusableRole, match="CREATE ROLE"):
        await privileges.grant(database_url, "nobody_has_this_name")


async def test_a_role_name_cannot_smuggle_sql(database_url: str) -> None:
    with pytest.raises(privileges.UnusableRole, match="plain role name"):
        await privileges.grant(database_url, 'x"; DROP TABLE event; --')
