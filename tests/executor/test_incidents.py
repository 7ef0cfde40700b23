"""Incidents: evidence for people, who settle them with a right, with reasons, and never the maker."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from counterfoil.cli import remote
from counterfoil.cli.remote import Session
from tests.contract.serving import command
from tests.contract.shop import BOTH, CHECKER, MAKER, NOBODY, SECOND, ZONE, Shop, md5
from tests.executor.conftest import settled
from tests.executor.hosts import IntouchHost

INCIDENTS = "/counterfoil/v1/incidents"
REASON = {"settledAs": "executed", "reason": "the member's statement shows it", "evidence": "statement of 9 March"}


@pytest.fixture
def shop(make_shop: Callable[..., Shop]) -> Shop:
    """A host that cannot look anything up: a lost answer is an incident at once."""
    found = make_shop(lookUp=False)
    settlers = [{"person": each, "right": "CanSettleIncident", "unit": ZONE} for each in ("E-1001", "E-1002", "E-1003")]
    found.change(grants=[*found.content["grants"], *settlers])
    return found


def an_incident(shop: Shop, host: IntouchHost, fault: str = "cut_after") -> tuple[str, str]:
    """The ids of a request and its incident."""
    host.plan(fault)
    created = shop.create()
    assert shop.approve(created["requestId"])["state"] == "AdminTask"
    page = shop.http.get(INCIDENTS, headers=shop.headers(), params={"limit": "200"}).json()
    [line] = [each for each in page["data"] if each["requestId"] == created["requestId"]]
    assert (line["kind"], line["settledAs"]) == ("no_look_up", None)
    return created["requestId"], line["incidentId"]


def settle(shop: Shop, incident_id: str, by: str | None, **changes: Any) -> httpx.Response:
    return shop.http.post(f"{INCIDENTS}/{incident_id}/settle", json=REASON | changes, headers=shop.headers(by))


def test_the_evidence_is_all_there_and_no_secret_is(shop: Shop, host: IntouchHost) -> None:
    request_id, incident_id = an_incident(shop, host, "garbage_after")
    shown = shop.http.get(f"{INCIDENTS}/{incident_id}", headers=shop.headers()).json()["data"]
    assert shown["sent"]["headers"]["Authorization"] == "Basic <withheld>"
    assert shop.basic not in json.dumps(shown)
    [attempt] = shown["attempts"]
    assert attempt["response"]["body"] == "<html>what"
    assert attempt["response"]["status"] == 200
    assert attempt["milliseconds"] > 0
    assert (shown["state"], shown["voices"], shown["voicesRequired"]) == ("unknown", [], 1)
    listed = shop.http.get(f"/counterfoil/v1/requests/{request_id}/attempts", headers=shop.headers()).json()["data"]
    assert listed == {"attempts": shown["attempts"], "lookUps": []}


@pytest.mark.parametrize(("settled_as", "state"), [("executed", "approved"), ("not_executed", "failed")])
def test_a_person_settles_it(settled_as: str, state: str, shop: Shop, host: IntouchHost) -> None:
    request_id, incident_id = an_incident(shop, host)
    answer = settle(shop, incident_id, CHECKER, settledAs=settled_as)
    assert answer.status_code == 200, answer.text
    data = answer.json()["data"]
    assert (data["settledAs"], data["voices"][0]["userName"]) == (settled_as, CHECKER)
    ended = shop.get(request_id).json()["data"]
    assert (ended["state"], ended["endTime"] is None) == (state, False)
    again = settle(shop, incident_id, SECOND)
    assert (again.status_code, again.json()["errors"][0]["code"]) == (400, 2002)
    assert CHECKER in again.json()["errors"][0]["message"]
    assert len(host.redeemed) == 1
    events = shop.http.get(f"/counterfoil/v1/requests/{request_id}/events", headers=shop.headers()).json()["data"]
    assert [each["kind"] for each in events][-2:] == [
        "incident_opened",
        "succeeded" if state == "approved" else "failed",
    ]


def test_who_may_not(shop: Shop, host: IntouchHost) -> None:
    _, incident_id = an_incident(shop, host)
    for by, code in ((MAKER, 2001), (NOBODY, 2001), (BOTH, 2001), (None, 2001)):
        answer = settle(shop, incident_id, by)
        assert (answer.status_code, answer.json()["errors"][0]["code"]) == (403, code), by
    for wrong in ({"settledAs": "maybe"}, {"reason": " "}, {"evidence": None}, {"reason": "x" * 5000}):
        answer = settle(shop, incident_id, CHECKER, **wrong)
        assert (answer.status_code, answer.json()["errors"][0]["path"]) == (400, next(iter(wrong)))
    unknown = settle(shop, "01a20797-0000-7000-8000-000000000000", CHECKER)
    assert (unknown.status_code, unknown.json()["errors"][0]["code"]) == (404, 2007)


def test_two_people_where_the_organisation_says_so(shop: Shop, host: IntouchHost) -> None:
    shop.change(organisation={"incidentQuorum": 2})
    request_id, incident_id = an_incident(shop, host)
    first = settle(shop, incident_id, CHECKER).json()["data"]
    assert (first["settledAs"], first["voicesRequired"], first["state"]) == (None, 2, "unknown")
    twice = settle(shop, incident_id, CHECKER)
    assert (twice.status_code, twice.json()["errors"][0]["code"]) == (400, 2002)
    assert settle(shop, incident_id, SECOND).json()["data"]["settledAs"] == "executed"
    assert settled(shop, request_id)["state"] == "approved"


def test_two_who_disagree_settle_nothing(shop: Shop, host: IntouchHost) -> None:
    shop.change(organisation={"incidentQuorum": 2})
    _, incident_id = an_incident(shop, host)
    settle(shop, incident_id, CHECKER)
    assert settle(shop, incident_id, SECOND, settledAs="not_executed").json()["data"]["settledAs"] is None


def test_pages(shop: Shop, host: IntouchHost) -> None:
    made = [an_incident(shop, host)[1] for _ in range(3)]
    settle(shop, made[0], CHECKER)
    seen: list[str] = []
    query = {"limit": "1"}
    while True:
        page = shop.http.get(INCIDENTS, headers=shop.headers(), params=query).json()
        seen += [each["incidentId"] for each in page["data"]]
        if page["nextCursor"] is None:
            break
        query["cursor"] = page["nextCursor"]
    assert seen == made[1:]
    everything = shop.http.get(INCIDENTS, headers=shop.headers(), params={"state": "all"}).json()["data"]
    assert [each["incidentId"] for each in everything] == made
    for name, value in (("limit", "0"), ("limit", "201"), ("state", "x"), ("cursor", "x")):
        refused = shop.http.get(INCIDENTS, headers=shop.headers(), params={name: value})
        assert (refused.status_code, refused.json()["errors"][0]["path"]) == (400, name)


@pytest.mark.slow
def test_on_the_command_line(shop: Shop, host: IntouchHost, tmp_path: Path) -> None:
    _, incident_id = an_incident(shop, host)
    session = Session(shop.serve.url, shop.org_id, shop.till, CHECKER, md5(shop.password), shop.token(CHECKER))
    remote.save(tmp_path / "session.json", session)
    environment = shop.serve.environment | {"COUNTERFOIL_SESSION_FILE": str(tmp_path / "session.json")}
    listed = command("incident", "list", environment=environment)
    assert (listed.returncode, incident_id in listed.stdout, "no_look_up" in listed.stdout) == (0, True, True)
    shown = command("incident", "show", incident_id, environment=environment)
    assert "attempt 1: unknown" in shown.stdout, shown.stderr
    assert "Basic <withheld>" in shown.stdout
    arguments = ("--reason", "seen", "--evidence", "T-1")
    ended = command("incident", "settle", incident_id, "executed", *arguments, environment=environment)
    assert ended.stdout == "settled as executed: the request has succeeded\n", ended.stderr
    again = command("incident", "settle", incident_id, "executed", *arguments, environment=environment)
    assert (again.returncode, "already settled" in again.stderr) == (1, True)
