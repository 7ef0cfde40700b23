"""What the application's database role may do: less than the owner, who runs the migrations (design.md §5).

Evidence can be added and read, never changed: the guards in the schema say the same once more.
"""

from __future__ import annotations

import re

import asyncpg

_ROLE = re.compile(r"[a-z_][a-z0-9_$-]{0,62}")
_APPEND_ONLY = (
    "event, decision, journal, posting, redemption, goodwill, hold_lot, request_comment, cap_use, look_up, "
    "incident_voice"
)
_CHANGED = (
    "request, hold, member, member_status, lot, attempt, incident, restore_mark, organisation, org_unit, person, "
    "app_user, credential, delegation, freeze_order, cap_counter, direct_use"
)
_REPLACED = (
    "idempotency_key, outbox, access_grant, host, policy, programme, member_identifier, directory, reason_code, "
    "person_group, person_group_member, person_identifier, access_group, ui_token_issuer, reference_claim"
)


class UnusableRole(Exception):
    """The role does not exist or is not a plain name; the message says what to do."""


async def grant(url: str, role: str) -> None:
    """Give the role exactly what the service needs; safe to repeat. Run as the owner of the tables."""
    if not _ROLE.fullmatch(role):
        raise UnusableRole(f"{role!r} is not a plain role name: use small letters, digits and _")
    connection = await asyncpg.connect(url)
    try:
        async with connection.transaction():
            for statement in (
                f'REVOKE ALL ON ALL TABLES IN SCHEMA public FROM "{role}"',
                f'GRANT USAGE ON SCHEMA public TO "{role}"',
                f'GRANT SELECT ON ALL TABLES IN SCHEMA public TO "{role}"',
                f'GRANT INSERT ON {_APPEND_ONLY} TO "{role}"',
                f'GRANT INSERT, UPDATE ON {_CHANGED} TO "{role}"',
                f'GRANT INSERT, UPDATE, DELETE ON {_REPLACED} TO "{role}"',
            ):
                await connection.execute(statement)
    except asyncpg.UndefinedObjectError:
        raise UnusableRole(f'there is no role {role}: create it first with CREATE ROLE "{role}" LOGIN') from None
    finally:
        await connection.close()
