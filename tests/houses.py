"""An organisation made from a file, with several checkers and groups, under any policy."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from counterfoil.application import administration, ids, requests
from counterfoil.application.administration import PasswordSources
from counterfoil.application.organisation_files import read
from counterfoil.domain.organisations import Organisation
from counterfoil.domain.requests import Request
from counterfoil.storage.database import Tx, transaction
from tests import invariants
from tests.builders import AT_NOON, connect, decide_command, fetch_organisation, submit_command
from tests.workers import Worker, some_workers

MOBILE, OTHER_MOBILE = "919988776655", "919988776644"
FILE = """
organisation: {id: 51250, name: Demo, timeZone: Asia/Kolkata, countryCode: 91}
units:
  zones: [{id: 50682286, name: North}]
  concepts: [{id: 50678331, name: Apparel}]
  stores: [{id: 50682288, name: Store, zone: 50682286, concept: 50678331}]
  tills: [{id: 50682289, name: Till, code: ind.1, store: 50682288}]
people:
  - {staffId: M1, name: M1, users: [{id: 1, userName: m1}]}
  - {staffId: M2, name: M2, users: [{id: 2, userName: m2}], memberIdentifiers: {mobile: "9988776644"}}
  - {staffId: S1, name: S1, users: [{id: 3, userName: s1}]}
  - {staffId: S2, name: S2, users: [{id: 4, userName: s2}]}
  - {staffId: Z1, name: Z1, users: [{id: 5, userName: z1}]}
  - {staffId: F1, name: F1, users: [{id: 6, userName: f1}], memberIdentifiers: {externalId: EX-1}}
  - {staffId: F2, name: F2, users: [{id: 7, userName: f2}]}
groups:
  - {id: makers, name: Makers, people: [M1, M2]}
  - {id: finance, name: Finance, people: [F1, F2]}
credentials: [{login: ind.1, id: 9, till: 50682289, passwordMd5: 202cb962ac59075b964b07152d234b70}]
grants:
  - {group: makers, right: CanMakeRequest}
  - {person: S1, right: CanCheckRequest, unit: 50682288}
  - {person: S2, right: CanCheckRequest, unit: 50682288}
  - {person: Z1, right: CanCheckRequest, unit: 50682286}
  - {group: finance, right: CanCheckRequest}
hosts: [{id: h1, url: "https://crm-nightly-new.cc.capillarytech.com", target: ledger}]
programme: {id: 1, name: Points}
members:
  - {id: 1, mobile: "9988776655", lots: [{reference: A, points: 1000, awardedAt: 2026-01-01}]}
  - {id: 2, mobile: "9988776644", lots: [{reference: A, points: 1000, awardedAt: 2026-01-01}]}
  - {id: 3, mobile: "9988776633", externalId: EX-1, lots: [{reference: A, points: 1000, awardedAt: 2026-01-01}]}
policy:
"""


@dataclass
class House:
    """An organisation made from a file, workers on it, and a connection to look."""

    url: str
    connection: Any
    workers: list[Worker]
    text: str

    async def apply(self, text: str) -> None:
        self.text = text
        draft = read(text.encode())
        await administration.apply_to(
            self.url, draft, PasswordSources({}, Path(), None), operator="test", dry_run=False
        )

    async def organisation(self) -> Organisation:
        return await fetch_organisation(self.connection)

    async def submit(self, points: int = 100_000, person: str = "M1", mobile: str = MOBILE, **changes: Any) -> Any:
        org = await self.organisation()
        both = (ids.redemption_id(), ids.redemption_id()) if org.approves_by_itself else None
        command = submit_command(org, points=points, person_id=person, mobile=mobile, redemption_ids=both, **changes)
        async with transaction(self.workers[0].pool, lock_timeout_ms=2000) as tx:
            [outcome] = await requests.submit_requests(tx, org, [command])
        return outcome

    async def decide(self, request: Request, person: str, verdict: str = "approved", **changes: Any) -> Any:
        org = await self.organisation()
        command = decide_command(org, request.request_id, person_id=person, verdict=verdict, **changes)
        async with transaction(self.workers[0].pool, lock_timeout_ms=2000) as tx:
            [outcome] = await requests.decide_requests(tx, org, [command])
        return outcome

    async def run(
        self, verb: Callable[[Tx, Organisation, Sequence[Any]], Awaitable[Any]], make: Callable[[Organisation], Any]
    ) -> Any:
        """Any other command, with a fresh snapshot."""
        org = await self.organisation()
        async with transaction(self.workers[0].pool, lock_timeout_ms=2000) as tx:
            [outcome] = await verb(tx, org, [make(org)])
        return outcome

    async def make_older(self, hours: int) -> None:
        """The database's clock cannot be set: what is pending comes nearer to its end instead, past the guards."""
        async with self.connection.transaction():
            await self.connection.execute("SET LOCAL session_replication_role = replica")
            for statement in (
                "UPDATE request SET expires_at = expires_at - $1::interval WHERE state = 'pending'",
                "UPDATE hold SET expires_at = expires_at - $1::interval WHERE state = 'open'",
            ):
                await self.connection.execute(statement, timedelta(hours=hours))

    async def counters(self) -> dict[str, int]:
        rows = await self.connection.fetch("SELECT cap, subject, points FROM cap_counter")
        return {f"{row['cap']} {row['subject']}".strip(): row["points"] for row in rows if row["points"]}


@asynccontextmanager
async def a_house(url: str, policy: str, workers: int = 1) -> AsyncIterator[House]:
    """Afterwards every invariant holds."""
    async with AsyncExitStack() as stack:
        connection = await connect(url)
        stack.push_async_callback(connection.close)
        house = House(url, connection, [], "")
        await house.apply(FILE.replace("Asia/Kolkata", AT_NOON) + policy)
        house.workers = await stack.enter_async_context(some_workers(url, workers))
        yield house
        await invariants.check(connection)
