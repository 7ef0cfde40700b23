"""A policy from its file to the database: frozen at submission, enforced at the decision, counted in between."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from counterfoil.application.administration import CannotApply
from counterfoil.domain.access import resolve_place
from counterfoil.domain.refusals import (
    AlreadyCompleted,
    CapReached,
    InvalidPayload,
    NobodyCanCheck,
    NotNeeded,
    NotPermitted,
    Refusal,
    SelfInterest,
)
from counterfoil.domain.requests import Request, State
from tests.builders import decide_command, submit_command
from tests.houses import MOBILE, OTHER_MOBILE, a_house

LEVELS = """
  rules:
    - name: levels
      require: [{count: 1, level: store}, {count: 1, level: zone, step: 2}, {count: 1, group: finance, step: 2}]
"""
AUTO = """
  rules:
    - name: small
      autoApprove: {perRequest: 100, perMember: 150, perMaker: 300, perDay: 300}
      require: [{level: zone}]
"""


# ---------------------------------------------------------------- requirements


async def test_levels_in_sequence_each_by_somebody_else(database_url: str) -> None:
    async with a_house(database_url, LEVELS) as house:
        request = await house.submit()
        assert isinstance(request, Request), request
        assert request.approvals_required == 3
        assert isinstance(await house.decide(request, "M1"), NotPermitted)
        assert (await house.decide(request, "S1")).state is State.PENDING
        assert isinstance(await house.decide(request, "S2"), NotNeeded)  # the open step needs zone and finance
        assert isinstance(await house.decide(request, "S1"), AlreadyCompleted)
        assert (await house.decide(request, "F1")).state is State.PENDING
        done = await house.decide(request, "F2")  # of the whole organisation, so of the zone's level as well
        assert done.state is State.SUCCEEDED
        stored = await house.connection.fetchrow("SELECT policy_revision, requirement, approvals_required FROM request")
        assert stored["policy_revision"] == 1
        assert stored["approvals_required"] == 3
        assert b'"step":2' in stored["requirement"]


async def test_somebody_who_could_do_both_does_not_block_the_others(database_url: str) -> None:
    both = "\n  rules: [{name: both, require: [{group: finance}, {count: 1}]}]\n"
    async with a_house(database_url, both) as house:
        request = await house.submit()
        assert (await house.decide(request, "F1")).state is State.PENDING
        assert (await house.decide(request, "S1")).state is State.SUCCEEDED
        request = await house.submit()
        assert (await house.decide(request, "S1")).state is State.PENDING
        refused = await house.decide(request, "S2")
        assert isinstance(refused, NotNeeded)
        assert "group finance" in refused.message
        assert (await house.decide(request, "F2")).state is State.SUCCEEDED


async def test_a_voice_moves_on_when_another_fills_its_place(database_url: str) -> None:
    """The zone's only checker stood in for the store's: that must not block the request."""
    policy = "\n  rules: [{name: levels, require: [{level: store}, {level: zone, step: 2}]}]\n"
    async with a_house(database_url, policy) as house:
        await house.apply(house.text.replace("  - {group: finance, right: CanCheckRequest}\n", ""))
        request = await house.submit()
        assert (await house.decide(request, "Z1")).state is State.PENDING
        assert (await house.decide(request, "S1")).state is State.SUCCEEDED


async def test_a_rejection_needs_no_turn(database_url: str) -> None:
    async with a_house(database_url, LEVELS) as house:
        request = await house.submit()
        await house.decide(request, "S1")
        assert (await house.decide(request, "S2", "rejected")).state is State.REJECTED


async def test_the_requirement_of_the_submission_stays(database_url: str) -> None:
    async with a_house(database_url, "\n  approvals: 2\n") as house:
        request = await house.submit()
        await house.apply(house.text.replace("approvals: 2", "approvals: 1"))
        later = await house.submit(50_000)
        assert (request.approvals_required, later.approvals_required) == (2, 1)
        assert (request.policy_revision, later.policy_revision) == (1, 2)
        assert (await house.decide(request, "S1")).state is State.PENDING
        assert (await house.decide(later, "S1")).state is State.SUCCEEDED
        assert (await house.decide(request, "S2")).state is State.SUCCEEDED


async def test_who_is_in_a_group_counts_at_the_final_decision(database_url: str) -> None:
    policy = "\n  rules: [{name: two, require: [{group: finance}, {level: zone}]}]\n"
    async with a_house(database_url, policy) as house:
        request = await house.submit()
        assert (await house.decide(request, "F1")).state is State.PENDING
        await house.apply(house.text.replace("people: [F1, F2]", "people: [F2]"))
        assert (await house.decide(request, "Z1")).state is State.PENDING  # F1's voice counts no more
        assert (await house.decide(request, "F2")).state is State.SUCCEEDED


async def test_a_voice_that_lapsed_and_counts_again_completes_the_request(database_url: str) -> None:
    async with a_house(database_url, "\n  approvals: 2\n") as house:
        request = await house.submit()
        revoked = house.text.replace("  - {person: S1, right: CanCheckRequest, unit: 50682288}\n", "")
        given = house.text
        assert (await house.decide(request, "S1")).state is State.PENDING
        await house.apply(revoked)
        assert isinstance(await house.decide(request, "S1"), NotPermitted)
        assert (await house.decide(request, "S2")).state is State.PENDING
        await house.apply(given)
        assert isinstance(await house.decide(request, "S1", "rejected"), AlreadyCompleted)
        done = await house.decide(request, "S1")
        assert done.state is State.SUCCEEDED
        assert [each.person_id for each in done.decisions] == ["S1", "S2"]


async def test_a_policy_that_nobody_can_meet_any_more_refuses_new_requests(database_url: str) -> None:
    policy = "\n  rules: [{name: one, require: [{group: finance}]}]\n"
    async with a_house(database_url, policy) as house:
        for person in ("F1", "F2"):
            await house.connection.execute("UPDATE person SET active = false WHERE person_id = $1", person)
        await house.connection.execute("UPDATE organisation SET version = version + 1")
        assert isinstance(await house.submit(), NobodyCanCheck)


async def test_a_comment_where_the_policy_asks_for_one_and_a_life_time(database_url: str) -> None:
    policy = "\n  commentAbove: 50\n  lifeHours: 2\n"
    async with a_house(database_url, policy) as house:
        request, small = await house.submit(50_001), await house.submit(50_000)
        assert (request.expires_at - request.started_at).total_seconds() == 7200
        refused = await house.decide(request, "S1", message=" ")
        assert isinstance(refused, InvalidPayload)
        assert refused.path == "payload.AdminTask-Payload.actionMessage"
        assert isinstance(await house.decide(request, "S1", "rejected", message=""), InvalidPayload)
        assert (await house.decide(small, "S1", message="")).state is State.SUCCEEDED
        assert (await house.decide(request, "S1", message="why not")).state is State.SUCCEEDED


async def test_what_is_past_its_time_cannot_be_decided(database_url: str) -> None:
    async with a_house(database_url, "\n  lifeHours: 1\n") as house:
        request = await house.submit()
        await house.make_older(1)
        assert isinstance(await house.decide(request, "S1"), AlreadyCompleted)


async def test_the_member_neither_makes_nor_decides(database_url: str) -> None:
    async with a_house(database_url, "\n  approvals: 1\n") as house:
        assert isinstance(await house.submit(person="M2", mobile=OTHER_MOBILE), SelfInterest)
        request = await house.submit(person="M2", mobile="919988776633")
        assert isinstance(request, Request)
        assert isinstance(await house.decide(request, "F1"), SelfInterest)  # F1 has that member's external id
        assert (await house.decide(request, "F2")).state is State.SUCCEEDED


# ---------------------------------------------------------------- automatic approval


async def test_automatic_approval_executes_in_the_submission_and_is_counted(database_url: str) -> None:
    async with a_house(database_url, AUTO) as house:
        done = await house.submit(100_000)
        assert (done.state, done.auto_rule, done.decisions) == (State.SUCCEEDED, "small", ())
        assert done.outcome.balance == 900_000
        events = await house.connection.fetch("SELECT kind, facts FROM event WHERE subject_id = $1 ORDER BY event_id",
                                              done.request_id)  # fmt: skip
        assert sorted(row["kind"] for row in events) == ["submitted", "succeeded"]
        assert any(b'"by":"policy"' in row["facts"] for row in events)
        assert await house.counters() == {
            "auto:small:member member 1": 100_000, "auto:small:maker M1": 100_000, "auto:small:day": 100_000,
        }  # fmt: skip
        too_much = await house.submit(100_000)  # 150 a day for a member
        assert (too_much.state, too_much.auto_rule) == (State.PENDING, None)
        assert too_much.requirement.needs[0].level == "zone"
        assert isinstance(await house.decide(too_much, "S1"), NotNeeded)
        assert (await house.decide(too_much, "Z1")).state is State.SUCCEEDED
        assert (await house.submit(50_000)).state is State.SUCCEEDED


@pytest.mark.parametrize(
    "changes",
    [
        {"points": 100_001},
        {"points": 100_000, "mobile": "910000000000"},
        {"points": 100_000, "till_epoch": None},
        {"points": 100_000, "reference": "taken"},
    ],
    ids=["above the cap", "member unknown", "till credential", "duplicate"],
)
async def test_what_has_a_flag_waits_for_a_checker(database_url: str, changes: dict[str, Any]) -> None:
    async with a_house(database_url, AUTO) as house:
        await house.submit(1_000, reference="taken")
        request = await house.submit(**changes)
        assert (request.state, request.auto_rule) == (State.PENDING, None)
        assert await house.connection.fetchval("SELECT count(*) FROM redemption") == 1


async def test_a_reference_that_was_used_directly_is_not_approved_automatically(database_url: str) -> None:
    async with a_house(database_url, AUTO) as house:
        await house.connection.execute(
            "INSERT INTO redemption VALUES (51250, 'abcdef', 9, NULL, 1, 'used', '', '', 'ind.1', now())"
        )
        request = await house.submit(1_000, reference="used")
        assert (request.state, request.flags) == (State.PENDING, ())
        await house.connection.execute("ALTER TABLE redemption DISABLE TRIGGER ALL; DELETE FROM redemption; "
                                       "ALTER TABLE redemption ENABLE TRIGGER ALL")  # fmt: skip


# ---------------------------------------------------------------- caps


async def test_caps_count_what_is_open_and_what_was_executed_and_let_go_of_the_rest(database_url: str) -> None:
    policy = "\n  caps: [{name: day, per: maker, points: 250}, {name: member, per: member, points: 900}]\n"
    async with a_house(database_url, policy) as house:
        first, second = await house.submit(100_000), await house.submit(100_000, mobile="")
        refused = await house.submit(50_001)
        assert isinstance(refused, CapReached)
        assert "leaves 50 points" in refused.message
        assert isinstance(await house.submit(200_000, person="M2"), Request)  # counted by maker
        await house.decide(first, "S1")
        assert (await house.counters())["day M1"] == 200_000
        await house.decide(second, "S1", "rejected")
        assert (await house.counters())["day M1"] == 100_000
        assert isinstance(await house.submit(150_000), Request)


async def test_a_request_that_fails_counts_no_more(database_url: str) -> None:
    async with a_house(database_url, "\n  caps: [{name: all, per: day, points: 5000}]\n") as house:
        request = await house.submit(1_000_001)
        assert request.flags == ("unfunded",)
        assert await house.counters() == {"all": 1_000_001}
        assert (await house.decide(request, "S1")).state is State.FAILED
        assert await house.counters() == {}


async def test_a_cap_that_raises_the_requirement(database_url: str) -> None:
    policy = "\n  caps: [{name: member, per: member, points: 100, require: [{group: finance}]}]\n"
    async with a_house(database_url, policy) as house:
        assert (await house.submit(100_000)).approvals_required == 1
        raised = await house.submit(1)
        assert raised.approvals_required == 2
        assert (await house.decide(raised, "S1")).state is State.PENDING
        assert isinstance(await house.decide(raised, "S2"), NotNeeded)
        assert (await house.decide(raised, "F2")).state is State.SUCCEEDED


async def test_one_checker_for_one_maker_has_a_cap(database_url: str) -> None:
    policy = "\n  caps: [{name: pair, per: pair, points: 150}]\n"
    async with a_house(database_url, policy) as house:
        first, second, third = [await house.submit(100_000) for _ in range(3)]
        assert (await house.decide(first, "S1")).state is State.SUCCEEDED
        assert isinstance(await house.decide(second, "S1"), CapReached)
        assert (await house.decide(second, "S1", "rejected")).state is State.REJECTED
        assert (await house.decide(third, "S2")).state is State.SUCCEEDED
        assert await house.counters() == {"pair M1 | S1": 100_000, "pair M1 | S2": 100_000}
        assert isinstance(await house.decide(await house.submit(50_000, person="M2"), "S1"), Request)


# ---------------------------------------------------------------- races


async def test_the_last_two_voices_of_a_quorum_at_once(database_url: str) -> None:
    policy = "\n  rules: [{name: three, require: [{count: 3}]}]\n"
    async with a_house(database_url, policy, workers=2) as house:
        for _ in range(5):
            request = await house.submit(1_000)
            await house.decide(request, "S1")
            org = await house.organisation()
            commands = [decide_command(org, request.request_id, person_id=each) for each in ("S2", "Z1", "F2")]
            outcomes = await asyncio.gather(
                *(house.workers[number % 2].decide(each) for number, each in enumerate(commands))
            )
            assert sorted(states(outcomes)) == ["AlreadyCompleted", "pending", "succeeded"]


async def test_two_makers_under_one_daily_cap(database_url: str) -> None:
    policy = "\n  caps: [{name: all, per: day, points: 10}]\n"
    async with a_house(database_url, policy, workers=2) as house:
        org = await house.organisation()
        commands = [
            submit_command(org, points=1_000, person_id=f"M{number % 2 + 1}", mobile=MOBILE) for number in range(30)
        ]
        outcomes = await asyncio.gather(
            *(house.workers[number % 2].submit(each) for number, each in enumerate(commands))
        )
        assert states(outcomes).count("pending") == 10
        assert states(outcomes).count("CapReached") == 20
        rejected = [
            decide_command(org, each.request_id, person_id="S1", verdict="rejected")
            for each in outcomes if isinstance(each, Request)
        ]  # fmt: skip
        more = [submit_command(org, points=1_000, person_id="M1", mobile=MOBILE) for _ in range(10)]
        mixed = await asyncio.gather(  # counters before members in both verbs: no deadlock
            *(house.workers[0].decide(each) for each in rejected), *(house.workers[1].submit(each) for each in more)
        )
        assert states(mixed).count("rejected") == 10
        assert await house.counters() == (
            {"all": 1_000 * states(mixed).count("pending")} if "pending" in states(mixed) else {}
        )


def states(outcomes: Sequence[object]) -> list[str]:
    return [
        str(each.state) if isinstance(each, Request) else type(each).__name__
        for each in outcomes
        if isinstance(each, Request | Refusal) or each is not None
    ]


# ---------------------------------------------------------------- units


async def test_what_was_asked_for_at_a_closed_till_can_still_be_decided(database_url: str) -> None:
    async with a_house(database_url, "\n  approvals: 1\n") as house:
        request = await house.submit()
        closed = house.text.replace("code: ind.1, store: 50682288", "code: ind.1, store: 50682288, active: false")
        closed = closed.replace("zone: 50682286, concept: 50678331", "zone: 50682286, concept: 50678331, active: false")
        await house.apply(closed)
        refused = resolve_place(await house.organisation(), {"tillId": 50682289})
        assert isinstance(refused, InvalidPayload)
        assert "till 50682289 is closed" in refused.message
        assert (await house.decide(request, "S1")).state is State.SUCCEEDED


async def test_a_store_that_moved_is_decided_by_those_above_it_now_and_keeps_its_history(database_url: str) -> None:
    async with a_house(database_url, "\n  approvals: 1\n") as house:
        request = await house.submit()
        moved = house.text.replace("zones: [{id: 50682286, name: North}]",
                                   "zones: [{id: 50682286, name: North}, {id: 5, name: South}]")  # fmt: skip
        await house.apply(moved.replace("zone: 50682286, concept", "zone: 5, concept"))
        assert isinstance(await house.decide(request, "Z1"), NotPermitted)
        assert await house.connection.fetchval("SELECT zone_id FROM request") == 50682286
        assert (await house.decide(request, "S1")).state is State.SUCCEEDED


async def test_a_file_that_cannot_work_changes_nothing(database_url: str) -> None:
    async with a_house(database_url, "\n  approvals: 1\n") as house:
        before = await house.organisation()
        with pytest.raises(CannotApply) as refused:
            await house.apply(house.text.replace("people: [F1, F2]", "people: []").replace(
                "approvals: 1", "rules: [{name: a, require: [{group: finance}]}]"))  # fmt: skip
        assert [problem.path for problem in refused.value.problems] == ["policy.rules[0].require[0].group"]
        assert await house.organisation() == before


LOST = ("active: false", "users: [{{id: {number}, userName: {name}, active: false}}]")


@pytest.mark.parametrize("lost", LOST)
async def test_a_file_about_people_alone_loses_nobody_whom_the_policy_waits_for(database_url: str, lost: str) -> None:
    async with a_house(database_url, "\n  rules: [{name: a, require: [{group: finance}, {}]}]\n") as house:
        top = house.text[: house.text.index("units:")]

        def without(person: str, number: int) -> str:
            return f"{top}people: [{{staffId: {person}, name: x, {lost.format(number=number, name=person.lower())}}}]\n"

        await house.apply(without("F1", 6))  # another one of the group is left
        before = await house.organisation()
        with pytest.raises(CannotApply) as refused:
            await house.apply(without("F2", 7))
        [problem] = refused.value.problems
        assert problem.path == "people"
        assert "the policy asks for 1 of the group finance (a)" in problem.message
        assert await house.organisation() == before
