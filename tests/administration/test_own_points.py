"""Whoever gets points by a change of the organisation neither proposes nor approves it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.administration.town import ADA, BEN, CLEO, Town, error_of

MakeTown = Callable[..., Town]
GIFT = {"reference": "gift", "points": 5000, "awardedAt": "2024-01-01"}


def is_member(town: Town, who: str, **identifiers: str) -> dict[str, Any]:
    """A file that says by what identifier an administrator is a member, too."""
    [known] = [each for each in town.content["people"] if each["staffId"] == who]
    bare = {name: value for name, value in known.items() if name != "users"}
    return town.part(people=[bare | {"memberIdentifiers": identifiers}])


# A file that gives points to whom the town knows as 9000000002, in each way that there is.
WAYS: dict[str, dict[str, Any]] = {
    "by number": {"id": 2, "lots": [GIFT]},
    "by the identifier": {"id": 2, "mobile": "9000000002", "lots": [GIFT]},
    "by a new identifier": {"id": 2, "mobile": "9000000003", "lots": [GIFT]},
    "by another member's points": {"id": 1, "email": "me@example.com"},
    "by a new member": {"id": 3, "email": "me@example.com", "lots": [GIFT]},
}


def town_of(make_town: MakeTown, who: str) -> Town:
    town = make_town()
    town.change(town.part(members=[{"id": 2, "mobile": "9000000002"}]))
    by, approved_by = (each for each in (ADA, BEN, CLEO) if each != who)
    town.change(is_member(town, who, mobile="9000000002", email="me@example.com"), by=by, approved_by=approved_by)
    return town


def test_nobody_approves_points_for_oneself(make_town: MakeTown) -> None:
    town = town_of(make_town, BEN)
    for way, entry in WAYS.items():
        change_id = town.proposed(town.part(members=[entry]), ADA)["id"]
        before = town.guarded()
        reason = town.get(change_id, BEN).json()["data"]["reason"]
        assert error_of(town.decide(change_id, by=BEN), 403, 2001, "ben is a member who gets points") == reason, way
        assert town.guarded() == before
        assert town.get(change_id, CLEO).json()["data"]["reason"] is None
    assert town.decide(change_id, by=CLEO).status_code == 200


def test_nobody_proposes_points_for_oneself(make_town: MakeTown) -> None:
    town = town_of(make_town, ADA)
    parting = is_member(town, ADA, externalId="somebody else")  # nor by leaving the member in the same breath
    for entry in WAYS.values():
        content = town.part(members=[entry])
        for each, more in ((content, {}), (content, {"dryRun": True}), (parting | content, {})):
            error_of(town.propose(each, ADA, **more), 403, 2001, "ada is a member who gets points")
    assert town.propose(content, BEN).status_code == 200


def test_a_proposal_does_not_count_once_its_proposer_is_the_member(make_town: MakeTown) -> None:
    town = make_town()
    change_id = town.proposed(town.part(members=[{"id": 1, "lots": [GIFT]}]), ADA)["id"]
    town.change(is_member(town, ADA, mobile="9000000001"), by=BEN, approved_by=CLEO)
    before = town.guarded()
    error_of(town.decide(change_id, by=CLEO), 412, 2902, "ada is a member who gets points", "reject this one")
    assert town.guarded() == before


def test_what_gives_oneself_no_points_goes_on(make_town: MakeTown) -> None:
    town = town_of(make_town, BEN)
    for entry in ({"id": 1, "lots": [GIFT]}, {"id": 2, "mobile": "9000000004"}):
        town.change(town.part(members=[entry]), by=ADA, approved_by=BEN)
