"""The data that is measured on: organisations, members, stored requests; and the check of what became of it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import asyncpg

from bench import contract
from counterfoil.application.passwords import hash_secret

PASSWORD = "bench"  # noqa: S105 - of a database that lives for minutes
MAKER, CHECKER = "maker@bench", "checker@bench"
_BLOCK = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Organisations:
    """`count` organisations with consecutive numbers and `members` members each."""

    first: int
    count: int
    members: int

    @property
    def ids(self) -> range:
        """Their numbers."""
        return range(self.first, self.first + self.count)

    def callers(self) -> list[contract.Caller]:
        """One caller of each, without tokens."""
        return [contract.Caller(org_id, self.members) for org_id in self.ids]


# So many members that they are never waited for; one organisation with all the clients, many with one each.
THE_ONE = Organisations(51250, 1, 5000)
THE_MANY = Organisations(60000, 64, 100)


@cache
def _statements() -> dict[str, str]:
    parts = _BLOCK.split((Path(__file__).parent / "seed.sql").read_text(encoding="utf-8"))
    return dict(zip(parts[1::2], parts[2::2], strict=True))


@cache
def _hashes() -> dict[str, str]:
    return {"password_hash": hash_secret(PASSWORD), "till_hash": hash_secret(contract.TILL_MD5)}


def statement(name: str) -> str:
    """A block of seed.sql."""
    return _statements()[name]


async def run(connection: Any, name: str, **values: object) -> None:
    """Run a block of seed.sql with its names filled in."""
    script = statement(name)
    for field, value in values.items():
        script = script.replace(f"{{{field}}}", str(value))
    await connection.execute(script)


async def seed(
    url: str, *organisations: Organisations, stored: int = 0, pending: int = 100, chain: bool = False
) -> None:
    """Load, then ANALYZE. In a chain the stored requests are spread over four hundred tills."""
    connection = await asyncpg.connect(url)
    try:
        for each in organisations:
            last = each.first + each.count - 1
            await run(connection, "organisations", first=each.first, last=last, **_hashes())
            await run(connection, "members", first=each.first, last=last, members=each.members)
            if chain:
                await run(connection, "chain", first=each.first)
            if stored:
                turn = f"(n / ({stored} / {pending}))"
                await run(
                    connection, "requests", first=each.first, members=each.members, stored=stored, pending=pending,
                    payload=contract.stored_payload(), unit=f"10000 + {turn} % 400" if chain else 50682289,
                    urgent=f"now() + ({turn} * 7919 % 1000) * interval '1 hour'" if chain else "'infinity'",
                )  # fmt: skip
    finally:
        await connection.close()
    await analyze(url)


async def analyze(url: str) -> None:
    """Plans made on empty or small tables are dropped; done again when a warm-up has filled the tables."""
    connection = await asyncpg.connect(url)
    try:
        await connection.execute("VACUUM ANALYZE")
        await connection.execute("CHECKPOINT")
    finally:
        await connection.close()


async def broken_rules(url: str) -> list[str]:
    """What does not hold after the load; nothing, one hopes."""
    connection = await asyncpg.connect(url)
    try:
        rows = await connection.fetch(statement("check"))
        return [f"{row['times']} x {row['broken']}" for row in rows]
    finally:
        await connection.close()
