"""A change of an organisation under dual control: proposed by one administrator, decided by another."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest

from tests.administration.town import (
    ADA,
    BEN,
    CAL,
    CHANGES,
    CLEO,
    KIM,
    MIA,
    ZONE,
    Town,
    error_of,
    grant,
    lines_of,
)
from tests.contract.shop import WORKFLOW, md5


def help_out(town: Town) -> dict[str, Any]:
    return town.with_grants(grant(CAL, "CanMakeRequest", unit=ZONE))


def test_a_change_takes_two_administrators(town: Town) -> None:
    before = town.guarded()
    change = town.proposed(help_out(town), message="Cal helps out")
    assert (change["state"], change["message"], change["decisions"]) == ("pending", "Cal helps out", [])
    assert lines_of(change) == [f"+ grant cal CanMakeRequest at {ZONE} for all types"]
    assert change["proposedBy"] == {"personId": ADA, "userName": "ada@example.com"}
    assert town.guarded() == before
    error_of(town.submit(by=CAL), 403, 2001)
    answer = town.decide(change["id"], by=BEN, message="fine")
    assert answer.status_code == 200, answer.text
    decided = answer.json()["data"]
    assert decided["state"] == "succeeded"
    [voice] = decided["decisions"]
    assert (voice["personId"], voice["verdict"], voice["message"]) == (BEN, "approved", "fine")
    assert decided["lines"] == change["lines"]
    assert town.version() == 2
    assert town.submit(by=CAL).status_code == 200


def test_a_rejected_change_changes_nothing(town: Town) -> None:
    before = town.guarded()
    change_id = town.proposed(help_out(town))["id"]
    error_of(town.decide(change_id, "rejected", message=" "), 400, 2008, "needs a message")
    answer = town.decide(change_id, "rejected", message="no need")
    assert answer.json()["data"]["state"] == "rejected"
    assert town.guarded() == before
    error_of(town.decide(change_id, by=CLEO), 400, 2002, "ben@example.com rejected it at 20")


def test_whoever_proposed_it_never_decides_it(make_town: Callable[..., Town]) -> None:
    town = make_town()
    second = {"id": 200, "userName": "ada-again@example.com", "password": town.password("ada-again")}
    town.serve.secrets.add(town.password("ada-again"))
    [known] = [each for each in town.content["people"] if each["staffId"] == ADA]
    town.change(town.part(people=[known | {"users": [second]}]), by=BEN, approved_by=CLEO)
    town.serve.rows("UPDATE person SET suspended_until = NULL WHERE org_id = $1 RETURNING 1", town.org_id)
    town.serve.rows("UPDATE organisation SET version = version + 1 WHERE org_id = $1 RETURNING 1", town.org_id)
    change_id = town.proposed(help_out(town))["id"]
    for login in (ADA, "ada-again"):
        error_of(town.decide(change_id, by=login), 403, 2001, "whoever proposed a change cannot decide it")
        error_of(town.decide(change_id, "rejected", by=login), 403, 2001)
    refused = "SELECT count(*) FROM event WHERE org_id = $1 AND subject_id = $2 AND kind = 'decision_refused'"
    assert town.rows(refused, change_id)[0][0] == 4


def test_only_administrators_propose_read_and_decide(town: Town) -> None:
    change_id = town.proposed(help_out(town))["id"]
    before = town.guarded()
    for by, said in ((MIA, "CanAdminister"), (CAL, "CanAdminister"), (None, "needs a person")):
        error_of(town.propose(help_out(town), by), 403, 2001, said)
        error_of(town.propose({"not": "looked at"}, by), 403, 2001, said)
        error_of(town.decide(change_id, by=by), 403, 2001, said)
        error_of(town.get(change_id, by), 403, 2001, said)
        error_of(town.page(by), 403, 2001, said)
    assert town.guarded() == before
    assert town.get(change_id).json()["data"]["state"] == "pending"
    refused = "SELECT count(*) FROM event WHERE org_id = $1 AND kind = 'submission_refused'"
    assert town.rows(refused)[0][0] == 6


def test_the_view_says_who_can_approve_as_the_write_path_does(town: Town) -> None:
    change_id = town.proposed(help_out(town))["id"]
    assert town.get(change_id, BEN).json()["data"]["reason"] is None
    for by, content in ((ADA, None), (BEN, town.with_grants(grant(BEN, "CanMakeRequest")))):
        shown = change_id if content is None else town.proposed(content, ADA)["id"]
        reason = town.get(shown, by).json()["data"]["reason"]
        assert error_of(town.decide(shown, by=by), 403, 2001) == reason


def test_administrators_decide_no_points_requests(town: Town) -> None:
    both = town.with_grants(grant(CAL, "CanAdminister"))
    error_of(town.propose(both), 400, 2008, "cal holds CanAdminister and CanCheckRequest")
    request_id = town.request()
    error_of(town.check(request_id, by=BEN), 403, 2001, "administrators decide no points requests")
    assert town.check(request_id, by=CAL).status_code == 200
    town.change(town.with_grants(grant(CAL, "CanAdminister"), without=[CAL]))
    error_of(town.check(town.request(), by=CAL), 403, 2001, "administrators decide no points requests")
    # Nobody is left who could decide, and that is told at once.
    town.change(town.with_grants(grant(CAL, "CanAdminister"), without=[CAL, KIM]))
    assert town.submit().json()["errors"][0]["code"] == 2021


def test_nobody_approves_what_is_for_oneself(town: Town) -> None:
    gifts = {
        "a right": town.with_grants(grant(BEN, "CanMakeRequest")),
        "among others": town.with_grants(grant(BEN, "CanMakeRequest"), grant(CAL, "CanMakeRequest")),
        "a sign-in": town.person(BEN, password="another password"),
        "a credential": town.part(
            credentials=[{"login": f"new.{town.org_id}", "id": 2, "person": BEN, "password": "pw of it"}]
        ),
    }
    for content in gifts.values():
        change_id = town.proposed(content)["id"]
        before = town.guarded()
        error_of(town.decide(change_id, by=BEN), 403, 2001, "nobody approves what is for oneself")
        assert town.guarded() == before
        assert town.decide(change_id, "rejected", by=BEN).status_code == 200
    change_id = town.proposed(gifts["a right"])["id"]
    assert town.decide(change_id, by=CLEO).status_code == 200
    loss = town.with_grants(without=[BEN])
    assert town.decide(town.proposed(loss, CLEO)["id"], by=BEN).status_code == 200
    error_of(town.page(BEN), 403, 2001)


def test_a_record_that_has_moved_refuses_the_approval(town: Town) -> None:
    renamed = town.part(units={"zones": [{"id": ZONE, "name": "East"}]})
    late = town.part(units={"zones": [{"id": ZONE, "name": "West"}]}, policy={"approvals": 2})
    other = town.part(programme={"id": 1, "name": "Stars"})
    first, second, third = (town.proposed(each)["id"] for each in (renamed, late, other))
    assert town.decide(first).status_code == 200
    before = town.guarded()
    said = error_of(town.decide(second), 412, 2902, f"zone {ZONE}", "proposed at version 1", "propose the file again")
    assert "policy" not in said
    assert town.guarded() == before
    assert town.decide(third).status_code == 200
    assert town.decide(second, "rejected").status_code == 200
    assert town.version() == 3


def test_every_kind_of_record_is_watched(town: Town) -> None:
    """Two proposals of the same kind on the same record: the second one comes too late."""
    login = f"new.{town.org_id}"
    pairs = {
        "organisation": [{"organisation": town.content["organisation"] | {"name": name}} for name in ("A", "B")],
        "person": [{"people": [{"staffId": MIA, "name": name}]} for name in ("A", "B")],
        "user": [
            {"people": [{"staffId": MIA, "name": "Mia", "users": [{"id": 300, "userName": name}]}]}
            for name in ("a@example.com", "b@example.com")
        ],
        "credential": [{"credentials": [{"login": login, "id": 2, "password": each}]} for each in ("one", "two")],
        "grant": [{"grants": [*town.content["grants"], grant(MIA, "CanMakeRequest", unit=ZONE)]}] * 2,
        "host": [
            {"hosts": [{"id": "crm", "url": f"https://{name}.example.com", "target": "ledger"}]} for name in ("a", "b")
        ],
        "policy": [{"policy": {"approvals": each}} for each in (2, 3)],
        "programme": [{"programme": {"id": 1, "name": name}} for name in ("A", "B")],
        "member": [{"members": [{"id": 1, "email": f"{name}@example.com"}]} for name in ("a", "b")],
        "member 2": [{"members": [{"id": 2, "mobile": "9000000002"}]}] * 2,
        "member 1": [
            {"members": [{"id": 1, "lots": [{"reference": "gift", "points": 5, "awardedAt": "2024-01-01"}]}]}
        ] * 2,
    }  # fmt: skip
    for what, sections in pairs.items():
        first, second = (town.proposed(town.part() | each)["id"] for each in sections)
        assert town.decide(first).status_code == 200
        before = town.guarded()
        error_of(town.decide(second), 412, 2902, what)
        assert town.guarded() == before


def test_two_sound_changes_may_not_fit_together(town: Town) -> None:
    zones = [{"id": ZONE, "name": "Zone"}, {"id": 21, "name": "Second"}]
    town.change(town.part(units={"zones": zones}))
    below = town.proposed(town.part(units={"zones": [zones[0] | {"parent": 21}]}))["id"]
    above = town.proposed(town.part(units={"zones": [zones[1] | {"parent": ZONE}]}))["id"]
    assert town.decide(below).status_code == 200
    before = town.guarded()
    error_of(town.decide(above), 412, 2902, "does not fit the organisation any more", "cannot be above itself")
    assert town.guarded() == before


def test_a_policy_and_the_loss_of_whom_it_waits_for_do_not_fit_together(town: Town) -> None:
    town.change(town.part(groups=[{"id": "finance", "name": "Finance", "people": [CAL]}]))
    waits = town.proposed(town.part(policy={"rules": [{"name": "a", "require": [{"group": "finance"}]}]}))["id"]
    lost = town.proposed(town.person(CAL, active=False))["id"]
    assert town.decide(waits).status_code == 200
    before = town.guarded()
    error_of(town.decide(lost), 412, 2902, "the policy asks for 1 of the group finance (a)")
    assert town.guarded() == before
    error_of(town.propose(town.person(CAL, active=False)), 400, 2008, "the policy asks for 1 of the group finance (a)")


def test_there_are_always_two_administrators(town: Town) -> None:
    before = town.guarded()
    alone = town.with_grants(without=[BEN, CLEO])
    error_of(town.propose(alone), 400, 2008, "at least 2", "there would be 1: ada")
    for_a_while = town.with_grants(grant(BEN, "CanAdminister", until="2099-01-01"), without=[BEN, CLEO])
    error_of(town.propose(for_a_while), 400, 2008, "does not end")
    # Each of two changes leaves two; both together would not.
    first, second = (town.proposed(town.with_grants(without=[each]), ADA)["id"] for each in (BEN, CLEO))
    assert town.decide(first, by=CLEO).status_code == 200
    error_of(town.decide(second, by=CLEO), 412, 2902, "at least 2")
    signed_out = town.person(CLEO, active=False)
    error_of(town.propose(signed_out), 400, 2008, "at least 2")
    assert [row[0] for row in town.rows("SELECT count(*) FROM app_user WHERE org_id = $1 AND active")] == [6]
    assert before["app_user"] == town.guarded()["app_user"]


def test_a_proposal_counts_only_while_its_proposer_administers(town: Town) -> None:
    change_id = town.proposed(help_out(town), by=CLEO)["id"]
    town.change(town.with_grants(without=[CLEO]))
    error_of(town.decide(change_id, by=BEN), 412, 2902, "cleo does not administer this organisation any more")


def test_a_deactivated_administrator_decides_nothing(town: Town) -> None:
    change_id = town.proposed(help_out(town))["id"]
    assert town.get(change_id, CLEO).status_code == 200
    town.change(town.person(CLEO, active=False))
    assert town.decide(change_id, by=CLEO).status_code == 401
    assert town.propose(help_out(town), CLEO).status_code == 401
    assert town.get(change_id, BEN).json()["data"]["state"] == "pending"


def test_dual_control_is_one_way(town: Town) -> None:
    single = town.part()
    single["organisation"]["control"] = "single"
    del (left_out := town.part())["organisation"]["control"]
    for content in (single, left_out):
        assert error_of(town.propose(content), 400, 2008, "dual control is never given up again")
    with pytest.raises(Exception, match="organisation_control_one_way"):
        town.rows("UPDATE organisation SET control = 'single' WHERE org_id = $1")


def test_members_and_their_points_are_part_of_the_proposal(town: Town) -> None:
    members = [
        {"id": number, "mobile": f"90000{number:05d}",
         "lots": [{"reference": "gift", "points": 7, "awardedAt": "2024-01-01"}]}
        for number in range(2, 32)
    ]  # fmt: skip
    before = town.guarded()
    change = town.proposed(town.part(members=members))
    # However many: what is not shown cannot be approved.
    assert sum(line["text"].startswith("member ") and "7 points" in line["text"] for line in change["lines"]) == 30
    assert town.guarded() == before
    assert town.decide(change["id"]).status_code == 200
    points = "SELECT count(*), sum(available) FROM member WHERE org_id = $1 AND member_id > 1"
    assert tuple(town.rows(points)[0]) == (30, 30 * 7000)


def test_passwords_travel_and_rest_as_hashes_only(town: Town) -> None:
    secret, till_secret = "a new word for Mia", "a new word for the till"
    town.serve.secrets |= {secret, till_secret, md5(till_secret)}
    content = town.person(MIA, password=secret) | {
        "credentials": [{"login": f"new.{town.org_id}", "id": 2, "password": till_secret}]
    }
    change = town.proposed(content)
    assert "~ user 103 password: changed; what was issued for the old one ends" in lines_of(change)
    [row] = town.rows(
        "SELECT convert_from(payload, 'UTF8') AS payload, convert_from(entity_info, 'UTF8') AS sent, r::text AS whole "
        "FROM request r WHERE org_id = $1"
    )
    events = "".join(str(dict(each)) for each in town.rows("SELECT * FROM event WHERE org_id = $1"))
    for word in (secret, till_secret, md5(till_secret)):
        assert word not in row["payload"] + row["sent"] + row["whole"] + events + json.dumps(change)
    assert row["payload"].count("$argon2id$v=19$") >= 3  # Mia's old and new one, the till's
    assert "argon2" not in json.dumps(change)
    assert town.decide(change["id"]).status_code == 200
    assert town.token(MIA, secret)


def test_a_password_arrives_as_it_was_sent(town: Town) -> None:
    """Texts that JSON and YAML see differently are the same text in the end."""
    secret = "a\u2028b\x85c\x7f\ufeff 1_0: - #'\"\\ \t\U0001f600 "
    town.change(town.person(MIA, password=secret))
    assert town.token(MIA, secret)


def test_a_login_that_went_elsewhere_meanwhile(make_town: Callable[..., Town]) -> None:
    town, other = make_town(), make_town()
    credential = {"login": f"wanted.{town.org_id}", "id": 2, "password": "pw of it"}
    change_id = town.proposed(town.part(credentials=[credential]))["id"]
    other.change(other.part(credentials=[credential]))
    before = town.guarded()
    error_of(town.decide(change_id), 412, 2902, "belongs to another organisation")
    assert town.guarded() == before


def test_a_file_that_cannot_work_leaves_nothing(town: Town) -> None:
    before = town.guarded()
    requests = town.rows("SELECT count(*) FROM request WHERE org_id = $1")[0][0]
    broken = town.part(
        units={"zones": [{"id": ZONE, "name": "", "parent": 99}]},
        grants=[grant("nobody", "CanAdminister", unit=ZONE, type="POINTS-REDEMPTION", pointsMax=5)],
    )
    answer = town.propose(broken)
    error_of(answer, 400, 2008)
    paths = {each["path"] for each in answer.json()["errors"]}
    assert paths >= {
        "units.zones[0].name", "units.zones[0].parent", "grants[0].person", "grants[0].unit", "grants[0].type",
        "grants[0].pointsMax",
    }  # fmt: skip
    elsewhere = town.part()
    elsewhere["organisation"]["id"] = town.org_id + 1
    error_of(town.propose(elsewhere), 400, 2008, "organisation.id")
    for name, value in (("passwordFile", "/etc/hostname"), ("passwordEnv", "HOME"), ("passwordPrompt", True)):
        user = {"id": 400, "userName": "x@example.com", name: value}
        content = town.part(people=[{"staffId": "x", "name": "X", "users": [user]}])
        said = error_of(town.propose(content), 400, 2008, "cannot be read by the service")
        assert said.startswith(f"people[0].users[0].{name}: ")
    bodies: tuple[dict[str, Any], ...] = ({}, {"file": []}, {"file": "organisation: {}"}, {"file": {}, "message": 5})
    for body in (*bodies, {"file": {}, "dryRun": 1}):
        answer = town.http.post(CHANGES, json=body, headers=town.headers(ADA))
        error_of(answer, 400, 2008)
    many = [{"id": number, "mobile": f"9{number:09d}"} for number in range(2, 5003)]
    error_of(town.propose(town.part(members=many)), 400, 2008, "propose them in several files")
    error_of(town.propose(town.part(), message="x" * 2**20), 413, 2904)
    assert town.guarded() == before
    assert town.rows("SELECT count(*) FROM request WHERE org_id = $1")[0][0] == requests


def test_a_decision_names_what_it_is_about(town: Town) -> None:
    change = town.proposed(help_out(town))
    for change_id in (str(uuid4()), "x", town.request()):
        error_of(town.decide(change_id), 404, 2007)
        error_of(town.get(change_id), 404, 2007)
    error_of(town.decide(change["id"], "perhaps"), 400, 2008, "verdict")
    error_of(town.decide(change["id"], **{"If-Match": '"another"'}), 412, 2902)
    seen = town.get(change["id"]).headers["ETag"]
    assert town.decide(change["id"], **{"If-Match": seen}).status_code == 200


def test_another_organisation_neither_sees_nor_decides(make_town: Callable[..., Town]) -> None:
    town, other = make_town(), make_town()
    change_id = town.proposed(help_out(town))["id"]
    error_of(other.get(change_id), 404, 2007)
    error_of(other.decide(change_id), 404, 2007)
    assert other.page().json()["data"] == []


def test_a_dry_run_leaves_nothing_and_no_change_is_no_proposal(town: Town) -> None:
    change = town.proposed(help_out(town), dryRun=True)
    assert (change["id"], len(change["lines"])) == (None, 1)
    assert town.proposed(town.part()) is None
    assert town.page(state="").json()["data"] == []


def test_pages(town: Town) -> None:
    made = [town.proposed(town.part(policy={"approvals": number}))["id"] for number in range(2, 7)]
    town.decide(made[0], "rejected")
    found: list[str] = []
    sizes: list[int] = []
    cursor: str | None = ""
    while cursor is not None:
        page = town.page(limit=2, cursor=cursor).json()
        found += [each["id"] for each in page["data"]]
        sizes.append(len(page["data"]))
        cursor = page["nextCursor"]
    assert (found, sizes) == (made[::-1], [2, 2, 1])
    assert [each["id"] for each in town.page(state="pending").json()["data"]] == made[:0:-1]
    [rejected] = town.page(state="rejected").json()["data"]
    assert (rejected["added"], rejected["changed"], rejected["removed"]) == (0, 1, 0)
    for query in ({"limit": "0"}, {"limit": "1e3"}, {"state": "open"}, {"cursor": "x"}, {"cursor": "MjAyNg=="}):
        error_of(town.page(**query), 400, 2008)


def test_the_contract_knows_no_changes(town: Town) -> None:
    change_id = town.proposed(help_out(town))["id"]
    headers = town.headers(CAL)
    assert town.http.get(f"{WORKFLOW}/requests/{change_id}", headers=headers).json()["errors"][0]["code"] == 2007
    listed = town.http.get(f"{WORKFLOW}/requests", headers=headers).json()
    assert listed["pagination"]["totalElements"] == 0
    for path in ("POINTS-REDEMPTION", "ADMIN-CHANGE"):
        body = {"requestId": change_id, "actionName": "AdminTask",
                "payload": {"AdminTask-Payload": {"actionDecision": "approved", "actionMessage": "x"}}}  # fmt: skip
        answer = town.http.put(f"{WORKFLOW}/{path}", json=body, headers=town.headers(CAL))
        assert answer.json()["errors"][0]["code"] in (2007, 2009)
    assert town.get(change_id).json()["data"]["state"] == "pending"


def test_the_trail_of_a_change(town: Town) -> None:
    change_id = town.proposed(help_out(town))["id"]
    town.decide(change_id)
    answer = town.http.get(f"/counterfoil/v1/requests/{change_id}/events", headers=town.headers(BEN))
    kinds = [each["kind"] for each in answer.json()["data"]]
    assert kinds == ["submitted", "succeeded"]
    applied = town.rows(
        "SELECT convert_from(facts, 'UTF8') AS facts FROM event WHERE org_id = $1 AND kind = 'organisation_applied' "
        "ORDER BY at DESC LIMIT 1"
    )[0]["facts"]
    assert json.loads(applied)["request"] == change_id
    assert json.loads(applied)["version"] == 2


def test_the_trail_of_a_change_is_for_those_who_may_read_it(town: Town) -> None:
    change_id = town.proposed(town.with_grants(grant(CAL, "CanMakeRequest")))["id"]
    for by in (CAL, None):
        error_of(town.http.get(f"/counterfoil/v1/requests/{change_id}/events", headers=town.headers(by)), 404, 2007)
    answer = town.http.get(f"/counterfoil/v1/requests/{change_id}/events", headers=town.headers(BEN))
    assert [each["kind"] for each in answer.json()["data"]] == ["submitted"]
