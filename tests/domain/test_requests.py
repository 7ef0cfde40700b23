"""The life of a request: its one table of transitions, and what each voice does."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from importlib.resources import files
from typing import Any
from uuid import UUID

import pytest
from msgspec.structs import replace

from counterfoil.domain import decisions, submissions
from counterfoil.domain.access import Place, Right
from counterfoil.domain.organisations import Credential, Host, Organisation, Person, Policy, Programme
from counterfoil.domain.points import Lot, MemberAccount
from counterfoil.domain.refusals import (
    AlreadyCompleted,
    ChangedSinceShown,
    InvalidPayload,
    NobodyCanCheck,
    NotPermitted,
    Refusal,
    SelfApproval,
    WrongRequest,
)
from counterfoil.domain.requests import (
    FINAL,
    TRANSITIONS,
    WIRE_STATE,
    Decided,
    Decision,
    NeedsTillCheck,
    Request,
    State,
    Submitted,
)
from tests.builders import (
    CHECKER,
    MAKER,
    OTHER_CHECKER,
    decide_command,
    grant,
    organisation,
    submit_command,
)

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
DIGEST = b"digest"
ORG = organisation()
TWO_VOICES = organisation(policy=Policy(1, 2))


def member(points: int = 500_000) -> MemberAccount:
    lots = (Lot(UUID(int=1), NOW - timedelta(days=1), points),)
    return MemberAccount(382332518, points, 0, 1, lots, (), "919988776655", "tomswayer@mail.com", "XYPZ0063")


def submitted(org: Organisation = ORG, account: MemberAccount | None = None, **changes: Any) -> Submitted | Refusal:
    duplicate_of = changes.pop("duplicate_of", None)
    command = submit_command(org, **changes)
    return submissions.submit(org, command, account, digest=DIGEST, duplicate_of=duplicate_of, now=NOW)


def pending(org: Organisation = ORG, account: MemberAccount | None = None, **changes: Any) -> Submitted:
    found = submitted(org, account or member(), **changes)
    assert isinstance(found, Submitted)
    return found


def decide(done: Submitted | Decided, org: Organisation = ORG, **changes: Any) -> Decided | NeedsTillCheck | Refusal:
    request = changes.pop("request", done.request)
    return decisions.decide(
        org,
        request,
        decide_command(org, done.request.request_id, **changes),
        done.account,
        done.holds[0] if done.holds else None,
        reference_used=False,
        redemption_id="7t4y2a",
        now=NOW,
    )


# ---------------------------------------------------------------- states


def test_the_database_guards_the_same_transitions() -> None:
    migration = files("counterfoil.storage") / "migrations" / "0001_first_storey.sql"
    text = migration.read_text(encoding="utf-8")
    trigger = re.search(r"CREATE TRIGGER request_transition .*?;", text, re.DOTALL)
    known = re.search(r"CONSTRAINT request_state_known CHECK \(state IN \((.*?)\)\)", text, re.DOTALL)
    final = re.search(r"CONSTRAINT request_final_has_end CHECK \(\s*\(state IN \((.*?)\)\)", text, re.DOTALL)
    assert trigger
    assert known
    assert final
    assert set(re.findall(r"'(\w+>\w+)'", trigger[0])) == {
        f"{before}>{after}" for before, following in TRANSITIONS.items() for after in following
    }
    assert set(re.findall(r"'(\w+)'", known[1])) == set(State)
    assert set(re.findall(r"'(\w+)'", final[1])) == set(FINAL)


def test_every_state_is_in_every_table() -> None:
    assert set(TRANSITIONS) == set(WIRE_STATE) == set(State)
    assert set(FINAL) == {"succeeded", "failed", "rejected", "withdrawn", "expired"}


def test_the_wire_state_moves_from_admin_task_to_one_end() -> None:
    for before, following in TRANSITIONS.items():
        for after in following:
            assert WIRE_STATE[before] == "AdminTask"
            assert (WIRE_STATE[after] == "AdminTask") == (after not in FINAL)
    assert {WIRE_STATE[each] for each in FINAL} == {"approved", "failed", "rejected"}


# ---------------------------------------------------------------- submission


def test_a_request_waits_with_its_points_set_aside() -> None:
    done = pending(reference="ACR-1")
    request = done.request
    assert (request.state, request.version, request.points) == (State.PENDING, 1, 100_000)
    assert (request.maker_person_id, request.maker_user_name) == (MAKER, f"{MAKER}@tipent.com")
    assert (request.approvals_required, request.digest, request.flags) == (1, DIGEST, ())
    assert (request.started_at, request.ended_at, request.external_reference) == (NOW, None, "ACR-1")
    assert done.account is not None
    assert (done.account.available, done.account.held) == (400_000, 100_000)
    assert [each.request_id for each in done.holds] == [request.request_id]


@pytest.mark.parametrize(
    ("account", "changes", "flags"),
    [
        (member(99_999), {}, ("unfunded",)),
        (None, {}, ("member_unknown", "unfunded")),
        (member(), {"duplicate_of": UUID(int=5)}, ("duplicate",)),
        (member(), {"till_login": None, "till_epoch": None}, ("till_credential",)),
        (member(), {"place": Place(50682289, 50682289, None, None, None, ("zoneId",))},
         ("unit_mismatch:zoneId",)),
    ],
)  # fmt: skip
def test_what_will_fail_is_told_and_not_refused(
    account: MemberAccount | None, changes: dict[str, Any], flags: tuple[str, ...]
) -> None:
    done = submitted(ORG, account, **changes)
    assert isinstance(done, Submitted)
    assert done.request.flags == flags
    if "duplicate" in flags or "unfunded" in flags:
        assert (done.account, done.holds, done.journals) == (account, (), ())


@pytest.mark.parametrize(
    ("account", "changes", "path"),
    [
        (member(99_999), {}, "payload.IntouchAPITask-Payload.body.root.redeem.points_redeemed"),
        (None, {}, "payload.IntouchAPITask-Payload.body.root.redeem.points_redeemed"),
        (member(), {"place": Place(50682289, 50682289, None, None, None, ("zoneId", "storeId"))},
         "entityInfo.zoneId"),
    ],
)  # fmt: skip
def test_a_strict_organisation_refuses_it(account: MemberAccount | None, changes: dict[str, Any], path: str) -> None:
    refused = submitted(organisation(profile="strict"), account, **changes)
    assert isinstance(refused, InvalidPayload)
    assert refused.path == path


def test_who_may_not_ask_is_refused_before_anything_else() -> None:
    assert isinstance(submitted(ORG, member(), person_id=CHECKER), NotPermitted)
    assert isinstance(submitted(organisation(policy=None), member()), NobodyCanCheck)


def test_the_life_of_a_hold_is_the_programme_s() -> None:
    org = organisation(programme=Programme(1, "Demo", hold_days=3))
    assert pending(org).holds[0].expires_at == NOW + timedelta(days=3)


# ---------------------------------------------------------------- decision


def test_an_approval_redeems_what_was_held() -> None:
    org = organisation(programme=Programme(1, "Demo", Decimal("0.25")))
    done = decide(pending(org), org)
    assert isinstance(done, Decided)
    assert (done.request.state, done.request.version, done.request.ended_at) == (State.SUCCEEDED, 2, NOW)
    assert done.account is not None
    assert (done.account.available, done.account.held) == (400_000, 0)
    assert [each.state for each in done.holds] == ["captured"]
    outcome = done.request.outcome
    assert outcome is not None
    assert (outcome.code, outcome.redemption_id, outcome.balance) == (800, "7t4y2a", 400_000)
    assert (outcome.currency_value, outcome.till, outcome.mobile) == (Decimal(25), "ind.1", "919988776655")


def test_a_rejection_gives_the_points_back_and_has_no_outcome() -> None:
    done = decide(pending(), verdict="rejected", message="no")
    assert isinstance(done, Decided)
    assert (done.request.state, done.request.outcome, done.request.ended_at) == (State.REJECTED, None, NOW)
    assert done.account is not None
    assert (done.account.available, done.account.held) == (500_000, 0)
    assert done.decision is not None
    assert (done.decision.verdict, done.decision.message) == ("rejected", "no")


@pytest.mark.parametrize(
    ("account", "changes", "code", "held_before"),
    [
        (member(99_999), {}, 818, False),
        (None, {}, 816, False),
        (member(), {"reference_used": True}, 744, True),
        (member(), {"till_verified": False}, 401, True),
    ],
)
def test_what_the_points_api_refuses_ends_as_failed_and_frees_the_hold(
    account: MemberAccount | None,
    changes: dict[str, Any],
    code: int,
    held_before: bool,  # noqa: FBT001
) -> None:
    done = submitted(ORG, account)
    assert isinstance(done, Submitted)
    assert bool(done.holds) is held_before
    reference_used = changes.pop("reference_used", False)
    failed = decisions.decide(
        ORG,
        done.request,
        decide_command(ORG, done.request.request_id, **changes),
        done.account,
        done.holds[0] if done.holds else None,
        reference_used=reference_used,
        redemption_id="7t4y2a",
        now=NOW,
    )
    assert isinstance(failed, Decided)
    assert failed.request.state is State.FAILED
    assert failed.request.outcome is not None
    assert (failed.request.outcome.code, failed.request.outcome.redemption_id) == (code, None)
    assert failed.request.outcome.currency_value == 0
    assert failed.account == account
    assert [each.state for each in failed.holds] == ["released"] * held_before


def test_points_that_came_in_meanwhile_let_an_unfunded_request_succeed() -> None:
    done = submitted(ORG, member(1_000))
    assert isinstance(done, Submitted)
    assert done.request.flags == ("unfunded",)
    richer = decide(replace(done, account=member(100_000)))
    assert isinstance(richer, Decided)
    assert richer.request.state is State.SUCCEEDED
    assert [each.kind for each in richer.journals] == ["redeem"]


@pytest.mark.parametrize(
    ("changes", "refusal"),
    [
        ({"person_id": MAKER}, SelfApproval),
        ({"request": None}, WrongRequest),
        ({"request_type": "GOODWILL-POINTS"}, WrongRequest),
        ({"digest_seen": "00"}, ChangedSinceShown),
    ],
)
def test_a_refused_decision_says_why(changes: dict[str, Any], refusal: type[Refusal]) -> None:
    done = pending()
    org = organisation(grants=(*ORG.grants, grant(MAKER, Right.CHECK)))
    assert type(decide(done, org, **changes)) is refusal


def test_the_digest_that_was_shown_is_the_one_that_counts() -> None:
    assert isinstance(decide(pending(), digest_seen=DIGEST.hex()), Decided)


@pytest.mark.parametrize("state", sorted(set(State) - {State.PENDING}))
def test_only_a_pending_request_is_decided(state: State) -> None:
    done = pending()
    voice = Decision(CHECKER, 232135, "checker@tipent.com", "approved", "", NOW)
    moved = replace(done.request, state=state, decisions=(voice,))
    refused = decide(done, request=moved, person_id=OTHER_CHECKER)
    assert isinstance(refused, AlreadyCompleted)
    told = {State.WITHDRAWN: "withdrew it", State.EXPIRED: "nobody had decided it"}
    assert told.get(state, "checker@tipent.com approved it at 2026-06-01T12:00:00Z") in refused.message


@pytest.mark.parametrize(
    "host",
    [
        (),
        (replace(ORG.hosts[0], revision=2),),
        (Host("h2", "https", "crm-nightly-new.cc.capillarytech.com", 443, "ledger"),),
    ],
)
def test_a_host_entry_that_moved_stops_the_execution_but_not_a_rejection(host: tuple[Host, ...]) -> None:
    org = organisation(hosts=host)
    assert isinstance(decide(pending(), org), ChangedSinceShown)
    assert isinstance(decide(pending(), org, verdict="rejected"), Decided)


@pytest.mark.parametrize(
    "credential",
    [
        Credential("ind.1", 9, "h", epoch=2),
        Credential("ind.1", 9, "h", active=False),
        Credential("other", 9, "h"),
    ],
)
def test_a_till_credential_that_moved_is_verified_again(credential: Credential) -> None:
    done = pending()
    org = organisation(credentials={credential.login: credential})
    assert isinstance(decide(done, org), NeedsTillCheck)
    assert isinstance(decide(done, org, till_verified=True, till_login="ind.1"), Decided)
    assert isinstance(decide(done, org, verdict="rejected"), Decided)


# ---------------------------------------------------------------- more voices than one


def one_voice(org: Organisation = TWO_VOICES) -> tuple[Submitted, Decided]:
    done = pending(org)
    voice = decide(done, org)
    assert isinstance(voice, Decided)
    return done, voice


def second(done: Submitted, request: Request, org: Organisation, **changes: Any) -> Decided | NeedsTillCheck | Refusal:
    return decide(done, org, request=request, **changes)


def test_the_last_voice_executes() -> None:
    done, voice = one_voice()
    assert (voice.request.state, voice.request.ended_at, voice.holds) == (State.PENDING, None, ())
    last = second(done, voice.request, TWO_VOICES, person_id=OTHER_CHECKER)
    assert isinstance(last, Decided)
    assert last.request.state is State.SUCCEEDED
    assert [each.person_id for each in last.request.decisions] == [CHECKER, OTHER_CHECKER]


def test_a_person_has_one_voice() -> None:
    done, voice = one_voice()
    refused = second(done, voice.request, TWO_VOICES)
    assert isinstance(refused, AlreadyCompleted)
    assert "another checker" in refused.message


@pytest.mark.parametrize(
    "changes",
    [
        {"people": {**ORG.people, CHECKER: Person(CHECKER, "c", active=False)}},
        {"grants": (*ORG.grants[:1], *ORG.grants[2:])},
        {"grants": (*ORG.grants[:1], grant(CHECKER, Right.CHECK, points_max=1), *ORG.grants[2:])},
        {"grants": (*ORG.grants[:1], grant(CHECKER, Right.CHECK, valid_until=NOW), *ORG.grants[2:])},
    ],
)
def test_a_voice_counts_only_while_its_owner_is_entitled(changes: dict[str, Any]) -> None:
    done, voice = one_voice()
    later = organisation(policy=Policy(1, 2), **changes)
    still_waiting = second(done, voice.request, later, person_id=OTHER_CHECKER)
    assert isinstance(still_waiting, Decided)
    assert still_waiting.request.state is State.PENDING
    assert still_waiting.holds == ()


def test_one_rejection_ends_it() -> None:
    done, voice = one_voice()
    ended = second(done, voice.request, TWO_VOICES, person_id=OTHER_CHECKER, verdict="rejected")
    assert isinstance(ended, Decided)
    assert (ended.request.state, [each.state for each in ended.holds]) == (State.REJECTED, ["released"])


def test_the_requirement_is_the_one_of_the_submission() -> None:
    done, _ = one_voice()
    assert done.request.approvals_required == 2
    lowered = decide(done, ORG)
    assert isinstance(lowered, Decided)
    assert lowered.request.state is State.PENDING
