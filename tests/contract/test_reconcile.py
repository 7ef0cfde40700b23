"""`counterfoil reconcile` on the built-in ledger and beside an export of a host."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from counterfoil.application.reconciliation import CannotReconcile, read_export
from tests import builders
from tests.contract.serving import Serve, command, environment_of
from tests.contract.shop import Member, Shop, item_of

ZONE = ZoneInfo("Asia/Kolkata")


@pytest.fixture
def books(make_shop: Callable[..., Shop]) -> Shop:
    """An organisation of the test's own: what it redeems is all there is."""
    shop = make_shop()
    shop.change(members=[{
        "id": 7, "mobile": "9876500007", "email": "seven@mail.com",
        "lots": [{"reference": "L-7", "points": 1000, "awardedAt": "2024-01-15"}],
    }])  # fmt: skip
    return shop


MEMBER = Member(7, "9876500007")


def day(offset: int = 0) -> str:
    return (datetime.now(UTC).astimezone(ZONE) + timedelta(days=offset)).date().isoformat()


@pytest.fixture
def run(service: Serve, books: Shop, tmp_path: Path) -> Callable[..., CompletedProcess[str]]:
    def reconcile(*arguments: str, first: str = "", last: str = "") -> CompletedProcess[str]:
        environment = environment_of(tmp_path, service.database_url)
        period = ("--from", first or day(-1), "--to", last or day())
        return command("reconcile", "crm", "--org", str(books.org_id), *period, *arguments, environment=environment)

    return reconcile


def executed(shop: Shop, points: str, reference: str | None) -> dict[str, Any]:
    """A redemption that went through: its item of the points API."""
    body = shop.body(MEMBER, points, external_reference_number=reference)
    return item_of(shop.approve(shop.create(body)["requestId"]))


def test_the_built_in_ledger_agrees_with_itself(books: Shop, run: Callable[..., CompletedProcess[str]]) -> None:
    executed(books, "100", "ref-1")
    executed(books, "50", None)
    books.create(books.body(MEMBER, "10"))  # waits: nothing is redeemed, nothing is missing
    told = run("--json")
    assert (told.returncode, told.stderr) == (0, "")
    found = json.loads(told.stdout)
    assert (found["pairs"], found["findings"], found["membersNotComparable"]) == (2, [], 0)
    assert "2 pairs, 0 findings" in run().stdout


def test_what_was_redeemed_directly_has_no_request(books: Shop, run: Callable[..., CompletedProcess[str]]) -> None:
    item = {"points_redeemed": "20", "customer": {"mobile": MEMBER.mobile}, "external_reference_number": "direct-1"}
    assert books.redeem(item, books.box).status_code == 200
    told = run("--json")
    assert told.returncode == 2
    [finding] = json.loads(told.stdout)["findings"]
    assert (finding["kind"], finding["here"], finding["there"]["reference"]) == ("only-there", None, "direct-1")


def test_an_export_is_compared_line_by_line(
    books: Shop, run: Callable[..., CompletedProcess[str]], tmp_path: Path, service: Serve
) -> None:
    first, second = executed(books, "100", "ref-1"), executed(books, "50", "ref-2")
    third = executed(books, "25", "ref-3")
    now = datetime.now(UTC).astimezone(ZONE).strftime("%Y-%m-%d %H:%M:%S")
    export = tmp_path / "export.csv"
    export.write_text(
        "redemption_id,external_reference_number,points_redeemed,mobile,redeemed_time\n"
        f"{first['redemption_id']},ref-1,100,{MEMBER.wire_mobile},{now}\n"
        f"{second['redemption_id']},ref-2,55.5,919876500008,{now}\n"
        f"Zz9999,stranger,5,{MEMBER.wire_mobile},{now}\n",
        encoding="utf-8-sig",  # as spreadsheets write it
    )
    told = run("--json", "--csv", str(export))
    assert told.returncode == 2, told.stderr
    findings = {
        (each["kind"], (each["here"] or each["there"])["reference"]) for each in json.loads(told.stdout)["findings"]
    }
    assert findings == {
        ("amount-differs", "ref-2"), ("member-differs", "ref-2"), ("only-there", "stranger"), ("only-here", "ref-3"),
    }  # fmt: skip
    assert third["redemption_id"] in told.stdout
    assert "the points differ" in run("--csv", str(export)).stdout
    # Another day: nothing of it is told there.
    assert run("--csv", str(export), first=day(-9), last=day(-8)).returncode == 0
    kept = service.rows("SELECT facts FROM event WHERE org_id = $1 AND kind = 'reconciled'", books.org_id)
    assert sorted(json.loads(row["facts"])["findings"] for row in kept) == [0, 4, 4]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "line 1: the export needs a column points_redeemed"),
        ("points_redeemed,redeemed_time\n", "line 1: the export needs a column external_reference_number"),
        ("redemption_id,points,time\na,NaN,2026-11-01\n", "line 2: the points 'NaN' are no number"),
        ("redemption_id,points,time\na,1.0005,2026-11-01\n", "line 2: the points '1.0005' are no number"),
        ("redemption_id,points,time\na,1,yesterday\n", "line 2: the time 'yesterday' is not written like"),
        ("redemption_id,points,time\na,1\n", "line 2: the time '' is not written like"),
    ],
)
def test_a_wrong_export_is_refused(text: str, said: str) -> None:
    with pytest.raises(CannotReconcile, match=f"^{re.escape(said)}"):
        list(read_export(io.StringIO(text), builders.organisation()))


@pytest.mark.slow
def test_a_question_without_an_answer_is_refused(
    run: Callable[..., CompletedProcess[str]], books: Shop, service: Serve, tmp_path: Path
) -> None:
    environment = environment_of(tmp_path, service.database_url)
    period = ("--from", day(), "--to", day())
    told = command("reconcile", "nowhere", "--org", str(books.org_id), *period, environment=environment)
    assert (told.returncode, "has no host nowhere; it has crm" in told.stderr) == (1, True)
    told = command("reconcile", "crm", "--org", "1", *period, environment=environment)
    assert (told.returncode, "there is no organisation 1" in told.stderr) == (1, True)
    assert "turn them round" in run(first=day(), last=day(-1)).stderr
    assert "cannot be read" in run("--csv", str(tmp_path / "none.csv")).stderr
    (tmp_path / "wrong.csv").write_text("redemption_id,points,time\na,NaN,2026-11-01\n")
    told = run("--csv", str(tmp_path / "wrong.csv"))
    assert (told.returncode, told.stdout) == (1, "")
    assert told.stderr.startswith("counterfoil: line 2: the points 'NaN'")
