"""What a delegation and a freeze were cannot be changed, and what is over stays over."""

from __future__ import annotations

import asyncpg
import pytest

from tests.builders import connect, seed_organisation

DELEGATION = """INSERT INTO delegation VALUES (51250, gen_random_uuid(), 'E-checker', 'E-other', NULL, NULL, NULL,
    now(), now() + interval '1 day', now())"""
FREEZE = "INSERT INTO freeze_order VALUES (51250, gen_random_uuid(), 'organisation', '', 'r', 'E-checker', 'c', now())"


@pytest.mark.parametrize(
    ("first", "then", "rule"),
    [
        (None, "UPDATE delegation SET delegate_id = 'E-maker'", "delegation_only_ends"),
        (None, "UPDATE delegation SET valid_until = now() + interval '9 days'", "delegation_only_ends"),
        (None, "UPDATE delegation SET points_max = 1", "delegation_only_ends"),
        ("UPDATE delegation SET ended_at = now()", "UPDATE delegation SET ended_at = NULL", "delegation_only_ends"),
        (None, "UPDATE freeze_order SET reason = 'x'", "freeze_lifted_stays_lifted"),
        (None, "UPDATE freeze_order SET scope = 'unit'", "freeze_lifted_stays_lifted"),
        (
            """UPDATE freeze_order SET lift_proposed_by = 'a', lift_proposed_at = now(), lifted_by = 'b',
                lifted_at = now()""",
            "UPDATE freeze_order SET lifted_by = NULL, lifted_at = NULL",
            "freeze_lifted_stays_lifted",
        ),
    ],
)
async def test_guards(database_url: str, first: str | None, then: str, rule: str) -> None:
    connection = await connect(database_url)
    try:
        await seed_organisation(connection)
        for statement in (DELEGATION, FREEZE, first):
            if statement is not None:
                await connection.execute(statement)
        with pytest.raises(asyncpg.IntegrityConstraintViolationError) as error:
            await connection.execute(then)
        assert error.value.constraint_name == rule
    finally:
        await connection.close()
