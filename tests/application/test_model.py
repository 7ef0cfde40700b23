"""Any history of submissions, decisions, direct calls, awards and time: PostgreSQL beside a plain oracle.

Commands go to the verbs in batches, as the queues hand them over. After each step the answers, the whole
state and every invariant are compared.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from counterfoil.application import ids, points, requests
from counterfoil.application.requests import KeyConflict, Replayed, Stale
from counterfoil.domain.access import Right
from counterfoil.domain.intouch_answers import Outcome
from counterfoil.domain.refusals import Refusal
from counterfoil.domain.requests import Request, Submit
from counterfoil.storage.database import open_pool, transaction
from tests import invariants
from tests.builders import (
    CHECKER,
    MAKER,
    OTHER_CHECKER,
    ZONE,
    connect,
    decide_command,
    fetch_organisation,
    goodwill_command,
    redeem_command,
    seed_member,
    seed_organisation,
    status_command,
    submit_command,
)
from tests.oracle import GOODWILL_HOURS, HOUR, NEVER, Answer, Batch, Oracle

REQUEST_TYPES = {
    "redemption": "POINTS-REDEMPTION", "goodwill": "GOODWILL-POINTS", "status": "CUSTOMER-STATUS-CHANGE",
}  # fmt: skip
MOBILES = ["910000000000", "910000000001", "910000000002"]
MEMBER_IDS = dict(zip(MOBILES, (1, 2, 3), strict=True))
MOBILE = st.sampled_from([*MOBILES[:2] * 3, MOBILES[2]])
POINTS = st.sampled_from([1, 500, 1_000, 2_500, 7_000, 10_001])
REFERENCE = st.sampled_from([None, None, None, "R1", "R2", "R3", "R4"])
SUBMISSION = st.fixed_dictionaries(
    {
        "maker": st.sampled_from([MAKER] * 5 + [CHECKER, OTHER_CHECKER]),
        "kind": st.sampled_from(["redemption"] * 6 + ["goodwill"] * 3 + ["status"]),
        "mobile": MOBILE,
        "points": POINTS,
        "reference": REFERENCE,
        "label": st.sampled_from(["Active", "Suspended"]),
        "key": st.sampled_from([None] * 5 + ["k1", "k2", "k3"]),
    }
)
DECISION = st.fixed_dictionaries(
    {
        "which": st.integers(0, 15),
        "person": st.sampled_from([CHECKER] * 3 + [OTHER_CHECKER] * 3 + [MAKER]),
        "verdict": st.sampled_from(["approved", "approved", "rejected"]),
    }
)
REDEMPTION = st.fixed_dictionaries({"mobile": MOBILE, "points": POINTS, "reference": REFERENCE})
AWARD = st.lists(st.sampled_from([1_000, 2_500, 10_000, 10_000]), min_size=1, max_size=4)
HOURS = st.sampled_from([1, 5, 24, 24, 100, 168])


FUNDED: dict[str, Any] = {
    "kind": "redemption", "maker": MAKER, "points": 2_500, "reference": None, "label": "", "key": None,
}  # fmt: skip


class Histories(RuleBasedStateMachine):
    """`url` and `runner` are set by the test."""

    url: str
    runner: asyncio.Runner

    @initialize(
        required=st.sampled_from([1, 1, 2]),
        strict=st.sampled_from([False] * 4 + [True]),
        first=AWARD,
        second=AWARD,
        hours=HOURS,
    )
    def begin(self, required: int, strict: bool, first: list[int], second: list[int], hours: int) -> None:  # noqa: FBT001
        self.oracle = Oracle(frozenset({MAKER, CHECKER}), frozenset({CHECKER, OTHER_CHECKER}), required, strict)
        self.settled: set[str] = set()
        self.runner.run(self._begin())
        self.award(MOBILES[0], [*first, 10_000], hours)
        self.award(MOBILES[1], [*second, 10_000], None)
        self.submit([{**FUNDED, "mobile": mobile} for mobile in MOBILES[:2] for _ in range(3)])
        self.submit([{**FUNDED, "kind": "goodwill", "mobile": MOBILES[0]}])
        newest = {"which": len(self.oracle.requests) - 1, "verdict": "approved"}
        self.decide([{**newest, "person": person} for person in (CHECKER, OTHER_CHECKER)])

    async def _begin(self) -> None:
        self.connection = await connect(self.url)
        tables = await self.connection.fetch(
            "SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'schema_migration'"
        )
        await self.connection.execute(
            "SET session_replication_role = replica; "  # the guards would not let a history end
            f"TRUNCATE {', '.join(each['tablename'] for each in tables)}; RESET session_replication_role"
        )
        profile = "strict" if self.oracle.strict else "contract"
        await seed_organisation(
            self.connection, approvals=self.oracle.required, profile=profile, rights=[Right.MOVE_DIRECTLY],
            goodwill_expiry_days=GOODWILL_HOURS // 24,
        )  # fmt: skip
        await self.connection.execute(
            "INSERT INTO access_grant (org_id, grant_id, person_id, unit_id, access_right) "
            "VALUES (51250, $1, $2, $3, 'CanMakeRequest')",
            ids.uuid7(),
            CHECKER,
            ZONE,
        )
        self.organisation = await fetch_organisation(self.connection)
        self.pool = await open_pool(self.url, size=1)
        for mobile in MOBILES[:2]:
            await self._enrol(mobile)

    async def _enrol(self, mobile: str) -> None:
        await seed_member(self.connection, [], member_id=MEMBER_IDS[mobile], mobile=mobile)
        self.oracle.members[mobile] = []

    def teardown(self) -> None:
        if hasattr(self, "pool"):
            try:
                self.look_at_all()
            finally:
                self.runner.run(self._end())

    async def _end(self) -> None:
        await self.pool.close()
        await self.connection.close()

    async def _batch(self, verb: Any, commands: list[Any]) -> list[Answer]:
        async with transaction(self.pool, lock_timeout_ms=2000) as tx:
            return [told(each) for each in await verb(tx, self.organisation, commands)]

    # ------------------------------------------------------------ what can happen

    @rule(calls=st.lists(SUBMISSION, min_size=1, max_size=5))
    def submit(self, calls: list[dict[str, Any]]) -> None:
        calls = [{**each, "request_id": ids.uuid7()} for each in calls]
        for each in calls:
            if each["kind"] == "goodwill" and each["reference"] is None:  # which goodwill always has
                each["reference"] = str(each["request_id"])
            elif each["kind"] == "status":
                each["reference"] = None
        commands = [self._command(each) for each in calls]
        self.oracle.now += 10
        expected = self.oracle.submit(calls)
        assert self.runner.run(self._batch(requests.submit_requests, commands)) == expected
        looked = [call for call, answer in zip(calls, expected, strict=True) if answer[0] in ("request", "refused")]
        self.settled.update(each["mobile"] for each in looked)

    def _command(self, call: dict[str, Any]) -> Submit:
        common = {
            "request_id": call["request_id"],
            "person_id": call["maker"],
            "idempotency_key": call["key"],
            "idempotency_digest": repr(
                [call[name] for name in ("kind", "mobile", "points", "reference", "label")]
            ).encode(),
        }
        mobile, points, reference = call["mobile"], call["points"], call["reference"]
        match call["kind"]:
            case "goodwill":
                member_id = MEMBER_IDS[mobile]
                return goodwill_command(
                    self.organisation, member_id=member_id, points=points, reference=reference, **common
                )
            case "status":
                return status_command(self.organisation, mobile=mobile, label=call["label"], **common)
            case _:
                return submit_command(self.organisation, mobile=mobile, points=points, reference=reference, **common)

    @precondition(lambda self: self.oracle.requests)
    @rule(calls=st.lists(DECISION, min_size=1, max_size=6))
    def decide(self, calls: list[dict[str, Any]]) -> None:
        pending = [each for each, asked in self.oracle.requests.items() if asked.state == "pending"]
        anything = [*self.oracle.requests, ids.uuid7()]
        calls = [
            {
                **each,
                "request_id": pending[each["which"] % len(pending)]
                if pending and each["which"] < 13
                else anything[-each["which"] % len(anything)],
            }
            for each in calls
        ]
        commands = [
            decide_command(
                self.organisation,
                each["request_id"],
                verdict=each["verdict"],
                person_id=each["person"],
                request_type=REQUEST_TYPES[self.oracle.kind_of(each["request_id"])],
            )
            for each in calls
        ]
        self.oracle.now += 10
        expected = [self.oracle.decide(each) for each in calls]
        assert self.runner.run(self._batch(requests.decide_requests, commands)) == expected
        decided = (self.oracle.requests.get(each["request_id"]) for each in calls)
        self.settled.update(each.mobile for each in decided if each is not None)

    @rule(calls=st.lists(REDEMPTION, min_size=1, max_size=4))
    def redeem(self, calls: list[dict[str, Any]]) -> None:
        commands = [redeem_command(self.organisation, **each) for each in calls]
        self.oracle.now += 10
        expected = [self.oracle.redeem(each) for each in calls]
        assert self.runner.run(self._batch(points.redeem_points, commands)) == expected
        self.settled.update(each["mobile"] for each in calls)

    @rule(mobile=MOBILE, sizes=AWARD, hours=st.none() | HOURS)
    def award(self, mobile: str, sizes: list[int], hours: int | None) -> None:
        if mobile in self.oracle.members:
            self.oracle.now += 10
            lot_ids = [ids.uuid7() for _ in sizes]
            self.runner.run(self._award(mobile, list(zip(lot_ids, sizes, strict=True)), hours))
            expires = NEVER if hours is None else self.oracle.now + hours * HOUR
            self.oracle.members[mobile] += [
                Batch(lot_id, self.oracle.now, expires, size) for lot_id, size in zip(lot_ids, sizes, strict=True)
            ]

    async def _award(self, mobile: str, lots: list[tuple[UUID, int]], hours: int | None) -> None:
        member_id, at = MEMBER_IDS[mobile], await self.connection.fetchval("SELECT clock_timestamp()")
        expires_at = None if hours is None else at + timedelta(hours=hours)
        for lot_id, size in lots:
            await self.connection.execute(
                "INSERT INTO lot (org_id, member_id, lot_id, reference, awarded_at, expires_at, points, remaining) "
                "VALUES (51250, $1, $2, $2::uuid::text, $3, $4, $5, $5)",
                member_id,
                lot_id,
                at,
                expires_at,
                size,
            )
            await self.connection.execute(
                "INSERT INTO journal (org_id, journal_id, kind, member_id, at) VALUES (51250, $1, 'award', $2, $3)",
                lot_id,
                member_id,
                at,
            )
            await self.connection.execute(
                "INSERT INTO posting VALUES (51250, $1, 1, 'issued', 'available', $1, $2)", lot_id, size
            )
        await self.connection.execute(
            "UPDATE member SET available = available + $2, version = version + 1 WHERE member_id = $1",
            member_id,
            sum(size for _, size in lots),
        )

    @precondition(lambda self: MOBILES[2] not in self.oracle.members)
    @rule()
    def enrol(self) -> None:
        self.runner.run(self._enrol(MOBILES[2]))

    @precondition(lambda self: any(each.hold == "open" for each in self.oracle.requests.values()))
    @rule(hours=HOURS)
    def later(self, hours: int) -> None:
        """The database's clock cannot be set, so all that has an end comes nearer to it."""
        self.oracle.now += 10
        self.oracle.later(hours)
        self.runner.run(self._later(timedelta(hours=hours)))
        self.settled.clear()

    async def _later(self, passed: timedelta) -> None:
        await self.connection.execute(
            "UPDATE lot SET expires_at = expires_at - $1::interval, grace_until = grace_until - $1::interval", passed
        )
        await self.connection.execute("UPDATE hold SET expires_at = expires_at - $1::interval", passed)

    # ------------------------------------------------------------ what must hold

    @invariant()
    def state_is_the_oracle_s(self) -> None:
        if hasattr(self, "pool"):
            self.runner.run(self._compare())
            self.runner.run(invariants.check(self.connection))

    def look_at_all(self) -> None:
        """An impossible redemption makes the ledger settle what time has decided, and nothing else."""
        commands = [redeem_command(self.organisation, points=10**14, mobile=mobile) for mobile in self.oracle.members]
        self.runner.run(self._batch(points.redeem_points, commands))
        self.settled.update(self.oracle.members)
        self.state_is_the_oracle_s()

    async def _compare(self) -> None:
        for mobile in self.settled & set(self.oracle.members):
            member_id, lots = MEMBER_IDS[mobile], self.oracle.members[mobile]
            row = await self.connection.fetchrow("SELECT available, held FROM member WHERE member_id = $1", member_id)
            assert row is not None
            assert tuple(row) == (self.oracle.available(mobile), self.oracle.held(mobile))
            rows = await self.connection.fetch("SELECT * FROM lot WHERE member_id = $1", member_id)
            assert {each["lot_id"]: (each["remaining"], each["held"]) for each in rows} == {
                each.lot_id: (each.remaining, each.held) for each in lots
            }
            rows = await self.connection.fetch("SELECT * FROM hold WHERE member_id = $1", member_id)
            assert {each["request_id"]: each["state"] for each in rows} == {
                each.request_id: each.hold
                for each in self.oracle.requests.values()
                if each.mobile == mobile and each.hold != "none"
            }
        rows = await self.connection.fetch(
            "SELECT r.*, (SELECT json_object_agg(d.person_id, d.verdict ORDER BY d.number)::text FROM decision d "
            "WHERE d.request_id = r.request_id) AS voices FROM request r"
        )
        assert {each["request_id"]: (each["state"], tuple(each["flags"]), each["voices"]) for each in rows} == {
            each.request_id: (each.state, each.flags, spelled(each.voices)) for each in self.oracle.requests.values()
        }
        rows = await self.connection.fetch("SELECT external_reference, points FROM redemption")
        assert sum(each["points"] for each in rows) == sum(self.oracle.redeemed.values())
        assert {each[0]: each[1] for each in rows if each[0] is not None} == self.oracle.used
        rows = await self.connection.fetch("SELECT reference, points FROM goodwill")
        assert dict(map(tuple, rows)) == self.oracle.given
        rows = await self.connection.fetch("SELECT member_id, label FROM member_status")
        labels = {MEMBER_IDS[mobile]: label for mobile, (_, label) in self.oracle.labels.items()}
        assert dict(map(tuple, rows)) == labels
        rows = await self.connection.fetch("SELECT key, request_id FROM idempotency_key")
        assert dict(map(tuple, rows)) == {key: request_id for key, (_, request_id) in self.oracle.keys.items()}
        refusals = await self.connection.fetchval("SELECT count(*) FROM event WHERE kind LIKE '%refused'")
        assert refusals == self.oracle.refusals


