"""What the built-in ledger does with goodwill and status changes, and how it answers."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from counterfoil.domain import execution_answers, ledger_executions, points
from counterfoil.domain.intouch_answers import AWARDED, CHANGED, Outcome
from counterfoil.domain.organisations import Programme
from counterfoil.domain.payload_types import Badge, Goodwill, RetroTransaction, StatusChange
from counterfoil.domain.points import Account, MemberAccount
from tests.builders import organisation

NOW = datetime(2026, 11, 23, tzinfo=UTC)
REQUEST_ID = UUID("01890000-0000-7000-8000-000000000001")
NOBODY_S = MemberAccount(7, 0, 0, 1, ())
GOODWILL = Goodwill(20_000, "id", "7", "ref", "reason", 1)
STATUS = StatusChange("mobile", "91", "Suspended", "")
SAMPLES = Path(__file__).parents[1] / "contract" / "samples" / "approve-request"


def execute(asked: Any, account: MemberAccount | None = NOBODY_S, **changes: Any) -> tuple[int, points.Change | None]:
    known: dict[str, Any] = {"reference_used": False, "now": NOW} | changes
    return ledger_executions.execute(organisation(), REQUEST_ID, asked, account, **known)


def test_goodwill_is_a_lot_of_its_own() -> None:
    code, change = execute(GOODWILL)
    assert code == AWARDED
    assert change is not None
    [lot] = change.account.lots
    assert (lot.lot_id, lot.remaining, lot.held, lot.awarded_at) == (REQUEST_ID, 20_000, 0, NOW)
    assert lot.expires_at == NOW + timedelta(days=90)
    [journal] = change.journals
    assert (journal.kind, journal.request_id) == ("award", REQUEST_ID)
    assert journal.postings == (points.Posting(Account.ISSUED, Account.AVAILABLE, REQUEST_ID, 20_000),)


@pytest.mark.parametrize(
    ("asked", "account", "changes", "code"),
    [
        (GOODWILL, None, {}, 8015),
        (GOODWILL, NOBODY_S, {"reference_used": True}, 744),
        (Goodwill(1, "id", "7", "ref", "reason", 2), NOBODY_S, {}, 1101),
        (STATUS, None, {}, 8015),
        (STATUS, NOBODY_S, {}, CHANGED),
        (Badge("id", "7", "r", "b"), NOBODY_S, {}, 2906),
        (RetroTransaction("id", "7", "5"), None, {}, 2906),
    ],
)
def test_what_moves_nothing(asked: Any, account: MemberAccount | None, changes: dict[str, Any], code: int) -> None:
    assert execute(asked, account, **changes) == (code, None)


@pytest.mark.parametrize(
    ("days", "most", "asked", "refused"),
    [
        (90, None, 10**15, None), (90, 20_000, 20_000, None), (90, 20_000, 20_001, 2015), (None, 20_000, 20_001, 2015),
        (None, None, 1, 3002),
    ],
)  # fmt: skip
def test_what_the_programme_allows(days: int | None, most: int | None, asked: int, refused: int | None) -> None:
    programme = Programme(1, "P", goodwill_expiry_days=days, goodwill_points_max=most)
    found = ledger_executions.above_cap(programme, "GOODWILL-POINTS", asked)
    found_later = ledger_executions.without_expiry(programme, "GOODWILL-POINTS")
    first = found or found_later
    assert (None if first is None else first.code) == refused
    for kind in ("POINTS-REDEMPTION", "CUSTOMER-STATUS-CHANGE"):  # the programme's goodwill is no concern of theirs
        assert ledger_executions.above_cap(programme, kind, asked) is None
        assert ledger_executions.without_expiry(programme, kind) is None


@given(before=st.lists(st.integers(1, 10**15), max_size=4), awarded=st.integers(1, 10**15))
def test_an_award_adds_what_it_gives(before: list[int], awarded: int) -> None:
    account = NOBODY_S
    for number, each in enumerate(before):
        account = points.award(account, each, request_id=UUID(int=number + 1), now=NOW, expires_at=None).account
    change = points.award(account, awarded, request_id=REQUEST_ID, now=NOW, expires_at=NOW + timedelta(days=1))
    assert change.account.available == sum(before) + awarded == points.spendable(change.account, NOW)
    assert points.spendable(change.account, NOW + timedelta(days=1)) == sum(before)
    assert change.account.held == 0
    spent = points.redeem(change.account, sum(before) + awarded, request_id=None, now=NOW)
    assert spent is not None
    assert spent.account.available == 0


def test_created_ids_are_numbers_that_every_client_can_read() -> None:
    number = ledger_executions.created_id(UUID(int=2**128 - 1))
    assert number == 2**53 - 1
    assert json.loads(json.dumps(number)) == int(float(number))


# ------------------------------------------------------------ the answers


def outcome(code: int, **changes: Any) -> Outcome:
    fields: dict[str, Any] = {
        "points": 0,
        "till": "ind.1",
        "correlation_id": "0" * 32,
        "served_by": "host-1",
        "created_id": 38,
    }
    return Outcome(code=code, **(fields | changes))


@pytest.mark.parametrize(
    ("kind", "code", "name"),
    [
        ("GOODWILL-POINTS", AWARDED, "response-goodwill-approved.json"),
        ("CUSTOMER-STATUS-CHANGE", CHANGED, "response-customer-status-approved.json"),
    ],
)
def test_answers_are_the_samples(kind: str, code: int, name: str) -> None:
    wanted = json.loads((SAMPLES / name).read_text(encoding="utf-8"))["data"]["details"]["IntouchAPITask_Output"]
    assert execution_answers.status(kind, outcome(code)) == wanted["status"]
    assert execution_answers.body(kind, outcome(code)) == wanted["body"]
    headers = execution_answers.headers(kind, 51250, outcome(code), NOW, 30)
    assert list(headers) == list(wanted["headers"])
    for same in ("Content-Type", "Connection", "uri_path", "status_code", "success", "fail"):
        assert headers[same] == wanted["headers"][same]


@pytest.mark.parametrize("kind", ["GOODWILL-POINTS", "EARN-BADGE", "CUSTOMER-STATUS-CHANGE", "RETRO-TRANSACTION"])
@pytest.mark.parametrize("code", sorted(execution_answers.MESSAGES))
def test_refusals_say_so_everywhere(kind: str, code: int) -> None:
    refused = outcome(code, created_id=None)
    assert not refused.succeeded
    assert execution_answers.status(kind, refused) == {401: 401, 2906: 404}.get(code, 400)
    body = execution_answers.body(kind, refused)
    assert body["errors"] == [{"status": False, "code": code, "message": execution_answers.MESSAGES[code]}]
    headers = execution_answers.headers(kind, 51250, refused, NOW, 30)
    assert (headers["status_code"], headers["success"], headers["fail"]) == ([str(code)], ["0"], ["1"])
