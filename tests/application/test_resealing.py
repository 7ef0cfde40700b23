"""Sealing anew: everything, nothing but that, and from wherever it was cut off."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import msgspec
import pytest

from counterfoil.application import executing, ids, requests, resealing
from counterfoil.application.issuers import secret_name
from counterfoil.application.keys import Keyring, add_sealing_key, create_keys, drop_sealing_keys, load_keys
from counterfoil.application.resealing import Resealing, seal_anew
from counterfoil.domain.requests import Request
from counterfoil.storage.database import Pool, open_pool, transaction
from tests import builders, invariants
from tests.contract.serving import PROGRAM, command, environment_of, fetch

NOW = 1_790_000_000
ORG, OTHER = 51250, 51251
NONE = UUID(int=0)
SECRETS = {"Authorization": "Basic dGlsbA==", "X-Key": "käse"}
_unpack = msgspec.msgpack.Decoder(dict[str, bytes]).decode


@pytest.fixture
def path(tmp_path: Path) -> Path:
    create_keys(tmp_path / "keys.json")
    return tmp_path / "keys.json"


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    found = await open_pool(database_url, size=2)
    yield found
    await found.close()


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resealing, "BATCH_MAX", 2)


async def submitted(pool: Pool, organisation: Any, ring: Keyring, number: int) -> UUID:
    """A request with sealed headers; every second one is decided, so nothing of it will ever change again."""
    request_id = ids.uuid7()
    sealed = {name: ring.seal(organisation.org_id, request_id, name, value, now=NOW) for name, value in SECRETS.items()}
    command = builders.submit_command(
        organisation,
        points=1000,
        request_id=request_id,
        sealed_headers=msgspec.msgpack.encode(sealed if number else {}),
    )
    async with transaction(pool, lock_timeout_ms=1000) as tx:
        [found] = await requests.submit_requests(tx, organisation, [command])
        assert isinstance(found, Request)
        if number % 2:
            decide = builders.decide_command(organisation, command.request_id)
            assert isinstance((await requests.decide_requests(tx, organisation, [decide]))[0], Request)
    return command.request_id


async def stored(pool: Pool, ring: Keyring) -> list[UUID]:
    """Seven requests, the credential of a host and the secret of an issuer; another organisation has two requests."""
    request_ids = []
    for org_id, count in ((ORG, 7), (OTHER, 2)):
        await builders.seed_organisation(pool, org_id)
        await builders.seed_member(pool, [builders.Lot(200_000)], org_id=org_id)
        organisation = await builders.fetch_organisation(pool, org_id)
        request_ids += [await submitted(pool, organisation, ring, number) for number in range(count)]
    sealed, mac = executing.seal_credential(ring, ORG, "h1", "Basic b3du", now=NOW)
    await pool.execute(
        "UPDATE host SET credential_sealed = $2, credential_mac = $3 WHERE org_id = $1", ORG, sealed, mac
    )
    await pool.execute(
        "INSERT INTO ui_token_issuer (org_id, issuer, algorithm, user_id_claim, organisation_claim, keys) "
        "VALUES ($1, 'a', 'HS256', 'id', 'org', $2), ($1, 'b', 'RS256', 'id', 'org', '{}')",
        ORG, ring.seal(ORG, NONE, secret_name("a"), "secret of an issuer", now=NOW).hex(),
    )  # fmt: skip
    return request_ids


def rotated(path: Path) -> tuple[Keyring, bytes]:
    key_id = add_sealing_key(path, seals_from=0)
    return load_keys(path), bytes.fromhex(key_id)


async def opened(pool: Pool, ring: Keyring) -> tuple[set[bytes], list[Any]]:
    """The keys that something is sealed with, and everything that is sealed, in the open."""
    used: set[bytes] = set()
    values: list[Any] = []
    for row in await pool.fetch("SELECT org_id, request_id, sealed_headers FROM request ORDER BY 1, 2"):
        for name, sealed in (_unpack(row["sealed_headers"]) if row["sealed_headers"] else {}).items():
            used.add(sealed[:4])
            values.append((row["request_id"], name, ring.open(row["org_id"], row["request_id"], name, sealed)))
    host = bytes.fromhex(await pool.fetchval("SELECT credential_sealed FROM host WHERE org_id = $1", ORG))
    issuer = bytes.fromhex(await pool.fetchval("SELECT keys FROM ui_token_issuer WHERE issuer = 'a'"))
    values += [ring.open(ORG, NONE, "host h1", host), ring.open(ORG, NONE, secret_name("a"), issuer)]
    return used | {host[:4], issuer[:4]}, values


async def everything_else(pool: Pool) -> list[str]:
    """Every row of every table, without what is sealed and without what tells that it was sealed anew."""
    tables = await pool.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1")
    found = []
    for table, *_ in tables:
        rows = await pool.fetch(
            f"SELECT (to_jsonb(t) - 'sealed_headers' - 'credential_sealed' - 'keys')::text AS row FROM {table} t "  # noqa: S608
            "WHERE to_jsonb(t) ->> 'kind' IS DISTINCT FROM 'sealed_anew' ORDER BY 1"
        )
        if table != "organisation":
            found += [f"{table} {row['row']}" for row in rows]
    return found


def ignore(_: Resealing) -> None:
    pass


async def run(pool: Pool, ring: Keyring, tell: Any = ignore) -> Resealing:
    return await seal_anew(pool, ring, now=NOW, operator="olga", tell=tell)


async def test_everything_is_sealed_anew_and_nothing_else_changes(path: Path, pool: Pool) -> None:
    before = load_keys(path)
    await stored(pool, before)
    used, values = await opened(pool, before)
    assert used == {before.sealing[0][0]}
    others = await everything_else(pool)
    ring, key_id = rotated(path)
    told: list[int] = []
    found = await run(pool, ring, lambda each: told.append(each.requests_seen))
    # One of each organisation's requests has no secret header.
    assert (found.values_sealed, found.remaining, found.unreadable) == (2 * (6 + 1) + 2, {}, 0)
    assert await opened(pool, ring) == ({key_id}, values)
    assert await everything_else(pool) == others, "revisions, digests, states: all as they were"
    versions = await pool.fetch("SELECT org_id, version FROM organisation ORDER BY 1")
    assert [tuple(row) for row in versions] == [(ORG, 2), (OTHER, 1)], "snapshots are loaded again where they changed"
    [event] = await pool.fetch("SELECT facts, personal FROM event WHERE kind = 'sealed_anew'")
    facts = json.loads(event["facts"])
    assert (facts["key"], facts["hosts"], facts["issuers"], facts["version"]) == (key_id.hex(), ["h1"], ["a"], 2)
    assert b"olga" in event["personal"]
    assert told[0] == 2, "it tells after each batch"
    async with pool.acquire() as connection:
        await invariants.check(connection)
    # Again: there is nothing to do, and nothing is done.
    assert (await run(pool, ring)).values_sealed == 0
    assert await pool.fetchval("SELECT count(*) FROM event WHERE kind = 'sealed_anew'") == 1
    # Nothing needs the old key any more.
    drop_sealing_keys(path, [before.sealing[0][0].hex()])
    assert (await opened(pool, load_keys(path)))[1] == values


async def test_cut_off_after_any_batch_it_goes_on_where_it_was(path: Path, pool: Pool) -> None:
    await stored(pool, load_keys(path))
    values = (await opened(pool, load_keys(path)))[1]
    ring, _ = rotated(path)
    done: list[int] = []

    class CutOffError(Exception):
        pass

    def cut_off(found: Resealing) -> None:
        if found.values_sealed:  # one batch further than before
            done.append(found.values_sealed)
            raise CutOffError

    for _ in range(20):
        try:
            found = await run(pool, ring, cut_off)
        except CutOffError:
            assert (await opened(pool, ring))[1] == values, "each value opens at any moment"
            continue
        break
    assert (found.values_sealed, found.remaining) == (0, {})
    assert len(done) >= 4
    assert sum(done) == 16, "nothing is done twice"


async def test_what_cannot_be_opened_is_told_and_left(path: Path, pool: Pool, tmp_path: Path) -> None:
    before = load_keys(path)
    request_ids = await stored(pool, before)
    old = before.sealing[0][0].hex()
    create_keys(tmp_path / "other.json")
    other = load_keys(tmp_path / "other.json")
    found = await run(pool, other)
    assert (found.values_sealed, found.remaining, found.unreadable) == (0, {old: 16}, 16)
    # One altered byte: its key is in the file, and must stay there.
    sealed = _unpack(await pool.fetchval("SELECT sealed_headers FROM request WHERE request_id = $1", request_ids[1]))
    sealed["X-Key"] = sealed["X-Key"][:-1] + bytes((sealed["X-Key"][-1] ^ 1,))
    await pool.execute(
        "UPDATE request SET sealed_headers = $2 WHERE request_id = $1", request_ids[1], msgspec.msgpack.encode(sealed)
    )
    ring, _ = rotated(path)
    found = await run(pool, ring)
    assert (found.values_sealed, found.remaining, found.unreadable) == (15, {old: 1}, 1)


async def test_it_waits_for_whoever_works_on_a_request(path: Path, pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resealing, "LOCK_TIMEOUT_MS", 100)
    request_ids = await stored(pool, load_keys(path))
    ring, _ = rotated(path)
    async with a_lock(pool, request_ids[2]) as unlock:
        sealing = asyncio.create_task(run(pool, ring))
        await asyncio.sleep(0.4)
        assert not sealing.done()
        await unlock()
        assert (await sealing).remaining == {}


@asynccontextmanager
async def a_lock(pool: Pool, request_id: UUID) -> AsyncIterator[Any]:
    async with pool.acquire() as connection:
        work = connection.transaction()
        await work.start()
        await connection.execute("SELECT FROM request WHERE request_id = $1 FOR UPDATE", request_id)
        yield work.rollback


async def test_headers_that_were_sealed_anew_by_another_run_are_left(path: Path, pool: Pool) -> None:
    """Two runs at once: each value is written over what was read, or not at all."""
    await stored(pool, load_keys(path))
    values = (await opened(pool, load_keys(path)))[1]
    ring, key_id = rotated(path)
    both = await asyncio.gather(run(pool, ring), run(pool, ring))
    assert [each.remaining for each in both] == [{}, {}]
    assert await opened(pool, ring) == ({key_id}, values)


async def test_the_database_lets_headers_be_sealed_anew_and_no_more(path: Path, pool: Pool) -> None:
    request_ids = await stored(pool, load_keys(path))
    for change in ("sealed_headers || 'x'", "''", "overlay(sealed_headers placing 'x' from 9), version = version + 1"):
        with pytest.raises(asyncpg.IntegrityConstraintViolationError, match="request_sealed_headers_only_sealed_anew"):
            await pool.execute(f"UPDATE request SET sealed_headers = {change} WHERE request_id = $1", request_ids[1])  # noqa: S608


async def test_what_another_node_stores_late_is_counted(path: Path, pool: Pool, database_url: str) -> None:
    """Its clock may be slow: the look afterwards sees what it has sealed with the old key."""
    before = load_keys(path)
    request_id = (await stored(pool, before))[1]
    sealed = await pool.fetchval("SELECT sealed_headers FROM request WHERE request_id = $1", request_id)
    ring, _ = rotated(path)
    put_back = "UPDATE request SET sealed_headers = $2 WHERE request_id = $1"
    found = await run(pool, ring, lambda _each: fetch(database_url, put_back, request_id, sealed))
    assert (found.values_sealed, found.remaining, found.unreadable) == (16, {before.sealing[0][0].hex(): 2}, 0)
    assert (await run(pool, ring)).remaining == {}


async def test_killed_between_two_batches_it_goes_on(path: Path, pool: Pool, database_url: str) -> None:
    """Killed -9 while it waits for a request of the second batch: the first batch is done, and stays done."""
    ring = load_keys(path)
    model = (await stored(pool, ring))[2]
    await copies(pool, ring, model, 700)
    last = await pool.fetchval("SELECT request_id FROM request WHERE org_id = $1 ORDER BY 1 DESC LIMIT 1", ORG)
    values = (await opened(pool, ring))[1]
    ring, key_id = rotated(path)
    environment = environment_of(path.parent, database_url)
    done = "SELECT count(*) FROM request WHERE position($1::bytea IN sealed_headers) > 0"
    async with a_lock(pool, last) as unlock:
        sealing = await asyncio.create_subprocess_exec(
            *PROGRAM, "keys", "reseal", env=environment, stdout=asyncio.subprocess.DEVNULL
        )
        async with asyncio.timeout(30):
            while await pool.fetchval(done, key_id) == 0:  # noqa: ASYNC110 - another process works
                await asyncio.sleep(0.05)
        await asyncio.sleep(0.3)
        assert sealing.returncode is None
        sealing.kill()
        await sealing.wait()
        await unlock()
    assert await pool.fetchval(done, key_id) in (498, 499), "of the first five hundred one or two have no secret"
    assert (await opened(pool, ring))[1] == values
    again = await asyncio.to_thread(command, "keys", "reseal", environment=environment)
    assert (again.returncode, again.stderr) == (0, "")
    assert await opened(pool, ring) == ({key_id}, values)


async def copies(pool: Pool, ring: Keyring, model: UUID, number: int) -> None:
    """More such requests, sealed each for itself."""
    new = [ids.uuid7() for _ in range(number)]
    sealed = [
        msgspec.msgpack.encode({name: ring.seal(ORG, each, name, value, now=NOW) for name, value in SECRETS.items()})
        for each in new
    ]
    names = await pool.fetch("SELECT column_name::text FROM information_schema.columns WHERE table_name = 'request'")
    changed = {"request_id": "n.id", "sealed_headers": "n.sealed"}
    values = ", ".join(changed.get(name, f"r.{name}") for (name,) in names)
    await pool.execute(
        f"INSERT INTO request ({', '.join(name for name, in names)}) SELECT {values} "  # noqa: S608
        "FROM request r, unnest($2::uuid[], $3::bytea[]) AS n (id, sealed) WHERE r.request_id = $1",
        model, new, sealed,
    )  # fmt: skip