def spelled(voices: dict[str, str]) -> str | None:
    """As json_object_agg writes them."""
    return (
        "{ " + ", ".join(f'"{person}" : "{verdict}"' for person, verdict in voices.items()) + " }" if voices else None
    )


def told(outcome: object) -> Answer:
    """An outcome in the oracle's words."""
    match outcome:
        case Request(outcome=None):
            return ("request", outcome.state, outcome.flags, None, None)
        case Request(outcome=Outcome() as facts):
            balance = facts.balance if facts.code == 800 else None
            return ("request", outcome.state, outcome.flags, facts.code, balance)
        case Outcome():
            return ("redeemed", outcome.code, outcome.balance if outcome.code == 800 else None)
        case Replayed():
            return ("replayed", outcome.request_id)
        case KeyConflict():
            return ("conflict", outcome.request_id)
        case Stale():
            return ("again",)
        case Refusal():
            return ("refused", outcome.code)
        case _:
            raise AssertionError(outcome)


def run_histories(url: str, *, examples: int, steps: int) -> None:
    with asyncio.Runner() as runner:
        machine = type("HistoriesHere", (Histories,), {"url": url, "runner": runner})
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=examples,
                stateful_step_count=steps,
                deadline=None,
                suppress_health_check=list(HealthCheck),
                phases=(Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink),
                print_blob=True,
            ),
        )


def test_histories_agree_with_the_oracle(database_url: str) -> None:
    run_histories(database_url, examples=7, steps=20)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_many_long_histories_agree_with_the_oracle(database_url: str) -> None:
    run_histories(database_url, examples=150, steps=50)
