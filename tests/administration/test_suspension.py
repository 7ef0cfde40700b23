"""Under dual control a person whose sign-in was changed decides nothing for 24 hours."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from tests.administration.town import ADA, BEN, CAL, CLEO, KIM, MIA, Town, error_of, grant

NEW = "a password that somebody else chose"


def until_of(town: Town, person: str) -> datetime | None:
    found = town.rows("SELECT suspended_until FROM person WHERE org_id = $1 AND person_id = $2", person)[0][0]
    assert found is None or isinstance(found, datetime)
    return found


def let_time_pass(town: Town, person: str) -> None:
    """Another node finds the 24 hours over."""
    past = "UPDATE person SET suspended_until = now() - interval '1 second' WHERE org_id = $1 AND person_id = $2"
    town.rows(f"{past} RETURNING 1", person)
    town.rows("UPDATE organisation SET version = version + 1 WHERE org_id = $1 RETURNING 1")


def test_a_reset_password_suspends(town: Town) -> None:
    request_id = town.request()
    change = town.proposed(town.person(CAL, password=NEW))
    assert change["suspended"] == [CAL]
    town.decide(change["id"])
    until = until_of(town, CAL)
    assert until is not None
    assert abs(until - datetime.now(UTC) - timedelta(hours=24)) < timedelta(minutes=5)
    town.token(CAL, NEW)
    said = error_of(town.check(request_id, by=CAL), 403, 2001, "decides nothing until")
    assert f"{until:%Y-%m-%dT%H:%M:%SZ}" in said
    let_time_pass(town, CAL)
    assert town.check(request_id, by=CAL).status_code == 200


def test_whom_a_change_suspends(town: Town) -> None:
    """A sign-in that comes, changes or comes back; of a person who was there before; and never one that goes."""
    sign_in = {"id": 500, "userName": "kim-2@example.com", "password": NEW}
    cases = {
        KIM: [{"staffId": KIM, "name": "Kim", "users": [sign_in]}],
        MIA: [{"staffId": MIA, "name": "Mia", "users": [{"id": 103, "userName": "other@example.com"}]}],
        "new": [{"staffId": "new", "name": "New", "users": [sign_in | {"id": 501, "userName": "new@example.com"}]}],
    }
    for person, people in cases.items():
        town.change(town.part(people=people))
        assert (until_of(town, person) is None) == (person == "new"), person
    town.change(town.person(CAL, active=False))
    assert until_of(town, CAL) is None
    town.change(town.person(CAL, active=True))
    assert until_of(town, CAL) is not None
    renamed = town.part(people=[{"staffId": BEN, "name": "Benjamin"}])
    town.change(renamed, approved_by=CLEO)
    assert until_of(town, BEN) is None


def test_a_voice_of_before_does_not_count_meanwhile(town: Town) -> None:
    town.change(town.part(policy={"approvals": 2}))
    request_id = town.request()
    assert town.check(request_id, by=CAL).json()["data"]["state"] == "AdminTask"
    town.change(town.person(CAL, password=NEW))
    assert town.check(request_id, by=KIM).json()["data"]["state"] == "AdminTask"


def test_a_suspended_administrator_neither_proposes_nor_decides(town: Town) -> None:
    content = town.with_grants(grant(CAL, "CanMakeRequest"))
    earlier = town.proposed(content, CLEO)["id"]
    waiting = town.proposed(content, ADA)["id"]
    town.change(town.person(CLEO, password=NEW))
    town.token(CLEO, NEW)
    error_of(town.propose(content, CLEO), 403, 2001, "decides nothing until")
    error_of(town.decide(waiting, by=CLEO), 403, 2001, "decides nothing until")
    error_of(town.decide(earlier, by=BEN), 412, 2902, "decides nothing until")
    assert town.get(waiting, CLEO).status_code == 200
    let_time_pass(town, CLEO)
    assert town.decide(earlier, by=BEN).status_code == 200


def test_what_an_operator_does_under_single_control_suspends_nobody(town: Town) -> None:
    single = {"id": town.org_id + 50_000_000, "name": "One", "timeZone": "UTC", "countryCode": 91}
    people = [{"staffId": "a", "name": "A", "users": [{"id": 1, "userName": "a", "password": "one"}]}]
    content = {"organisation": single, "programme": {"id": 1, "name": "P"}, "people": people}
    town.operate(content)
    people[0]["users"][0]["password"] = "two"  # type: ignore[index]
    town.operate(content)
    count = "SELECT count(*) FROM person WHERE org_id = $1 + 50000000 AND suspended_until IS NOT NULL"
    assert town.rows(count)[0][0] == 0


# ---------------------------------------------------------------- what is lent, and what is lifted


def delegate(town: Town, by: str, to: str, **headers: str) -> httpx.Response:
    until = (datetime.now(UTC) + timedelta(hours=48)).isoformat()
    return town.http.post(
        "/counterfoil/v1/delegations", json={"delegate": to, "until": until}, headers=town.headers(by) | headers
    )


def voice(town: Town, request_id: str, by: str, **more: str) -> httpx.Response:
    """Over our own API, where a lent right can be named."""
    body = {"verdict": "approve", "comment": "seen"} | more
    return town.http.post(f"/counterfoil/v1/requests/{request_id}/decisions", json=body, headers=town.headers(by))


def with_dan(town: Town, **sections: Any) -> None:
    """Another person, without any right of their own."""
    user = {"id": 150, "userName": "dan@example.com", "password": town.password("dan")}
    town.change(town.part(people=[{"staffId": "dan", "name": "Dan", "users": [user]}], **sections))


def test_who_is_suspended_lends_nothing_and_takes_back_what_was_lent(town: Town) -> None:
    with_dan(town)
    assert delegate(town, CAL, "dan").status_code == 200
    assert delegate(town, KIM, "dan").status_code == 200
    town.change(town.person(CAL, password=NEW))
    town.token(CAL, NEW)
    error_of(delegate(town, CAL, "dan"), 403, 2001, "decides nothing until")
    ended = town.rows("SELECT delegator_id, ended_at IS NOT NULL FROM delegation WHERE org_id = $1 ORDER BY 1")
    assert [tuple(each) for each in ended] == [(CAL, True), (KIM, False)]
    events = "SELECT facts FROM event WHERE org_id = $1 AND kind = 'delegation_ended'"
    [row] = town.rows(events)
    facts = json.loads(row["facts"])
    [change] = town.rows("SELECT request_id FROM request WHERE org_id = $1 ORDER BY started_at DESC LIMIT 1")
    assert (facts["request"], facts["version"]) == (str(change["request_id"]), town.version())
    let_time_pass(town, CAL)
    error_of(voice(town, town.request(), "dan", onBehalfOf=CAL), 403, 2001, "has delegated no right to you")
    assert delegate(town, CAL, "dan").status_code == 200


def test_who_is_suspended_stops_but_does_not_lift(town: Town) -> None:
    town.change(town.with_grants(grant(CAL, "CanFreeze"), grant(KIM, "CanFreeze"), grant(MIA, "CanFreeze")))

    def lift(freeze: str, by: str) -> httpx.Response:
        return town.http.post(f"/counterfoil/v1/freezes/{freeze}/lift", json={}, headers=town.headers(by))

    def place(by: str, **what: str) -> str:
        body = {"reason": "fraud"} | what
        answer = town.http.post("/counterfoil/v1/freezes", json=body, headers=town.headers(by))
        assert answer.status_code == 200, answer.text
        return str(answer.json()["data"]["freezeId"])

    first = place(KIM, scope="organisation")
    assert lift(first, CAL).json()["data"]["liftedAt"] is None
    town.change(town.person(CAL, password=NEW))
    town.token(CAL, NEW)
    second = place(CAL, scope="type", target="EARN-BADGE")
    error_of(lift(second, CAL), 403, 2001, "decides nothing until")
    # What Cal had proposed before does not count meanwhile: Kim is the first again, Mia the second.
    assert lift(first, KIM).json()["data"]["liftedAt"] is None
    assert lift(first, MIA).json()["data"]["liftedAt"] is not None


# ---------------------------------------------------------------- voices of before


@pytest.mark.parametrize("how", ["suspended", "administers", "cannot sign in", "lender cannot sign in"])
def test_a_lent_voice_counts_only_while_who_gave_it_may_decide(town: Town, how: str) -> None:
    with_dan(town, policy={"approvals": 2})
    assert delegate(town, CAL, "dan").status_code == 200
    request_id = town.request()
    assert voice(town, request_id, "dan", onBehalfOf=CAL).status_code == 200
    user = {"id": 150, "userName": "dan@example.com"}
    match how:
        case "suspended":
            town.change(town.part(people=[{"staffId": "dan", "name": "Dan", "users": [user | {"password": NEW}]}]))
        case "administers":
            town.change(town.with_grants(grant("dan", "CanAdminister")))
        case "cannot sign in":
            town.change(town.part(people=[{"staffId": "dan", "name": "Dan", "users": [user | {"active": False}]}]))
        case _:
            town.change(town.person(CAL, active=False))
    assert town.check(request_id, by=KIM).json()["data"]["state"] == "AdminTask"


def test_who_cannot_sign_in_any_more_has_no_voice(town: Town) -> None:
    town.change(town.part(policy={"approvals": 2}))
    request_id = town.request()
    assert town.check(request_id, by=CAL).status_code == 200
    town.change(town.person(CAL, active=False))
    assert town.check(request_id, by=KIM).json()["data"]["state"] == "AdminTask"
