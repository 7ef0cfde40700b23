"""The verbs without HTTP, as a worker of `serve` runs them, beside the careful way by hand."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg

from bench import contract, seed
from bench.figures import Run, percentile
from bench.scratch import machine_seconds
from counterfoil.application import ids
from counterfoil.application import requests as verbs
from counterfoil.application.group_commit import GroupCommit, Limits
from counterfoil.domain.access import Actor, Place, resolve_place
from counterfoil.domain.organisations import Organisation
from counterfoil.domain.payloads import Redemption
from counterfoil.domain.refusals import OurFault
from counterfoil.domain.requests import Decide, Request, State, Submit
from counterfoil.settings import Settings
from counterfoil.storage import database, organisations

_TEXT = (Path(__file__).parent / "by_hand.sql").read_text(encoding="utf-8")
_PARTS = re.split(r"^-- name: (\w+)$", _TEXT, flags=re.MULTILINE)
BY_HAND = {name: body.strip() for name, body in zip(_PARTS[1::2], _PARTS[2::2], strict=True)}
BY_HAND_POOL = 8
_SEALED = b"x" * 120  # an encrypted Authorization header, packed
_PAYLOAD = contract.stored_payload().encode()

# One lifecycle of one member with a reference that is used once; how long its submission took, in seconds.
Lifecycle = Callable[[int, int, str], Awaitable[float]]


@dataclass(slots=True)
class Groups:
    """Counts the batches, as the metrics do; a fault or a retry would make the run worthless."""

    commands: int = 0
    batches: int = 0
    troubles: list[str] = field(default_factory=list)

    def batch(self, _verb: str, size: int) -> None:
        """A batch goes to the database."""
        self.commands += size
        self.batches += 1

    def waiting(self, verb: str, change: int) -> None:
        """Not looked at."""

    def retry(self, verb: str, reason: str) -> None:
        """A batch is run again."""
        self.troubles.append(f"{verb} again: {reason}")

    def fault(self, verb: str, error: BaseException) -> None:
        """A command failed."""
        self.troubles.append(f"{verb} failed: {error!r}")


def actor_of(organisation: Organisation, user_name: str) -> Actor:
    """A person at the till, as authentication makes them."""
    user = organisation.users_by_name[user_name]
    credential = next(iter(organisation.credentials.values()))
    return Actor(
        org_id=organisation.org_id, organisation_version=organisation.version, login=credential.login,
        login_rights=frozenset(), person_id=user.person_id, user_id=user.user_id, user_name=user.user_name,
        has_user=True,
    )  # fmt: skip


def submit_command(organisation: Organisation, maker: Actor, member: int, reference: str) -> Submit:
    """A create call as the edge hands it over."""
    place = resolve_place(organisation, {"tillId": 50682289})
    if not isinstance(place, Place):
        raise TypeError("the till of the seed exists (this is a bug)")
    mobile = f"91{contract.MOBILE_FIRST + member}"
    payload = _PAYLOAD.replace(b"MOBILE", mobile.encode()).replace(b"REFERENCE", reference.encode())
    credential = next(iter(organisation.credentials.values()))
    return Submit(
        request_id=ids.uuid7(), actor=maker, place=place, request_type="POINTS-REDEMPTION", entity_info=b"{}",
        asked=Redemption(1000, "mobile", mobile, reference, "numbr892723330323421971280", "Redemption by SMS"),
        host_id="h1", host_revision=1, payload=payload, sealed_headers=_SEALED,
        content_digest=sha256(payload).digest(), salt=ids.salt(), till_login=credential.login,
        till_epoch=credential.epoch,
    )  # fmt: skip


def decide_command(checker: Actor, request_id: UUID) -> Decide:
    """An approval as the edge hands it over."""
    return Decide(
        decision_id=ids.uuid7(), actor=checker, request_id=request_id, request_type="POINTS-REDEMPTION",
        verdict="approved", message="approving the request", correlation_id="0" * 32, served_by="bench",
        redemption_ids=(ids.redemption_id(), ids.redemption_id()), salt=ids.salt(),
    )  # fmt: skip


def as_it_is(command: Submit) -> Submit:
    """The command without any change."""
    return command


@asynccontextmanager
async def product(
    url: str, org_ids: Sequence[int], groups: Groups, vary: Callable[[Submit], Submit] = as_it_is
) -> AsyncIterator[Lifecycle]:
    """Submit and approve through the group commit, with the settings of one worker."""
    settings = Settings()
    pool = await database.open_pool(url, size=settings.pool_size, statement_cache=settings.statement_cache)
    known: dict[int, Organisation] = {}
    async with pool.acquire() as connection:
        for org_id in org_ids:
            found = await organisations.find_organisation(connection, org_id)
            if found is None:
                raise TypeError("the organisations are seeded (this is a bug)")
            known[org_id] = found
    people = {o: (actor_of(each, seed.MAKER), actor_of(each, seed.CHECKER)) for o, each in known.items()}
    limits = Limits(settings.queue_max, settings.batch_max, settings.lock_timeout_ms)
    submissions: GroupCommit[Submit, Any] = GroupCommit(
        "submit", pool, lambda tx, o, commands: verbs.submit_requests(tx, known[o], commands), limits, groups
    )
    decisions: GroupCommit[Decide, Any] = GroupCommit(
        "decide", pool, lambda tx, o, commands: verbs.decide_requests(tx, known[o], commands), limits, groups
    )

    async def lifecycle(org_id: int, member: int, reference: str) -> float:
        maker, checker = people[org_id]
        started_at = time.perf_counter()
        command = vary(submit_command(known[org_id], maker, member, reference))
        outcome = await submissions.submit(org_id, command)
        if not isinstance(outcome, Request) or outcome.flags:
            raise AssertionError(f"not submitted: {outcome}")
        seconds = time.perf_counter() - started_at
        outcome = await decisions.submit(org_id, decide_command(checker, command.request_id))
        if not isinstance(outcome, Request) or outcome.state is not State.SUCCEEDED:
            raise AssertionError(f"not executed: {outcome}")
        return seconds

    try:
        yield lifecycle
    finally:
        await pool.close()


@asynccontextmanager
async def by_hand(url: str) -> AsyncIterator[Lifecycle]:
    """The same two steps, each one statement and one transaction."""
    pool = await asyncpg.create_pool(url, min_size=BY_HAND_POOL, max_size=BY_HAND_POOL)

    async def lifecycle(org_id: int, member: int, reference: str) -> float:
        started_at = time.perf_counter()
        request_id = ids.uuid7()
        mobile = f"91{contract.MOBILE_FIRST + member}"
        payload = _PAYLOAD.replace(b"MOBILE", mobile.encode()).replace(b"REFERENCE", reference.encode())
        done = await pool.execute(BY_HAND["submit"], org_id, request_id, mobile, 1000, seed.MAKER, reference, payload)
        if done != "INSERT 0 1":
            raise AssertionError(f"not submitted: {done}")
        seconds = time.perf_counter() - started_at
        done = await pool.execute(BY_HAND["approve"], org_id, request_id, seed.CHECKER)
        if done != "INSERT 0 1":
            raise AssertionError(f"not executed: {done}")
        return seconds

    try:
        yield lifecycle
    finally:
        await pool.close()


async def measure(
    lifecycle: Lifecycle,
    where: Sequence[seed.Organisations],
    *,
    run: str,
    clients: int,
    seconds: float,
    groups: Groups,
    database_seconds: Callable[[], float] = lambda: 0.0,
) -> Run:
    """Keep `clients` busy for some seconds. Client i belongs to organisation i, counted round."""
    places = [(org_id, each.members) for each in where for org_id in each.ids]
    times: list[float] = []
    deadline = time.perf_counter() + seconds

    async def client(number: int) -> None:
        org_id, members = places[number % len(places)]
        member = number * max(1, members // clients)
        count = 0
        while time.perf_counter() < deadline:
            times.append(await lifecycle(org_id, (member + count) % members, f"{run}-{number}-{count}"))
            count += 1

    commands, batches = groups.commands, groups.batches
    before = database_seconds(), machine_seconds()
    cpu, started_at = time.process_time(), time.perf_counter()
    try:
        await asyncio.gather(*(client(number) for number in range(clients)))
    except OurFault as fault:
        raise AssertionError(f"a batch failed: {groups.troubles[:3]}") from fault
    passed, cpu = time.perf_counter() - started_at, time.process_time() - cpu
    database_cpu = database_seconds() - before[0]
    others = machine_seconds() - before[1] - cpu - database_cpu
    if groups.troubles:
        raise AssertionError(f"the run is worth nothing: {groups.troubles[:3]}")
    times.sort()
    done = groups.batches - batches
    return Run(
        rate=len(times) / passed,
        p50_us=percentile(times, 0.5) * 1e6,
        p99_us=percentile(times, 0.99) * 1e6,
        server_cpu_us=cpu / len(times) * 1e6,
        database_cpu_us=database_cpu / len(times) * 1e6,
        group=(groups.commands - commands) / done if done else 0.0,
        count=len(times),
        others=max(0.0, others) / passed,
    )
