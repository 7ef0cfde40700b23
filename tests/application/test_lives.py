"""Any history of whole lives: makers, checkers, delegations, freezes, policies, suspensions and time, by an oracle.

After each step the answers, every request with its voices, and every invariant of the database are compared.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
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

from counterfoil.application import delegations, endings, freezes, ids, requests
from counterfoil.application.requests import Stale
from counterfoil.domain.delegations import EndDelegation
from counterfoil.domain.freezes import Scope
from counterfoil.domain.organisations import Delegation, Freeze, Organisation
from counterfoil.domain.refusals import Refusal
from counterfoil.domain.requests import Request
from counterfoil.storage.database import open_pool, transaction
from tests import invariants
from tests.builders import (
    CHECKER,
    MAKER,
    OTHER_CHECKER,
    ZONE,
    Lot,
    actor_of,
    connect,
    decide_command,
    delegate_command,
    fetch_organisation,
    freeze_command,
    lift_command,
    seed_member,
    seed_organisation,
    submit_command,
    withdraw_command,
)
from tests.lives import HOUR, OVER, PENDING, Lent, Lives, Stop

BOTH, LENT_TO = "E-both", "E-lent-to"
GROUP = "finance"
RIGHTS = {
    MAKER: {"make"},
    CHECKER: {"check", "freeze"},
    OTHER_CHECKER: {"check"},
    BOTH: {"make", "check", "freeze"},
    LENT_TO: set[str](),
}
NAMES = {"make": "CanMakeRequest", "check": "CanCheckRequest", "freeze": "CanFreeze"}
CHECKING = st.sampled_from([CHECKER, OTHER_CHECKER, BOTH, LENT_TO, LENT_TO, MAKER])
WHICH = st.integers(0, 30)
VERDICT = st.sampled_from(["approved"] * 6 + ["rejected", "sent back"])
VOICES = st.permutations([*RIGHTS, CHECKER, LENT_TO, LENT_TO]).map(lambda found: found[:6])
HOURS = st.sampled_from([1, 5, 24, 30, 100])
SIZE = 1_000_000
OWNED = 10**12
# Its rows keep their dates when time is moved under the delegations: the oracle judges them.
MOVED = "a lent right was lent when it was used"
NEIGHBOUR = 51251  # another organisation in the same tables


class Histories(RuleBasedStateMachine):
    """`url` and `runner` are set by the test."""

    url: str
    runner: asyncio.Runner

    @initialize(
        required=st.sampled_from([1, 2, 2]),
        life_hours=st.sampled_from([None, 24, 24]),
        first=st.sampled_from([CHECKER, OTHER_CHECKER]),
    )
    def begin(self, required: int, life_hours: int | None, first: str) -> None:
        rights = {person: set(found) for person, found in RIGHTS.items()}
        self.oracle = Lives(rights, required, life_hours, group={CHECKER, BOTH})
        self.moved = False
        self.runner.run(self._begin())
        self.submit(MAKER, 0, again=False)
        self.submit(BOTH, 0, again=False)
        self.delegate(first, LENT_TO, 0, 60)
        self.delegate(BOTH, LENT_TO, 0, 24)

    async def _begin(self) -> None:
        self.connection = await connect(self.url)
        tables = await self.connection.fetch(
            "SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'schema_migration'"
        )
        await self.connection.execute(
            "SET session_replication_role = replica; "  # the guards would not let a history end
            f"TRUNCATE {', '.join(each['tablename'] for each in tables)}; RESET session_replication_role"
        )
        await seed_organisation(self.connection, approvals=self.oracle.required, life_hours=self.oracle.life_hours)
        await seed_member(self.connection, [Lot(OWNED)])
        await self.connection.execute("DELETE FROM access_grant")
        for number, person in enumerate((BOTH, LENT_TO)):
            await self.connection.execute("INSERT INTO person VALUES (51250, $1, $1, true)", person)
            await self.connection.execute(
                "INSERT INTO app_user (org_id, user_id, user_name, person_id) VALUES (51250, $1, $2, $2)",
                number + 1, person,
            )  # fmt: skip
        await self.connection.execute("INSERT INTO person_group (org_id, group_id, name) VALUES (51250, $1, $1)", GROUP)
        for person in sorted(self.oracle.group):
            await self.connection.execute("INSERT INTO person_group_member VALUES (51250, $1, $2)", GROUP, person)
        for person, rights in RIGHTS.items():
            for right in rights:
                await self._grant(person, right)
        await seed_organisation(self.connection, NEIGHBOUR, login="ind.2")
        await seed_member(self.connection, [Lot(OWNED)], org_id=NEIGHBOUR)
        self.neighbour = await self._rows_of(NEIGHBOUR)
        self.pool = await open_pool(self.url, size=1)

    async def _rows_of(self, org_id: int) -> list[Any]:
        """Everything that the database has of an organisation."""
        tables = await self.connection.fetch(
            "SELECT table_name FROM information_schema.columns WHERE column_name = 'org_id' "
            "AND table_name IN (SELECT tablename FROM pg_tables WHERE schemaname = 'public') ORDER BY table_name"
        )
        each = (f"SELECT '{table[0]}', t::text FROM {table[0]} t WHERE org_id = $1" for table in tables)  # noqa: S608
        return list(await self.connection.fetch(" UNION ALL ".join(each) + " ORDER BY 1, 2", org_id))

    async def _grant(self, person: str, right: str) -> None:
        unit = None if right == "freeze" else ZONE
        await self.connection.execute(
            "INSERT INTO access_grant (org_id, grant_id, person_id, unit_id, access_right) "
            "VALUES (51250, $1, $2, $3, $4)", ids.uuid7(), person, unit, NAMES[right],
        )  # fmt: skip

    def teardown(self) -> None:
        if hasattr(self, "pool"):
            self.runner.run(self._end())

    async def _end(self) -> None:
        await self.pool.close()
        await self.connection.close()

    def run(self, verb: Any, make: Any) -> Any:
        """One command with a fresh snapshot; with an old one it would change nothing."""
        return self.runner.run(self._run(verb, make))

    async def _run(self, verb: Any, make: Any) -> Any:
        found = await fetch_organisation(self.connection)
        sometimes = self.oracle.now % 4 == 0
        if sometimes:
            async with transaction(self.pool, lock_timeout_ms=2000) as tx:
                old = replace(found, version=found.version - 1)
                [again] = await verb(tx, old, [make(old)])
                assert isinstance(again, Stale)
        command = make(found)
        async with transaction(self.pool, lock_timeout_ms=2000) as tx:
            [outcome] = await verb(tx, found, [command])
        if sometimes and not isinstance(outcome, Refusal | Stale) and verb is not requests.submit_requests:
            async with transaction(self.pool, lock_timeout_ms=2000) as tx:  # as after a lost connection
                assert await verb(tx, found, [command]) == [outcome]
        match outcome:
            case Request():
                return outcome.state.value
            case Refusal():
                return outcome.code
            case Delegation() | Freeze():
                return 0
            case _:
                raise AssertionError(outcome)

    def request(self, which: int, *, of: tuple[str, ...] = (PENDING, *OVER)) -> UUID:
        found = [each for each, life in self.oracle.requests.items() if life.state in of]
        return (found or list(self.oracle.requests))[which % len(found or self.oracle.requests)]

    # ------------------------------------------------------------ what can happen

    @rule(makers=st.lists(st.sampled_from([MAKER, MAKER, BOTH, BOTH, CHECKER]), min_size=1, max_size=3), voices=VOICES)
    def submit_some(self, makers: list[str], voices: list[str]) -> None:
        for maker in makers:
            self.submit(maker, 0, again=False)
        self.vote(voices)

    @rule(maker=st.sampled_from([MAKER, MAKER, BOTH]), which=WHICH, again=st.just(value=True))
    def submit(self, maker: str, which: int, *, again: bool) -> None:
        self.oracle.now += 1
        earlier = self.request(which, of=("rejected", "withdrawn", "expired")) if again else None
        request_id = ids.uuid7()
        expected = self.oracle.submit(request_id, maker, earlier)

        def command(found: Organisation) -> Any:
            return submit_command(found, points=SIZE, person_id=maker, request_id=request_id, resubmission_of=earlier)

        assert self.run(requests.submit_requests, command) == expected

    @precondition(lambda self: self.oracle.requests)
    @rule(which=WHICH, voices=st.lists(st.tuples(CHECKING, VERDICT), min_size=1, max_size=4))
    def decide(self, which: int, voices: list[tuple[str, str]]) -> None:
        request_id = self.request(which, of=(PENDING,) if which < 25 else OVER)
        for person, verdict in voices:
            self._decide(request_id, person, verdict)

    def vote(self, people: list[str]) -> None:
        """Some people approve one pending request, in this order."""
        if any(each.state == PENDING for each in self.oracle.requests.values()):
            request_id = self.request(len(people), of=(PENDING,))
            for person in people:
                self._decide(request_id, person, "approved")

    def _decide(self, request_id: UUID, person: str, verdict: str) -> None:
        self.oracle.now += 1
        sent_back = verdict == "sent back"
        verdict = "approved" if verdict == "approved" else "rejected"
        expected = self.oracle.decide(request_id, person, verdict)
        command_id = ids.uuid7()

        def command(found: Organisation) -> Any:
            return decide_command(
                found, request_id, verdict=verdict, person_id=person, decision_id=command_id, sent_back=sent_back
            )

        assert self.run(requests.decide_requests, command) == expected

    @precondition(lambda self: self.oracle.requests)
    @rule(which=WHICH, own=st.sampled_from([True, True, True, False]))
    def withdraw(self, which: int, *, own: bool) -> None:
        self.oracle.now += 1
        request_id = self.request(which)
        person = self.oracle.requests[request_id].maker if own else CHECKER
        expected = self.oracle.withdraw(request_id, person)
        command_id = ids.uuid7()
        assert expected == self.run(
            endings.withdraw_requests,
            lambda found: withdraw_command(found, request_id, person_id=person, withdrawal_id=command_id),
        )

    @rule(
        delegator=st.sampled_from([CHECKER, OTHER_CHECKER, BOTH, BOTH, LENT_TO]),
        delegate=st.sampled_from([LENT_TO] * 3 + [CHECKER, CHECKER, *RIGHTS]),
        begins=st.sampled_from([0, 0, 6]),
        lasts=st.sampled_from([24, 60]),
        voices=VOICES,
    )
    def lend(self, delegator: str, delegate: str, begins: int, lasts: int, voices: list[str]) -> None:
        self.delegate(delegator, delegate, begins, lasts)
        self.vote(voices)

    def delegate(self, delegator: str, delegate: str, begins: int, lasts: int) -> None:
        self.oracle.now += 1
        delegation_id = ids.uuid7()
        at = self.oracle.now + begins * HOUR
        expected = self.oracle.delegate(delegation_id, Lent(delegator, delegate, at, at + lasts * HOUR))
        now = self.runner.run(self.connection.fetchval("SELECT clock_timestamp()"))
        first = now + timedelta(hours=begins)

        def command(found: Organisation) -> Any:
            return delegate_command(
                found, delegate, person_id=delegator, delegation_id=delegation_id,
                valid_from=first, valid_until=first + timedelta(hours=lasts),
            )  # fmt: skip

        assert self.run(delegations.change_delegations, command) == expected

    @precondition(lambda self: self.oracle.lent)
    @rule(which=WHICH, own=st.sampled_from([True, True, False]))
    def end_delegation(self, which: int, *, own: bool) -> None:
        delegation_id = list(self.oracle.lent)[which % len(self.oracle.lent)]
        lent = self.oracle.lent[delegation_id]
        self._end_delegation(delegation_id, lent.delegator if own else lent.delegate)

    @precondition(lambda self: any(not each.over for each in self.oracle.lent.values()))
    @rule(which=WHICH, first=st.booleans())
    def take_back_speak_and_lend_again(self, which: int, first: bool) -> None:  # noqa: FBT001 - as drawn
        """Of one right there is one voice, whoever gives it."""
        opened = [delegation_id for delegation_id, each in self.oracle.lent.items() if not each.over]
        delegation_id = opened[which % len(opened)]
        lent, request_id = self.oracle.lent[delegation_id], self.request(which, of=(PENDING,))
        pair = (lent.delegate, lent.delegator) if first else (lent.delegator, lent.delegate)
        self._decide(request_id, pair[0], "approved")
        self._end_delegation(delegation_id, lent.delegator)
        self._decide(request_id, pair[1], "approved")
        self.delegate(lent.delegator, lent.delegate, 0, 24)
        self._decide(request_id, pair[0], "approved")

    def _end_delegation(self, delegation_id: UUID, person: str) -> None:
        self.oracle.now += 1
        expected = self.oracle.end(delegation_id, person)
        command_id = ids.uuid7()
        assert expected == self.run(
            delegations.change_delegations,
            lambda found: EndDelegation(command_id, actor_of(found, person), delegation_id, ids.salt()),
        )

    @rule(person=st.sampled_from([CHECKER, BOTH, OTHER_CHECKER]), maker=st.none() | st.sampled_from([MAKER, BOTH]))
    def freeze(self, person: str, maker: str | None) -> None:
        self.oracle.now += 1
        freeze_id = ids.uuid7()
        scope, target = (Scope.ORGANISATION, "") if maker is None else (Scope.MAKER, maker)
        expected = self.oracle.freeze(freeze_id, person, Stop(scope, target))
        assert expected == self.run(
            freezes.change_freezes,
            lambda found: freeze_command(found, person_id=person, freeze_id=freeze_id, scope=scope, target=target),
        )

    @precondition(lambda self: self.oracle.stops)
    @rule(which=WHICH, people=st.lists(st.sampled_from([CHECKER, BOTH, OTHER_CHECKER]), min_size=1, max_size=3))
    def lift(self, which: int, people: list[str]) -> None:
        opened = [each for each, stop in self.oracle.stops.items() if not stop.lifted] or list(self.oracle.stops)
        freeze_id = opened[which % len(opened)]
        for person in people:
            self._lift(freeze_id, person)

    def _lift(self, freeze_id: UUID, person: str) -> None:
        self.oracle.now += 1
        expected = self.oracle.lift(freeze_id, person)
        command_id = ids.uuid7()
        assert expected == self.run(
            freezes.change_freezes,
            lambda found: lift_command(found, freeze_id, person_id=person, lift_id=command_id),
        )

    @precondition(lambda self: any(not each.lifted for each in self.oracle.stops.values()))
    @rule()
    def lift_all(self) -> None:
        """So that histories go on."""
        for freeze_id, stop in self.oracle.stops.items():
            if not stop.lifted:
                for person in (CHECKER, BOTH, CHECKER):
                    self._lift(freeze_id, person)

    @rule(person=st.sampled_from([CHECKER, OTHER_CHECKER, BOTH]))
    def deactivate_or_back(self, person: str) -> None:
        self.oracle.inactive ^= {person}
        self.runner.run(
            self._administer(
                "UPDATE person SET active = $1 WHERE org_id = 51250 AND person_id = $2",
                person not in self.oracle.inactive,
                person,
            )
        )

    @rule(person=st.sampled_from([CHECKER, OTHER_CHECKER, BOTH, LENT_TO, LENT_TO]), voices=VOICES)
    def take_or_give_the_deciding_right(self, person: str, voices: list[str]) -> None:
        self.vote(voices[:1])
        had = "check" in self.oracle.rights[person]
        self.oracle.rights[person] ^= {"check"}
        if had:
            delete = (
                "DELETE FROM access_grant WHERE org_id = 51250 AND person_id = $1 AND access_right = 'CanCheckRequest'"
            )
            self.runner.run(self._administer(delete, person))
        else:
            self.runner.run(self._grant(person, "check"))
            self.runner.run(self._administer("SELECT $1::text", person))

    @rule(required=st.sampled_from([1, 1, 2]), members=st.sampled_from([0, 1]), voices=VOICES)
    def change_the_policy(self, required: int, members: int, voices: list[str]) -> None:
        """What was asked of a request when it was made stays."""
        self.vote(voices[:1])
        self.oracle.required, self.oracle.members = required - members, members
        needs = [{"count": members, "group": GROUP}] if members else []
        needs += [{"count": required - members}] if required > members else []
        rule = {"name": "all", "needs": needs, "life_hours": self.oracle.life_hours}
        insert = "INSERT INTO policy (org_id, revision, document) SELECT 51250, max(revision) + 1, $1 FROM policy"
        self.runner.run(self._administer(insert, json.dumps({"approvals": required, "rules": [rule]})))

    @rule(person=st.sampled_from([CHECKER, OTHER_CHECKER, BOTH]), voices=VOICES)
    def join_or_leave_the_group(self, person: str, voices: list[str]) -> None:
        self.vote(voices[:2])
        joins = person not in self.oracle.group
        self.oracle.group ^= {person}
        insert = "INSERT INTO person_group_member (org_id, group_id, person_id) VALUES (51250, $1, $2)"
        delete = "DELETE FROM person_group_member WHERE group_id = $1 AND person_id = $2"
        self.runner.run(self._administer(insert if joins else delete, GROUP, person))

    @rule(person=st.sampled_from([CHECKER, OTHER_CHECKER, BOTH, LENT_TO]), voices=VOICES)
    def suspend(self, person: str, voices: list[str]) -> None:
        """As when administrators have changed somebody's sign-in."""
        self.vote(voices[:2])
        self.oracle.suspended[person] = self.oracle.now + 24 * HOUR
        until = "UPDATE person SET suspended_until = clock_timestamp() + interval '24 hours' "
        self.runner.run(self._administer(until + "WHERE org_id = 51250 AND person_id = $1", person))

    async def _administer(self, statement: str, *arguments: object) -> None:
        async with self.connection.transaction():
            await self.connection.execute("UPDATE organisation SET version = version + 1 WHERE org_id = 51250")
            await self.connection.execute(statement, *arguments)

    @rule(hours=HOURS, voices=VOICES)
    def later(self, hours: int, voices: list[str]) -> None:
        """The database's clock cannot be set, so all that has an end comes nearer to it."""
        self.vote(voices[:2])
        self.oracle.now += 1 + hours * HOUR
        self.moved = True
        self.runner.run(self._later(timedelta(hours=hours)))

    async def _later(self, passed: timedelta) -> None:
        async with self.connection.transaction():
            await self.connection.execute("SET LOCAL session_replication_role = replica")
            for statement in (
                "UPDATE hold SET expires_at = expires_at - $1::interval",
                "UPDATE request SET expires_at = expires_at - $1::interval WHERE state = 'pending'",
                "UPDATE person SET suspended_until = suspended_until - $1::interval",
                "UPDATE delegation SET valid_from = valid_from - $1::interval",
                "UPDATE delegation SET valid_until = valid_until - $1::interval",
            ):
                await self.connection.execute(statement, passed)

    @rule()
    def sweep(self) -> None:
        self.oracle.now += 1
        self.oracle.sweep()
        self.runner.run(self._sweep())

    async def _sweep(self) -> None:
        found = await fetch_organisation(self.connection)
        async with transaction(self.pool, lock_timeout_ms=2000) as tx:
            await endings.expire_requests(tx, found, 100)

    # ------------------------------------------------------------ what must hold

    @invariant()
    def state_is_the_oracle_s(self) -> None:
        if hasattr(self, "pool"):
            self.runner.run(self._compare())

    async def _compare(self) -> None:
        broken = await invariants.broken(self.connection)
        assert [each for each in broken if not (self.moved and each.startswith(MOVED))] == []
        rows = await self.connection.fetch("SELECT * FROM request")
        voices = await self.connection.fetch("SELECT * FROM decision ORDER BY request_id, number")
        assert {each["request_id"]: (each["state"], each["resubmission_of"]) for each in rows} == {
            request_id: (life.state, life.resubmission_of) for request_id, life in self.oracle.requests.items()
        }
        for request_id, life in self.oracle.requests.items():
            given = [
                (each["person_id"], each["on_behalf_of"] or each["person_id"], each["verdict"])
                for each in voices if each["request_id"] == request_id
            ]  # fmt: skip
            assert given == life.voices
            assert life.maker not in {person for voice in life.voices for person in voice[:2]}
        spent = sum(life.state == "succeeded" for life in self.oracle.requests.values()) * SIZE
        owned = "SELECT available + held FROM member WHERE org_id = 51250"
        assert await self.connection.fetchval(owned) == OWNED - spent
        assert await self._rows_of(NEIGHBOUR) == self.neighbour  # of the same people, units and member


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
                phases=(Phase.explicit, Phase.reuse, Phase.generate),  # shrinking would outlast the timeout
                print_blob=True,
            ),
        )


def test_lives_agree_with_the_oracle(database_url: str) -> None:
    run_histories(database_url, examples=8, steps=20)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_many_long_lives_agree_with_the_oracle(database_url: str) -> None:
    run_histories(database_url, examples=20, steps=50)
