"""A change of an organisation under dual control: proposed by one administrator, decided by another."""

from __future__ import annotations

from tests.administration.town import ADA, BEN, CAL, ZONE, Town, error_of, grant, lines_of


def test_a_change_takes_two_administrators(town: Town) -> None:
    before = town.guarded()
    content = town.with_grants(grant(CAL, "CanMakeRequest", unit=ZONE))
    change = town.proposed(content, message="Cal helps out")
    assert (change["state"], change["message"], change["decisions"]) == ("pending", "Cal helps out", [])
    assert lines_of(change) == [f"+ grant cal CanMakeRequest at {ZONE} for all types"]
    assert change["proposedBy"] == {"personId": ADA, "userName": "ada@example.com"}
    assert town.guarded() == before
    assert error_of(town.submit(by=CAL), 403, 2001)
    answer = town.decide(change["id"], by=BEN, message="fine")
    assert answer.status_code == 200, answer.text
    decided = answer.json()["data"]
    assert decided["state"] == "succeeded"
    [voice] = decided["decisions"]
    assert (voice["personId"], voice["verdict"], voice["message"]) == (BEN, "approved", "fine")
    assert decided["lines"] == change["lines"]
    assert town.version() == 2
    assert town.submit(by=CAL).status_code == 200
